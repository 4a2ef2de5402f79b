"""gRPC as headers and bodies: tables of what is documented, properties of what may come in any shape, and garbage."""

import gzip
import tracemalloc
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events.frames import Message
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http

LIMIT = 1000
TE = (b'te', b'trailers')
ONE = http.write_message(Message(b'one'), 'identity')

KEYS = st.from_regex(r'[0-9a-z_.-]{1,12}', fullmatch=True).filter(
    lambda key: not key.endswith('-bin') and key not in {'te', 'host', 'connection', 'grpc-timeout'}
)
PAIRS = st.tuples(KEYS, st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)) | st.tuples(
    KEYS.map(lambda key: f'{key}-bin'), st.binary(max_size=20)
)
METADATA = st.lists(PAIRS, max_size=6).map(tuple)
MESSAGES = st.lists(st.builds(Message, st.binary(max_size=60), st.booleans()), max_size=6)


# Timeouts


@pytest.mark.parametrize(
    ('value', 'seconds'),
    [
        (b'0n', 0), (b'1n', 1e-9), (b'5u', 5e-6), (b'200m', 0.2), (b'5S', 5), (b'2M', 120), (b'1H', 3600),
        (b'00000001S', 1), (b'99999999H', 99_999_999 * 3600), (b'99999999n', 0.099999999),
    ],
)  # fmt: skip
def test_timeouts(value: bytes, seconds: float) -> None:
    assert http.read_timeout(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    'value',
    [
        b'', b'S', b'x', b'5', b'5d', b'5s', b'1.5S', b'-1S', b'+1S', b'5 S', b' 5S', b'5S ', b'123456789S',
        b'\xd9\xa3S',
    ],
)  # fmt: skip
def test_what_is_no_timeout(value: bytes) -> None:
    with pytest.raises(http.BadRequest, match='grpc-timeout'):
        http.read_timeout(value)


@given(st.binary(max_size=12))
def test_a_timeout_is_a_number_or_refused(value: bytes) -> None:
    with suppress(http.BadRequest):
        assert 0 <= http.read_timeout(value) <= 99_999_999 * 3600


# Headers


@pytest.mark.parametrize(
    ('value', 'read'),
    [
        (b'', [b'']), (b'YQ', [b'a']), (b'YQ==', [b'a']), (b'YWI', [b'ab']), (b'YWJj', [b'abc']),
        (b'YQ,YWI=', [b'a', b'ab']), (b'YQ== , YWJj', [b'a', b'abc']), (b'YQ,', [b'a', b'']),
    ],
)  # fmt: skip
def test_binary_headers(value: bytes, read: list[bytes]) -> None:
    assert list(http.read_binary(value)) == read


@pytest.mark.parametrize(
    'value',
    [
        b'!!!', b'a', b'YQ==YQ==', b'Y=Q', b'\xff', b'YQ YQ', b'YQ=', b'YQ===', b'YWI==', b'YWJj=', b'YWJj====',
        b'=', b'====',
    ],
)  # fmt: skip
def test_what_is_no_binary_header(value: bytes) -> None:
    with pytest.raises(http.BadRequest, match='base64'):
        http.read_binary(value)


@given(METADATA)
def test_metadata_comes_back(metadata: Metadata) -> None:
    """Order and repetitions, too."""
    assert http.read_head([*http.write_metadata(metadata), TE]).metadata == metadata


@given(st.sampled_from(Code), st.text(max_size=20), st.binary(max_size=20), METADATA)
def test_statuses(code: Code, text: str, details: bytes, trailing: Metadata) -> None:
    pairs = http.write_status(Response(status=Status(code, text, details), trailing=trailing))
    own = dict(pairs[: 1 + bool(text) + bool(details)])
    assert own[b'grpc-status'] == b'%d' % code.value
    assert (b'grpc-message' in own, b'grpc-status-details-bin' in own) == (bool(text), bool(details))
    assert all(0x20 <= byte <= 0x7E for value in own.values() for byte in value)
    assert pairs[len(own) :] == http.write_metadata(trailing)


