"""20,000 calls that wait at a time, over 100 connections: they work, can be cancelled, and their memory comes back."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from demo.v1 import words_pb2
from gateways import gateway
from h2client import Http2Client, Stream, message, raw_client
from processes import cpu, memory, serving
from support import OBJECTS, Client, running_actors, until

from natsgate.actors import Actor, Actors
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Service
from natsgate.events.event import Limits

pytestmark = [pytest.mark.load, pytest.mark.timeout(900)]

CONNECTIONS, CALLS = 100, 20_000
WITHIN = 120
MIB = 1 << 20
MORE = {'grpc': 0.25, 'envoy': 0.1}
"""What share of the first wave's memory a second one may need more: glibc has an arena for each thread of C-core."""
GIVEN_BACK = 0.6
"""What share of it the system must have again at least,"""
QUIET = {'grpc': 30, 'envoy': 400}
"""after so many seconds: Envoy's allocator keeps for 5 minutes what was wanted then."""
TESTS = {'PYTHONPATH': str(Path(__file__).parent.parent)}
GATEWAY = ('--max-in-flight', str(CALLS), '--timeout', '10m')
WORDS = Service.of(words_pb2, 'Words', limits=Limits(messages=CALLS))
ACTOR = {'max_jobs': CALLS, 'max_ack_pending': CALLS, 'ack_wait': 60}
"""What must be said for them: by default a gateway, a method's queue and an actor take 10,000 each. `ack_wait`, because
the clients are in the worker's process, and hold up its event loop for seconds.
"""
ONE = message(words_pb2.CountRequest(text='a').SerializeToString())


class Waiting:
    """A handler that waits until it may go on, and counts."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.began = self.cancelled = 0

    async def count(self, request: Any) -> words_pb2.CountResponse:
        self.began += 1
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return words_pb2.CountResponse(words=1)


@asynccontextmanager
async def connections(address: str) -> AsyncIterator[list[Http2Client]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(raw_client(address, within=WITHIN)) for _ in range(CONNECTIONS)]


async def wave(clients: list[Http2Client], handler: Waiting, calls: int) -> list[Stream]:
    """So many calls at once, all of which wait in the handler."""
    handler.began = handler.cancelled = 0
    handler.let_go.clear()
    streams = []
    for number in range(calls):
        stream = clients[number % CONNECTIONS].call('Count')
        await stream.send(ONE, end=True)
        streams.append(stream)
        if number % 100 == 99:
            await asyncio.sleep(0)  # the worker is in this process, and must not seem to be dead
    await until(lambda: handler.began == calls or streams[-1].is_over, WITHIN)
    assert not [(stream.outcome, stream.text) for stream in streams if stream.is_over]
    return streams


async def answered(streams: list[Stream], handler: Waiting) -> None:
    handler.let_go.set()
    assert {(await stream.over()).outcome for stream in streams} == {'OK'}


async def objects(client: Client) -> Counter[str]:
    """How many objects of each type the gateway holds."""
    return Counter(json.loads(await client.channel.unary_unary(OBJECTS)(b'')))


async def test_waiting_calls(nats: EmbeddedNats, edge: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A second wave needs no more; nothing of a call is kept; after some quiet the system has the memory again."""
    handler = Waiting()
    actors = Actors(Actor('count', WORDS['Count'], handler.count, **ACTOR))
    clock = asyncio.get_running_loop().time
    async with (
        running_actors(nats.url, actors) as worker,
        gateway(edge, nats, *GATEWAY, module='inspected', env=TESTS) as (running, address, client),
    ):
        front = serving(running.pid)
        async with connections(address) as clients:
            await answered(await wave(clients, handler, 1000), handler)
        before, held = memory(front), await objects(client)
        async with connections(address) as clients:
            streams = await wave(clients, handler, CALLS)
            most, used = memory(front), cpu(front)
            await asyncio.sleep(2)
            waiting = (cpu(front) - used) / 2
            await answered(streams, handler)
            after_answers = memory(front)

            streams = await wave(clients, handler, CALLS)
            again = memory(front)
            assert again - most < (most - before) * MORE[edge]
            began = clock()
            for stream in streams[::2]:
                stream.cancel()
            await until(lambda: handler.cancelled == CALLS // 2, timeout=WITHIN)
            took = clock() - began
            for one in clients:
                one.drop()
            await until(lambda: handler.cancelled == CALLS, timeout=WITHIN)
        await until(lambda: not worker.workers[0].jobs, timeout=WITHIN)
        async with connections(address) as clients:
            await answered(await wave(clients, handler, 1000), handler)
        after, began = memory(front), clock()
        assert after - most < (most - before) * MORE[edge]
        assert [(name, count) for name, count in (await objects(client) - held).items() if count > CALLS // 100] == []
        await until(lambda: memory(front) < most - (most - before) * GIVEN_BACK, timeout=QUIET[edge])
        quiet = clock() - began
        with capsys.disabled():
            print(
                f'\n{edge}: memory {before / MIB:.0f} MiB before, {most / MIB:.0f} with {CALLS:,} calls that wait '
                f'({(most - before) / CALLS / 1024:.1f} KiB each), {after_answers / MIB:.0f} when they were answered, '
                f'{again / MIB:.0f} with as many again, {after / MIB:.0f} when those were cancelled, '
                f'{memory(front) / MIB:.0f} after {quiet:.0f} s of quiet; waiting takes {waiting:.0%} of a core, '
                f'{CALLS // 2:,} cancels {took:.1f} s'
            )
