"""`natsgate dev`: everything in one command, started anew when a file changes, and no call lost meanwhile."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support import ROOT, Program, program, until

from natsgate.command import kept
from natsgate.command.embedded import EmbeddedNats
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


IMPORT = 'import hello_pb2\n'
HANGS = f"""{IMPORT}
import os, time
with open('hanging', 'w') as file:
    print(os.getpid(), file=file)
time.sleep(3600)
"""


async def process_that_hangs(folder: Path) -> Path:
    said = folder / 'hanging'
    await until(lambda: said.exists() and said.read_text(), 20)
    return Path('/proc', said.read_text().strip())


async def test_a_module_that_hangs_is_given_up_when_it_changes(folder: Path, running: Program) -> None:
    async with await channel_to(running) as channel:
        assert await greet(channel) == 'Hello, world!'
        change(folder / 'actors.py', IMPORT, HANGS)
        hanging = await process_that_hangs(folder)
        assert await greet(channel) == 'Hello, world!'
        change(folder / 'actors.py', HANGS, IMPORT)
        await running.says('the new worker is ready')
        assert await greet(channel) == 'Hello, world!'
        assert not hanging.exists()


async def test_a_module_that_hangs_does_not_keep_it_from_stopping(folder: Path) -> None:
    change(folder / 'actors.py', IMPORT, HANGS)
    async with program('dev', '--listen', '127.0.0.1:0', cwd=folder) as dev:
        hanging = await process_that_hangs(folder)
        dev.stop()
        assert await dev.end() == 0
        assert not hanging.exists()


async def test_a_module_that_hangs_is_told(
    folder: Path, nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kept, 'SLOW', 0.1)
    monkeypatch.chdir(folder)
    change(folder / 'actors.py', IMPORT, HANGS)
    worker = kept.Kept('worker', ['work', 'actors:ACTORS'], 1, {'nats': [nats.url]})
    starting = asyncio.create_task(worker.renew())
    hanging = await process_that_hangs(folder)
    await until(lambda: caplog.records)
    assert 'the worker is not ready after 0.1 s: does an import hang?' in caplog.text
    starting.cancel()
    await asyncio.wait({starting})
    await worker.stop()
    assert not hanging.exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
async def test_a_worker_whose_module_hangs_can_be_stopped(number: signal.Signals, folder: Path) -> None:
    change(folder / 'actors.py', IMPORT, HANGS)
    async with program('work', cwd=folder) as worker:
        await process_that_hangs(folder)
        worker.process.send_signal(number)
        assert await worker.end() == 0
        assert worker.lines == []


async def test_a_worker_that_is_blocked_is_killed_by_the_second_signal(folder: Path) -> None:
    blocks = "    if request.name == 'world':\n        __import__('time').sleep(3600)\n    if not request.name:"
    change(folder / 'actors.py', '    if not request.name:', blocks)
    async with program('dev', '--listen', '127.0.0.1:0', cwd=folder) as dev, await channel_to(dev) as channel:
        calling = asyncio.create_task(greet(channel))
        await dev.says('the event loop has been blocked')
        children = children_of(dev)
        dev.stop()
        await dev.says('stopping: what runs may end')
        dev.stop()
        assert await dev.end() == 128 + signal.SIGTERM
        assert dev.find('it is started again') is None
        assert [child for child in children if child.exists()] == []
        calling.cancel()


def children_of(dev: Program) -> list[Path]:
    return [Path('/proc', pid) for pid in Path(f'/proc/{dev.pid}/task/{dev.pid}/children').read_text().split()]


async def test_the_contract_counts_although_a_source_changes_meanwhile(folder: Path, running: Program) -> None:
    """The worker that takes the new contract is given up for a newer one; the gateway that is to follow still does."""
    async with await channel_to(running) as channel:
        assert await greet(channel) == 'Hello, world!'
        change(folder / 'hello.proto', 'Says hello', 'Says good morning')
        await running.says('changed: hello.proto')
        change(folder / 'actors.py', 'Hello, ', 'Good morning, ')
        await running.says('changed: actors.py')
        await running.says('the new gateway is ready')
        assert await greet(channel) == 'Good morning, world!'


async def test_what_is_added_to_the_config_file_counts(folder: Path, running: Program) -> None:
    await running.says('serving')
    for file, old, new in (('hello.proto', 'hello', 'bye'), ('actors.py', 'hello', 'bye')):
        (folder / file.replace('hello', 'bye').replace('actors', 'more')).write_text(
            (folder / file).read_text().replace(old, new)
        )
    change(folder / 'natsgate.toml', '"hello.proto"', '"hello.proto", "bye.proto"')
    change(folder / 'natsgate.toml', '"actors:ACTORS"', '"actors:ACTORS", "more:ACTORS"')
    await running.says('working: hello (rpc.hello.v1.Greeter.Hello), bye (rpc.bye.v1.Greeter.Hello)')
    await running.says('serving bye.v1.Greeter, hello.v1.Greeter')


async def test_a_config_file_for_production(folder: Path) -> None:
    """What it says of the place where it is to run says nothing of this one."""
    production = """
edge = "envoy"
cors-origin = ["*"]
embedded = true
workers = 3
replicas = 3
nats-creds = "/run/secrets/nats.creds"
nats-tls-ca = "/run/secrets/ca.pem"
"""
    (folder / 'natsgate.toml').write_text(production + (folder / 'natsgate.toml').read_text())
    async with program('dev', '--listen', '127.0.0.1:0', cwd=folder) as dev, await channel_to(dev) as channel:
        assert await greet(channel) == 'Hello, world!'


async def test_a_nats_server_that_dies_is_started_again(folder: Path, running: Program) -> None:
    async with await channel_to(running) as channel:
        assert await greet(channel) == 'Hello, world!'
        (server,) = [one for one in children_of(running) if b'nats-server' in (one / 'cmdline').read_bytes()]
        os.kill(int(server.name), signal.SIGKILL)
        await running.says('the nats-server has died; it is started again')
        await running.says('NATS: connected again')
        async with asyncio.timeout(20):  # gateway and worker come back one after the other
            while not await is_greeted(channel):
                await asyncio.sleep(0.1)


async def is_greeted(channel: grpc.aio.Channel) -> bool:
    try:
        return bool(await greet(channel))
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return False
        raise


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
