"""Middlewares: around all four kinds of calls, in order, and no cost without any."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import computers
import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import running_actors, stack, until, word_actors

from natsgate.actors import Actor, Actors, Context, ExecuteIn, Retry
from natsgate.actors.executors import as_run
from natsgate.actors.middleware import Middleware, Next
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, ContractError, Event, Events, StatusError
from natsgate.events.status import Status
from natsgate.gateway.protos import Descriptors

Word = words_pb2.Word
ONCE = Retry(attempts=1)


class Diary:
    """A middleware that writes down what it sees."""

    def __init__(self, name: str = '', lines: list[str] | None = None) -> None:
        self.name = name
        self.lines: list[str] = [] if lines is None else lines

    async def __call__(self, message: Any, context: Context, call_next: Next) -> Any:
        self.lines.append(f'{self.name}begins {context.actor}')
        try:
            result = await call_next(message, context)
        except BaseException as error:
            self.lines.append(f'{self.name}fails {type(error).__name__}')
            raise
        self.lines.append(f'{self.name}ends {type(result).__name__}')
        return result


async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    if not request.text:
        raise ValueError('nothing')
    return words_pb2.CountResponse(words=len(request.text.split()))


async def split(request: words_pb2.SplitRequest, context: Context) -> AsyncIterator[Word]:
    for word in request.text.split():
        if word == 'stop':
            context.abort(Code.NOT_FOUND, 'no more')
        yield Word(word=word)


async def join(words: AsyncIterator[Word]) -> words_pb2.JoinResponse:
    return words_pb2.JoinResponse(text=' '.join([word.word async for word in words]))


async def echo(words: AsyncIterator[Word]) -> AsyncIterator[Word]:
    async for word in words:
        yield word


def around_all(middleware: Middleware) -> Actors:
    actors = word_actors(Count=(count, {'retry': ONCE}), Split=split, Join=join, Echo=echo)
    return Actors(*actors, middlewares=[middleware])


async def test_all_four_kinds(nats: EmbeddedNats, words: Descriptors) -> None:
    diary = Diary()
    async with stack(nats, words, around_all(diary)) as running:
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        assert (await stub.Count(words_pb2.CountRequest(text='to be'), timeout=10)).words == 2
        assert [w.word async for w in stub.Split(words_pb2.SplitRequest(text='to be'), timeout=10)] == ['to', 'be']
        assert (await stub.Join(iter([Word(word='to'), Word(word='be')]), timeout=10)).text == 'to be'
        assert [w.word async for w in stub.Echo(iter([Word(word='a'), Word(word='b')]), timeout=10)] == ['a', 'b']
        await until(lambda: len(diary.lines) == 8)
    assert diary.lines == [
        'begins count', 'ends CountResponse', 'begins split', 'ends NoneType',
        'begins join', 'ends JoinResponse', 'begins echo', 'ends NoneType',
    ]  # fmt: skip


async def test_errors(nats: EmbeddedNats, words: Descriptors) -> None:
    diary = Diary()
    async with stack(nats, words, around_all(diary)) as running:
        assert (await running.client.call('Count')).code is Code.UNKNOWN
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        splitting = stub.Split(words_pb2.SplitRequest(text='to be stop or'), timeout=10)
        assert [(await splitting.read()).word for _ in range(2)] == ['to', 'be']
        assert await splitting.details() == 'no more'
    assert diary.lines == ['begins count', 'fails ValueError', 'begins split', 'fails StatusError']


async def test_a_cancellation(nats: EmbeddedNats, words: Descriptors) -> None:
    async def sleep(_: Any) -> Any:
        await asyncio.sleep(60)

    diary = Diary()
    async with stack(nats, words, Actors(*word_actors(Count=sleep), middlewares=[diary])) as running:
        assert (await running.client.call('Count', timeout=0.2)).code is Code.DEADLINE_EXCEEDED
        await until(lambda: len(diary.lines) == 2)
    assert diary.lines == ['begins count', 'fails CancelledError']


async def test_those_of_all_actors_are_outside_of_an_actors_own_the_first_outermost(
    nats: EmbeddedNats, words: Descriptors
) -> None:
    lines: list[str] = []
    one, two, three, four = (Diary(f'{name} ', lines) for name in ['one', 'two', 'three', 'four'])
    inner = word_actors(Count=(count, {'middlewares': [three, four]}))
    async with stack(nats, words, Actors(*inner, middlewares=[one, two])) as running:
        assert (await running.client.call('Count', words_pb2.CountRequest(text='a'))).code is Code.OK
    assert [line.split()[0] for line in lines] == ['one', 'two', 'three', 'four', 'four', 'three', 'two', 'one']


async def test_what_it_changes(nats: EmbeddedNats, words: Descriptors) -> None:
    """The message on its way in, the response on its way out, or the whole call."""

    async def change(message: Any, context: Context, call_next: Next) -> Any:
        if context.get('refuse'):
            raise StatusError(Status(Code.PERMISSION_DENIED, 'no'))
        context.set_trailing_metadata([('seen', '1')])
        response = await call_next(words_pb2.CountRequest(text=message.text + ' and more'), context)
        response.words *= 100
        return response

    async with stack(nats, words, around_all(change)) as running:
        ended = await running.client.call('Count', words_pb2.CountRequest(text='a'))
        assert words_pb2.CountResponse.FromString(ended.data).words == 300
        assert dict(ended.trailing)['seen'] == '1'
        refused = await running.client.call('Count', words_pb2.CountRequest(text='a'), metadata=[('refuse', '1')])
        assert refused.code is Code.PERMISSION_DENIED


async def test_responses_in_place_of_the_handlers(nats: EmbeddedNats, words: Descriptors) -> None:
    """An async iterator is sent; what is none fails, rather than being dropped."""

    async def instead(message: Any, context: Context, call_next: Next) -> Any:
        return [] if context.get('list') else split(words_pb2.SplitRequest(text='in place'), context)

    async with stack(nats, words, around_all(instead)) as running:
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        assert [w.word async for w in stub.Split(words_pb2.SplitRequest(), timeout=10)] == ['in', 'place']
        assert [w.word async for w in stub.Echo(iter([]), timeout=10)] == ['in', 'place']
        failed = stub.Split(words_pb2.SplitRequest(), timeout=10, metadata=[('list', '1')])
        assert await failed.code() is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize('where', [ExecuteIn.THREAD, ExecuteIn.PROCESS, ExecuteIn.LOOP])
async def test_around_plain_handlers(nats: EmbeddedNats, words: Descriptors, where: ExecuteIn) -> None:
    """They run in the worker, wherever the handler does."""
    diary = Diary()
    options = {'execute_in': where, 'max_jobs': 1, 'middlewares': [diary], 'retry': ONCE}
    async with stack(nats, words, word_actors(Count=(computers.fail, options))) as running:
        assert (await running.client.call('Count', words_pb2.CountRequest(text='fine'))).code is Code.OK
        assert (await running.client.call('Count', words_pb2.CountRequest(text='raise'))).code is Code.UNKNOWN
    assert diary.lines == ['begins count', 'ends CountResponse', 'begins count', 'fails ValueError']


async def test_a_listener(nats: EmbeddedNats) -> None:
    event, diary, heard = Event('heard', str), Diary(), list[str]()

    async def listen(text: str) -> None:
        heard.append(text)

    actors = Actors(Actor('ear', event, listen, middlewares=(diary,)))
    async with running_actors(nats.url, actors), Events(event).connect(nats.url) as events:
        await events.emit(event, 'hello')
        await until(lambda: diary.lines == ['begins ear', 'ends NoneType'])
    assert heard == ['hello']


def test_no_cost_without_any() -> None:
    """The worker is given the very actor, with the very handler."""
    (actor,) = Actors(*word_actors(Count=count))
    assert as_run(actor, None) is actor


async def two(message: Any, context: Context) -> Any: ...


def plain(message: Any, context: Context, call_next: Next) -> Any: ...


@pytest.mark.parametrize(
    ('wrong', 'told'),
    [
        (plain, 'is no async function'),
        (two, r'must be async def two\(message, context, call_next\)'),
        (Diary, r'the middleware Diary is a class; give an instance: Diary\(\)'),
        (5, 'is no async function'),
    ],
)
@pytest.mark.parametrize('place', ['actor', 'actors'])
def test_what_is_none(wrong: Any, told: str, place: str) -> None:
    declare: Callable[[], object] = {
        'actor': lambda: word_actors(Count=(count, {'middlewares': [wrong]})),
        'actors': lambda: Actors(middlewares=[wrong]),
    }[place]
    with pytest.raises(ContractError, match=f'{place}.*{told}'):
        declare()