@pytest.mark.parametrize(
    ('header', 'field', 'value'),
    [
        ((b'grpc-timeout', b'5S'), 'timeout', 5.0),
        ((b'grpc-encoding', b'gzip'), 'encoding', 'gzip'),
        ((b'grpc-encoding', b'zstd'), 'encoding', 'zstd'),
        ((b'grpc-accept-encoding', b'identity, deflate ,gzip'), 'accepts', ('gzip', 'deflate')),
        ((b'grpc-accept-encoding', b'identity,br'), 'accepts', ()),
        ((b'user-agent', b'x'), 'metadata', (('user-agent', 'x'),)),
        ((b'x', b'caf\xe9'), 'metadata', (('x', 'café'),)),  # refused by the core, which knows what may travel
        *(((name, b'x'), 'metadata', ()) for name in (b'host', b'content-type', b'content-length')),
    ],
)
def test_heads(header: tuple[bytes, bytes], field: str, value: Any) -> None:
    assert getattr(http.read_head([TE, header]), field) == value


@pytest.mark.parametrize('headers', [[], [(b'te', b'gzip')], [(b'te', b'')]])
def test_a_client_that_takes_no_trailers_could_not_be_told_the_status(headers: Any) -> None:
    with pytest.raises(http.BadRequest, match='te is not'):
        http.read_head(headers)


HEADERS = st.sampled_from([b'grpc-timeout', b'x-bin', b'grpc-encoding', b'grpc-accept-encoding', b'te', b'x', b'\xff'])


@given(st.lists(st.tuples(HEADERS | st.binary(max_size=8), st.binary(max_size=16))))
def test_any_headers_are_read_or_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with suppress(http.BadRequest):
        http.read_head(headers)


@pytest.mark.parametrize(
    ('value', 'grpc', 'served'),
    [
        (b'application/grpc', True, True), (b'application/grpc+proto', True, True),
        (b'application/grpc; charset=utf-8', True, True), (b'application/grpc+proto;x=y', True, True),
        (b'application/grpc+json', True, False), (b'application/grpc+foo', True, False),
        (b'application/grpc-web', False, False), (b'application/grpcx', False, False),
        (b'image/jpeg', False, False), (b'application/json', False, False), (b'', False, False),
    ],
)  # fmt: skip
def test_content_types(value: bytes, grpc: bool, served: bool) -> None:
    assert (http.is_grpc(value), http.is_served(value)) == (grpc, served)


# Messages


def read_all(pieces: Iterable[bytes], encoding: str = 'identity', limit: int = LIMIT) -> tuple[list[Message], int]:
    """The messages, and how many bytes are left."""
    reader, found = http.MessageReader(encoding, limit), []
    for piece in pieces:
        reader.feed(piece)
        while (message := reader.next()) is not None:
            found.append(message)
    return found, reader.unread


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """The body in pieces."""
    ends = sorted({place % (len(body) + 1) for place in places})
    return [body[start:stop] for start, stop in zip([0, *ends], [*ends, len(body)], strict=True)]


CUTS = st.lists(st.integers(0, 1 << 16), max_size=8)


@given(MESSAGES, st.sampled_from(['identity', *http.ENCODINGS, 'br']), CUTS)
def test_messages_come_back_however_they_are_cut(messages: list[Message], encoding: str, places: list[int]) -> None:
    body = b''.join(http.write_message(message, encoding) for message in messages)
    known = encoding in http.ENCODINGS
    assert read_all(cut(body, places), encoding) == (
        [Message(one.data, one.compressed and known) for one in messages], 0,
    )  # fmt: skip


@given(MESSAGES, CUTS, st.integers(1, 1 << 16))
def test_what_is_missing_at_the_end_is_seen(messages: list[Message], places: list[int], missing: int) -> None:
    body = b''.join(http.write_message(message, 'identity') for message in [*messages, Message(b'last')])
    lost = 1 + missing % 8  # of 9 bytes
    found, unread = read_all(cut(body[:-lost], places))
    assert (len(found), unread) == (len(messages), 9 - lost)


