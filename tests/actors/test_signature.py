"""Handlers that do not fit their events are refused when the actor is declared, with the place."""

import functools
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, TypedDict

import grpc
import pytest
from demo.v1 import words_pb2
from demo.v1.words_pb2 import CountRequest, CountResponse, JoinResponse, SplitRequest, Word
from google.protobuf.message import Message
from support import words_service

from natsgate.actors import Actor, Actors, Context
from natsgate.actors.signature import place_of
from natsgate.events import ContractError, Event, Events, Kind

WORDS = words_service()
COUNT, SPLIT, JOIN, ECHO = (WORDS[name] for name in ('Count', 'Split', 'Join', 'Echo'))
TEXT = Event('text', str).with_response(int)


def other_request(message: SplitRequest) -> CountResponse: ...
def other_response(message: CountRequest) -> Word: ...
def no_response(message: CountRequest) -> None: ...
def swapped(context: Context, message: CountRequest) -> CountResponse: ...
def of_grpc(message: CountRequest, context: grpc.ServicerContext) -> CountResponse: ...
def a_number(message: int) -> int: ...
def a_text_back(message: str) -> str: ...
def many(messages: AsyncIterator[CountRequest]) -> CountResponse: ...
def generator(message: CountRequest) -> Iterator[CountResponse]:
    yield CountResponse()


async def async_generator(message: CountRequest) -> AsyncIterator[CountResponse]:
    yield CountResponse()


async def one_for_many(word: Word) -> JoinResponse: ...
async def many_of_others(words: AsyncIterator[SplitRequest]) -> JoinResponse: ...
async def one_back(message: SplitRequest) -> Word: ...
async def others_back(message: SplitRequest) -> AsyncIterator[JoinResponse]:
    yield JoinResponse()


def plain_stream(message: SplitRequest) -> Any: ...


class Handlers:
    def count(self, message: CountRequest) -> CountResponse: ...
    def other(self, message: SplitRequest) -> CountResponse: ...


class Callable:
    async def __call__(self, message: SplitRequest) -> CountResponse: ...


class Wrong:
    def __init__(self, message: CountRequest) -> None: ...


WRONG = [
    (COUNT, other_request, 'takes demo.v1.SplitRequest, but its event brings demo.v1.CountRequest'),
    (COUNT, other_response, 'returns demo.v1.Word, but its event wants demo.v1.CountResponse'),
    (COUNT, no_response, 'returns NoneType, but its event wants demo.v1.CountResponse'),
    (COUNT, swapped, 'takes Context, but its event brings demo.v1.CountRequest'),
    (COUNT, of_grpc, r'wants ServicerContext as its second argument, and gets a Context.*Actors\.of\(\)'),
    (COUNT, many, r'takes .*AsyncIterator.*, but its event has one message, demo.v1.CountRequest'),
    (COUNT, generator, 'yields, but its event has one response'),
    (COUNT, async_generator, 'yields, but its event has one response'),
    (COUNT, Handlers().other, 'takes demo.v1.SplitRequest'),
    (COUNT, Handlers.count, 'is a method of no object: give Handlers.count of an instance'),
    (COUNT, Callable(), 'takes demo.v1.SplitRequest'),
    (COUNT, functools.partial(other_request), 'takes demo.v1.SplitRequest'),
    (COUNT, functools.partial(other_request, CountRequest()), 'must take the message'),
    (COUNT, lambda: None, 'must take the message'),
    (COUNT, lambda message, context, more: None, 'must take the message'),
    (COUNT, lambda message, *, option: None, 'must take the message'),
    (TEXT, a_number, 'takes int, but its event brings str'),
    (TEXT, a_text_back, 'returns str, but its event wants int'),
    (JOIN, one_for_many, r'takes demo.v1.Word, but its caller streams: that is AsyncIterator\[demo.v1.Word\]'),
    (JOIN, many_of_others, 'takes demo.v1.SplitRequest, but its event brings demo.v1.Word'),
    (SPLIT, one_back, r'returns demo.v1.Word, but its responses stream: that is AsyncIterator\[demo.v1.Word\]'),
    (SPLIT, others_back, 'returns demo.v1.JoinResponse, but its event wants demo.v1.Word'),
    (SPLIT, plain_stream, 'of a streaming call must be async'),
]


