"""Handlers that fail: run again, answered, or never run twice."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from google.rpc import error_details_pb2
from support import Ended, Faults, connect, program, running_actors, running_gateway, stack, until, word_actors

from natsgate.actors import Actor, Actors, Context, Retry
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, Event, Events, wire
from natsgate.events.parser import Msg
from natsgate.gateway.protos import Descriptors

STREAM = 'rpc=demo=v1=Words'
SOON = Retry(attempts=3, backoff=0.02)
ENV = {'PYTHONPATH': os.pathsep.join([str(Path(words_pb2.__file__).parents[2]), str(Path(__file__).parent)])}


class Failing:
    """A handler that fails until an attempt."""

    def __init__(self, until: int) -> None:
        self.until = until
        self.attempts: list[int] = []

    async def __call__(self, request: Any, context: Context) -> Any:
        self.attempts.append(context.attempt)
        if context.attempt < self.until:
            raise ValueError('not yet')
        return words_pb2.PonderResponse(attempt=context.attempt)


def attempts_of(ended: Ended) -> str:
    info = ended.status.detail(error_details_pb2.ErrorInfo)
    assert info is not None
    return str(info.metadata['attempts'])


async def stored(running: Any) -> int:
    found: int = (await running.actors.connection.api(f'STREAM.INFO.{STREAM}'))['state']['messages']
    return found


async def test_the_third_attempt_answers(nats: EmbeddedNats, words: Descriptors) -> None:
    handler = Failing(until=3)
    async with stack(nats, words, word_actors(Ponder=(handler, {'retry': SOON}))) as running:
        ended = await running.client.call('Ponder')
        assert words_pb2.PonderResponse.FromString(ended.data).attempt == 3
        assert handler.attempts == [1, 2, 3]


async def test_a_method_that_may_run_twice_is_run_again(nats: EmbeddedNats, words: Descriptors) -> None:
    async def count(request: Any, context: Context) -> Any:
        if context.attempt < 3:
            raise OSError('a database that is restarted')
        return words_pb2.CountResponse(words=context.attempt)

    async with stack(nats, words, word_actors(Count=count)) as running:
        ended = await running.client.call('Count')
        assert words_pb2.CountResponse.FromString(ended.data).words == 3


async def test_an_event_of_a_stream_made_anew_is_no_other(nats: EmbeddedNats, words: Descriptors) -> None:
    """It has the sequence of one that was answered a moment ago, and gets an answer of its own."""

    async def count(request: Any, context: Context) -> words_pb2.CountResponse:
        if request.text == 'again' and context.attempt == 1:
            raise ValueError('not yet')
        return words_pb2.CountResponse(words=context.attempt)

    async with stack(nats, words, word_actors(Count=(count, {'retry': Retry(backoff=0.01)}))) as running:
        assert (await running.client.call('Count', words_pb2.CountRequest())).code is Code.OK
        before = running.actors.workers[0].puller._generation
        await running.actors.connection.api('STREAM.DELETE.rpc=demo=v1=Words')
        await until(lambda: running.actors.workers[0].puller._generation > before, 10)
        ended = await running.client.call('Count', words_pb2.CountRequest(text='again'), timeout=5)
        assert words_pb2.CountResponse.FromString(ended.data).words == 2


async def test_other_methods_are_answered_at_once(nats: EmbeddedNats, words: Descriptors) -> None:
    handler = Failing(until=2)
    async with stack(nats, words, word_actors(Ponder=handler)) as running:
        ended = await running.client.call('Ponder')
        assert (ended.code, ended.reason, attempts_of(ended)) == (Code.UNKNOWN, 'HANDLER_FAILED', '1')
        assert handler.attempts == [1]
        await until_empty(running)


async def test_when_the_attempts_are_spent(nats: EmbeddedNats, words: Descriptors) -> None:
    handler = Failing(until=99)
    async with stack(nats, words, word_actors(Ponder=(handler, {'retry': SOON}))) as running:
        ended = await running.client.call('Ponder')
        assert (ended.code, ended.reason, attempts_of(ended)) == (Code.UNKNOWN, 'HANDLER_FAILED', '3')
        assert handler.attempts == [1, 2, 3]
        await until_empty(running)


async def test_when_the_time_is_spent(nats: EmbeddedNats, words: Descriptors) -> None:
    """A wait that the deadline would end is not begun: the failure is the answer, not DEADLINE_EXCEEDED."""
    handler = Failing(until=99)
    async with stack(
        nats, words, word_actors(Ponder=(handler, {'retry': Retry(backoff=60, max_backoff=60)}))
    ) as running:
        ended = await running.client.call('Ponder', timeout=20)
        assert (ended.code, ended.reason, attempts_of(ended)) == (Code.UNKNOWN, 'HANDLER_FAILED', '1')
        await until_empty(running)


@pytest.mark.parametrize(('codes', 'attempts'), [([], [1]), ([Code.UNAVAILABLE], [1, 2])])
async def test_statuses(nats: EmbeddedNats, words: Descriptors, codes: list[Code], attempts: list[int]) -> None:
    """They are answers, unless the policy names them."""

    async def busy(request: Any, context: Context) -> Any:
        seen.append(context.attempt)
        context.abort(Code.UNAVAILABLE, 'busy')

    seen: list[int] = []
    policy = Retry(attempts=2, backoff=0.02, codes=codes)
    async with stack(nats, words, word_actors(Ponder=(busy, {'retry': policy}))) as running:
        ended = await running.client.call('Ponder')
        assert (ended.code, ended.message) == (Code.UNAVAILABLE, 'busy')
        assert seen == attempts


async def test_waiting_takes_no_slot(nats: EmbeddedNats, words: Descriptors) -> None:
    async def ponder(request: words_pb2.PonderRequest, context: Context) -> Any:
        if request.time.seconds and context.attempt == 1:
            failed.set()
            raise ValueError('not yet')
        return words_pb2.PonderResponse(attempt=context.attempt)

    failed = asyncio.Event()
    bad = words_pb2.PonderRequest()
    bad.time.seconds = 1
    policy = Retry(backoff=1, jitter=0)
    async with stack(nats, words, word_actors(Ponder=(ponder, {'retry': policy, 'max_jobs': 1}))) as running:
        waiting = asyncio.create_task(running.client.call('Ponder', bad))
        await failed.wait()
        for _ in range(5):
            assert (await running.client.call('Ponder')).code is Code.OK
        assert not waiting.done()
        assert words_pb2.PonderResponse.FromString((await waiting).data).attempt == 2


async def test_a_call_that_is_cancelled_while_it_waits_is_not_run_again(nats: EmbeddedNats, words: Descriptors) -> None:
    handler = Failing(until=99)
    async with stack(nats, words, word_actors(Ponder=(handler, {'retry': Retry(backoff=5)}))) as running:
        call: Any = running.client.channel.unary_unary('/demo.v1.Words/Ponder')(b'', timeout=20)
        await until(lambda: handler.attempts)
        call.cancel()
        await until_empty(running)
        assert handler.attempts == [1]


async def test_streams_of_responses(nats: EmbeddedNats, words: Descriptors) -> None:
    """Run again until the first of them is sent."""

    async def split(request: words_pb2.SplitRequest, context: Context) -> AsyncIterator[Any]:
        seen.append(context.attempt)
        if request.text == 'late':
            yield words_pb2.Word(word='first')
        if context.attempt == 1:
            raise ValueError('not yet')
        yield words_pb2.Word(word=f'attempt {context.attempt}')

    seen: list[int] = []
    async with stack(nats, words, word_actors(Split=(split, {'retry': SOON}))) as running:
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        found = [word.word async for word in stub.Split(words_pb2.SplitRequest(text='early'), timeout=10)]
        assert found == ['attempt 2']
        assert seen == [1, 2]
        seen.clear()
        call = stub.Split(words_pb2.SplitRequest(text='late'), timeout=10)
        assert (await call.read()).word == 'first'
        assert (await call.code()).name == 'UNKNOWN'
        assert seen == [1]
        await until_empty(running)


async def test_streams_of_requests_are_not_run_again(nats: EmbeddedNats, words: Descriptors) -> None:
    """The caller's messages may be on their way, and are stored nowhere."""

    async def join(messages: AsyncIterator[Any], context: Context) -> Any:
        seen.append(context.attempt)
        raise ValueError('at once')

    seen: list[int] = []
    async with stack(nats, words, word_actors(Join=(join, {'retry': SOON}))) as running:
        call = words_pb2_grpc.WordsStub(running.client.channel).Join(timeout=10)
        assert (await call.code()).name == 'UNKNOWN'
        assert seen == [1]


