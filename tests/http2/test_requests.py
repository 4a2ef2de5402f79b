"""What HTTP/2 can say and gRPC clients do not: each has its answer, and costs nobody else anything."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import le
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from demo.v1 import words_pb2
from google.rpc import error_details_pb2, status_pb2
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from h2client import Http2Client, Pair, Stream, message, raw_client
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame
from support import Stack, running_gateway, stack, until, word_actors

from natsgate.actors import Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, metadata
from natsgate.gateway.protos import Descriptors

pytestmark = pytest.mark.asyncio(loop_scope='module')

UNARY_TWO_MESSAGES = 'UNIMPLEMENTED'
"""What a unary call with two messages ends with: OK if only its first is read, UNIMPLEMENTED if both are."""

UNARY, SERVER, CLIENT, BIDI = KINDS = ('Count', 'Split', 'Join', 'Echo')
DATA = words_pb2.CountRequest(text='one two three').SerializeToString()
ONE = message(DATA)
GZIPPED, DEFLATED = message(gzip.compress(DATA), compressed=1), message(zlib.compress(DATA), compressed=1)
TOO_LARGE = 5 << 20
ANSWERS = {
    UNARY: [words_pb2.CountResponse(words=3).SerializeToString()],
    SERVER: [words_pb2.Word(word=word).SerializeToString() for word in ('one', 'two', 'three')],
    CLIENT: [words_pb2.JoinResponse(text='one two three').SerializeToString()],
    BIDI: [DATA],
}
LARGE = words_pb2.Word(word='x' * 5000)
FLOOD, FLOODED = words_pb2.Word(word='x' * 64_000), 500


class Handlers:
    """Handlers that do what the metadata `x-do` says, and know what became of their runs."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.began = self.cancelled = self.ended = self.sent = 0
        self.metadata: metadata.Metadata = ()

    @contextmanager
    def run(self, context: Context) -> Iterator[str]:
        do = str(context.get('x-do') or '')
        self.metadata = tuple(pair for pair in context.metadata if pair[0] not in {'x-do', 'user-agent'})
        self.began += 1
        match do:
            case 'compress':
                context.set_compression()
            case 'metadata':
                context.send_initial_metadata(self.metadata)
                context.set_trailing_metadata(self.metadata)
            case 'long message':
                context.abort(Code.DATA_LOSS, 'x' * 20_000)
            case 'long details':
                context.abort(Code.DATA_LOSS, 'short', [error_details_pb2.DebugInfo(detail='x' * 20_000)])
        try:
            yield do
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        self.ended += 1

    async def count(self, request: words_pb2.CountRequest, context: Context) -> words_pb2.LookupResponse:
        with self.run(context) as do:
            if do == 'wait':
                await asyncio.sleep(60)
            if do == 'pause':
                await asyncio.sleep(0.3)
            return words_pb2.CountResponse(words=len(request.text.split()))

    async def lookup(self, request: words_pb2.LookupRequest, context: Context) -> words_pb2.LookupResponse:
        with self.run(context):
            return words_pb2.LookupResponse(definition=LARGE.word)

    async def split(self, request: words_pb2.SplitRequest, context: Context) -> AsyncIterator[words_pb2.Word]:
        with self.run(context) as do:
            for word in request.text.split():
                yield LARGE if do == 'compress' else words_pb2.Word(word=word)
            if do == 'wait':
                await asyncio.sleep(60)
            while do == 'flood' and self.sent < FLOODED:
                yield FLOOD
                self.sent += 1

    async def join(self, words: AsyncIterator[words_pb2.Word], context: Context) -> words_pb2.JoinResponse:
        with self.run(context) as do:
            joined = ' '.join([word.word async for word in words])
            if do == 'wait':
                await asyncio.sleep(60)
            return words_pb2.JoinResponse(text=LARGE.word if do == 'compress' else joined)

    async def echo(self, words: AsyncIterator[words_pb2.Word], context: Context) -> AsyncIterator[words_pb2.Word]:
        with self.run(context) as do:
            async for word in words:
                yield LARGE if do == 'compress' else word
            if do == 'wait':
                await asyncio.sleep(60)


