"""What HTTP/2 can say and gRPC clients do not: each has its answer, and costs nobody else anything."""

import asyncio
import re
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from edges import ENVOY_ONLY
from h2client import Pair, Stream, message, raw_client
from http2handlers import (
    ANSWERS,
    BIDI,
    CLIENT,
    DATA,
    DEFLATED,
    GZIPPED,
    KINDS,
    ONE,
    SERVER,
    STREAMS_MAY_BE_EMPTY,
    TOO_LARGE,
    UNARY,
    Handlers,
    Shared,
    outcome,
    well,
)
from processes import peak
from support import stack, until, word_actors

from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors

pytestmark = pytest.mark.asyncio(loop_scope='module')


@dataclass(frozen=True)
class Case:
    """What is sent, and what it ends with: for all kinds, or `but` for some."""

    name: str
    ends: str
    says: str = ''
    """What its status says, as a regular expression."""
    body: bytes = ONE
    pairs: tuple[Pair, ...] = ()
    instead: dict[bytes, bytes | None] = field(default_factory=dict)
    but: dict[str, str] = field(default_factory=dict)
    unlike: dict[str, 'Other'] = field(default_factory=dict)
    """What it ends with on an edge that does otherwise than the documents want."""

    def __str__(self) -> str:
        return self.name

    def on(self, edge: str) -> 'Case':
        """What is expected of this edge."""
        other = self.unlike.get(edge)
        return self if other is None else replace(self, ends=other.ends, says=other.says, but=other.but)

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
            assert outcome(stream) == self.but.get(kind, self.ends), (kind, stream.text)
            if outcome(stream) != 'OK':
                assert re.search(self.says, stream.text) or kind in self.but, (kind, stream.text)
            elif self.body in (ONE, GZIPPED, DEFLATED):
                assert [data for _, data in stream.messages] == ANSWERS[kind], kind


@dataclass(frozen=True)
class Other:
    """How an edge deviates, and why."""

    why: str
    ends: str
    says: str = ''
    but: dict[str, str] = field(default_factory=dict)


def core(ends: str, says: str = '', *, why: str, **more: Any) -> dict[str, Other]:
    """What is decided in gRPC's C-core before a handler runs, or is not shown to it."""
    return {'grpc': Other(why, ends, says, **more)}


def header(name: str, value: bytes, ends: str, says: str = '', **more: Any) -> Case:
    return Case(f'{name}: {value[:20]!r}', ends, says, pairs=((name.encode(), value),), **more)


def pseudo(name: str, value: bytes | None, ends: str, says: str = '', **more: Any) -> Case:
    return Case(f'{name}: {value!r}', ends, says, instead={name.encode(): value}, **more)


def encoded(name: str, body: bytes, encoding: bytes, ends: str, says: str = '', **more: Any) -> Case:
    return Case(name, ends, says, body=body, pairs=((b'grpc-encoding', encoding),), **more)


MALFORMED = 'RST PROTOCOL_ERROR'
NO_END = 'the request ends in the middle of a message'
NO_ENCODING = 'no encoding configured|do not say how'
NO_TIMEOUT = "Error parsing 'grpc-timeout' metadata|is not a number and a unit"
TOO_MUCH = 'received metadata size exceeds hard limit|bytes of metadata, 16384 are taken'
NOT_PRINTABLE = "metadata 'x' has a character that is not printable ASCII"
STREAMS = STREAMS_MAY_BE_EMPTY

LAST_WHOLE = 'it ends the messages where the last whole one ends, and does not say that more was begun'
NO_CONTENT_TYPE = 'it looks at no content-type, and shows none to handlers'
ENCODINGS = 'its list of encodings is fixed, and what is not in it is a header that cannot be parsed'
ANY_DIGITS = 'it reads any number of digits, and a space before the unit'
WITH_A_STATUS = 'it answers to malformed headers with a status'
WITH_A_RESET = 'it resets with INTERNAL_ERROR, which is INTERNAL to clients'
ENVOY_ROUTES = 'Envoy routes by it, and takes no request without'

