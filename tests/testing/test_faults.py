"""Faults: what a test switches on happens, and no longer than it says."""

import asyncio
from typing import Any

import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import Faults, connect, running_actors, running_gateway, until, word_actors

from natsgate.actors import Context
from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors
from natsgate.testing import faults as kinds

COUNT = words_pb2.CountRequest(text='a b')
attempts: list[int] = []


async def count(request: words_pb2.CountRequest, context: Context) -> words_pb2.CountResponse:
    attempts.append(context.attempt)
    return words_pb2.CountResponse(words=len(request.text.split()))


@pytest.fixture(autouse=True)
def no_attempts() -> None:
    attempts.clear()


async def test_an_event_that_is_lost_comes_again(nats: EmbeddedNats, words: Descriptors) -> None:
    async with (
        Faults(nats.url) as faults,
        running_actors(faults.url, word_actors(Count=(count, {'ack_wait': 0.2}))),
        running_gateway(nats.url, words) as (_, client),
    ):
        fault = faults.drop(kinds.events, times=1)
        assert (await client.call('Count', COUNT)).code is Code.OK
        assert (fault.met, attempts) == (1, [2])


async def test_a_doubled_response_is_passed_over(nats: EmbeddedNats, words: Descriptors) -> None:
    async with (
        Faults(nats.url) as faults,
        running_actors(nats.url, word_actors(Count=count)),
        running_gateway(faults.url, words) as (gateway, client),
    ):
        fault = faults.double(kinds.responses)
        assert [(await client.call('Count', COUNT)).code for _ in range(3)] == [Code.OK] * 3
        await gateway.becomes(lambda inside: inside.late == 3)
        assert (fault.met, attempts) == (3, [1, 1, 1])


async def test_late_responses_and_frames(nats: EmbeddedNats, words: Descriptors) -> None:
    async with (
        Faults(nats.url) as faults,
        running_actors(nats.url, ACTORS),
        running_gateway(faults.url, words) as (_, client),
    ):
        faults.delay(0.3, kinds.responses, times=1)
        assert (await client.call('Count', COUNT)).seconds >= 0.3
        faults.delay(0.3, kinds.responses, times=1)
        assert (await client.call('Count', COUNT, timeout=0.1)).code is Code.DEADLINE_EXCEEDED
        loop = asyncio.get_running_loop()
        started = loop.time()
        faults.delay(0.2, kinds.frames, times=2)
        stub: Any = words_pb2_grpc.WordsStub(client.channel)
        assert [one.word async for one in stub.Split(words_pb2.SplitRequest(text='a b'))] == ['a', 'b']
        assert loop.time() - started >= 0.4


async def test_a_side_that_dies_and_one_that_is_cut(nats: EmbeddedNats, words: Descriptors) -> None:
    began = asyncio.Event()

    async def first(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        began.set()
        await asyncio.sleep(30)
        return words_pb2.CountResponse()

    async with (
        Faults(nats.url) as faults,
        running_actors(faults.url, word_actors(Count=first)) as dying,
        running_gateway(nats.url, words) as (_, client),
    ):
        calling = asyncio.create_task(client.call('Count', COUNT))
        await began.wait()
        faults.kill()
        await until(lambda: not dying.connection.connected)
        async with running_actors(nats.url, word_actors(Count=count)):
            assert (await calling).code is Code.OK
        assert attempts == [2]
        await faults.heal()
        await until(lambda: dying.connection.connected)
        lost: list[int] = []
        dying.connection.on_disconnected.append(lambda: lost.append(1))
        faults.cut()
        await until(lambda: lost and dying.connection.connected)


async def test_healing_switches_all_off(nats: EmbeddedNats) -> None:
    async with Faults(nats.url) as faults:
        connection = await connect(faults.url)
        fault = faults.drop()
        with pytest.raises(TimeoutError):
            await connection.request('$JS.API.INFO', timeout=0.2)
        await faults.heal()
        await connection.request('$JS.API.INFO')
        assert fault.met == 1
        await connection.close()


@pytest.mark.parametrize(
    ('mistake', 'told'),
    [
        (lambda faults: faults.drop('events'), "what: 'events' is no function"),
        (lambda faults: faults.delay(kinds.events, 0.5), 'what: 0.5 is no function'),
        (lambda faults: faults.drop(lambda msg: 1 / 0), 'division by zero'),
        (lambda faults: faults.alter(lambda msg: msg), 'a list of messages of each, this is Msg'),
        (lambda faults: faults.alter(lambda msg: None), 'not iterable'),
    ],
)
async def test_a_mistake_in_a_fault_is_told(mistake: Any, told: str, nats: EmbeddedNats) -> None:
    """And it is no fault: nothing is lost over it."""

    async def go() -> None:
        async with Faults(nats.url) as faults:
            mistake(faults)
            connection = await connect(faults.url)
            await connection.request('$JS.API.INFO', timeout=5)
            await connection.close()

    with pytest.raises((TypeError, ZeroDivisionError), match=told):
        await go()


async def test_nats_may_die_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    server = EmbeddedNats()
    await server.start()
    async with Faults(server.url) as faults:
        await server.stop()
        reader, writer = await asyncio.open_connection(*faults.url.removeprefix('nats://').split(':'))
        assert await reader.read() == b''
        writer.close()
    assert not caplog.records
