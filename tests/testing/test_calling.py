"""call(): without NATS, and yet what a client of the gateway gets."""

import asyncio
import contextvars
import time
from typing import Any

import probe_pb2
import probe_servicers
import pytest
from calls import CALLS, STREAMS_REQUESTS, Call
from demo.v1 import words_pb2
from google.rpc import error_details_pb2
from probe_pb2_grpc import ProbeStub, add_ProbeServicer_to_server
from support import ROOT, stack, until, word_actors

from natsgate.actors import Actor, Actors, Context
from natsgate.actors.retry import Retry
from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, ContractError, Event, Kind, SerializerError, StatusError
from natsgate.events.metadata import MetadataError
from natsgate.gateway.protos import load
from natsgate.testing import Called, call

CountRequest, CountResponse, Word = words_pb2.CountRequest, words_pb2.CountResponse, words_pb2.Word
METADATA = (('x-a', '1'), ('x-a', '2'), ('x-b-bin', b'\x00\xff'))
DETAILS = 'grpc-status-details-bin'


def actor(name: str) -> Actor:
    return ACTORS[name]


def test_an_actor_that_is_not_there() -> None:
    with pytest.raises(ContractError, match=r"no actor 'cuont'; there are count, "):
        actor('cuont')
    with pytest.raises(ContractError, match='there are none'):
        Actors()['count']


async def test_a_unary_call() -> None:
    assert await call(actor('count'), CountRequest(text='to be')) == Called(
        responses=(CountResponse(words=2),), attempts=1
    )


async def test_streaming_calls() -> None:
    words = [Word(word='to'), Word(word='be')]

    async def slowly() -> Any:
        for word in words:
            await asyncio.sleep(0)
            yield word

    assert (await call(actor('split'), words_pb2.SplitRequest(text='to be'))).responses == tuple(words)
    assert (await call(actor('join'), words)).response.text == 'to be'
    assert (await call(actor('echo'), slowly())).responses == tuple(words)
    with pytest.raises(ValueError, match='2 responses'):
        assert (await call(actor('echo'), words)).response


async def test_a_status_with_details() -> None:
    called = await call(actor('lookup'), words_pb2.LookupRequest(word='nothing'))
    assert (called.code, called.status.message, called.responses) == (Code.NOT_FOUND, "no definition of 'nothing'", ())
    info = called.status.detail(error_details_pb2.ResourceInfo)
    assert info is not None
    assert info.resource_name == 'nothing'
    with pytest.raises(StatusError, match='NOT_FOUND'):
        assert called.response


@pytest.mark.parametrize(
    ('handler', 'code', 'reason'),
    [
        (lambda _: 1 / 0, Code.UNKNOWN, 'HANDLER_FAILED'),
        (lambda _: 'no message', Code.INTERNAL, 'RESPONSE_UNREADABLE'),
        (lambda _: None, Code.INTERNAL, 'RESPONSE_UNREADABLE'),
        (lambda _: asyncio.sleep(30), Code.DEADLINE_EXCEEDED, 'DEADLINE'),
    ],
)
async def test_what_a_worker_says_of_failures(handler: Any, code: Code, reason: str) -> None:
    async def ponder(request: words_pb2.PonderRequest) -> Any:
        result = handler(request)
        return await result if asyncio.iscoroutine(result) else result

    called = await call(Actor('a', actor('ponder').event, ponder), words_pb2.PonderRequest(), timeout=0.3)
    assert (called.code, called.reason) == (code, reason)


async def test_the_context() -> None:
    seen: dict[str, Any] = {}
    variable = contextvars.ContextVar('variable', default='')

    def count(request: CountRequest, context: Context) -> CountResponse:
        remaining = context.time_remaining()
        assert remaining is not None
        seen.update(metadata=context.metadata, attempt=context.attempt, remaining=remaining, variable=variable.get())
        context.send_initial_metadata([('x-initial', '1')])
        context.set_trailing_metadata([('x-trailing', '2')])
        return CountResponse()

    variable.set('of the test')
    called = await call(*word_actors(Count=count), CountRequest(), metadata=METADATA, timeout=5)
    assert (called.metadata, called.trailing) == ((('x-initial', '1'),), (('x-trailing', '2'),))
    assert seen['metadata'] == METADATA
    assert (seen['attempt'], seen['variable']) == (1, 'of the test')
    assert 4 < seen['remaining'] < 5


async def test_what_is_no_call() -> None:
    with pytest.raises(SerializerError, match=r'demo.v1.CountRequest is declared, this is str'):
        await call(actor('count'), 'a text')
    with pytest.raises(MetadataError):
        await call(actor('count'), CountRequest(), metadata=[('x-a', 'a\nb')])


