"""The Connect protocol as headers and bodies: what is documented, and what may come instead."""

import gzip
import json
import zlib
from base64 import b64decode, urlsafe_b64encode
from contextlib import suppress
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events.frames import Message
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway import http_connect as connect
from natsgate.gateway import http_grpc as http

LIMIT = 1000
Pairs = list[tuple[bytes, bytes]]


def nothing(packed: Any) -> None:
    """Describes no detail."""


def unary(headers: Pairs | None = None, codec: str = 'json') -> connect.ConnectUnary:
    found = connect.ConnectUnary(codec, nothing)
    found.open(headers or [])
    return found


def stream(headers: Pairs | None = None) -> connect.ConnectStream:
    found = connect.ConnectStream('json', nothing)
    found.open(headers or [])
    return found


# Heads


@pytest.mark.parametrize(
    ('value', 'seconds'), [(b'0', 0), (b'1', 0.001), (b'1500', 1.5), (b'9999999999', 9_999_999.999)]
)
def test_timeouts(value: bytes, seconds: float) -> None:
    head = connect.ConnectUnary('json', nothing).open([(b'connect-timeout-ms', value)])
    assert head.timeout == pytest.approx(seconds)


@pytest.mark.parametrize('value', [b'', b'-1', b'1.5', b'1s', b' 1', b'+1', b'12345678901', b'\xd9\xa3'])
def test_what_is_no_timeout(value: bytes) -> None:
    with pytest.raises(http.BadRequest, match='connect-timeout-ms'):
        unary([(b'connect-timeout-ms', value)])


def test_the_version_need_not_be_told() -> None:
    for headers in ([], [(b'connect-protocol-version', b'1')]):
        unary(headers)
    with pytest.raises(http.BadRequest, match='only 1 is spoken'):
        unary([(b'connect-protocol-version', b'2')])


@pytest.mark.parametrize(
    ('value', 'accepts'),
    [
        (b'', ()), (b'gzip', ('gzip',)), (b'deflate, gzip', ('gzip', 'deflate')), (b'br, GZIP;q=0.5, zstd', ('gzip',)),
        (b'gzip;q=0, deflate;q=1.0', ('deflate',)), (b'gzip; q=0.000', ()), (b'identity', ()), (b';;,,', ()),
    ],
)  # fmt: skip
def test_what_the_client_takes(value: bytes, accepts: tuple[str, ...]) -> None:
    assert connect.read_accepts(value) == accepts


def test_an_encoding_that_is_not_known() -> None:
    assert [connect.checked_encoding(one) for one in (b'', b'identity', b'GZIP')] == ['identity', 'identity', 'gzip']
    with pytest.raises(http.BadEncoding, match="'br' is not known; gzip, deflate are"):
        unary([(b'content-encoding', b'br')])
    with pytest.raises(http.BadEncoding):
        stream([(b'connect-content-encoding', b'zstd')])


def test_metadata_without_the_headers_of_http() -> None:
    of_http = [
        b'accept', b'accept-encoding', b'connect-timeout-ms', b'connection', b'content-length', b'content-type',
        b'host', b'te', b'transfer-encoding',
    ]  # fmt: skip
    headers = [(name, b'1') for name in of_http] + [
        (b'authorization', b'x'),
        (b'a', b'1'),
        (b'a', b'2'),
        (b'b-bin', b'AAE'),
    ]
    head = connect.ConnectUnary('json', nothing).open(headers)
    assert head.metadata == (('authorization', 'x'), ('a', '1'), ('a', '2'), ('b-bin', b'\x00\x01'))
    with pytest.raises(http.BadRequest, match='not base64'):
        unary([(b'b-bin', b'!')])


NAMES = [b'connect-timeout-ms', b'connect-protocol-version', b'content-encoding', b'accept-encoding', b'x-bin', b'x']


@given(st.lists(st.tuples(st.sampled_from(NAMES) | st.binary(max_size=8), st.binary(max_size=12))))
def test_any_headers_are_read_or_refused(headers: Pairs) -> None:
    for kind in (connect.ConnectUnary, connect.ConnectStream):
        with suppress(http.BadRequest):
            kind('json', nothing).open(headers)


# Unary


def body(reader: Any, *pieces: bytes) -> list[Message]:
    found = []
    for piece in pieces:
        reader.feed(piece)
        assert reader.next() is None
    reader.close()
    while (message := reader.next()) is not None:
        found.append(message)
    assert reader.unread == 0
    return found


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_the_body_is_the_message(pieces: list[bytes]) -> None:
    assert body(unary().reader(LIMIT), *pieces) == [Message(b''.join(pieces))]