CASES = [
    # Messages
    Case('no message', 'UNIMPLEMENTED', 'the request has no message', body=b'', but=STREAMS),
    Case(
        'two messages', 'UNIMPLEMENTED', 'the request has more than one message', body=ONE + ONE,
        but={CLIENT: 'OK', BIDI: 'OK'},
    ),
    Case('a declared length above the limit', 'RESOURCE_EXHAUSTED', '5242880', body=message(DATA, length=TOO_LARGE)),
    Case('the largest declared length', 'RESOURCE_EXHAUSTED', '4294967295', body=message(DATA, length=0xFFFF_FFFF)),
    *(
        Case(
            name, 'INTERNAL', NO_END, body=body,
            unlike=core('UNIMPLEMENTED', 'the request has no message', but=STREAMS, why=LAST_WHOLE),
        )
        for name, body in (('a truncated message', ONE[:-3]), ('a truncated prefix', ONE[:3]))
    ),
    Case(
        'one message and half of another', 'INTERNAL', NO_END, body=ONE + ONE[:-3], unlike=core('OK', why=LAST_WHOLE)
    ),
    Case(
        'a compressed flag that is neither 0 nor 1', 'INTERNAL', 'flags 0x2', body=message(DATA, compressed=2),
        unlike=core('OK', why='it takes such a message for an empty one'),
    ),
    # Compression
    Case('compressed without an encoding', 'INTERNAL', NO_ENCODING, body=GZIPPED),
    encoded('compressed with identity', GZIPPED, b'identity', 'INTERNAL', NO_ENCODING),
    encoded(
        'not really gzip', message(b'junk', compressed=1), b'gzip', 'INTERNAL', 'Decompression failed|cannot be read'
    ),
    encoded(
        'unknown encoding', message(b'?', compressed=1), b'zstd', 'UNIMPLEMENTED', "'zstd' is not known",
        unlike=core('INTERNAL', "Error parsing 'grpc-encoding'", why=ENCODINGS),
    ),
    encoded(
        'unknown encoding, not used', ONE, b'zstd', 'OK',
        unlike=core('INTERNAL', "Error parsing 'grpc-encoding'", why=ENCODINGS),
    ),
    encoded('gzip', GZIPPED, b'gzip', 'OK'),
    encoded('deflate', DEFLATED, b'deflate', 'OK'),
    encoded('gzip announced, not used', ONE, b'gzip', 'OK'),
    # Deadlines
    *(header('grpc-timeout', value, 'DEADLINE_EXCEEDED') for value in (b'0n', b'0m', b'0H', b'1n')),
    *(header('grpc-timeout', value, 'OK') for value in (b'99999999H', b'99999999n', b'5S')),
    *(
        header('grpc-timeout', value, 'INTERNAL', NO_TIMEOUT)
        for value in (b'', b'x', b'5', b'5d', b'1.5S', b'-1S')
    ),
    *(
        header('grpc-timeout', value, 'INTERNAL', NO_TIMEOUT, unlike=core('OK', why=ANY_DIGITS))
        for value in (b'123456789S', b'5 S')
    ),
    # Metadata
    *(header('x', b'v' * size, 'RESOURCE_EXHAUSTED', TOO_MUCH) for size in (17_000, 60_000)),
    Case(
        '70 headers of 1 kB', 'RESOURCE_EXHAUSTED', TOO_MUCH,
        pairs=tuple((b'x-%d' % number, b'v' * 1000) for number in range(70)),
    ),
    *(header('x', value, 'INTERNAL', NOT_PRINTABLE) for value in (b'caf\xc3\xa9', b'\xff')),
    *(header('x', value, 'OK') for value in (b'', b' ~')),
    *(
        header('x-bin', value, 'INTERNAL', 'illegal base64 encoding|is not base64')
        for value in (b'!!!', b'a', b'YQ==YQ==', b'\xff')
    ),
    *(header('x-bin', value, 'OK') for value in (b'YQ', b'YQ==', b'')),
    # Requests
    pseudo(':method', b'PUT', 'HTTP 405', unlike=core('RST INTERNAL_ERROR', why=WITH_A_RESET)),
    pseudo(  # a unary method has no side effects here, so Connect may GET it
        ':method', b'GET', 'HTTP 405', but={UNARY: 'HTTP 400'}, unlike=core('RST INTERNAL_ERROR', why=WITH_A_RESET)
    ),
    *(
        pseudo(':path', value, 'UNIMPLEMENTED', 'unknown method')
        for value in (b'/', b'/demo.v1.Words/Nope', b'/demo.v1.Words/Count/', b'/%ff', b'/%2e')
    ),
    pseudo(
        'te', None, 'INTERNAL', 'te is not "trailers"', unlike=core('RST INTERNAL_ERROR', why=WITH_A_RESET)
    ),
    *(pseudo('content-type', value, 'OK') for value in (b'application/grpc+proto', b'application/grpc;x=y')),
    *(
        pseudo(
            'content-type', value, 'UNIMPLEMENTED', 'only protobuf is served', unlike=core('OK', why=NO_CONTENT_TYPE)
        )
        for value in (b'application/grpc+foo', b'application/grpc+json')
    ),
    *(
        pseudo('content-type', value, 'HTTP 415', unlike=core('OK', why=NO_CONTENT_TYPE))
        for value in (b'image/jpeg', b'application/grpc-webs', None)
    ),
    pseudo(
        'content-type', b'application/json', 'HTTP 415', but={UNARY: 'HTTP 400'},
        unlike=core('OK', why=NO_CONTENT_TYPE),
    ),
    # Malformed to HTTP/2
    *(
        header('x', value, MALFORMED, unlike=core('INTERNAL', NOT_PRINTABLE, why=WITH_A_STATUS))
        for value in (b'a\r\nNats-Rollup: all', b'a\nb', b'a\rb', b'a\0b', b'\x7f')
    ),
    *(
        header(name, b'v', MALFORMED, unlike=core('INTERNAL', says, why=WITH_A_STATUS))
        for name, says in (
            ('x y', 'Illegal header key'), ('X-UPPER', 'Illegal header key'), ('', 'keys cannot be zero length'),
        )
    ),
    header('connection', b'close', MALFORMED, unlike=core('OK', why='it passes it over')),
    *(
        pseudo(name, None, MALFORMED, unlike=core('RST INTERNAL_ERROR', why=WITH_A_RESET))
        for name in (':method', ':path', ':scheme')
    ),
    *(
        pseudo(':path', value, MALFORMED, unlike=core('UNIMPLEMENTED', 'unknown method', why=WITH_A_STATUS))
        for value in (b'', b'demo')
    ),
    pseudo('te', b'gzip', MALFORMED, unlike=core('INTERNAL', "Error parsing 'te' metadata", why=WITH_A_STATUS)),
    pseudo(
        ':authority', None, 'OK',
        unlike={
            'grpc': Other(WITH_A_RESET, 'RST INTERNAL_ERROR'), 'envoy': Other(ENVOY_ROUTES, MALFORMED),
        },
    ),
]  # fmt: skip