async def test_at_most_once_survives_no_crash(nats: EmbeddedNats, words: Descriptors) -> None:
    """The worker dies in the handler: the event was acknowledged before, so that nobody is given it again.

    Other workers take the method, but it is known which one ran this call: its caller does not wait for the deadline.
    """
    async with stack(nats, words, word_actors()) as running:
        async with program('work', 'killers:ONCE', '--nats', nats.url, env=ENV) as worker:
            await worker.says('working')
            call = asyncio.create_task(running.client.call('Ponder', timeout=20))
            await worker.process.wait()
        handler = Failing(until=1)
        async with running_actors(nats.url, word_actors(Ponder=(handler, {'at_most_once': True}))):
            await until_empty(running)
            ended = await call
            assert (ended.code, ended.reason) == (Code.INTERNAL, 'WORKER_CRASHED')
            assert (await running.client.call('Ponder')).code is Code.OK
        assert handler.attempts == [1]


async def test_at_most_once_does_not_run_what_somebody_else_was_given(nats: EmbeddedNats, words: Descriptors) -> None:
    handler = Failing(until=1)
    actors = word_actors(Ponder=(handler, {'at_most_once': True, 'ack_wait': 0.3}))
    async with running_actors(nats.url, actors):
        pass  # its consumer is there
    async with stack(nats, words, word_actors()) as running:
        thief, taken = await connect(nats.url), asyncio.Event()
        await thief.subscribe(f'{thief.inbox}.taken', lambda *_: taken.set())
        thief.write(
            b'PUB $JS.API.CONSUMER.MSG.NEXT.%b.ponder %b.taken 1\r\n1\r\n' % (STREAM.encode(), thief.inbox.encode())
        )
        call = asyncio.create_task(running.client.call('Ponder'))
        await taken.wait()
        async with running_actors(nats.url, actors):
            ended = await call
        assert (ended.code, ended.reason) == (Code.INTERNAL, 'WORKER_CRASHED')
        assert handler.attempts == []
        await thief.close()