@dataclass
class Shared:
    """One gateway for all tests here: what one leaves behind, the next ones find."""

    nats: EmbeddedNats
    stack: Stack
    handlers: Handlers

    @property
    def address(self) -> str:
        return self.stack.serving.addresses[0]

    def left(self) -> list[int]:
        """What is held for calls; all zero when there are none."""
        serving, workers = self.stack.serving, self.stack.actors.workers
        return [
            serving.gateway.in_flight,
            serving.requester.waiting,
            len(serving.requester.links._ends),
            sum(len(worker.jobs) for worker in workers),
            sum(worker.puller.credit.running for worker in workers),
        ]


@pytest_asyncio.fixture(scope='module', loop_scope='module')
async def shared(words: Descriptors) -> AsyncIterator[Shared]:
    handlers = Handlers()
    actors = word_actors(
        Count=handlers.count, Lookup=handlers.lookup, Split=handlers.split, Join=handlers.join, Echo=handlers.echo
    )
    async with EmbeddedNats() as nats, stack(nats, words, actors) as running:
        yield Shared(nats, running, handlers)


@pytest_asyncio.fixture(loop_scope='module', autouse=True)
async def nothing_is_left(shared: Shared) -> AsyncIterator[None]:
    """After each test an ordinary call works, and no slot is held: neither in the gateway nor in a worker."""
    shared.handlers.forget()
    before = shared.left()
    yield
    ended = await shared.stack.client.call('Count', DATA)
    assert ended.data == ANSWERS[UNARY][0], ended
    try:
        await until(lambda: all(map(le, shared.left(), before)), timeout=3)
    except TimeoutError:
        pytest.fail(f'in flight, waiting, links, jobs, slots: {shared.left()}, before {before}')


async def well(client: Http2Client) -> None:
    """The connection, too, takes the next call."""
    stream = await client.ask(UNARY, ONE)
    assert [data for _, data in stream.messages] == ANSWERS[UNARY], (stream.outcome, stream.text)


@dataclass(frozen=True)
class Case:
    """What is sent, and what it ends with: for all kinds, or `but` for some."""

    name: str
    ends: str
    says: str = ''
    body: bytes = ONE
    pairs: tuple[Pair, ...] = ()
    instead: dict[bytes, bytes | None] = field(default_factory=dict)
    but: dict[str, str] = field(default_factory=dict)
    wanted: str = ''
    """What the documents of gRPC want, where it is something else."""

    def __str__(self) -> str:
        return self.name

    async def send(self, shared: Shared, kind: str) -> Stream:
        """Send it as a call of this kind, on a connection of its own, which must take another one afterwards."""
        async with raw_client(shared.address) as client:
            stream = await client.ask(kind, self.body, self.pairs, instead=self.instead)
            await well(client)
            return stream

    async def check(self, shared: Shared) -> None:
        """All kinds at once: C-core holds answers to broken headers back for 0.1 to 1 s."""
        streams = await asyncio.gather(*(self.send(shared, kind) for kind in KINDS))
        for kind, stream in zip(KINDS, streams, strict=True):
            assert stream.outcome == self.but.get(kind, self.ends), (kind, stream.text)
            if stream.outcome != 'OK':
                assert self.says in stream.text or kind in self.but, (kind, stream.text)
            elif self.body in (ONE, GZIPPED, DEFLATED):
                assert [data for _, data in stream.messages] == ANSWERS[kind], kind


def header(name: str, value: bytes, ends: str, says: str = '', **more: Any) -> Case:
    return Case(f'{name}: {value[:20]!r}', ends, says, pairs=((name.encode(), value),), **more)


def pseudo(name: str, value: bytes | None, ends: str, says: str = '', **more: Any) -> Case:
    return Case(f'{name}: {value!r}', ends, says, instead={name.encode(): value}, **more)


def encoded(name: str, body: bytes, encoding: bytes, ends: str, says: str = '', **more: Any) -> Case:
    return Case(name, ends, says, body=body, pairs=((b'grpc-encoding', encoding),), **more)


STREAMS_MAY_BE_EMPTY = {CLIENT: 'OK', BIDI: 'OK'}

