"""Statuses: whatever a handler says arrives equal, in every kind of call, in trailers and in Trailers-Only."""

import asyncio
import string
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import stack, word_actors

from natsgate.actors import Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

Word = words_pb2.Word
SHAPES = ('unary', 'server', 'server after a message', 'client', 'bidi', 'bidi after a message')

TEXTS = st.text(st.characters(exclude_categories=['Cs']), max_size=60)
DETAILS = st.lists(
    st.one_of(
        st.builds(lambda reason: error_details_pb2.ErrorInfo(reason=reason, domain='test'), TEXTS),
        st.builds(lambda name: error_details_pb2.ResourceInfo(resource_name=name), TEXTS),
        st.builds(lambda word: Word(word=word), TEXTS),
    ),
    max_size=3,
)
KEYS = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8).map(lambda key: f'x-{key}')
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
TRAILING = st.lists(
    st.tuples(KEYS, VALUES) | st.tuples(KEYS.map(lambda key: f'{key}-bin'), st.binary(max_size=20)), max_size=3
)
FAILING = st.sampled_from([code for code in Code if code is not Code.OK])


class Failing:
    """Handlers of all kinds that end as they are told."""

    def __init__(self) -> None:
        self.end: tuple[Code, str, list[Message]] = (Code.UNKNOWN, '', [])
        self.trailing: list[tuple[str, str | bytes]] = []
        self.after_a_message = False

    def fail(self, context: Context) -> None:
        context.set_trailing_metadata(self.trailing)
        context.abort(*self.end)

    async def unary(self, request: Any, context: Context) -> Any:
        self.fail(context)

    async def server(self, request: Any, context: Context) -> AsyncIterator[Any]:
        if self.after_a_message:
            yield Word(word='first')
        self.fail(context)

    async def client(self, messages: Any, context: Context) -> Any:
        self.fail(context)


def by_key(metadata: Any) -> list[Any]:
    """gRPC keeps the order of values of one key, and no other."""
    return sorted(metadata, key=lambda pair: pair[0])


async def ended(stub: Any, shape: str) -> grpc.aio.AioRpcError:
    """How a stock client sees it."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await made(stub, shape.partition(' ')[0])
    return raised.value


async def made(stub: Any, kind: str) -> None:
    """Make a call and read it to its end."""
    match kind:
        case 'unary':
            await stub.Count(words_pb2.CountRequest(), timeout=10)
        case 'server':
            _ = [word async for word in stub.Split(words_pb2.SplitRequest(), timeout=10)]
        case 'client':
            await stub.Join(iter(()), timeout=10)
        case 'bidi':
            _ = [word async for word in stub.Echo(iter(()), timeout=10)]


async def test_every_status_arrives_as_it_was_said(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    failing = Failing()
    actors = word_actors(Count=failing.unary, Split=failing.server, Join=failing.client, Echo=failing.server)
    async with stack(nats, words, actors, edge=edge) as running:
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        loop = asyncio.get_running_loop()

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(FAILING, TEXTS, DETAILS, TRAILING, st.sampled_from(SHAPES))
        def holds(code: Code, message: str, details: Any, trailing: Any, shape: str) -> None:
            failing.end, failing.trailing = (code, message, details), trailing
            failing.after_a_message = 'after' in shape
            error = asyncio.run_coroutine_threadsafe(ended(stub, shape), loop).result(20)
            assert Code.of(error.code()) is code
            assert error.details() == message
            got = tuple(error.trailing_metadata() or ())
            packed = dict(got).get('grpc-status-details-bin', b'')
            said = status_pb2.Status.FromString(packed)
            if details:
                assert (said.code, said.message) == (code.value, message)
                wanted = status_pb2.Status()
                for detail in details:
                    wanted.details.add().Pack(detail)
                assert list(said.details) == list(wanted.details)
            else:
                assert not packed
            own = [pair for pair in got if pair[0] not in ('grpc-status-details-bin', 'date')]  # which Envoy adds
            assert by_key(own) == by_key(trailing)

        await asyncio.to_thread(holds)


@pytest.mark.parametrize('shape', SHAPES)
async def test_what_trailers_cannot_carry_is_cut_and_the_code_stays(
    nats: EmbeddedNats, words: Descriptors, shape: str, edge: str
) -> None:
    failing = Failing()
    failing.after_a_message = 'after' in shape
    actors = word_actors(Count=failing.unary, Split=failing.server, Join=failing.client, Echo=failing.server)
    async with stack(nats, words, actors, edge=edge) as running:
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        failing.end = (Code.DATA_LOSS, 'x' * 20_000, [])
        error = await ended(stub, shape)
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert (error.details() or '').endswith('[cut]')
        failing.end = (Code.DATA_LOSS, 'why', [Word(word='x' * 20_000)])
        error = await ended(stub, shape)
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert 'details cut' in (error.details() or '')
        failing.end = (Code.DATA_LOSS, 'why', [])
        failing.trailing = [('x-large', 'y' * 20_000)]
        error = await ended(stub, shape)
        assert error.code() is grpc.StatusCode.DATA_LOSS
        assert 'metadata cut' in (error.details() or '')
