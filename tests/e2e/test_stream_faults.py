"""Streaming calls when readers stop, frames are lost, and processes die."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from processes import cpu, memory, serving
from support import Faults, Program, program, running_actors, running_gateway, stack, until, word_actors

from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.events.parser import Msg
from natsgate.gateway.protos import Descriptors
from natsgate.testing.faults import frames

HERE = Path(__file__).parent
PROTO = str(HERE.parents[1] / 'protos' / 'demo' / 'v1' / 'words.proto')
ENV = {'PYTHONPATH': f'{HERE}:{Path(words_pb2.__file__).parent.parent.parent}'}
Word, Split = words_pb2.Word, words_pb2.SplitRequest
MIB = 1 << 20


def worker_of(nats: EmbeddedNats) -> Any:
    return program('work', 'streamers:ACTORS', '--nats', nats.url, env=ENV)


@asynccontextmanager
async def gateway_of(nats: EmbeddedNats, edge: str) -> AsyncIterator[tuple[Program, Any]]:
    async with program(
        'serve', '--edge', edge, '--proto', PROTO, '--nats', nats.url, '--listen', '127.0.0.1:0'
    ) as gateway:
        address = (await gateway.says('serving')).rpartition(' on ')[2]
        async with grpc.aio.insecure_channel(address) as channel:
            yield gateway, words_pb2_grpc.WordsStub(channel)


async def at_rest(*pids: int) -> None:
    """Wait until the processes use less than a tenth of a core: they wait, they do not spin."""
    async with asyncio.timeout(20):
        while True:
            before = [cpu(pid) for pid in pids]
            await asyncio.sleep(1)
            if max(cpu(pid) - was for pid, was in zip(pids, before, strict=True)) < 0.1:
                return


async def test_a_client_that_stops_reading(nats: EmbeddedNats, edge: str) -> None:
    """1,000,000 messages of 1 KiB are due; the handler waits, and nobody collects them."""
    async with worker_of(nats) as worker, gateway_of(nats, edge) as (gateway, stub):
        await worker.says('working')
        front = serving(gateway.pid)
        assert [len(one.word) async for one in stub.Split(Split(text='flood 3000'))] == [1020] * 3000  # warm
        before = memory(front), memory(worker.pid)
        call = stub.Split(Split(text='flood 1000000'))
        await call.read()
        await at_rest(front, worker.pid)
        grew = memory(front) - before[0], memory(worker.pid) - before[1]
        assert max(grew) < 32 * MIB, grew
        call.cancel()
        await worker.says('cancelled')


async def test_a_handler_that_stops_reading(nats: EmbeddedNats, edge: str) -> None:
    async with worker_of(nats) as worker, gateway_of(nats, edge) as (gateway, stub):
        await worker.says('working')
        front = serving(gateway.pid)
        before = memory(front), memory(worker.pid)
        call = stub.Echo()
        await call.write(Word(word='read no more'))
        await call.read()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                await call.write(Word(word='x' * 1020))
                sent += 1

        flooding = asyncio.create_task(flood())
        await at_rest(front, worker.pid)
        assert 0 < sent < 20_000
        grew = memory(front) - before[0], memory(worker.pid) - before[1]
        assert max(grew) < 32 * MIB, grew
        flooding.cancel()
        call.cancel()
        if edge == 'grpc':  # pyvoy says that a client has gone only to who asks for more of its messages
            await worker.says('cancelled')


# Frames


class Tamper:
    """Does something to the n-th frame that passes."""

    def __init__(self, at: int, what: str) -> None:
        self.at, self.what = at, what
        self.seen = 0
        self.held: list[Msg] = []

    def __call__(self, msg: Msg) -> list[Msg]:
        self.seen += 1
        if self.held:
            return [msg, self.held.pop()]
        if self.seen != self.at:
            return [msg]
        if self.what == 'swapped':
            self.held.append(msg)
            return []
        return [msg, msg] if self.what == 'doubled' else []


class TamperEach:
    """Does something to a frame of each call that comes: to the first one of the first, the second one of the next."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.calls: dict[bytes, Tamper] = {}

    def __call__(self, msg: Msg) -> list[Msg]:
        if msg.subject not in self.calls:
            self.calls[msg.subject] = Tamper(len(self.calls) + 1, self.what)
        return self.calls[msg.subject](msg)


