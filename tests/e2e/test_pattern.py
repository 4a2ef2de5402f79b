"""The pattern: events with response, actors, request(). No gRPC in sight."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from support import connect, running_actors, until

from natsgate.actors import Actor, Actors, Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import CloudEvent, Code, ContractError, Event, Events, Kind, StatusError

COUNT_WORDS = Event('count-words', str).with_response(int)


def count_words(text: str) -> int:
    return len(text.split())


async def test_the_documented_example(nats: EmbeddedNats) -> None:
    async with (
        running_actors(nats.url, Actors(Actor('count-words', COUNT_WORDS, count_words))),
        Events(COUNT_WORDS).connect(nats.url) as conn,
    ):
        count = await conn.request(COUNT_WORDS, 'some random text')
    assert count == 3


async def test_register_and_listen_as_in_the_documentation(nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('NATS_SERVER', nats.url)
    async with (
        Events(COUNT_WORDS).connect() as conn,
        Actors(Actor('counter', COUNT_WORDS, count_words)).connect() as actors,
    ):
        await conn.register()
        await actors.register()
        asked = asyncio.create_task(conn.request(COUNT_WORDS, 'a b'))
        await until(lambda: conn._requester.waiting and not conn._requester.unacknowledged)
        await actors.listen(burst=True)
        assert await asked == 2


async def test_if_several_actors_answer_the_first_response_wins(nats: EmbeddedNats) -> None:
    event = Event('slow-or-fast', str).with_response(str)
    let_go = asyncio.Event()

    async def slow(_: str) -> str:
        await let_go.wait()
        return 'slow'

    async def fast(_: str) -> str:
        return 'fast'

    async with running_actors(nats.url, Actors(Actor('slow', event, slow), Actor('fast', event, fast))) as actors:
        async with Events(event).connect(nats.url) as conn:
            assert await conn.request(event, 'x') == 'fast'
            let_go.set()
            await until(lambda: conn._requester.late == 1)
        assert [worker.runs for worker in actors.workers] == [1, 1]


async def test_a_listener_on_the_plain_event_never_answers(nats: EmbeddedNats) -> None:
    plain = Event('greet', str)
    event = plain.with_response(str)
    heard: list[str] = []

    async def listen(text: str) -> str:
        heard.append(text)
        return 'from the listener'

    async def fail(text: str) -> None:
        heard.append(text)
        raise ValueError('a listener failed')

    async def answer(text: str) -> str:
        await until(lambda: len(heard) >= 2)
        return 'from the actor'

    actors = Actors(Actor('listener', plain, listen), Actor('failing', plain, fail), Actor('actor', event, answer))
    async with running_actors(nats.url, actors), Events(event).connect(nats.url) as conn:
        assert await conn.request(event, 'hi') == 'from the actor'


async def test_an_event_that_only_listeners_take_fails_at_once(nats: EmbeddedNats) -> None:
    plain = Event('greet', str)
    event = plain.with_response(str)
    async with (
        running_actors(nats.url, Actors(Actor('listener', plain, print))),
        Events(event).connect(nats.url) as conn,
    ):
        started = time.monotonic()
        with pytest.raises(StatusError) as raised:
            await conn.request(event, 'hi', timeout=10)
    assert raised.value.code is Code.UNAVAILABLE
    assert 'listener' in raised.value.status.message
    assert time.monotonic() - started < 1


async def test_a_status_raised_by_the_handler_is_raised_here(nats: EmbeddedNats) -> None:
    def refuse(text: str, context: Context) -> int:
        context.set_trailing_metadata((('x-left', '3'),))
        context.abort(Code.FAILED_PRECONDITION, f'not {text}')

    async with (
        running_actors(nats.url, Actors(Actor('refuse', COUNT_WORDS, refuse))),
        Events(COUNT_WORDS).connect(nats.url) as conn,
    ):
        with pytest.raises(StatusError, match='FAILED_PRECONDITION: not now') as raised:
            await conn.request(COUNT_WORDS, 'now')
    assert raised.value.trailing == (('x-left', '3'),)


@pytest.mark.parametrize('kind', [Kind.UNARY, Kind.SERVER_STREAMING])
async def test_a_response_that_cannot_be_read_is_a_status(nats: EmbeddedNats, kind: Kind) -> None:
    answered = Event('declared-otherwise', str).with_response(str, kind=kind)
    asked = Event('declared-otherwise', str).with_response(int, kind=kind)

    async def echo(text: str) -> str:
        return text

    async def echoes(text: str) -> AsyncIterator[str]:
        while True:
            yield text

    actor = Actor('echo', answered, echo if kind is Kind.UNARY else echoes)
    async with running_actors(nats.url, Actors(actor)) as actors, Events(asked).connect(nats.url) as conn:
        asking = conn.request(asked, 'x') if kind is Kind.UNARY else anext(conn.stream(asked, 'x'))
        with pytest.raises(StatusError, match='the response cannot be read: the data is not a int') as caught:
            await asking
        assert caught.value.status.code is Code.INTERNAL
        await until(lambda: not actors.workers[0].jobs)


async def test_the_handler_sees_metadata_attempt_and_time(nats: EmbeddedNats) -> None:
    seen: dict[str, Any] = {}

    async def look(_: str, context: Context) -> int:
        seen.update(metadata=context.metadata, attempt=context.attempt, left=context.time_remaining(), id=context.id)
        return 0

    trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    async with (
        running_actors(nats.url, Actors(Actor('look', COUNT_WORDS, look))),
        Events(COUNT_WORDS).connect(nats.url) as conn,
    ):
        await conn.request(COUNT_WORDS, 'x', meta={'tenant': 'a'}, trace_id=trace, uid='u-1', timeout=3)
    assert seen['metadata'] == (('tenant', 'a'), ('traceparent', trace))
    assert seen['attempt'] == 1
    assert 2 < seen['left'] <= 3
    assert seen['id'] == 'count-words:u-1'


async def test_a_second_request_of_the_same_id_gets_the_same_answer(nats: EmbeddedNats) -> None:
    async with running_actors(nats.url, Actors(Actor('count', COUNT_WORDS, count_words))) as actors:
        async with Events(COUNT_WORDS).connect(nats.url) as conn:
            both = await asyncio.gather(*(conn.request(COUNT_WORDS, 'a b c', uid='one') for _ in range(5)))
            again = await conn.request(COUNT_WORDS, 'a b c', uid='one')
        assert [*both, again] == [3] * 6
        assert actors.workers[0].runs == 1
        async with Events(COUNT_WORDS).connect(nats.url) as other:
            started = time.monotonic()
            with pytest.raises(StatusError, match='ALREADY_EXISTS'):
                await other.request(COUNT_WORDS, 'a b c', uid='one', timeout=10)
            assert time.monotonic() - started < 1


async def test_emit_reaches_every_actor_and_waits_for_none(nats: EmbeddedNats) -> None:
    event = Event('ordered', dict[str, int])
    heard: list[tuple[str, Any]] = []
    actors = Actors(
        Actor('billing', event, lambda m: heard.append(('billing', m))),
        Actor('stock', event, lambda m: heard.append(('stock', m))),
    )
    async with running_actors(nats.url, actors), Events(event).connect(nats.url) as conn:
        cloud = CloudEvent(id='c1', source='/shop', type='ordered')
        await conn.emit(event, {'n': 1}, sync=True, meta=cloud)
        await conn.emit(event, {'n': 1}, sync=True, meta=cloud)
        await conn.emit(event, {'n': 2})
        await until(lambda: len(heard) == 4)
    assert sorted(heard, key=str) == sorted([(who, {'n': n}) for who in ('billing', 'stock') for n in (1, 2)], key=str)


async def test_a_burst_without_an_end_can_be_stopped(nats: EmbeddedNats) -> None:
    event = Event('again', str)
    runs = 0

    async def again(text: str) -> None:
        nonlocal runs
        runs += 1
        await conn.emit(event, text, sync=True)
        await asyncio.sleep(0.02)  # so that the next one is there before this one is done

    async with (
        Actors(Actor('again', event, again)).connect(nats.url) as actors,
        Events(event).connect(nats.url) as conn,
    ):
        await actors.register()
        await conn.emit(event, 'x', sync=True)
        listening = asyncio.create_task(actors.listen(burst=True))
        await until(lambda: runs > 10)
        actors.stop()
        async with asyncio.timeout(5):
            await listening


async def test_emit_without_a_stream_says_so(nats: EmbeddedNats) -> None:
    event = Event('nowhere', str)
    async with Events(event).connect(nats.url) as conn:
        with pytest.raises(StatusError, match='nowhere is not there') as raised:
            await conn.emit(event, 'x', sync=True)
    assert raised.value.code is Code.UNAVAILABLE


async def test_a_listener_that_fails_gets_the_event_again(nats: EmbeddedNats) -> None:
    event = Event('flaky', str)
    attempts: list[int] = []

    async def flaky(_: str, context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            raise ValueError('once')

    async with running_actors(nats.url, Actors(Actor('flaky', event, flaky))), Events(event).connect(nats.url) as conn:
        await conn.emit(event, 'x', sync=True)
        await until(lambda: attempts == [1, 2])


async def test_requests_of_events_that_were_not_connected_are_refused(nats: EmbeddedNats) -> None:
    async with Events().connect(nats.url) as conn:
        with pytest.raises(ContractError, match='not among the Events'):
            await conn.request(COUNT_WORDS, 'x')


@pytest.mark.parametrize('kind', [Kind.SERVER_STREAMING, Kind.CLIENT_STREAMING, Kind.BIDI])
async def test_a_streaming_event_is_not_emitted(nats: EmbeddedNats, kind: Kind) -> None:
    """No actor could run it without a caller."""
    event = Event('streams', str).with_response(str, kind=kind)
    async with Events(event).connect(nats.url) as conn:
        with pytest.raises(ContractError, match='event streams: it streams'):
            await conn.emit(event, 'x')


async def test_events_and_actors_share_a_connection(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    async with (
        Events(COUNT_WORDS).connect(connection, close=False) as conn,
        Actors(Actor('count', COUNT_WORDS, count_words)).connect(connection, close=False) as actors,
    ):
        await actors.register()
        listening = asyncio.create_task(actors.listen())
        assert await conn.request(COUNT_WORDS, 'one two') == 2
        actors.stop()
        await listening
    assert connection.connected
    await connection.close()
