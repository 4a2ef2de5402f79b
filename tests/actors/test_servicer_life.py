"""Servicers as actors, beside their answers: how calls end early, what threads do, what grpc.aio does otherwise."""

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import Stack, stack, until

from natsgate.actors import Actors
from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors

Word = words_pb2.Word
Base = words_pb2_grpc.WordsServicer
Count, CountResponse = words_pb2.CountRequest, words_pb2.CountResponse


def actors_of(servicer: Base, **options: Any) -> Actors:
    return Actors.of(servicer, words_pb2_grpc.add_WordsServicer_to_server, **options)


def stub_of(running: Stack) -> Any:
    return words_pb2_grpc.WordsStub(running.client.channel)


async def code_of(call: Any) -> tuple[grpc.StatusCode, str]:
    return await call.code(), await call.details()


class Waiting(Base):
    """Methods that wait until the test has seen enough."""

    def __init__(self) -> None:
        self.context: Any = None
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.called_back = threading.Event()
        self.release = threading.Event()
        self.error: BaseException | None = None
        self.done: tuple[bool, bool] | None = None

    def begin(self, context: Any) -> None:
        self.context = context
        self.begun.set()

    def end(self, context: Any) -> None:
        self.done = (context.done(), context.cancelled())
        self.called_back.set()


class Async(Waiting):
    async def Ponder(self, request: Any, context: Any) -> Any:
        context.add_done_callback(self.end)
        self.begin(context)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            self.error = error
            self.ended.set()
            raise

    async def Split(self, request: Any, context: Any) -> AsyncIterator[Any]:
        context.add_done_callback(self.end)
        try:
            while True:
                yield Word(word='more')
                self.begin(context)
        finally:
            self.ended.set()

    async def Echo(self, request_iterator: Any, context: Any) -> None:
        context.add_done_callback(self.end)
        self.begin(context)
        try:
            async for word in request_iterator:
                await context.write(word)
        finally:
            self.ended.set()


class Threaded(Waiting):
    def Ponder(self, request: Any, context: Any) -> Any:
        context.add_callback(self.called_back.set)
        self.begin(context)
        self.release.wait(20)
        self.done = (not context.is_active(), not context.add_callback(self.called_back.set))
        self.ended.set()

    def Split(self, request: Any, context: Any) -> Iterator[Any]:
        context.add_callback(self.called_back.set)
        try:
            while True:
                yield Word(word='more')
                self.begin(context)
        finally:
            self.done = (not context.is_active(), True)
            self.ended.set()

    def Echo(self, request_iterator: Any, context: Any) -> Iterator[Any]:
        context.add_callback(self.called_back.set)
        self.begin(context)
        try:
            yield from request_iterator
        except grpc.RpcError as error:
            self.error = error
            raise
        finally:
            self.ended.set()


def called(stub: Any, method: str, timeout: float | None = None) -> Any:
    match method:
        case 'Ponder':
            return stub.Ponder(words_pb2.PonderRequest(), timeout=timeout)
        case 'Split':
            return stub.Split(words_pb2.SplitRequest(), timeout=timeout)
    return stub.Echo(timeout=timeout)


@pytest.mark.parametrize('method', ['Ponder', 'Split', 'Echo'])
async def test_a_client_that_goes_away(nats: EmbeddedNats, words: Descriptors, method: str) -> None:
    servicer = Async()
    async with stack(nats, words, actors_of(servicer)) as running:
        call = called(stub_of(running), method)
        await until(servicer.begun.is_set)
        assert not servicer.context.done()
        call.cancel()
        await until(servicer.called_back.is_set)
        assert servicer.ended.is_set()
        assert servicer.done == (True, False)
        with pytest.raises(grpc.aio.UsageError):
            await servicer.context.read()


@pytest.mark.parametrize('method', ['Ponder', 'Split', 'Echo'])
async def test_a_client_that_goes_away_from_a_plain_method(nats: EmbeddedNats, words: Descriptors, method: str) -> None:
    """Its thread cannot be stopped: it is told. Iterators end."""
    servicer = Threaded()
    async with stack(nats, words, actors_of(servicer)) as running:
        call = called(stub_of(running), method)
        await until(servicer.begun.is_set)
        assert servicer.context.is_active()
        call.cancel()
        await until(servicer.called_back.is_set)
        assert not servicer.context.is_active()
        servicer.release.set()
        await until(servicer.ended.is_set)
        assert servicer.done in (None, (True, True))
        assert (method == 'Echo') is isinstance(servicer.error, grpc.RpcError)


