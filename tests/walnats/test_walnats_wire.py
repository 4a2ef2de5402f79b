"""Events shared with walnats, both ways, with the real library in a process of its own."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import connect, running_actors, running_gateway, until
from test_presence import SERVING, check

from natsgate.actors import Actor, Actors, Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Clock, Code, ContractError, Event, Events, Limits, StatusError
from natsgate.events.kind import Kind
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Override

GENERATED = str(Path(words_pb2.__file__).parents[2])
OTHER_SIDE = Path(__file__).parent / 'other_side.py'
LENGTH = Event('a.length', str, limits=Limits(age=3600, messages=100), description='how long', walnats=True)
ANSWERED = LENGTH.with_response(int)
TICK = Event('tick', datetime, walnats=True)
COUNT = Event('words.count', words_pb2.CountRequest, walnats=True).with_response(words_pb2.CountResponse)
TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'


async def start(nats: EmbeddedNats, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(OTHER_SIDE), nats.url, *arguments, env=os.environ | {'PYTHONPATH': GENERATED},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def run(nats: EmbeddedNats, *arguments: str) -> tuple[int | None, str, str]:
    process = await start(nats, *arguments)
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    return process.returncode, out.decode().strip(), err.decode()


async def request(nats: EmbeddedNats, text: str, **options: Any) -> tuple[int | None, str, str]:
    return await run(nats, 'request', text, json.dumps(options))


@asynccontextmanager
async def acting(nats: EmbeddedNats, name: str) -> AsyncIterator[asyncio.StreamReader]:
    process = await start(nats, 'act', name)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            assert await process.stdout.readline() == b'ready\n'
        yield process.stdout
    finally:
        process.kill()
        await process.communicate()


async def stream(nats: EmbeddedNats) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configurations of the shared stream and of its one consumer, without what the server adds."""
    connection = await connect(nats.url)
    config = (await connection.api('STREAM.INFO.a-length'))['config']
    (consumer,) = (await connection.api('CONSUMER.LIST.a-length', {'offset': 0}))['consumers']
    await connection.close()
    config.pop('metadata', None)
    consumer['config'].pop('metadata', None)
    return config, consumer['config']


async def test_an_actor_of_walnats_answers_a_grpc_call(nats: EmbeddedNats, words: Descriptors) -> None:
    overrides = {'demo.v1.Words/Count': Override(event='words.count', walnats=True)}
    async with acting(nats, 'count') as seen, running_gateway(nats.url, words, overrides=overrides) as (_, client):
        call = words_pb2.CountRequest(text='to be or not to be')
        answer = await client.call('Count', call, metadata=(('tenant', 'a'), ('traceparent', TRACE), ('x-bin', b'\0')))
        told = json.loads(await seen.readline())
        many = await asyncio.gather(*(client.call('Count', call) for _ in range(50)))
    assert answer.code is Code.OK
    assert words_pb2.CountResponse.FromString(answer.data).words == 6
    assert {one.data for one in many} == {answer.data}
    assert answer.initial == answer.trailing == ()  # what walnats sends back of ours is no metadata
    headers = told['headers']
    assert (headers['tenant'], headers['x-bin'], told['trace'], told['attempts']) == ('a', 'AA==', TRACE, 1)
    assert 'Nats-TTL' not in headers


async def test_a_call_that_no_actor_of_walnats_takes(nats: EmbeddedNats, words: Descriptors) -> None:
    overrides = {'demo.v1.Words/Count': Override(event='words.count', walnats=True)}
    async with running_gateway(nats.url, words, overrides=overrides) as (_, client):
        assert (await client.call('Count', timeout=5)).reason == 'NO_STREAM'
        async with Events(COUNT).connect(nats.url) as conn:
            await conn.register()
        assert (await client.call('Count', timeout=5)).reason == 'NO_WORKER'
        assert await check(client) == SERVING