AS_DOCUMENTED = [
    # Messages
    Case('no message', 'UNIMPLEMENTED', 'the request has no message', body=b'', but=STREAMS_MAY_BE_EMPTY),
    Case(
        'two messages', 'UNIMPLEMENTED', 'the request has more than one message', body=ONE + ONE,
        but={UNARY: UNARY_TWO_MESSAGES, CLIENT: 'OK', BIDI: 'OK'},
    ),
    Case(
        'a declared length above the limit', 'RESOURCE_EXHAUSTED', 'larger than max (5242880 vs. 4194304)',
        body=message(DATA, length=TOO_LARGE),
    ),
    Case(
        'the largest declared length', 'RESOURCE_EXHAUSTED', 'larger than max (4294967295 vs. 4194304)',
        body=message(DATA, length=0xFFFF_FFFF),
    ),
    # Compression
    Case('compressed without an encoding', 'INTERNAL', 'no encoding configured', body=GZIPPED),
    encoded('compressed with identity', GZIPPED, b'identity', 'INTERNAL', 'no encoding configured'),
    encoded('not really gzip', message(b'junk', compressed=1), b'gzip', 'INTERNAL', 'Decompression failed'),
    encoded('gzip', GZIPPED, b'gzip', 'OK'),
    encoded('deflate', DEFLATED, b'deflate', 'OK'),
    encoded('gzip announced, not used', ONE, b'gzip', 'OK'),
    # Deadlines
    *(header('grpc-timeout', value, 'DEADLINE_EXCEEDED') for value in (b'0n', b'0m', b'0H', b'1n')),
    *(header('grpc-timeout', value, 'OK') for value in (b'99999999H', b'99999999n', b'5S')),
    *(
        header('grpc-timeout', value, 'INTERNAL', "Error parsing 'grpc-timeout' metadata")
        for value in (b'', b'x', b'5', b'5d', b'1.5S', b'-1S')
    ),
    # Metadata
    header('x', b'v' * 70_000, 'RESOURCE_EXHAUSTED', 'received metadata size exceeds hard limit'),
    header('x', b'v' * 17_000, 'RESOURCE_EXHAUSTED', 'received metadata size exceeds hard limit'),
    *(
        header('x', value, 'INTERNAL', "metadata 'x' has a character that is not printable ASCII")
        for value in (b'a\r\nNats-Rollup: all', b'a\nb', b'a\rb', b'a\0b', b'caf\xc3\xa9', b'\xff', b'\x7f')
    ),
    *(header('x', value, 'OK') for value in (b'', b' ~')),
    *(
        header('x-bin', value, 'INTERNAL', "Error parsing 'x-bin' metadata: illegal base64 encoding")
        for value in (b'!!!', b'a', b'YQ==YQ==', b'\xff')
    ),
    *(header('x-bin', value, 'OK') for value in (b'YQ', b'YQ==', b'')),
    header('x y', b'v', 'INTERNAL', 'Illegal header key'),
    header('', b'v', 'INTERNAL', 'keys cannot be zero length'),
    # Requests: a reset with INTERNAL_ERROR is INTERNAL to clients
    *(pseudo(':method', value, 'RST INTERNAL_ERROR') for value in (b'GET', b'PUT', None)),
    *(pseudo(name, None, 'RST INTERNAL_ERROR') for name in (':path', ':scheme', ':authority', 'te')),
    *(
        pseudo(':path', value, 'UNIMPLEMENTED', 'unknown method')
        for value in (b'', b'/', b'demo', b'/demo.v1.Words/Nope', b'/demo.v1.Words/Count/')
    ),
    pseudo('te', b'gzip', 'INTERNAL', "Error parsing 'te' metadata"),
    pseudo('content-type', b'application/grpc+proto', 'OK'),
]  # fmt: skip