async def test_at_most_once_when_its_worker_stops(nats: EmbeddedNats, words: Descriptors) -> None:
    """Nobody else may run it, and the caller is told so at once."""

    async def slow(request: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    begun = asyncio.Event()
    async with stack(nats, words, word_actors()) as running:
        async with running_actors(nats.url, word_actors(Ponder=(slow, {'at_most_once': True})), drain_timeout=0.1):
            call = asyncio.create_task(running.client.call('Ponder', timeout=30))
            await begun.wait()
        ended = await call
        assert (ended.code, ended.reason) == (Code.INTERNAL, 'WORKER_CRASHED')


async def test_at_most_once_whose_word_is_lost(nats: EmbeddedNats, words: Descriptors) -> None:
    """The gateway asks again after its connection was lost, and so learns whose end is the call's as well."""

    def says_who(msg: Msg) -> bool:
        return wire.taken_by(msg.header) != ''

    async with Faults(nats.url) as faults, running_gateway(faults.url, words) as (_, client):
        async with program('work', 'killers:WAITING_ONCE', '--nats', nats.url, env=ENV) as worker:
            await worker.says('working')
            lost, heard = faults.drop(says_who, times=1), faults.delay(0, says_who)
            call = asyncio.create_task(client.call('Ponder', timeout=60))
            await until(lambda: lost.met)
            faults.cut()
            await until(lambda: heard.met)
        ended = await asyncio.wait_for(call, 30)
        assert (ended.code, ended.reason) == (Code.INTERNAL, 'WORKER_CRASHED')


async def test_at_most_once_in_a_stream(nats: EmbeddedNats, words: Descriptors) -> None:
    async def split(request: words_pb2.SplitRequest) -> AsyncIterator[Any]:
        left.append(await stored(running))
        yield words_pb2.Word(word='one')

    left: list[int] = []
    async with stack(nats, words, word_actors(Split=(split, {'at_most_once': True}))) as running:
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        assert [word.word async for word in stub.Split(words_pb2.SplitRequest(text='x'), timeout=10)] == ['one']
        assert left == [0]


async def test_at_most_once_in_a_stream_whose_worker_dies(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors()) as running:
        async with program('work', 'killers:ONCE', '--nats', nats.url, env=ENV) as worker:
            await worker.says('working')
            call = words_pb2_grpc.WordsStub(running.client.channel).Split(words_pb2.SplitRequest(text='x'), timeout=30)
            await worker.process.wait()
        assert (await call.code()).name == 'UNAVAILABLE'
        await until_empty(running)


async def test_a_plain_event_that_fails_is_run_again(nats: EmbeddedNats) -> None:
    event = Event('told', str)
    handler = Failing(until=3)
    async with (
        running_actors(nats.url, Actors(Actor('listener', event, handler, retry=SOON))),
        Events(event).connect(nats.url) as conn,
    ):
        await conn.emit(event, 'hi', sync=True)
        await until(lambda: handler.attempts == [1, 2, 3])


async def until_empty(running: Any) -> None:
    async with asyncio.timeout(5):
        while await stored(running):
            await asyncio.sleep(0.02)


def test_the_head_of_a_replay() -> None:
    head = wire.RequestHead(id='x', replay='ponder rpc.demo.v1.Words.Ponder:17')
    assert wire.decode_request(wire.encode_request(head)) == head