@pytest.mark.parametrize('side', ['worker', 'gateway'])
@pytest.mark.parametrize('what', ['lost', 'doubled', 'swapped'])
async def test_frames_that_are_tampered_with(
    nats: EmbeddedNats, words: Descriptors, what: str, side: str, edge: str
) -> None:
    """Each of the first frames, to the worker or to the gateway: exact, or UNAVAILABLE; never wrong."""
    text = [str(number) for number in range(8)]
    async with (
        Faults(nats.url) as faults,
        running_actors(faults.url if side == 'worker' else nats.url, ACTORS),
        running_gateway(faults.url if side == 'gateway' else nats.url, words, edge=edge) as (gateway, client),
    ):
        stub = words_pb2_grpc.WordsStub(client.channel)
        for make, calls in (echoed, 9), (split, 4):  # a split has four frames in all
            faults.alter(tamper := TamperEach(what), frames)
            got: list[list[str]] = [[] for _ in range(calls)]
            codes = await asyncio.gather(*(make(stub, text, of_call) for of_call in got))
            assert make is split or sum(one.seen >= one.at for one in tamper.calls.values()) == calls
            for code, of_call in zip(codes, got, strict=True):
                assert of_call == (text if code is grpc.StatusCode.OK else text[: len(of_call)])
                assert code is grpc.StatusCode.OK or (code is grpc.StatusCode.UNAVAILABLE and what != 'doubled')
            await faults.heal()
        assert await echoed(stub, text, []) is grpc.StatusCode.OK
        await gateway.becomes(lambda inside: not inside.waiting)


async def echoed(stub: Any, text: list[str], got: list[str]) -> grpc.StatusCode:
    """A bidi call, word by word; how it ended."""
    call = stub.Echo(timeout=10)
    with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # it has ended meanwhile
        for word in text:
            await call.write(Word(word=word))
            if (answer := await call.read()) is grpc.aio.EOF:
                break
            got.append(answer.word)
        await call.done_writing()
    code: grpc.StatusCode = await call.code()
    return code


async def split(stub: Any, text: list[str], got: list[str]) -> grpc.StatusCode:
    """A server-streaming call; how it ended."""
    call = stub.Split(Split(text=' '.join(text)), timeout=10)
    with suppress(grpc.aio.AioRpcError):
        while (answer := await call.read()) is not grpc.aio.EOF:
            got.append(answer.word)
    code: grpc.StatusCode = await call.code()
    return code


# Processes


async def read_all(call: Any) -> list[str]:
    return [word.word async for word in call]


async def test_a_worker_that_is_killed_before_the_call_is_committed(nats: EmbeddedNats, edge: str) -> None:
    """The client sees nothing of it."""
    async with worker_of(nats) as first, gateway_of(nats, edge) as (_, stub):
        await first.says('working')
        reading = asyncio.create_task(read_all(stub.Split(Split(text='late 60'), timeout=20)))
        await first.says('late in attempt 1')
        async with worker_of(nats) as second:
            await second.says('working')
            first.process.kill()
            assert await reading == [f'{second.pid} {number}' for number in range(5)]
            assert second.find('late in attempt 2')


async def test_a_worker_that_is_killed_after_the_call_is_committed(nats: EmbeddedNats, edge: str) -> None:
    async with worker_of(nats) as first, gateway_of(nats, edge) as (_, stub):
        await first.says('working')
        call = stub.Split(Split(text='begin'), timeout=20)
        assert (await call.read()).word == 'first'
        async with worker_of(nats) as second:
            await second.says('working')
            first.process.kill()
            killed = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            assert time.monotonic() - killed < 3
            assert not second.find('begin')