@pytest.mark.parametrize('servicer', [Async(), Threaded()], ids=['async', 'plain'])
async def test_the_deadline(nats: EmbeddedNats, words: Descriptors, servicer: Waiting) -> None:
    async with stack(nats, words, actors_of(servicer)) as running:
        call = called(stub_of(running), 'Ponder', timeout=0.5)
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(servicer.called_back.is_set)
        assert servicer.context.time_remaining() == 0
        servicer.release.set()
        await until(servicer.ended.is_set)


@pytest.mark.parametrize('kind', [Async, Threaded], ids=['async', 'plain'])
async def test_messages_go_back_and_forth(nats: EmbeddedNats, words: Descriptors, kind: type[Waiting]) -> None:
    servicer = kind()
    async with stack(nats, words, actors_of(servicer)) as running:
        call = stub_of(running).Echo()
        for number in range(20):
            await call.write(Word(word=str(number)))
            assert (await call.read()).word == str(number)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        await until(servicer.called_back.is_set)


class Peculiar(Base):
    """Does what the request says, and what one should not do."""

    async def Count(self, request: Any, context: Any) -> Any:
        match request.text:
            case 'abort with OK':
                await context.abort(grpc.StatusCode.OK, 'fine')
            case 'cancel oneself':
                raise asyncio.CancelledError
            case 'write':
                await context.write(CountResponse())
            case 'read':
                assert await context.read() is grpc.aio.EOF
            case 'forget to await':
                context.abort(grpc.StatusCode.NOT_FOUND, 'gone').close()
            case 'details of bytes':
                context.set_details(b'no')
            case 'metadata of numbers':
                context.set_trailing_metadata((('x-a', 1),))
            case 'another message':
                return Word()
            case 'a long way':
                await context.send_initial_metadata((('peer', context.peer()),))
                assert context.auth_context() == {}
        return CountResponse(words=1)

    def Lookup(self, request: Any, context: Any) -> Any:
        match request.word:
            case 'cancel':
                assert context.cancel()
                assert not context.is_active()
                assert not context.cancel()
            case 'stop':
                next(iter(()))
            case 'details':
                context.set_details('ä'.encode())
                assert context.details() == 'ä'.encode()
            case 'twice':
                context.send_initial_metadata(())
                with pytest.raises(ValueError, match='no longer allowed'):
                    context.send_initial_metadata(())
            case 'rich':
                context.abort_with_status(Aborted())
            case 'bytes':
                context.abort(grpc.StatusCode.NOT_FOUND, b'no such word')
        return words_pb2.LookupResponse(definition=threading.current_thread().name)

    def Split(self, request: Any, context: Any) -> Any:
        return iter(self.sequence)

    sequence = (Word(word='one'), Word(word='two'))

    def Ponder(self, request: Any, context: Any) -> Any:
        async def late() -> Any:
            return words_pb2.PonderResponse()

        self.late = late()
        return self.late


class Aborted(grpc.Status):
    code, details, trailing_metadata = grpc.StatusCode.ABORTED, 'no', (('x-a', '1'),)


HIDDEN = 'the handler failed; its log says why, under the id in the details'


@pytest.mark.parametrize(
    ('text', 'code', 'details'),
    [
        ('abort with OK', grpc.StatusCode.UNKNOWN, 'fine'),
        ('cancel oneself', grpc.StatusCode.UNKNOWN, HIDDEN),
        ('write', grpc.StatusCode.UNKNOWN, HIDDEN),
        ('read', grpc.StatusCode.OK, ''),
        ('forget to await', grpc.StatusCode.OK, ''),
        ('details of bytes', grpc.StatusCode.UNKNOWN, HIDDEN),
        ('metadata of numbers', grpc.StatusCode.UNKNOWN, HIDDEN),
        ('another message', grpc.StatusCode.UNKNOWN, HIDDEN),
    ],
)
async def test_what_one_should_not_do(
    nats: EmbeddedNats, words: Descriptors, text: str, code: grpc.StatusCode, details: str
) -> None:
    """grpc.aio leaves the caller without an answer in the first two cases, and sends any message in the last."""
    async with stack(nats, words, actors_of(Peculiar())) as running:
        call = stub_of(running).Count(Count(text=text), timeout=5)
        assert await code_of(call) == (code, details)