@pytest.mark.parametrize(('event', 'handler', 'text'), WRONG)
def test_what_does_not_fit(event: Any, handler: Any, text: str) -> None:
    with pytest.raises(ContractError, match=rf"^actor 'a': the handler \({re.escape(__file__)}:\d+\) {text}"):
        Actor('a', event, handler)


@pytest.mark.parametrize(
    ('handler', 'text'),
    [
        (None, 'the handler None cannot be called'),
        ('count', "the handler 'count' cannot be called"),
        (Wrong, 'returns Wrong, but its event wants demo.v1.CountResponse'),
    ],
)
def test_what_is_no_handler(handler: Any, text: str) -> None:
    with pytest.raises(ContractError, match=text):
        Actor('a', COUNT, handler)


class Text(Protocol):
    def upper(self) -> str: ...


class Typed(TypedDict):
    name: str


def a_base(message: Message) -> Message: ...
def anything(message: Any) -> object: ...
def an_object(message: object): ...  # type: ignore[no-untyped-def]
def a_union(message: CountRequest | SplitRequest) -> CountResponse | None: ...
def unknown_here(message: 'NotImported') -> CountResponse: ...  # type: ignore[name-defined] # noqa: F821
def any_number(*messages: Any) -> CountResponse: ...
def optional(message: CountRequest, option: int = 5) -> CountResponse: ...
def a_protocol(message: Text) -> int: ...
def typed(message: Typed) -> float: ...
async def words_of(words: AsyncIterator[Word], context: Context) -> AsyncIterator[Word]:
    async for word in words:
        yield word


async def returned(message: SplitRequest) -> AsyncIterator[Word]: ...
def traced(handler: Any) -> Any:
    @functools.wraps(handler)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await handler(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ('event', 'handler'),
    [
        *((COUNT, one) for one in (a_base, anything, an_object, a_union, unknown_here, any_number, optional)),
        (COUNT, Handlers().count),
        (COUNT, lambda message: None),
        (COUNT, functools.partial(lambda option, message: None, 5)),
        (TEXT, len),
        (TEXT, a_protocol),
        (Event('d', dict).with_response(int), typed),
        (Event('n', int).with_response(float), lambda number: number),
        (Event('l', list[int]), lambda numbers: None),
        (ECHO, words_of),
        (ECHO, traced(words_of)),
        (SPLIT, returned),
    ],
)
def test_what_fits(event: Any, handler: Any) -> None:
    assert Actor('a', event, handler).handler is handler


def test_the_context_through_a_decorator() -> None:
    assert Actor('a', ECHO, traced(words_of)).takes_context
    assert not Actor('a', COUNT, any_number).takes_context
    assert not Actor('a', COUNT, optional).takes_context


def test_places() -> None:
    lines = {place_of(one) for one in (Callable(), Handlers().count, functools.partial(a_base), traced(a_base))}
    assert all(place.startswith(f' ({__file__}:') for place in lines)
    assert len(lines) == 3
    assert place_of(len) == place_of(5) == ''


def test_names_that_collide() -> None:
    with pytest.raises(ContractError, match="actor 'a': declared twice on stream"):
        Actors(Actor('a', COUNT, anything), Actor('a', SPLIT, returned))
    with pytest.raises(ContractError, match=r"actors 'a' and 'b' both take rpc\.demo\.v1\.Words\.Count"):
        Actors(Actor('a', COUNT, anything), Actor('b', COUNT, anything))


def test_one_event_of_two_types() -> None:
    text, number = Event('e', str), Event('e', int)
    with pytest.raises(ContractError, match='event e: one declaration brings str, another int; declare it once'):
        Actors(Actor('a', text, print), Actor('b', number, print))
    with pytest.raises(ContractError, match='is answered with int, another str'):
        Events(text.with_response(int), text.with_response(str))
    Events(text, text.with_response(int))


def test_an_event_without_types() -> None:
    with pytest.raises(ContractError, match="event 'e': no serializer for"):
        Event('e', object)
    with pytest.raises(ContractError, match="event 'e': no serializer for"):
        Event('e', int).with_response(object)
    assert Event('e', int).with_response(int, kind=Kind.BIDI).kind is Kind.BIDI
    assert words_pb2.DESCRIPTOR.name == 'demo/v1/words.proto'