async def test_a_worker_that_stands_still_after_the_call_is_committed(nats: EmbeddedNats, edge: str) -> None:
    async with worker_of(nats) as worker, gateway_of(nats, edge) as (_, stub):
        await worker.says('working')
        call = stub.Split(Split(text='begin'), timeout=20)
        assert (await call.read()).word == 'first'
        worker.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert time.monotonic() - stopped < 3
        worker.process.send_signal(signal.SIGCONT)
        await worker.says('cancelled')


async def test_two_workers_that_both_hold_the_event(nats: EmbeddedNats, edge: str) -> None:
    """The first stands still before it has sent anything, and wakes up when the second answers: one of them speaks."""
    async with worker_of(nats) as first, gateway_of(nats, edge) as (_, stub):
        await first.says('working')
        call = stub.Split(Split(text='late 3'), timeout=30)
        reading = asyncio.create_task(read_all(call))
        await first.says('late in attempt 1')
        async with worker_of(nats) as second:
            await second.says('working')
            first.process.send_signal(signal.SIGSTOP)
            await second.says('late in attempt', timeout=15)  # the server may give it to the first one once more
            first.process.send_signal(signal.SIGCONT)
            assert await reading == [f'{second.pid} {number}' for number in range(5)]


async def test_a_gateway_that_is_killed(nats: EmbeddedNats, edge: str) -> None:
    """The handler is cancelled: it would work for nobody."""
    async with worker_of(nats) as worker, gateway_of(nats, edge) as (gateway, stub):
        await worker.says('working')
        call = stub.Split(Split(text='begin'), timeout=20)
        assert (await call.read()).word == 'first'
        gateway.process.kill()
        await worker.says('cancelled', timeout=3)


async def test_nats_that_is_restarted(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with stack(nats, words, ACTORS, edge=edge) as running:
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        echo = stub.Echo(timeout=20)
        await echo.write(Word(word='a'))
        assert (await echo.read()).word == 'a'
        await nats.kill()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await echo.read()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await nats.start()
        await until(lambda: running.actors.connection.connected)
        await running.gateway.becomes(lambda inside: inside.connected)
        assert await read_all(stub.Split(Split(text='a b'), timeout=20)) == ['a', 'b']
        await until(lambda: not any(worker.jobs for worker in running.actors.workers))


async def test_a_handler_that_blocks_its_worker(nats: EmbeddedNats, edge: str) -> None:
    """Its own call ends, and does not wait for its deadline; the others of this worker are answered when it goes on."""
    async with worker_of(nats) as worker, gateway_of(nats, edge) as (_, stub):
        await worker.says('working')
        blocked = asyncio.create_task(read_all(stub.Split(Split(text='block 6'), timeout=60)))
        await worker.says('block in attempt')
        counts = [stub.Count(words_pb2.CountRequest(text='a b'), timeout=30) for _ in range(5)]
        started = time.monotonic()
        assert {(await count).words for count in counts} == {2}  # redelivered meanwhile, and not given up
        with suppress(grpc.aio.AioRpcError):
            await blocked
        assert time.monotonic() - started < 12
        assert blocked.done()
        assert ' by the handler of actor split, at ' in await worker.says('the event loop has been blocked for')
        assert 'split' in await worker.says('the event loop was blocked for')


async def test_a_handler_that_gives_something_else(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async def wrong(request: Any) -> AsyncIterator[Any]:
        yield 'hello'

    async def listed(messages: Any) -> Any:
        return ['a']

    async with stack(nats, words, word_actors(Split=wrong, Echo=listed), edge=edge) as running:
        ended = await running.client.call('Split')
        assert (ended.code, ended.reason) == (Code.INTERNAL, 'RESPONSE_UNREADABLE')
        ended = await running.client.call('Echo')
        assert (ended.code, ended.reason) == (Code.UNKNOWN, 'HANDLER_FAILED')
