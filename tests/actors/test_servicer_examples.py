"""The demo's servicer answers as its actors do, and the example as its plain server."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import ROOT, Ended, program, running_gateway, stack
from words_actors import ACTORS as SERVICER

from natsgate.command.client import call as make_call
from natsgate.command.client import find_method
from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors, load

Word = words_pb2.Word
SERVICERS = Path(__file__).parent / 'servicers'
GENERATED = Path(words_pb2.__file__).parent.parent.parent


async def answers(channel: grpc.aio.Channel, client: Any) -> list[Any]:
    """What the calls of the demo, and some more, are answered with."""
    stub: Any = words_pb2_grpc.WordsStub(channel)
    short = words_pb2.PonderRequest()
    short.time.FromMilliseconds(1)
    found: list[Ended] = [
        await client.call('Count', words_pb2.CountRequest(text='to be or not to be')),
        await client.call('Lookup', words_pb2.LookupRequest(word='event')),
        await client.call('Lookup', words_pb2.LookupRequest(word='verse')),
        await client.call('Ponder', short),
    ]
    words = [Word(word=word) for word in ('to', 'be')]
    return [
        *((one.code, one.message, one.data, one.initial, one.trailing) for one in found),
        [word.word async for word in stub.Split(words_pb2.SplitRequest(text='to be or'))],
        (await stub.Join(iter(words))).text,
        [word.word async for word in stub.Echo(iter(words))],
        [word.word async for word in stub.Echo(iter(()))],
    ]


async def test_the_demo_as_a_servicer(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, ACTORS) as running:
        expected = await answers(running.client.channel, running.client)
    async with EmbeddedNats() as other, stack(other, words, SERVICER) as running:
        assert await answers(running.client.channel, running.client) == expected


async def test_a_killed_workers_calls_are_answered_by_another(nats: EmbeddedNats, words: Descriptors) -> None:
    """That is what a servicer is moved for."""
    arguments = ('work', 'words_actors:ACTORS', '--nats', nats.url)
    env = {'PYTHONPATH': f'{GENERATED}:{SERVICERS}'}
    request = words_pb2.PonderRequest()
    request.time.FromSeconds(3)  # in which another worker starts
    async with running_gateway(nats.url, words) as (_, client), program(*arguments, env=env) as first:
        await first.says('working')
        call = asyncio.create_task(client.call('Ponder', request, timeout=15))
        await first.says('pondering')
        async with program(*arguments, env=env) as second:
            await second.says('working')
            first.process.kill()
            ended = await call
            assert ended.code is Code.OK
            assert words_pb2.PonderResponse.FromString(ended.data).worker == second.pid


CALLS = (
    ('Find', '{"title": "Emma"}'),
    ('Find', '{"title": "Hamlet"}'),
    ('List', '{"author": "Jane Austen"}'),
    ('Return', '{"title": "Emma"} {"title": "Persuasion"}'),
    ('Browse', '{"title": "Emma"} {"title": "Hamlet"}'),
)


async def outcomes(address: str, descriptors: Descriptors) -> list[Any]:
    """What a library at this address answers."""
    found = []
    async with grpc.aio.insecure_channel(address) as channel:
        for method, request in CALLS:
            responses: list[Any] = []
            outcome = await make_call(
                channel, descriptors, find_method(descriptors, f'library.v1.Library/{method}'), request,
                timeout=10, on_response=responses.append,
            )  # fmt: skip
            found.append((responses, outcome.code, outcome.message, outcome.trailing))
    return found


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example, generated as its README says."""
    folder = tmp_path / 'servicer'
    shutil.copytree(ROOT / 'examples' / 'servicer', folder)
    command = '-m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. library.proto'
    assert f'python {command}' in (folder / 'README.md').read_text()
    subprocess.run([sys.executable, *command.split()], check=True, cwd=folder)
    return folder


async def test_the_example_before_and_after(nats: EmbeddedNats, example: Path) -> None:
    descriptors = load([example / 'library.proto'])
    server = await asyncio.create_subprocess_exec(
        sys.executable, 'server.py', '127.0.0.1:0', cwd=example, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        line = (await server.stdout.readline()).decode()
        before = await outcomes(line.split()[-1], descriptors)
    finally:
        server.kill()
        await server.wait()
    async with (
        program('work', '--nats', nats.url, cwd=example) as worker,
        program('serve', '--nats', nats.url, '--listen', '127.0.0.1:0', '--drain-delay', '0', cwd=example) as gateway,
    ):
        await worker.says('working')
        address = (await gateway.says('serving')).rpartition(' on ')[2]
        after = await outcomes(address, descriptors)
        for running in (gateway, worker):
            running.stop()
            assert await running.end() == 0, running.lines
    assert after == before
    assert before[1] == ([], Code.NOT_FOUND, "no book is called 'Hamlet'", ())
