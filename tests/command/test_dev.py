"""`natsgate dev`: everything in one command, started anew when a file changes, and no call lost meanwhile."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import ROOT, Program, program, until

from natsgate.gateway.protos import load

HELLO = ROOT / 'examples' / 'hello'
MESSAGES = load([HELLO / 'hello.proto']).message_class


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example of the README; that its file names a nats-server does not matter."""
    for file in HELLO.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture
async def running(folder: Path) -> AsyncIterator[Program]:
    async with program('dev', '--listen', '127.0.0.1:0', cwd=folder) as dev:
        yield dev
        dev.stop()
        assert await dev.end() == 0


async def channel_to(dev: Program) -> grpc.aio.Channel:
    address = (await dev.says('serving')).rpartition(' ')[2]
    return grpc.aio.insecure_channel(address)


async def greet(channel: grpc.aio.Channel) -> str:
    call: Any = channel.unary_unary('/hello.v1.Greeter/Hello')
    request = MESSAGES('hello.v1.HelloRequest')(name='world').SerializeToString()  # type: ignore[call-arg]
    answer = b''
    while not answer:
        try:
            answer = await call(request, timeout=10, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            # C-core's server does not run a call that crosses its GOAWAY, and does not say so as HTTP/2 would.
            if error.code() is not grpc.StatusCode.CANCELLED:
                raise
            await asyncio.sleep(0.05)
    text: str = MESSAGES('hello.v1.HelloResponse').FromString(answer).text  # type: ignore[attr-defined]
    return text


def change(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


async def test_changes_count_and_no_call_is_lost(folder: Path, running: Program) -> None:
    answers: list[str] = []

    async def go_on() -> None:
        while True:
            answers.append(await greet(channel))

    async with await channel_to(running) as channel:
        assert await greet(channel) == 'Hello, world!'
        calling = asyncio.create_task(go_on())
        for old, new in (('Hello, ', 'Hi, '), ('Hi, ', 'Good morning, ')):
            change(folder / 'actors.py', old, new)
            await until(lambda new=new: calling.done() or answers[-1:] == [f'{new}world!'], 20)
        change(folder / 'hello.proto', 'Says hello', 'Says good morning')
        await running.says('the new gateway is ready')
        seen = len(answers)
        await until(lambda: calling.done() or len(answers) > seen + 5, 20)
        assert not calling.done(), calling
        calling.cancel()
    assert set(answers) == {'Hello, world!', 'Hi, world!', 'Good morning, world!'}


async def test_a_broken_module_is_told_and_the_old_worker_goes_on(folder: Path, running: Program) -> None:
    async with await channel_to(running) as channel:
        assert await greet(channel) == 'Hello, world!'
        change(folder / 'actors.py', 'import hello_pb2', 'import hallo_pb2')
        assert 'actors.py:3' in await running.says("No module named 'hallo_pb2'")
        await running.says('the one before goes on')
        assert await greet(channel) == 'Hello, world!'
        change(folder / 'actors.py', 'import hallo_pb2', 'import hello_pb2')
        await running.says('the new worker is ready')
        assert await greet(channel) == 'Hello, world!'


async def test_a_module_that_is_broken_from_the_start(folder: Path) -> None:
    change(folder / 'actors.py', 'ACTORS =', 'ACTRESSES =')
    async with program('dev', '--listen', '127.0.0.1:0', cwd=folder) as dev:
        await dev.says('actors has no Actors called ACTORS')
        await dev.says('it is started when a file changes')
        change(folder / 'actors.py', 'ACTRESSES =', 'ACTORS =')
        await dev.says('working')
        async with await channel_to(dev) as channel:
            assert await greet(channel) == 'Hello, world!'


async def test_a_worker_that_dies_is_started_again(folder: Path) -> None:
    dying = "    if request.name == 'end':\n        __import__('os')._exit(3)\n    if not request.name:"
    change(folder / 'actors.py', '    if not request.name:', dying)
    async with program('dev', '--listen', '127.0.0.1:0', cwd=folder) as dev, await channel_to(dev) as channel:
        call: Any = channel.unary_unary('/hello.v1.Greeter/Hello')
        request = MESSAGES('hello.v1.HelloRequest')(name='end').SerializeToString()  # type: ignore[call-arg]
        ending = asyncio.ensure_future(call(request, timeout=20))
        await dev.says('the worker ended with exit code 3; it is started again')
        ending.cancel()
        assert await greet(channel) == 'Hello, world!'


async def test_without_protos_there_is_no_gateway(tmp_path: Path) -> None:
    (tmp_path / 'plain.py').write_text(
        'from natsgate.actors import Actor, Actors\nfrom natsgate.events import Event\n'
        "ACTORS = Actors(Actor('a', Event('e', str).with_response(str), str.upper))\n"
    )
    async with program('dev', 'plain:ACTORS', cwd=tmp_path) as dev:
        await dev.says('there is no gateway')
        await dev.says('working: a (e)')
        dev.stop()
        assert await dev.end() == 0
        assert dev.find('Traceback') is None


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        ((), 'no actors: give MODULE:NAME'),
        (('a:A', '--watch', 'nowhere'), 'nowhere: no such file or folder'),
        (('a:A', '--nats-port', '0'), 'a port, 1 to 65535'),
    ],
)
async def test_what_cannot_be_run(arguments: tuple[str, ...], problem: str, tmp_path: Path) -> None:
    async with program('dev', *arguments, cwd=tmp_path) as dev:
        assert await dev.end() in (2, 78)
        assert any(problem in line for line in dev.lines), dev.lines