_NOT_LOOKED_AT = 'HTTP 415'  # grpc-core looks at no content-type, and shows none to handlers
CORE_DEVIATES = [
    # What happens here is decided in gRPC's C-core before a handler runs, or is not shown to it.
    *(
        pseudo('content-type', value, 'OK', wanted=_NOT_LOOKED_AT)
        for value in (b'application/grpc+foo', b'application/json', b'image/jpeg', None)
    ),
    # Its list of encodings is fixed, and what is not in it is a header that cannot be parsed.
    encoded(
        'unknown encoding', message(b'?', compressed=1), b'zstd', 'INTERNAL', "Error parsing 'grpc-encoding'",
        wanted='UNIMPLEMENTED',
    ),
    # It ends the messages where the last whole one ends, and does not say that more was begun.
    Case(
        'a truncated message', 'UNIMPLEMENTED', 'the request has no message', body=ONE[:-3], but=STREAMS_MAY_BE_EMPTY,
        wanted='INTERNAL',
    ),
    Case(
        'a truncated prefix', 'UNIMPLEMENTED', 'the request has no message', body=ONE[:3], but=STREAMS_MAY_BE_EMPTY,
        wanted='INTERNAL',
    ),
    Case('one message and half of another', 'OK', body=ONE + ONE[:-3], wanted='INTERNAL'),
    # It takes such a message for an empty one.
    Case('a compressed flag that is neither 0 nor 1', 'OK', body=message(DATA, compressed=2), wanted='INTERNAL'),
    # It reads any number of digits, and a space before the unit.
    *(header('grpc-timeout', value, 'OK', wanted='INTERNAL') for value in (b'123456789S', b'5 S')),
    # Malformed headers are PROTOCOL_ERROR in HTTP/2; it answers with a status.
    header('X-UPPER', b'v', 'INTERNAL', 'Illegal header key', wanted='RST PROTOCOL_ERROR'),
    header('connection', b'close', 'OK', wanted='RST PROTOCOL_ERROR'),
]  # fmt: skip


@pytest.mark.parametrize('case', AS_DOCUMENTED, ids=str)
async def test_as_documented(shared: Shared, case: Case) -> None:
    await case.check(shared)


@pytest.mark.parametrize('case', CORE_DEVIATES, ids=str)
async def test_where_the_core_deviates(shared: Shared, case: Case) -> None:
    assert case.wanted
    await case.check(shared)


@pytest.mark.parametrize('kind', KINDS)
async def test_half_closed_by_the_headers(shared: Shared, kind: str) -> None:
    async with raw_client(shared.address) as client:
        stream = await client.call(kind, end=True).over()
        assert stream.outcome == STREAMS_MAY_BE_EMPTY.get(kind, 'UNIMPLEMENTED')
        await well(client)


async def test_what_is_refused_is_not_run(shared: Shared) -> None:
    refused = ('DEADLINE_EXCEEDED', 'INTERNAL', 'RESOURCE_EXHAUSTED')
    cases = [case for case in AS_DOCUMENTED if case.ends in refused and (case.pairs or case.instead)]
    async with raw_client(shared.address) as client:
        await asyncio.gather(*(client.ask(UNARY, case.body, case.pairs, instead=case.instead) for case in cases))
    assert shared.handlers.began == 0


async def test_a_broken_header_breaks_no_other_call_on_the_connection(shared: Shared) -> None:
    """A proxy sends the calls of many clients over one connection; C-core remembers broken entries of its table."""
    pairs = ((b'x-bin', b'!!!'), (b'x-bin', b'YQ')), ((b'grpc-timeout', b'x'), (b'grpc-timeout', b'5S'))
    for broken, good in pairs:
        async with raw_client(shared.address) as client:
            assert (await client.ask(UNARY, ONE, [broken])).outcome == 'INTERNAL'
            stream = await client.ask(UNARY, ONE, [good])
            assert stream.outcome == 'OK', stream.text


async def test_a_path_that_is_not_utf_8(nats: EmbeddedNats, words: Descriptors) -> None:
    """It ends grpc.aio's server, which then accepts nothing any more. The gateway must not end with it."""
    handlers = Handlers()
    async with stack(nats, words, word_actors(Count=handlers.count)) as running:
        address = running.serving.addresses[0]
        async with raw_client(address) as other, raw_client(address) as client:
            waiting = other.call(UNARY, [(b'x-do', b'pause')])
            await waiting.send(ONE, end=True)
            await until(lambda: handlers.began == 1)
            stream = await client.ask(UNARY, ONE, instead={b':path': b'/\xff'})
            assert stream.outcome != 'OK'
            assert (await waiting.over()).outcome == 'OK'
        await asyncio.sleep(0.5)
        for _ in range(3):
            async with raw_client(address) as client:
                await well(client)


# Compression