async def test_cancelling_reaches_the_handler() -> None:
    ended: list[str] = []

    async def count(request: CountRequest) -> CountResponse:
        ended.append('begun')
        try:
            await asyncio.sleep(30)
        finally:
            ended.append('cancelled')
        return CountResponse()

    calling = asyncio.create_task(call(*word_actors(Count=count), CountRequest()))
    await until(lambda: ended)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert ended == ['begun', 'cancelled']


async def test_a_listener_runs_again_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    """As on NATS, without the seconds between."""
    attempts: list[int] = []

    async def listen(number: int, context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt < number:
            raise ValueError('not yet')

    listener = Actor('listener', Event('happened', int), listen)
    started = time.monotonic()
    called = await call(listener, 3)
    assert (called.code, called.attempts, called.buried) == (Code.OK, 3, '')
    failed = await call(listener, 4)
    assert (failed.code, failed.attempts) == (Code.UNKNOWN, 3)
    assert failed.buried == "attempt 3: ValueError('not yet')"
    assert attempts == [1, 2, 3, 1, 2, 3]
    assert time.monotonic() - started < 1, 'three attempts on NATS take 3 s'


async def test_a_retried_call_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    async def count(request: CountRequest, context: Context) -> CountResponse:
        if context.attempt < 3:
            raise ValueError('not yet')
        return CountResponse(words=context.attempt)

    started = time.monotonic()
    (patient,) = word_actors(Count=(count, {'retry': Retry(backoff=5)}))
    called = await call(patient, CountRequest(), timeout=60)
    assert (called.response.words, called.attempts) == (3, 3)
    assert time.monotonic() - started < 5, 'on NATS it takes 15 s'
    (hurried,) = word_actors(Count=(count, {'retry': Retry(backoff=5)}))
    called = await call(hurried, CountRequest(), timeout=1)
    assert (called.code, called.attempts) == (Code.UNKNOWN, 1), 'there is no time for another one'


async def test_a_listener_that_does_not_end() -> None:
    async def listen(number: int) -> None:
        await asyncio.sleep(30)

    called = await call(Actor('listener', Event('happened', int), listen), 1, timeout=0.1)
    assert (called.code, called.attempts) == (Code.DEADLINE_EXCEEDED, 0)


async def test_plain_types_and_large_streams() -> None:
    async def double(numbers: Any) -> Any:
        async for number in numbers:
            yield 2 * number

    event = Event('numbers', int).with_response(int, kind=Kind.BIDI)
    called = await call(Actor('double', event, double), range(3000))
    assert called.responses == tuple(range(0, 6000, 2))


Outcome = tuple[tuple[str, ...], Code, str, tuple[Any, ...], tuple[Any, ...]]
UNEQUAL = {'what the caller sent'}  # gRPC adds a user agent


@pytest.mark.parametrize('kind', ['Ask', 'Watch', 'Send', 'Talk'])
async def test_the_same_as_through_nats_and_gateway(nats: EmbeddedNats, kind: str) -> None:
    """The table of calls that servicers answer alike everywhere."""
    actors = Actors.of(probe_servicers.Mixed(), add_ProbeServicer_to_server)
    asked = actors.get(f'probe-v1-Probe-{kind}') or next(one for one in actors if one.event.name.endswith(kind))
    calls = [one for one in CALLS if kind in one.kinds and 'Mixed' in one.styles and one.name not in UNEQUAL]
    assert len(calls) > 30
    protos = load([ROOT / 'tests' / 'actors' / 'servicers' / 'probe.proto'])
    async with stack(nats, protos, actors) as running:
        for one in calls:
            through = await outcome(getattr(ProbeStub(running.client.channel), kind), kind, one)
            called = await call(asked, message_of(kind, one), metadata=METADATA)
            texts = tuple(response.text for response in called.responses)
            found = (texts, called.code, called.status.message, ordered(called.metadata), ordered(called.trailing))
            assert found == through, one.name


def message_of(kind: str, one: Call) -> Any:
    orders = [probe_pb2.Order(steps=one.steps), *(probe_pb2.Order(steps=[step]) for step in one.more)]
    return orders if kind in STREAMS_REQUESTS else orders[0]


async def outcome(method: Any, kind: str, one: Call) -> Outcome:
    message = message_of(kind, one)
    running = method(iter(message) if kind in STREAMS_REQUESTS else message, metadata=METADATA, timeout=10)
    messages: list[str] = []
    try:
        if kind in ('Watch', 'Talk'):
            async for reply in running:
                messages.append(reply.text)  # noqa: PERF401  those before the error count
        else:
            messages.append((await running).text)
    except Exception:
        assert await running.code() is not None
    initial, trailing = ordered(await running.initial_metadata()), ordered(await running.trailing_metadata())
    return tuple(messages), Code.of(await running.code()), await running.details() or '', initial, trailing


def ordered(metadata: Any) -> tuple[Any, ...]:
    """gRPC keeps the order of values of one key, and no other."""
    pairs = (tuple(pair) for pair in metadata or () if pair[0] != DETAILS)
    return tuple(sorted(pairs, key=lambda pair: pair[0]))