@pytest.mark.parametrize(('encoding', 'compress'), [(b'gzip', gzip.compress), (b'deflate', zlib.compress)])
def test_a_compressed_body(encoding: bytes, compress: Any) -> None:
    reader = unary([(b'content-encoding', encoding)]).reader(LIMIT)
    assert body(reader, compress(b'x' * LIMIT)) == [Message(b'x' * LIMIT, compressed=True)]
    for bad, error in ((compress(b'x' * (LIMIT + 1)), http.TooLarge), (b'junk', http.BadRequest)):
        with pytest.raises(error):
            body(unary([(b'content-encoding', encoding)]).reader(LIMIT), bad)


def test_a_body_is_refused_as_soon_as_it_is_too_large() -> None:
    reader = unary().reader(LIMIT)
    reader.feed(b'x' * LIMIT)
    assert reader.next() is None
    reader.feed(b'x')
    with pytest.raises(http.TooLarge):
        reader.next()


def test_a_success() -> None:
    initial, trailing = (('x-a', '1'), ('x-b-bin', b'\x01')), (('x-a', '2'),)
    reply = unary(codec='proto').whole(Response(initial=initial, trailing=trailing), Message(b'data'))
    assert (reply.status, reply.body) == (200, b'data')
    assert reply.headers == [
        (b'content-type', b'application/proto'), (b'x-a', b'1'), (b'x-b-bin', b'AQ=='), (b'trailer-x-a', b'2'),
    ]  # fmt: skip


def test_a_handler_cannot_set_what_means_something_to_browsers() -> None:
    names = ['content-encoding', 'connect-content-encoding', 'access-control-allow-origin', 'upgrade', 'trailer']
    response = Response(initial=tuple((name, 'x') for name in names))
    assert unary().whole(response, None).headers == [(b'content-type', b'application/json')]
    assert stream().start(response.initial) == [(b'content-type', b'application/connect+json')]


def test_a_compressed_success() -> None:
    takes: Pairs = [(b'accept-encoding', b'br, gzip')]
    reply = unary(takes).whole(Response(), Message(b'data', compressed=True))
    assert (b'content-encoding', b'gzip') in reply.headers
    assert gzip.decompress(reply.body) == b'data'
    for found in (unary(takes).whole(Response(), Message(b'data')), unary().whole(Response(), Message(b'data', True))):
        assert (found.headers, found.body) == ([(b'content-type', b'application/json')], b'data')


DOCUMENTED = {
    'canceled': 499, 'unknown': 500, 'invalid_argument': 400, 'deadline_exceeded': 504, 'not_found': 404,
    'already_exists': 409, 'permission_denied': 403, 'resource_exhausted': 429, 'failed_precondition': 400,
    'aborted': 409, 'out_of_range': 400, 'unimplemented': 501, 'internal': 500, 'unavailable': 503, 'data_loss': 500,
    'unauthenticated': 401,
}  # fmt: skip


def test_the_codes() -> None:
    """https://connectrpc.com/docs/protocol#error-codes"""
    found = {}
    for code in set(Code) - {Code.OK}:
        reply = unary(codec='proto').whole(Response(status=Status(code)), None)
        assert reply.headers == [(b'content-type', b'application/json')]
        error = json.loads(reply.body)
        assert list(error) == ['code']
        found[error['code']] = reply.status
    assert found == DOCUMENTED


def test_an_error() -> None:
    info = error_details_pb2.ErrorInfo(reason='R')
    response = Response(status=Status.of(Code.NOT_FOUND, 'no ☺ "x"\n', info), trailing=(('x', '1'),))
    reply = unary().whole(response, None)
    assert (b'trailer-x', b'1') in reply.headers
    (detail,) = json.loads(reply.body).pop('details')
    assert json.loads(reply.body)['message'] == 'no ☺ "x"\n'
    assert detail == {'type': 'google.rpc.ErrorInfo', 'value': 'CgFS'}
    assert error_details_pb2.ErrorInfo.FromString(b64decode(detail['value'])) == info
    told = connect.error_of(response.status, lambda packed: {'a': packed.type_url})
    assert told['details'][0]['debug'] == {'a': 'type.googleapis.com/google.rpc.ErrorInfo'}


@given(st.text(), st.binary())
def test_any_status_is_json(message: str, details: bytes) -> None:
    for status in (Status(Code.INTERNAL, message, details), Status.of(Code.INTERNAL, message)):
        assert json.loads(unary().whole(Response(status=status), None).body)['code'] == 'internal'