def peak(reset: bool = False) -> int:
    """The most bytes of memory that this process had since the last reset."""
    if reset:
        Path('/proc/self/clear_refs').write_text('5')
    line = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
    return int(line.split()[1]) << 10


async def test_gzip_bombs(shared: Shared) -> None:
    """Small on the wire, 256 MiB in memory if they were let: 16 at once."""
    packer = zlib.compressobj(wbits=31)
    part = bytes(1 << 20)
    bomb = message(b''.join([packer.compress(part) for _ in range(256)]) + packer.flush(), compressed=1)
    assert len(bomb) < 300_000
    before = peak(reset=True)
    async with raw_client(shared.address) as client:
        for kinds in ([UNARY, SERVER] * 8, [CLIENT, BIDI] * 8):
            asked = [client.ask(kind, bomb, [(b'grpc-encoding', b'gzip')]) for kind in kinds]
            for stream in await asyncio.gather(*asked):
                assert stream.outcome == 'RESOURCE_EXHAUSTED'
                assert 'Decompressed message larger than max' in stream.text
            assert shared.handlers.began == 0 or kinds[0] == CLIENT
        await well(client)
    assert peak() - before < 128 << 20


@pytest.mark.parametrize('kind', ['Lookup', SERVER, CLIENT, BIDI])
@pytest.mark.parametrize(
    ('accepted', 'used'),
    [
        (b'gzip', b'gzip'),
        (b'identity, deflate, gzip', b'gzip'),
        (b'deflate', b'deflate'),
        (b'identity', b''),
        (b'', b''),
    ],
)
async def test_a_handler_that_compresses(shared: Shared, kind: str, accepted: bytes, used: bytes) -> None:
    """Its messages are compressed if the client takes that, and only then."""
    pairs = [(b'x-do', b'compress'), *([(b'grpc-accept-encoding', accepted)] if accepted else [])]
    async with raw_client(shared.address) as client:
        stream = await client.ask(kind, ONE, pairs)
    assert stream.outcome == 'OK'
    unpack = {b'gzip': gzip.decompress, b'deflate': zlib.decompress}.get(used, bytes)
    assert {flag for flag, _ in stream.messages} == {int(used != b'')}
    assert {unpack(data) for _, data in stream.messages} == {LARGE.SerializeToString()}
    assert dict(stream.headers).get(b'grpc-encoding', b'') == used


@pytest.mark.parametrize('kind', ['Lookup', SERVER, CLIENT, BIDI])
async def test_a_handler_that_does_not_compress(shared: Shared, kind: str) -> None:
    body = message(LARGE.SerializeToString())
    async with raw_client(shared.address) as client:
        stream = await client.ask(kind, body, [(b'grpc-accept-encoding', b'gzip')])
    assert {flag for flag, _ in stream.messages} == {0}


# Ends before the end


async def begun(shared: Shared, client: Http2Client, kind: str, *, open: bool = False) -> Stream:
    """A call whose handler runs and waits. `open`: the client has not said that there are no more messages."""
    stream = client.call(kind, [(b'x-do', b'wait')])
    await stream.send(ONE, end=not open)
    await until(lambda: shared.handlers.began == 1)
    if kind == SERVER:
        await until(lambda: len(stream.messages) == 3)
    if kind == BIDI:
        await until(lambda: len(stream.messages) == 1)
    return stream


RUNNING = pytest.mark.parametrize(
    ('kind', 'open'), [(UNARY, False), (SERVER, False), (CLIENT, False), (CLIENT, True), (BIDI, False), (BIDI, True)]
)


@RUNNING
async def test_a_reset_cancels_the_handler(shared: Shared, kind: str, open: bool) -> None:
    async with raw_client(shared.address) as client:
        stream = await begun(shared, client, kind, open=open)
        stream.cancel()
        await until(lambda: shared.handlers.cancelled == 1, timeout=1)
        await well(client)


@RUNNING
async def test_a_lost_connection_cancels_the_handler(shared: Shared, kind: str, open: bool) -> None:
    async with raw_client(shared.address) as client:
        await begun(shared, client, kind, open=open)
        client.drop()
        await until(lambda: shared.handlers.cancelled == 1, timeout=1)


