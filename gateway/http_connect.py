"""The Connect protocol, as headers and bodies: a unary call is a plain HTTP request, a stream is in envelopes. Pure.

https://connectrpc.com/docs/protocol
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf import any_pb2

from natsgate.events.frames import Message
from natsgate.events.metadata import Metadata, from_base64
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.dialect import Reader, Reply, metadata_headers, write_initial
from natsgate.gateway.http_grpc import Pairs
from natsgate.gateway.json_codec import compact

Describe = Callable[[any_pb2.Any], Any]
"""Gives a detail of a status as JSON; None for one that it does not know."""

HTTP_STATUS = {
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""What a unary call ends with that failed."""

_JSON = (b'content-type', b'application/json')
_END = 2
_MOST_PARAMETERS = 16
_URL_SAFE = bytes.maketrans(b'-_', b'+/')


class _Connect:
    """What unary calls and streams have in common."""

    malformed = Code.INVALID_ARGUMENT
    encoding_header = b''
    accept_header = b''

    def __init__(self, codec: str, describe: Describe) -> None:
        self.codec = codec
        self._describe = describe
        self._head = http.RequestHead()

    def open(self, headers: Iterable[tuple[bytes, bytes]]) -> http.RequestHead:
        """What the headers say. Raises BadRequest, BadEncoding."""
        headers = list(headers)
        found = dict(headers)
        if (version := found.get(b'connect-protocol-version', b'1')) != b'1':
            raise http.BadRequest(f'connect-protocol-version {version[:20]!r}: only 1 is spoken')
        if (timeout := found.get(b'connect-timeout-ms')) is not None:
            self._head.timeout = read_timeout(timeout)
        self._head.encoding = checked_encoding(found.get(self.encoding_header, b''))
        self._head.accepts = read_accepts(found.get(self.accept_header, b''))
        self._head.metadata = tuple(read_metadata(metadata_headers(headers)))
        return self._head

    @property
    def _encoding(self) -> str:
        return self._head.accepts[0] if self._head.accepts else 'identity'


class ConnectUnary(_Connect):
    """One unary call: its message is the body."""

    encoding_header = b'content-encoding'
    accept_header = b'accept-encoding'

    def reader(self, limit: int) -> Reader:
        """A reader of the body."""
        return BodyReader(self._head.encoding, limit)

    def whole(self, response: Response, message: Message | None) -> Reply:
        """All of the answer."""
        status = response.status
        trailing = [(b'trailer-' + name, value) for name, value in http.write_metadata(response.trailing)]
        headers = [*write_initial(response.initial), *trailing]
        if status.code is not Code.OK:
            body = compact(error_of(status, self._describe))
            return Reply(HTTP_STATUS[status.code], [_JSON, *headers], body)
        message = message or Message(b'')
        headers.insert(0, (b'content-type', f'application/{self.codec}'.encode()))
        if not message.compressed or self._encoding == 'identity':
            return Reply(200, headers, message.data)
        headers.append((b'content-encoding', self._encoding.encode()))
        return Reply(200, headers, http.compress(message.data, self._encoding))


class ConnectGet(ConnectUnary):
    """One unary call without side effects: its message is in the query."""

    def __init__(self, query: Query, describe: Describe) -> None:
        super().__init__(query.codec, describe)
        self._query = query

    def open(self, headers: Iterable[tuple[bytes, bytes]]) -> http.RequestHead:
        """What the headers say. Raises BadRequest, BadEncoding."""
        head = super().open(headers)
        head.encoding = checked_encoding(self._query.compression.encode())
        return head

    def reader(self, limit: int) -> Reader:
        """It has been read."""
        reader = super().reader(limit)
        reader.feed(self._query.message)
        reader.close()
        return reader


class ConnectStream(_Connect):
    """One streaming call: messages in envelopes, and the status in the last one."""

    encoding_header = b'connect-content-encoding'
    accept_header = b'connect-accept-encoding'

    def reader(self, limit: int) -> Reader:
        """A reader of the body."""
        return http.MessageReader(self._head.encoding, limit)

    def start(self, initial: Metadata) -> Pairs:
        """The headers of an answer."""
        headers = [(b'content-type', f'application/connect+{self.codec}'.encode()), *write_initial(initial)]
        return [*headers, (self.encoding_header, self._encoding.encode())] if self._head.accepts else headers

    def message(self, message: Message) -> bytes:
        """One message in it."""
        return http.write_message(message, self._encoding)

    def end(self, response: Response) -> bytes:
        """The last envelope."""
        said: dict[str, Any] = {}
        if response.status.code is not Code.OK:
            said['error'] = error_of(response.status, self._describe)
        if response.trailing:
            said['metadata'] = values_of(response.trailing)
        data = compact(said)
        return b'%c%b%b' % (_END, len(data).to_bytes(4, 'big'), data)

    def whole(self, response: Response, message: Message | None) -> Reply:
        """All of it."""
        body = b'' if message is None else self.message(message)
        return Reply(200, self.start(response.initial), body + self.end(response))