async def test_a_peer_is_not_known(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, actors_of(Peculiar())) as running:
        call = stub_of(running).Count(Count(text='a long way'), timeout=5)
        assert tuple(await call.initial_metadata()) == (('peer', 'unknown'),)


@pytest.mark.parametrize(
    ('word', 'code', 'details'),
    [
        ('cancel', grpc.StatusCode.CANCELLED, 'cancelled by the servicer'),
        ('stop', grpc.StatusCode.UNKNOWN, HIDDEN),
        ('details', grpc.StatusCode.OK, ''),
        ('twice', grpc.StatusCode.OK, ''),
        ('rich', grpc.StatusCode.ABORTED, 'no'),
        ('bytes', grpc.StatusCode.NOT_FOUND, 'no such word'),
    ],
)
async def test_what_only_a_plain_method_has(
    nats: EmbeddedNats, words: Descriptors, word: str, code: grpc.StatusCode, details: str
) -> None:
    async with stack(nats, words, actors_of(Peculiar())) as running:
        call = stub_of(running).Lookup(words_pb2.LookupRequest(word=word), timeout=5)
        assert await code_of(call) == (code, details)


async def test_what_natsgate_knows_beside(nats: EmbeddedNats, words: Descriptors) -> None:
    class Asking(Base):
        async def Ponder(self, request: Any, context: Any) -> Any:
            return words_pb2.PonderResponse(attempt=context.call.attempt)

        def Lookup(self, request: Any, context: Any) -> Any:
            return words_pb2.LookupResponse(definition=context.call.id)

    async with stack(nats, words, actors_of(Asking())) as running:
        stub = stub_of(running)
        assert (await stub.Ponder(words_pb2.PonderRequest(), timeout=5)).attempt == 1
        found = await stub.Lookup(words_pb2.LookupRequest(), timeout=5)
        assert found.definition.startswith('rpc.demo.v1.Words.Lookup:')


async def test_without_a_deadline_of_the_clients(nats: EmbeddedNats, words: Descriptors) -> None:
    """The gateway's own holds, so that a method always knows one in a unary call."""

    class Asking(Base):
        async def Count(self, request: Any, context: Any) -> Any:
            return CountResponse(words=round(context.time_remaining()))

        async def Split(self, request: Any, context: Any) -> Any:
            await context.write(Word(word=str(context.time_remaining())))

    async with stack(nats, words, actors_of(Asking()), timeout=30) as running:
        stub = stub_of(running)
        assert (await stub.Count(Count())).words == 30
        assert [word.word async for word in stub.Split(words_pb2.SplitRequest())] == ['None']


async def test_a_plain_method_may_return_any_iterable(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, actors_of(Peculiar())) as running:
        call = stub_of(running).Split(words_pb2.SplitRequest(), timeout=5)
        assert [word.word async for word in call] == ['one', 'two']


async def test_a_plain_method_that_returns_a_coroutine(
    nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture
) -> None:
    """It was never awaited; grpc.aio does not, either. The log says so."""
    servicer = Peculiar()
    async with stack(nats, words, actors_of(servicer)) as running:
        call = stub_of(running).Ponder(words_pb2.PonderRequest(), timeout=5)
        assert await code_of(call) == (grpc.StatusCode.UNKNOWN, HIDDEN)
    servicer.late.close()
    assert 'this is coroutine' in caplog.text


class Blocking(Base):
    def __init__(self, parties: int) -> None:
        self.barrier = threading.Barrier(parties)

    def Count(self, request: Any, context: Any) -> Any:
        self.barrier.wait(20)
        return CountResponse()

    async def Lookup(self, request: Any, context: Any) -> Any:
        return words_pb2.LookupResponse()