@given(st.lists(st.binary(max_size=40)), st.sampled_from(['identity', 'gzip', 'deflate', 'zstd']))
def test_garbage_is_read_or_refused(pieces: list[bytes], encoding: str) -> None:
    with suppress(http.BadRequest):
        read_all(pieces, encoding)


@given(st.binary(max_size=80), st.sampled_from(['gzip', 'deflate', 'zstd']), st.integers(0, 100))
def test_garbage_is_decompressed_or_refused(data: bytes, encoding: str, limit: int) -> None:
    with suppress(http.BadRequest):
        assert len(http.decompress(data, encoding, limit)) <= limit


@given(st.binary(min_size=1, max_size=200), st.sampled_from(http.ENCODINGS), st.integers(0, 1 << 16))
def test_damaged_data_is_never_cut_short(data: bytes, encoding: str, place: int) -> None:
    packed = http.compress(data, encoding)
    for broken in (packed[: place % len(packed)], packed + b'x', packed + packed):
        with pytest.raises(http.BadRequest):
            http.decompress(broken, encoding, LIMIT)


@pytest.mark.parametrize('size', [LIMIT - 1, LIMIT, LIMIT + 1])
@pytest.mark.parametrize('encoding', ['identity', *http.ENCODINGS])
def test_the_limit(size: int, encoding: str) -> None:
    body = http.write_message(Message(bytes(size), compressed=True), encoding)
    if size <= LIMIT:
        assert read_all([body], encoding)[0] == [Message(bytes(size), encoding != 'identity')]
        return
    with pytest.raises(http.TooLarge) as raised:
        read_all([body], encoding)
    assert raised.value.size == LIMIT + 1


def test_a_length_above_the_limit_is_refused_before_the_message_comes() -> None:
    with pytest.raises(http.TooLarge) as raised:
        read_all([b'\0\xff\xff\xff\xff'])
    assert raised.value.size == 0xFFFF_FFFF


@pytest.mark.parametrize('pack', [gzip.compress, zlib.compress])
def test_a_bomb_costs_no_more_than_the_limit(pack: Any) -> None:
    bomb, encoding = pack(bytes(64 << 20)), 'gzip' if pack is gzip.compress else 'deflate'
    tracemalloc.start()
    try:
        with pytest.raises(http.TooLarge):
            http.decompress(bomb, encoding, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ('body', 'encoding', 'error', 'says'),
    [
        (b'\x02' + ONE[1:], 'identity', http.BadRequest, 'flags 0x2'),
        (b'\x80' + ONE[1:], 'gzip', http.BadRequest, 'flags 0x80'),
        (b'\x01' + ONE[1:], 'identity', http.BadRequest, 'do not say how'),
        (b'\x01' + ONE[1:], 'zstd', http.BadEncoding, "'zstd' is not known"),
        (b'\x01' + ONE[1:], 'gzip', http.BadRequest, 'cannot be read'),
    ],
)
def test_broken_messages(body: bytes, encoding: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        read_all([body], encoding)


@pytest.mark.parametrize('encoding', ['gzip', 'zstd'])
def test_an_encoding_that_is_not_used_does_no_harm(encoding: str) -> None:
    assert read_all([ONE], encoding) == ([Message(b'one')], 0)


def event(body: bytes, more: bool = False) -> dict[str, Any]:
    return {'type': 'http.request', 'body': body, 'more_body': more}


@pytest.mark.parametrize(
    ('what', 'message'),
    [
        (event(ONE), Message(b'one')),
        (event(http.write_message(Message(b''), '')), Message(b'')),
        (event(ONE, more=True), None),
        (event(ONE[:-1]), None),
        (event(ONE + b'x'), None),
        (event(b''), None),
        (event(b'\x01' + ONE[1:]), None),
        (event(http.write_message(Message(bytes(LIMIT)), '')), Message(bytes(LIMIT))),
        (event(http.write_message(Message(bytes(LIMIT + 1)), '')), None),
        ({'type': 'http.request'}, None),
        ({'type': 'http.disconnect'}, None),
    ],
    ids=str,
)
def test_whole_messages(what: dict[str, Any], message: Message | None) -> None:
    assert http.whole_message(what, LIMIT) == message