class BodyReader:
    """A body that is one message."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        self._body = bytearray()
        self._closed = self._taken = False

    @property
    def unread(self) -> int:
        """Bytes that were not taken yet."""
        return 0 if self._taken else len(self._body)

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self._body += data

    def next(self) -> Message | None:
        """The message, when it is whole. Raises BadRequest, TooLarge."""
        if len(self._body) > self._limit:
            raise http.TooLarge(len(self._body))
        if self._taken or not self._closed:
            return None
        self._taken = True
        if self._encoding == 'identity' or not self._body:
            return Message(bytes(self._body))
        return Message(http.decompress(bytes(self._body), self._encoding, self._limit), compressed=True)

    def close(self) -> None:
        """That was the whole body."""
        self._closed = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a GET says."""

    codec: str
    """How the message is written: proto, json, or what is not known."""
    message: bytes
    compression: str


def read_query(query: bytes) -> Query:
    """The parameters of a GET. Raises BadRequest."""
    try:
        pairs = parse_qsl(
            query.decode('latin-1'), keep_blank_values=True, encoding='latin-1', max_num_fields=_MOST_PARAMETERS
        )
    except ValueError:
        raise http.BadRequest('the query has too many parameters') from None
    found = dict(pairs)
    if found.get('connect', 'v1') != 'v1':
        raise http.BadRequest(f'connect={found["connect"][:20]!r} in the query: only v1 is spoken')
    if 'message' not in found:
        raise http.BadRequest('the query has no message: ?encoding=json&message=…')
    message = found['message'].encode('latin-1')
    if found.get('base64') == '1':
        message = _read_base64(message)
    return Query(codec=found.get('encoding', ''), message=message, compression=found.get('compression', ''))


def _read_base64(text: bytes) -> bytes:
    try:
        return from_base64(text.translate(_URL_SAFE))
    except ValueError:
        raise http.BadRequest('the message in the query is not base64, as for URLs') from None


def read_timeout(value: bytes) -> float:
    """Seconds of a `connect-timeout-ms`: up to 10 digits. Raises BadRequest."""
    if not value.isdigit() or len(value) > 10:
        raise http.BadRequest(f'connect-timeout-ms {value[:20]!r} is not a number')
    return int(value) / 1000


def checked_encoding(value: bytes) -> str:
    """How messages are compressed. Raises BadEncoding."""
    encoding = value.decode('latin-1').strip().lower() or 'identity'
    if encoding not in (*http.ENCODINGS, 'identity'):
        raise http.BadEncoding(f'the encoding {encoding[:40]!r} is not known; {", ".join(http.ENCODINGS)} are')
    return encoding


def read_accepts(value: bytes) -> tuple[str, ...]:
    """The encodings that the client takes, ours alone, the preferred one of us first."""
    offered = {
        name.strip().lower()
        for one in value.decode('latin-1').split(',')
        for name, _, weight in [one.partition(';')]
        if weight.replace(' ', '').rstrip('.0') != 'q='
    }
    return tuple(encoding for encoding in http.ENCODINGS if encoding in offered)


def read_metadata(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, str | bytes]]:
    """Headers as metadata. Raises BadRequest."""
    for name, value in headers:
        if name.endswith(b'-bin'):
            yield from ((name.decode('latin-1'), data) for data in http.read_binary(value))
        else:
            yield name.decode('latin-1'), value.decode('latin-1')


def values_of(metadata: Metadata) -> dict[str, list[str]]:
    """Metadata as the last envelope has it."""
    found: dict[str, list[str]] = {}
    for name, value in http.write_metadata(metadata):
        found.setdefault(name.decode(), []).append(value.decode('latin-1'))
    return found


def error_of(status: Status, describe: Describe) -> dict[str, Any]:
    """A failure as JSON."""
    code = 'canceled' if status.code is Code.CANCELLED else status.code.name.lower()
    error: dict[str, Any] = {'code': code}
    if status.message:
        error['message'] = status.message.encode('utf-8', 'replace').decode()
    if details := [_detail(packed, describe) for packed in status.unpacked()]:
        error['details'] = details
    return error


def _detail(packed: any_pb2.Any, describe: Describe) -> dict[str, Any]:
    detail = {'type': packed.TypeName(), 'value': b64encode(packed.value).rstrip(b'=').decode()}
    debug = describe(packed)
    return detail if debug is None else detail | {'debug': debug}