@RUNNING
async def test_a_deadline_is_kept_for_a_client_that_does_not(shared: Shared, kind: str, open: bool) -> None:
    async with raw_client(shared.address) as client:
        stream = client.call(kind, [(b'x-do', b'wait'), (b'grpc-timeout', b'200m')])
        await stream.send(ONE, end=not open)
        assert (await stream.over()).outcome == 'DEADLINE_EXCEEDED'
        await until(lambda: shared.handlers.cancelled == 1, timeout=1)
        await well(client)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('body', [b'', ONE[:3], ONE[:-3]], ids=['nothing', 'half a prefix', 'half a message'])
async def test_a_client_that_stops_in_the_middle(shared: Shared, kind: str, body: bytes) -> None:
    """It sends no more and does not say so: only its deadline ends the call."""
    async with raw_client(shared.address) as client:
        stream = client.call(kind, [(b'grpc-timeout', b'200m')])
        await stream.send(body)
        assert (await stream.over()).outcome == 'DEADLINE_EXCEEDED'
        await well(client)
    assert shared.handlers.ended == 1


@pytest.mark.parametrize('how', ['reset', 'drop'])
@pytest.mark.parametrize('kind', [CLIENT, BIDI])
async def test_half_of_the_messages_are_never_taken_for_all(shared: Shared, kind: str, how: str) -> None:
    """The handler of a call that broke off must not see its messages end, as if the client had sent all.

    grpc.aio tells both in the same words, and cancels a moment later: the edge waits for that moment, which may be too
    short on a busy machine.
    """
    handlers = shared.handlers
    for run in range(1, 31):
        async with raw_client(shared.address) as client:
            stream = client.call(kind)
            await stream.send(ONE)
            await until(lambda: handlers.began == run)  # noqa: B023
            if how == 'reset':
                stream.cancel()
                await until(lambda: handlers.cancelled + handlers.ended == run)  # noqa: B023
    await until(lambda: handlers.cancelled + handlers.ended == 30)
    assert handlers.ended <= 2


@pytest.mark.parametrize('kind', KINDS)
async def test_calls_that_are_reset_at_once_hold_nothing(shared: Shared, kind: str) -> None:
    """At every moment of the way to the handler; what would be held is looked at after each test."""
    async with raw_client(shared.address) as client:
        for number in range(200):
            stream = client.call(kind, [(b'x-do', b'wait')])
            await stream.send(ONE, end=number % 2 == 0)
            await asyncio.sleep(number % 5 / 1000)
            stream.cancel()
        await until(lambda: not shared.stack.serving.gateway.in_flight)
        await well(client)
    await until(lambda: shared.handlers.cancelled == shared.handlers.began - 1)


# Connections


async def test_a_flood_of_pings(shared: Shared) -> None:
    """The connection ends, its calls with it."""
    async with raw_client(shared.address) as client:
        stream = await begun(shared, client, UNARY)
        while not client.closed and not client.goaways():
            client.write(PingFrame(0, b'01234567'))
            await asyncio.sleep(0.01)
        await client.gone()
        goaway = client.goaways()[-1]
        assert (goaway.error_code, goaway.additional_data) == (ErrorCodes.ENHANCE_YOUR_CALM, b'too_many_pings')
        assert (await stream.over()).outcome in {'UNAVAILABLE', 'gone'}
        await until(lambda: shared.handlers.cancelled == 1, timeout=1)


@pytest.mark.parametrize('kind', KINDS)
async def test_a_client_that_says_goaway(shared: Shared, kind: str) -> None:
    """It starts no more calls; the one that it has begun goes on to its end."""
    async with raw_client(shared.address) as client:
        stream = client.call(kind, [(b'x-do', b'pause')])
        if kind in (CLIENT, BIDI):
            await stream.send(b'')
            await until(lambda: shared.handlers.began == 1)
        client.write(GoAwayFrame(0, last_stream_id=0, error_code=ErrorCodes.NO_ERROR))
        await stream.send(ONE, end=True)
        assert (await stream.over()).outcome == 'OK'
        assert [data for _, data in stream.messages] == ANSWERS[kind]


