"""Cancellation: reaches the running handler and the queued copy, and leaves nothing behind."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from processes import memory, serving
from support import Stack, program, running_actors, running_gateway, stack, until, word_actors
from test_load import left, not_grown

from natsgate.actors import worker as worker_module
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

Word = words_pb2.Word


def stub_of(running: Stack) -> Any:
    return words_pb2_grpc.WordsStub(running.client.channel)


class Sleeper:
    """A handler that sleeps until it is cancelled, and remembers when it was."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled: list[float] = []

    async def __call__(self, request: Any) -> Any:
        self.started += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled.append(time.monotonic())
            raise


async def test_a_unary_handler_is_cancelled_at_once(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    sleeper = Sleeper()
    async with stack(nats, words, word_actors(Count=sleeper), edge=edge) as running:
        call = running.client.channel.unary_unary('/demo.v1.Words/Count')(b'', timeout=30)
        await until(lambda: sleeper.started)
        cancelled = time.monotonic()
        call.cancel()
        await until(lambda: sleeper.cancelled)
        assert sleeper.cancelled[0] - cancelled < 0.1
        await until(lambda: not running.actors.workers[0].jobs)
        state = (await running.actors.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']
        assert state['messages'] == 0


@pytest.mark.parametrize('method', ['Split', 'Join', 'Echo'])
async def test_a_streaming_handler_is_cancelled_at_once(
    nats: EmbeddedNats, words: Descriptors, method: str, edge: str
) -> None:
    sleeper = Sleeper()

    async def responses(request: Any) -> AsyncIterator[Any]:
        yield Word(word='first')
        await sleeper(request)

    handler = sleeper.__call__ if method == 'Join' else responses
    async with stack(nats, words, word_actors(**{method: handler}), edge=edge) as running:
        if method == 'Split':
            call = stub_of(running).Split(words_pb2.SplitRequest())
        else:
            call = getattr(stub_of(running), method)()
            await call.write(Word())
        await until(lambda: sleeper.started)
        cancelled = time.monotonic()
        call.cancel()
        await until(lambda: sleeper.cancelled)
        assert sleeper.cancelled[0] - cancelled < 0.1
        await until(lambda: not running.actors.workers[0].jobs)
        await running.gateway.becomes(lambda inside: not inside.waiting)


async def test_a_queued_call_is_never_run(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """No worker is there when it is cancelled; the one that starts later has nothing to do."""
    sleeper = Sleeper()
    actors = word_actors(Count=sleeper)
    async with running_actors(nats.url, actors):
        pass  # the stream is declared
    async with running_gateway(nats.url, words, edge=edge) as (gateway, client):
        calls = [client.channel.unary_unary('/demo.v1.Words/Count')(b'', timeout=30) for _ in range(20)]
        await gateway.becomes(lambda inside: inside.waiting == 20 and not inside.unacknowledged)
        for call in calls:
            call.cancel()
        await gateway.becomes(lambda inside: not inside.waiting)
        async with running_actors(nats.url, actors) as connected:
            state = (await connected.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']
            assert state['messages'] == 0
            assert sleeper.started == 0


async def test_a_call_that_is_cancelled_before_it_is_acknowledged(
    nats: EmbeddedNats, words: Descriptors, edge: str
) -> None:
    sleeper = Sleeper()
    async with stack(nats, words, word_actors(Count=sleeper), edge=edge) as running:
        for _ in range(50):
            call = running.client.channel.unary_unary('/demo.v1.Words/Count')(b'', timeout=30)
            await asyncio.sleep(0)
            call.cancel()
        await running.gateway.becomes(lambda inside: not inside.waiting)
        await until(lambda: len(sleeper.cancelled) == sleeper.started and not running.actors.workers[0].jobs)
        state = (await running.actors.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']
        assert state['messages'] == 0


async def test_a_handler_that_ignores_it_is_reported_and_not_waited_for(
    nats: EmbeddedNats, words: Descriptors, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, edge: str
) -> None:
    monkeypatch.setattr(worker_module, 'CANCELLED_WITHIN', 0.1)
    let_go = asyncio.Event()
    started: list[int] = []

    async def stubborn(request: Any) -> Any:
        started.append(1)
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        return words_pb2.CountResponse()

    async with stack(nats, words, word_actors(Count=(stubborn, {'max_jobs': 1})), edge=edge) as running:
        call = running.client.channel.unary_unary('/demo.v1.Words/Count')(b'', timeout=30)
        await until(lambda: started)
        with caplog.at_level(logging.WARNING):
            call.cancel()
            await until(lambda: 'its handler goes on' in caplog.text)
        again = running.client.channel.unary_unary('/demo.v1.Words/Count')(b'', timeout=30)
        await until(lambda: len(started) == 2)  # its slot was given to others
        let_go.set()
        await again


async def test_a_storm_of_cancels_leaves_nothing_behind(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """1,000 cancels of unary and of streaming calls: no task, no inbox, no slot is left."""
    sleeper = Sleeper()

    async def responses(messages: Any) -> AsyncIterator[Any]:
        yield Word(word='first')
        await sleeper(messages)

    actors = word_actors(Count=(sleeper, {'max_jobs': 500}), Echo=(responses, {'max_jobs': 500}))
    async with stack(nats, words, actors, edge=edge) as running:

        async def storm(calls: int) -> None:
            sleeper.started = 0
            unary = [running.client.channel.unary_unary('/demo.v1.Words/Count')(b'') for _ in range(calls // 2)]
            bidi = [stub_of(running).Echo() for _ in range(calls // 2)]
            await until(lambda: sleeper.started == calls, timeout=20)
            for call in (*unary, *bidi):
                call.cancel()
            await running.gateway.becomes(lambda inside: not inside.waiting, timeout=20)
            await until(lambda: not any(worker.jobs for worker in running.actors.workers), timeout=20)

        await storm(100)
        gc.collect()
        before = await left(running)
        await storm(1000)
        gc.collect()
        await not_grown(running, before)
        assert not (await running.gateway.inside()).links
        assert (await running.client.call('Split', b'')).code is Code.UNIMPLEMENTED


async def test_a_storm_of_cancels_gives_its_memory_back(nats: EmbeddedNats, edge: str) -> None:
    """Native memory, too: seen from outside, in the gateway's process and in the worker's."""
    proto = str(Path(__file__).parents[2] / 'protos' / 'demo' / 'v1' / 'words.proto')
    work = ('work', 'natsgate.command.demo.actors:ACTORS', '--proto', proto, '--nats', nats.url)
    serve = ('serve', '--edge', edge, '--proto', proto, '--nats', nats.url, '--listen', '127.0.0.1:0')
    async with program(*work) as worker, program(*serve) as gateway:
        await worker.says('working')
        address = (await gateway.says('serving')).rpartition(' on ')[2]
        minute = words_pb2.PonderRequest()
        minute.time.FromSeconds(60)

        async def wave() -> None:
            before = sum('pondering' in line for line in worker.lines)
            # A connection each, as of many clients.
            own = [('grpc.use_local_subchannel_pool', 1)]
            async with grpc.aio.insecure_channel(address, options=own) as channel:
                stub = words_pb2_grpc.WordsStub(channel)
                unary = [stub.Ponder(minute) for _ in range(32)]
                bidi = [stub.Echo() for _ in range(32)]
                for call in bidi:
                    await call.write(Word(word='first'))
                    await call.read()
                await until(lambda: sum('pondering' in line for line in worker.lines) == before + 32, timeout=20)
                for call in (*unary, *bidi):
                    call.cancel()

        for _ in range(8):
            await wave()
        front = serving(gateway.pid)
        before = memory(front), memory(worker.pid)
        for _ in range(16):
            await wave()
        grew = memory(front) - before[0], memory(worker.pid) - before[1]
        assert max(grew) < 8 << 20, grew


@pytest.mark.parametrize('how', ['cancelled', 'disconnected'])
async def test_an_upload_that_breaks_off_never_looks_complete(
    nats: EmbeddedNats, words: Descriptors, how: str, edge: str
) -> None:
    """grpc.aio reads the same from a client that has finished and from one that has gone away."""
    ended: list[str] = []

    async def join(messages: AsyncIterator[Any]) -> Any:
        try:
            async for _ in messages:
                pass
        except asyncio.CancelledError:
            ended.append('cancelled')
            raise
        ended.append('complete')
        return words_pb2.JoinResponse()

    async with stack(nats, words, word_actors(Join=join), edge=edge) as running:
        for round_ in range(100):
            options = [('grpc.use_local_subchannel_pool', 1)]
            async with grpc.aio.insecure_channel(running.gateway.address, options=options) as channel:
                call = words_pb2_grpc.WordsStub(channel).Join()
                for _ in range(3):
                    await call.write(Word())
                await until(lambda at=round_: sum(worker.runs for worker in running.actors.workers) == at + 1)
                if how == 'cancelled':
                    call.cancel()
                else:
                    await channel.close()
                await until(lambda at=round_: len(ended) == at + 1)
        assert set(ended) == {'cancelled'}