def test_a_message_that_is_not_even_unicode() -> None:
    reply = unary().whole(Response(status=Status(Code.INTERNAL, 'a\udcff')), None)
    assert json.loads(reply.body)['message'] == 'a?'


# GET


def get(query: bytes, headers: Pairs | None = None) -> list[Message]:
    found = connect.ConnectGet(connect.read_query(query), nothing)
    found.open(headers or [])
    reader = found.reader(LIMIT)
    messages = []
    while (message := reader.next()) is not None:
        messages.append(message)
    return messages


@given(st.binary(max_size=50))
def test_messages_in_a_query(data: bytes) -> None:
    plain, coded = quote_from_bytes(data, safe='').encode(), urlsafe_b64encode(data)
    for query in (b'message=' + plain, b'base64=1&message=' + coded, b'message=' + coded.rstrip(b'=') + b'&base64=1'):
        assert get(b'connect=v1&encoding=proto&' + query) == [Message(data)]
    squeezed = urlsafe_b64encode(gzip.compress(data))
    assert get(b'encoding=proto&base64=1&compression=gzip&message=' + squeezed) == [Message(data, compressed=True)]


@pytest.mark.parametrize(
    ('query', 'says'),
    [
        (b'', 'no message'), (b'encoding=json', 'no message'), (b'%ff=%00', 'no message'),
        (b'message=!&base64=1', 'not base64'), (b'message=Y&base64=1', 'not base64'),
        (b'message=%ff%ff&base64=1', 'not base64'), (b'message=YQ==YQ==&base64=1', 'not base64'),
        (b'message=+/8=&base64=1', 'not base64'),
        (b'message=&connect=v2', 'only v1 is spoken'), (b'&'.join([b'a=1'] * 50), 'too many parameters'),
        (b'message=&compression=br', "'br' is not known"),
        (b'compression=gzip&message=junk', 'cannot be read'),
    ],
)  # fmt: skip
def test_what_is_no_query(query: bytes, says: str) -> None:
    with pytest.raises(http.BadRequest, match=says):
        get(query)


def test_a_query_that_is_too_large() -> None:
    with pytest.raises(http.TooLarge):
        get(b'message=' + b'x' * (LIMIT + 1))


@given(
    st.binary(max_size=60) | st.text(alphabet='messagebase64encodingcompressiongzip=&%+1', max_size=60).map(str.encode)
)
def test_any_query_is_read_or_refused(query: bytes) -> None:
    with suppress(http.BadRequest):
        get(query)


# Streams


def ended(data: bytes) -> Any:
    assert (data[0], int.from_bytes(data[1:5], 'big')) == (2, len(data) - 5)
    return json.loads(data[5:])


def test_the_end_of_a_stream() -> None:
    assert ended(stream().end(Response())) == {}
    trailing = (('a', '1'), ('b-bin', b'\x01'), ('a', '2'))
    assert ended(stream().end(Response(trailing=trailing))) == {'metadata': {'a': ['1', '2'], 'b-bin': ['AQ==']}}
    failed = Response(status=Status(Code.ABORTED, 'why'), trailing=trailing[:1])
    assert ended(stream().end(failed)) == {'error': {'code': 'aborted', 'message': 'why'}, 'metadata': {'a': ['1']}}


def test_a_whole_stream() -> None:
    reply = stream().whole(Response(initial=(('a', '1'),)), Message(b'x'))
    assert (reply.status, reply.headers) == (200, [(b'content-type', b'application/connect+json'), (b'a', b'1')])
    assert reply.body.startswith(b'\0\0\0\0\1x\2')


def test_envelopes_are_compressed_as_the_message_wants_it() -> None:
    found = stream([(b'connect-accept-encoding', b'gzip'), (b'connect-content-encoding', b'gzip')])
    assert (b'connect-content-encoding', b'gzip') in found.start(())
    sent = found.message(Message(b'x', compressed=True)) + found.message(Message(b'y'))
    reader = found.reader(LIMIT)
    reader.feed(sent)
    assert [reader.next(), reader.next(), reader.next()] == [Message(b'x', compressed=True), Message(b'y'), None]


def test_a_client_cannot_send_the_end_of_a_stream() -> None:
    reader = stream().reader(LIMIT)
    reader.feed(b'\2\0\0\0\2{}')
    with pytest.raises(http.BadRequest, match='flags 0x2'):
        reader.next()