async def test_plain_methods_run_side_by_side(nats: EmbeddedNats, words: Descriptors) -> None:
    """As many as the actor's max_jobs says, and no async one waits for them."""
    servicer = Blocking(9)
    async with stack(nats, words, actors_of(servicer, methods={'Count': {'max_jobs': 8}})) as running:
        stub = stub_of(running)
        calls = [stub.Count(Count(), timeout=20) for _ in range(9)]
        await until(lambda: servicer.barrier.n_waiting == 8)
        await stub.Lookup(words_pb2.LookupRequest(), timeout=5)
        assert servicer.barrier.n_waiting == 8
        await asyncio.to_thread(servicer.barrier.wait, 20)
        await asyncio.to_thread(servicer.barrier.reset)
        for call in calls:
            call.cancel()


async def test_a_callback_that_fails(nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    seen = asyncio.Event()

    class Failing(Base):
        async def Count(self, request: Any, context: Any) -> Any:
            context.add_done_callback(lambda _: 1 / 0)
            context.add_done_callback(lambda _: seen.set())
            return CountResponse()

        def Lookup(self, request: Any, context: Any) -> Any:
            context.add_callback(lambda: 1 / 0)
            return words_pb2.LookupResponse()

    async with stack(nats, words, actors_of(Failing())) as running:
        await stub_of(running).Count(Count(), timeout=5)
        await seen.wait()
        await stub_of(running).Lookup(words_pb2.LookupRequest(), timeout=5)
        await until(lambda: 'a callback of a servicer failed' in caplog.text)
    assert 'a done callback failed' in caplog.text


async def test_the_text_of_an_exception_is_in_the_log(
    nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Base):
        async def Count(self, request: Any, context: Any) -> Any:
            raise ValueError('secret one')

        async def Lookup(self, request: Any, context: Any) -> Any:
            context.set_code(grpc.StatusCode.ABORTED)
            raise ValueError('secret two')

    caplog.set_level(logging.ERROR)
    async with stack(nats, words, actors_of(Failing())) as running:
        call = stub_of(running).Count(Count(), timeout=5)
        assert await code_of(call) == (grpc.StatusCode.UNKNOWN, HIDDEN)
        call = stub_of(running).Lookup(words_pb2.LookupRequest(), timeout=5)
        assert await code_of(call) == (grpc.StatusCode.ABORTED, 'the handler failed; its log says why')
    assert 'secret one' in caplog.text
    assert 'secret two' in caplog.text


async def test_one_consumer_for_all_methods(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, actors_of(Peculiar(), consumer='words')) as running:
        assert (await stub_of(running).Count(Count(), timeout=5)).words == 1
        call = stub_of(running).Split(words_pb2.SplitRequest(), timeout=5)
        assert [word.word async for word in call] == ['one', 'two']
        names = (await running.actors.connection.api('CONSUMER.NAMES.rpc=demo=v1=Words'))['consumers']
        assert names == ['words']


async def test_what_is_not_written_is_unimplemented(nats: EmbeddedNats, words: Descriptors) -> None:
    """It is told at once, without any worker; another worker may have the method."""
    async with stack(nats, words, actors_of(Blocking(1))) as running:
        call = stub_of(running).Ponder(words_pb2.PonderRequest(), timeout=5)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


class Aborting(Base):
    """It refuses each call, and knows whether what it was called with is still there."""

    def __init__(self) -> None:
        self.seen: weakref.ref[Any] | None = None

    async def Count(self, request: Any, context: Any) -> Any:
        self.seen = weakref.ref(context)
        await context.abort(grpc.StatusCode.NOT_FOUND, 'no such text')


async def test_a_call_that_was_aborted_leaves_nothing(nats: EmbeddedNats, words: Descriptors) -> None:
    """Neither its request nor its context wait for the collector, which comes seldom."""
    servicer = Aborting()
    gc.disable()
    try:
        async with stack(nats, words, actors_of(servicer)) as running:
            assert await code_of(stub_of(running).Count(Count(text='to be'), timeout=5)) == (
                grpc.StatusCode.NOT_FOUND,
                'no such text',
            )
            await until(lambda: servicer.seen is not None and servicer.seen() is None)
    finally:
        gc.enable()