async def test_a_server_that_stops(shared: Shared, words: Descriptors) -> None:
    """It says so before it ends the connection; calls that it has begun are answered."""
    gateway = running_gateway(shared.nats.url, words)
    serving, _ = await gateway.__aenter__()
    async with raw_client(serving.addresses[0]) as client:
        streams = [client.call(UNARY, [(b'x-do', b'pause')]) for _ in range(3)]
        for stream in streams:
            await stream.send(ONE, end=True)
        await until(lambda: shared.handlers.began == 3)
        stopping = asyncio.create_task(gateway.__aexit__(None, None, None))
        await until(client.goaways)
        with pytest.raises(ConnectionError):
            async with raw_client(serving.addresses[0]):
                pass
        for stream in streams:
            assert (await stream.over()).outcome == 'OK'
        await client.gone()
        await stopping
        first, last = client.goaways()
        assert (first.last_stream_id, first.error_code) == (2**31 - 1, ErrorCodes.NO_ERROR)
        assert (last.last_stream_id, last.error_code) == (streams[-1].number, ErrorCodes.NO_ERROR)
        kinds = [type(one) for one in client.frames]
        assert kinds.index(GoAwayFrame) < kinds.index(DataFrame)
    assert shared.handlers.ended == 3


async def test_a_server_that_waits_no_longer(shared: Shared, words: Descriptors) -> None:
    gateway = running_gateway(shared.nats.url, words)
    serving, _ = await gateway.__aenter__()
    async with raw_client(serving.addresses[0]) as client:
        stream = await begun(shared, client, UNARY)
        await gateway.__aexit__(None, None, None)
        assert (await stream.over()).outcome == 'UNAVAILABLE'
        await client.gone()
    await until(lambda: shared.handlers.cancelled == 1)


@pytest.mark.parametrize('ends', ['read', 'reset', 'drop'])
async def test_a_client_that_does_not_read(shared: Shared, ends: str) -> None:
    """The handler waits with it: what it has sent does not pile up."""
    handlers = shared.handlers
    async with raw_client(shared.address, reads=False, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}) as client:
        stream = client.call(SERVER, [(b'x-do', b'flood')])
        await stream.send(message(b''), end=True)
        seen = -1
        while handlers.sent != seen:
            seen = handlers.sent
            await asyncio.sleep(0.25)
        assert 0 < handlers.sent < FLOODED / 2
        assert not stream.data
        match ends:
            case 'read':
                client.read_on()
                assert (await stream.over()).outcome == 'OK'
                assert len(stream.messages) == FLOODED
                await well(client)
            case 'reset':
                stream.cancel()
                await until(lambda: handlers.cancelled == 1, timeout=1)
            case 'drop':
                client.drop()
                await until(lambda: handlers.cancelled == 1, timeout=1)


# Statuses and metadata


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('what', ['message', 'details'])
async def test_20_kilobytes_of_status(shared: Shared, kind: str, what: str) -> None:
    """Clients refuse trailers above 8 KiB, and lose the status with them: the code arrives, and says what was cut."""
    async with raw_client(shared.address) as client:
        stream = await client.ask(kind, ONE, [(b'x-do', f'long {what}'.encode())])
        await well(client)
    assert stream.outcome == 'DATA_LOSS'
    assert stream.text.endswith(' [cut]') if what == 'message' else 'details cut: 20' in stream.text
    assert sum(len(name) + len(value) + 32 for name, value in stream.trailers) < 8000
    details = dict(stream.trailers).get(b'grpc-status-details-bin')
    assert details is None or status_pb2.Status.FromString(details).code == Code.DATA_LOSS


@pytest.mark.parametrize('kind', KINDS)
async def test_repeated_keys_keep_their_order(shared: Shared, kind: str) -> None:
    pairs = [(b'k', b'2'), (b'a', b'x'), (b'k', b'1'), (b'k-bin', b'Ag'), (b'k', b'2'), (b'k-bin', b'AQ')]
    async with raw_client(shared.address) as client:
        stream = await client.ask(kind, ONE, [(b'x-do', b'metadata'), *pairs])
    assert shared.handlers.metadata == (
        ('k', '2'), ('a', 'x'), ('k', '1'), ('k-bin', b'\2'), ('k', '2'), ('k-bin', b'\1'),
    )  # fmt: skip
    for came in (stream.headers, stream.trailers):
        for key in (b'k', b'a', b'k-bin'):
            values = [value.rstrip(b'=') for name, value in came if name == key]
            assert values == [value for name, value in pairs if name == key]