@pytest.mark.parametrize('case', CASES, ids=str)
async def test_what_a_request_ends_with(shared: Shared, case: Case) -> None:
    await case.on(shared.edge).check(shared)


async def test_a_header_above_64_kilobytes(shared: Shared) -> None:
    """A limit of Envoy's decoder, which is not a setting: it ends the connection, and no other."""
    async with raw_client(shared.address) as other, raw_client(shared.address) as client:
        stream = await client.call(UNARY, [(b'x', b'v' * 70_000)], end=True).over()
        if shared.edge == 'envoy':
            await client.gone()
            assert not stream.trailers
        else:
            assert stream.outcome == 'RESOURCE_EXHAUSTED'
            await well(client)
        await well(other)


@ENVOY_ONLY
async def test_what_an_unknown_encoding_is_answered_with(shared: Shared) -> None:
    """C-core does not say what it takes."""
    async with raw_client(shared.address) as client:
        for kind in KINDS:
            stream = await client.ask(kind, message(b'?', compressed=1), [(b'grpc-encoding', b'zstd')])
            assert (b'grpc-accept-encoding', b'identity,gzip,deflate') in stream.trailers


@pytest.mark.parametrize('kind', KINDS)
async def test_half_closed_by_the_headers(shared: Shared, kind: str) -> None:
    async with raw_client(shared.address) as client:
        stream = await client.call(kind, end=True).over()
        assert stream.outcome == STREAMS_MAY_BE_EMPTY.get(kind, 'UNIMPLEMENTED')
        await well(client)


async def test_what_is_refused_is_not_run(shared: Shared) -> None:
    refused = ('DEADLINE_EXCEEDED', 'INTERNAL', 'RESOURCE_EXHAUSTED')
    found = [case.on(shared.edge) for case in CASES]
    cases = [case for case in found if case.ends in refused and (case.pairs or case.instead)]
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


async def test_a_path_that_is_not_utf_8(words: Descriptors, edge: str) -> None:
    """It ends grpc.aio's server, which then accepts nothing any more. The gateway must not end with it."""
    handlers = Handlers()
    actors = word_actors(Count=handlers.count)
    async with EmbeddedNats() as nats, stack(nats, words, actors, edge=edge) as running:
        address = running.gateway.address
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


async def test_gzip_bombs(shared: Shared) -> None:
    """Small on the wire, 256 MiB in memory if they were let: 16 at once."""
    packer = zlib.compressobj(wbits=31)
    part = bytes(1 << 20)
    bomb = message(b''.join([packer.compress(part) for _ in range(256)]) + packer.flush(), compressed=1)
    assert len(bomb) < 300_000
    gateway = shared.stack.gateway.pid
    before = peak(gateway, reset=True)
    async with raw_client(shared.address) as client:
        for kinds in ([UNARY, SERVER] * 8, [CLIENT, BIDI] * 8):
            asked = [client.ask(kind, bomb, [(b'grpc-encoding', b'gzip')]) for kind in kinds]
            for stream in await asyncio.gather(*asked):
                assert stream.outcome == 'RESOURCE_EXHAUSTED', stream.text
            assert shared.handlers.began == 0 or kinds[0] == CLIENT
        await well(client)
    assert peak(gateway) - before < 128 << 20