async def test_a_request_of_walnats_is_answered(nats: EmbeddedNats) -> None:
    contexts: list[Context] = []

    def length(text: str, context: Context) -> int:
        contexts.append(context)
        return len(text)

    async with running_actors(nats.url, Actors(Actor('length', ANSWERED, length))):
        done = await request(nats, 'four', uid='u-1', trace_id=TRACE, meta={'X-Tenant': 'a', 'ce-id': '1'})
        assert done[:2] == (0, '4')
    (context,) = contexts
    assert context.id == 'u-1'
    assert dict(context.metadata) == {'x-tenant': 'a', 'traceparent': TRACE}
    assert context.time_remaining() is None


async def test_a_delayed_request_of_walnats_waits(nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TZ', 'UTC')  # elsewhere, walnats writes another moment than it means
    attempts: list[int] = []

    def length(text: str, context: Context) -> int:
        attempts.append(context.attempt)
        return len(text)

    async with running_actors(nats.url, Actors(Actor('length', ANSWERED, length, max_attempts=1))):
        assert (await request(nats, 'four', delay=0.5))[:2] == (0, '4')
        connection = await connect(nats.url)
        info = await connection.api('CONSUMER.INFO.a-length.length')
        await connection.close()
    assert info['delivered']['consumer_seq'] == 2  # it came at once, and again when it was due
    assert attempts == [1]


async def test_a_clock_that_is_a_little_off_costs_a_delayed_event_no_attempt(
    nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    async def length(text: str, context: Context) -> int:
        attempts.append(context.attempt)
        return len(text)

    async with (
        running_actors(nats.url, Actors(Actor('length', ANSWERED, length, max_attempts=1))) as actors,
        Events(ANSWERED).connect(nats.url) as conn,
    ):
        await conn.emit(ANSWERED, 'four', delay=0.5)
        while not (await conn.connection.api('CONSUMER.INFO.a-length.length'))['num_ack_pending']:
            await asyncio.sleep(0.01)
        clock = actors.connection.clock
        monkeypatch.setattr(clock, '_offset', clock._offset - 0.05)  # as another worker may know it
        await until(lambda: attempts)
    assert attempts == [1]


async def test_an_actor_of_walnats_waits_for_what_we_delay(nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TZ', 'UTC')  # elsewhere, walnats reads another moment than is written
    async with acting(nats, 'length') as seen, Events(LENGTH).connect(nats.url) as conn:
        await conn.emit(LENGTH, 'four', delay=0.5)
        async with asyncio.timeout(10):
            told = json.loads(await seen.readline())
        info = await conn.connection.api('CONSUMER.INFO.a-length.length')
    assert 'Walnats-Delay' in told['headers']
    assert told['attempts'] == 1
    assert info['delivered']['consumer_seq'] == 2


async def test_a_failure_is_no_result_for_walnats(nats: EmbeddedNats, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(text: str, context: Context) -> int:
        context.abort(Code.NOT_FOUND, 'none')

    async with running_actors(nats.url, Actors(Actor('length', ANSWERED, refuse))):
        code, out, error = await request(nats, 'four', timeout=0.5)
        assert (code, out) == (1, '')
        assert 'TimeoutError' in error
        async with Events(ANSWERED).connect(nats.url) as conn:
            with pytest.raises(StatusError, match='NOT_FOUND: none'):  # we can be told
                await conn.request(ANSWERED, 'four')
    assert 'left without an answer: NOT_FOUND: none' in caplog.text


async def test_a_response_that_is_too_large_is_no_result_either(caplog: pytest.LogCaptureFixture) -> None:
    actors = Actors(Actor('length', ANSWERED, lambda text: 10**3000))
    async with EmbeddedNats(config='max_payload: 2048') as nats, running_actors(nats.url, actors):
        code, out, error = await request(nats, 'four', timeout=0.5)
    assert (code, out) == (1, '')
    assert 'TimeoutError' in error
    assert 'left without an answer: RESOURCE_EXHAUSTED' in caplog.text


async def test_actors_of_both_share_the_work(nats: EmbeddedNats) -> None:
    async with (
        acting(nats, 'length') as seen,
        running_actors(nats.url, Actors(Actor('length', ANSWERED, len))) as actors,
        Events(ANSWERED).connect(nats.url) as conn,
    ):
        answers: list[int] = []
        while not actors.workers[0].runs or not answers:
            answers += await asyncio.gather(*(conn.request(ANSWERED, 'four') for _ in range(20)))
        async with asyncio.timeout(5):
            assert json.loads(await seen.readline())['trace'] is None
    assert set(answers) == {4}


async def test_streams_and_consumers_are_those_of_walnats(nats: EmbeddedNats) -> None:
    """Whoever comes first makes them; the other one finds nothing to change, and starts."""
    actors = Actors(Actor('length', ANSWERED, len, ack_wait=16, max_ack_pending=1000))
    async with running_actors(nats.url, actors):
        ours = await stream(nats)
        done = await run(nats, 'register')
        assert done == (0, '', '')
        assert await stream(nats) == ours
    async with EmbeddedNats() as other:
        await run(other, 'register')
        theirs = await stream(other)
        async with Events(LENGTH).connect(other.url) as conn, running_actors(other.url, actors):
            await conn.register()
            assert await stream(other) == theirs
    assert ours == theirs


async def test_a_stream_of_walnats_is_never_changed(nats: EmbeddedNats) -> None:
    await run(nats, 'register')
    before = await stream(nats)
    async with Events(Event('a.length', str, walnats=True)).connect(nats.url) as conn:
        await conn.register()
    assert await stream(nats) == before


@pytest.mark.parametrize('shared', [True, False])
async def test_a_stream_of_another_event_is_not_taken(nats: EmbeddedNats, shared: bool) -> None:
    """In walnats, `a.length` and `a-length` have the same stream."""
    await run(nats, 'register')
    before = await stream(nats)
    event = Event('a-length', str, walnats=shared)
    async with Events(event).connect(nats.url) as conn:
        with pytest.raises(ContractError, match=r'stream a-length is that of a\.length'):
            await conn.register()
    with pytest.raises(ContractError, match=r'stream a-length is that of a\.length'):
        async with running_actors(nats.url, Actors(Actor('other', event, print))):
            pass
    assert await stream(nats) == before


async def test_an_id_counts_once_whoever_emits_it(nats: EmbeddedNats) -> None:
    heard: list[str] = []
    async with (
        running_actors(nats.url, Actors(Actor('length', ANSWERED, lambda text: heard.append(text) or len(text)))),
        Events(ANSWERED).connect(nats.url) as conn,
    ):
        assert (await request(nats, 'four', uid='one'))[:2] == (0, '4')
        with pytest.raises(StatusError, match='ALREADY_EXISTS'):
            await conn.request(ANSWERED, 'four', uid='one')
    assert heard == ['four']


async def test_a_tick_of_walnats_is_heard(nats: EmbeddedNats) -> None:
    heard: list[datetime] = []

    async def hear(moment: datetime) -> None:
        heard.append(moment)

    async with running_actors(nats.url, Actors(Actor('hear', TICK, hear))):
        assert (await run(nats, 'tick'))[0] == 0
        await until(lambda: heard)
    assert abs((datetime.now(UTC) - heard[0]).total_seconds()) < 60  # its local time is ours


async def test_walnats_hears_a_tick(nats: EmbeddedNats) -> None:
    async with acting(nats, 'tick') as seen, Events(TICK).connect(nats.url) as conn:
        await Clock(event=TICK, period=0.5).run(conn, burst=True)
        async with asyncio.timeout(5):
            moment = datetime.fromisoformat((await seen.readline()).decode().strip())
    assert (moment.utcoffset(), moment.timestamp() % 0.5) == (timedelta(), 0)


def test_walnats_knows_no_streaming_calls() -> None:
    with pytest.raises(ContractError, match='no streaming'):
        LENGTH.with_response(int, kind=Kind.BIDI)
