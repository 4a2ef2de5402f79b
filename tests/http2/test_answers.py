"""Compression, metadata, statuses and deadlines, as they are on the wire."""

import asyncio
import gzip
import zlib
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2
from google.rpc import status_pb2
from h2.settings import SettingCodes
from h2client import message, raw_client
from http2handlers import ANSWERS, BIDI, CLIENT, KINDS, LARGE, ONE, RUNNING, SERVER, UNARY, Shared, well
from support import NO_LIMITS, Client, until

from natsgate.events import Code

pytestmark = pytest.mark.asyncio(loop_scope='module')

MIB = 1 << 20
WAITING = pytest.mark.parametrize(('kind', 'more'), RUNNING)


# Compression


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


@pytest.mark.parametrize('compression', [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_a_stock_client_that_compresses(shared: Shared, compression: grpc.Compression) -> None:
    request = words_pb2.CountRequest(text='a ' * 50_000).SerializeToString()
    async with grpc.aio.insecure_channel(shared.address, options=NO_LIMITS, compression=compression) as compressing:
        ended = await Client(compressing).call('Count', request)
    assert words_pb2.CountResponse.FromString(ended.data).words == 50_000


# Metadata and statuses


@pytest.mark.parametrize('kind', KINDS)
async def test_metadata_both_ways(shared: Shared, kind: str) -> None:
    """Repeated keys keep their order, nothing is added."""
    pairs = [(b'k', b'2'), (b'a', b'x'), (b'k', b'1'), (b'k-bin', b'Ag'), (b'k', b'2'), (b'k-bin', b'AQ'), (b'_u', b'')]
    async with raw_client(shared.address) as client:
        stream = await client.ask(kind, ONE, [(b'x-do', b'metadata'), *pairs])
    assert shared.handlers.metadata == (
        ('k', '2'), ('a', 'x'), ('k', '1'), ('k-bin', b'\2'), ('k', '2'), ('k-bin', b'\1'), ('_u', ''),
    )  # fmt: skip
    for came in (stream.headers, stream.trailers):
        for key in (b'k', b'a', b'k-bin', b'_u'):
            values = [value.rstrip(b'=') for name, value in came if name == key]
            assert values == [value for name, value in pairs if name == key]


async def test_metadata_of_a_stock_client(shared: Shared) -> None:
    sent = (('x-do', 'metadata'), ('k', 'b'), ('k', 'a'), ('k-bin', b'\0\xff'), ('k-bin', b','))
    ended = await shared.stack.client.call('Count', ONE[5:], metadata=sent)
    assert ended.code is Code.OK
    for came in (ended.initial, ended.trailing):
        assert [pair for pair in came if pair[0] in ('k', 'k-bin')] == list(sent[1:])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('what', ['message', 'details'])
async def test_20_kilobytes_of_status(shared: Shared, kind: str, what: str) -> None:
    """Clients refuse trailers above 8 KiB, and lose the status with them: the code arrives, and says what was cut."""
    async with raw_client(shared.address) as client:
        stream = await client.ask(kind, ONE, [(b'x-do', f'long {what}'.encode())])
        await well(client)
    assert stream.outcome == 'DATA_LOSS'
    assert stream.text.endswith(' [cut]') if what == 'message' else 'details cut: 20' in stream.text
    assert not stream.headers, 'Trailers-Only'
    assert not stream.data
    assert (b'content-type', b'application/grpc') in stream.trailers
    assert sum(len(name) + len(value) + 32 for name, value in stream.trailers) < 8000
    details = dict(stream.trailers).get(b'grpc-status-details-bin')
    assert details is None or status_pb2.Status.FromString(details).code == Code.DATA_LOSS


@pytest.mark.parametrize('kind', [SERVER, BIDI])
async def test_a_status_after_messages(shared: Shared, kind: str) -> None:
    async with raw_client(shared.address) as client:
        stream = client.call(kind, [(b'x-do', b'wait'), (b'grpc-timeout', b'1S')])
        await stream.send(ONE, end=True)
        await stream.over()
    assert (b':status', b'200') in stream.headers
    assert stream.outcome == 'DEADLINE_EXCEEDED'
    assert [data for _, data in stream.messages] == ANSWERS[kind]


async def test_an_empty_answer_is_a_message(shared: Shared) -> None:
    async with raw_client(shared.address) as client:
        stream = await client.ask(CLIENT, ONE, [(b'x-do', b'nothing')])
    assert (stream.outcome, stream.messages) == ('OK', [(0, b'')])


async def test_4_mebibytes_both_ways(shared: Shared) -> None:
    """The largest that is taken, and a byte more."""
    word = words_pb2.Word(word='x' * (4 * MIB - 5)).SerializeToString()
    assert len(word) == 4 * MIB
    options = [*NO_LIMITS, ('grpc.use_local_subchannel_pool', 1)]
    async with grpc.aio.insecure_channel(shared.address, options=options) as large:
        for size, code in ((len(word), grpc.StatusCode.OK), (len(word) + 1, grpc.StatusCode.RESOURCE_EXHAUSTED)):
            call: Any = large.stream_stream(f'/demo.v1.Words/{BIDI}')(iter([word.ljust(size, b'\0')]), timeout=10)
            if code is grpc.StatusCode.OK:
                assert await call.read() == word  # type: ignore[attr-defined]
            assert await call.code() is code
    text = 'x' * (4 * MIB - 5)
    ended = await shared.stack.client.call('Count', words_pb2.CountRequest(text=text))
    assert ended.code is Code.OK
    ended = await shared.stack.client.call('Count', words_pb2.CountRequest(text=f'{text}x'))
    assert ended.code is Code.RESOURCE_EXHAUSTED


# Deadlines


@WAITING
async def test_a_deadline_is_kept_for_a_client_that_does_not(shared: Shared, kind: str, more: bool) -> None:
    async with raw_client(shared.address) as client:
        stream = client.call(kind, [(b'x-do', b'wait'), (b'grpc-timeout', b'500m')])
        await stream.send(ONE, end=not more)
        assert (await stream.over()).outcome == 'DEADLINE_EXCEEDED'
        await until(lambda: shared.handlers.cancelled == 1)
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


async def test_a_deadline_counts_what_the_client_took_to_send(shared: Shared) -> None:
    async with raw_client(shared.address) as client:
        stream = client.call(UNARY, [(b'x-do', b'pause'), (b'grpc-timeout', b'400m')])
        await stream.send(ONE[:-3])
        await asyncio.sleep(0.3)
        await stream.send(ONE[-3:], end=True)
        assert (await stream.over()).outcome == 'DEADLINE_EXCEEDED'


async def test_a_deadline_for_a_client_that_does_not_read(shared: Shared) -> None:
    handlers = shared.handlers
    async with raw_client(shared.address, reads=False, settings={SettingCodes.INITIAL_WINDOW_SIZE: 0}) as client:
        stream = client.call(SERVER, [(b'x-do', b'flood'), (b'grpc-timeout', b'1S')])
        await stream.send(message(b''), end=True)
        await until(lambda: handlers.cancelled == 1)
        client.read_on()
        assert (await stream.over()).outcome == 'DEADLINE_EXCEEDED'
        await well(client)
