"""gRPC over HTTP/2, as headers and bodies: timeouts, metadata, messages, statuses. Pure.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from natsgate.events.frames import Message
from natsgate.events.metadata import Metadata, from_base64
from natsgate.events.status import quote_message
from natsgate.events.wire import Response

Pairs = list[tuple[bytes, bytes]]

ENCODINGS = ('gzip', 'deflate')
"""What we compress and decompress, the preferred one first."""
_TYPE = b'application/grpc'
CONTENT_TYPE = (b'content-type', _TYPE)
ACCEPTED = ('grpc-accept-encoding', 'identity,gzip,deflate')
_UNITS = {b'H': 3600.0, b'M': 60.0, b'S': 1.0, b'm': 1e-3, b'u': 1e-6, b'n': 1e-9}
_GZIP, _ZLIB = 31, 15  # zlib's window bits for either format


class BadRequest(Exception):  # noqa: N818
    """A request that breaks the protocol; the text says how."""


class BadEncoding(BadRequest):
    """It is compressed in a way that we do not know."""


class TooLarge(BadRequest):
    """A message above the limit; `size` as far as it is known."""

    def __init__(self, size: int) -> None:
        super().__init__(f'a message of {size} bytes')
        self.size = size


class RequestHead:
    """What a request's headers say."""

    __slots__ = ('accepts', 'encoding', 'metadata', 'timeout', 'trailers')

    def __init__(self) -> None:
        self.metadata: Metadata = ()
        self.timeout: float | None = None
        self.encoding = 'identity'
        self.accepts: tuple[str, ...] = ()
        self.trailers = False
        """The client takes a status in trailers."""


def content_type(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The first content type among a request's headers; empty if there is none."""
    for name, value in headers:
        if name == b'content-type':
            return value
    return b''


def is_grpc(content_type: bytes) -> bool:
    """Whether it is gRPC's, of whatever messages: the answer is a status then."""
    return content_type == _TYPE or content_type.startswith((_TYPE + b'+', _TYPE + b';', _TYPE + b' '))


def is_served(content_type: bytes) -> bool:
    """Whether the messages are those that we serve."""
    return content_type == _TYPE or content_type.partition(b';')[0].rstrip() in (_TYPE, b'application/grpc+proto')


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> RequestHead:
    """Sort a request's headers. Raises BadRequest; an encoding that is not known is told when it is used."""
    head = RequestHead()
    pairs: list[tuple[str, str | bytes]] = []
    for name, value in headers:
        if (read := _READERS.get(name)) is not None:
            read(head, value)
        elif name.endswith(b'-bin'):
            pairs.extend((name.decode('latin-1'), data) for data in read_binary(value))
        else:
            pairs.append((name.decode('latin-1'), value.decode('latin-1')))
    if not head.trailers:
        raise BadRequest('the header te is not "trailers": something on the way cannot carry a status')
    head.metadata = tuple(pairs)
    return head


def _read_te(head: RequestHead, value: bytes) -> None:
    head.trailers = value == b'trailers'


def _read_timeout(head: RequestHead, value: bytes) -> None:
    head.timeout = read_timeout(value)


def _read_encoding(head: RequestHead, value: bytes) -> None:
    head.encoding = value.decode('latin-1').strip()


def _read_accepted(head: RequestHead, value: bytes) -> None:
    offered = {one.strip() for one in value.decode('latin-1').split(',')}
    head.accepts = tuple(encoding for encoding in ENCODINGS if encoding in offered)


def _pass_over(head: RequestHead, value: bytes) -> None:
    pass


_READERS: Mapping[bytes, Callable[[RequestHead, bytes], None]] = {
    b'te': _read_te,
    b'grpc-timeout': _read_timeout,
    b'grpc-encoding': _read_encoding,
    b'grpc-accept-encoding': _read_accepted,
    b'host': _pass_over,
    b'content-type': _pass_over,
    b'content-length': _pass_over,
    b'connection': _pass_over,
    b'transfer-encoding': _pass_over,
}


def read_timeout(value: bytes) -> float:
    """Seconds of a `grpc-timeout`: up to 8 digits and a unit. Raises BadRequest."""
    digits, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > 8:
        raise BadRequest(f'grpc-timeout {value[:20]!r} is not a number and a unit')
    return int(digits) * unit


def read_binary(value: bytes) -> Iterable[bytes]:
    """The values of a `-bin` header: base64, padded or not; several are joined by commas. Raises BadRequest."""
    try:
        return [from_base64(one.strip()) for one in value.split(b',')]
    except ValueError:
        raise BadRequest('the value of a -bin header is not base64') from None


def write_metadata(metadata: Metadata) -> Pairs:
    """Metadata as headers or trailers. It is checked already."""
    return [
        (key.encode(), b64encode(value) if isinstance(value, bytes) else value.encode('latin-1'))
        for key, value in metadata
    ]


def write_status(response: Response) -> Pairs:
    """Status and trailing metadata as trailers."""
    status = response.status
    pairs = [(b'grpc-status', b'%d' % status.code.value)]
    if status.message:
        pairs.append((b'grpc-message', quote_message(status.message).encode()))
    if status.details:
        pairs.append((b'grpc-status-details-bin', b64encode(status.details)))
    return pairs + write_metadata(response.trailing)


def write_plain(data: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return b'\0%b%b' % (len(data).to_bytes(4, 'big'), data)


def write_message(message: Message, encoding: str) -> bytes:
    """A message with its prefix; compressed if it wants to be and `encoding` is one of ours."""
    if not message.compressed or encoding not in ENCODINGS:
        return write_plain(message.data)
    data = compress(message.data, encoding)
    return b'\1%b%b' % (len(data).to_bytes(4, 'big'), data)


def compress(data: bytes, encoding: str) -> bytes:
    """Compressed data."""
    packer = zlib.compressobj(wbits=_GZIP if encoding == 'gzip' else _ZLIB)
    return packer.compress(data) + packer.flush()


def decompress(data: bytes, encoding: str, limit: int) -> bytes:
    """Decompressed data of at most `limit` bytes. Raises TooLarge, BadRequest, BadEncoding."""
    if encoding not in ENCODINGS:
        raise BadEncoding(f'grpc-encoding {encoding[:40]!r} is not known')
    unpacker = zlib.decompressobj(wbits=_GZIP if encoding == 'gzip' else _ZLIB)
    try:
        plain = unpacker.decompress(data, limit + 1)
    except zlib.error as error:
        raise BadRequest(f'a compressed message cannot be read: {error}') from None
    if len(plain) > limit:
        raise TooLarge(len(plain))
    if not unpacker.eof or unpacker.unused_data:
        raise BadRequest('a compressed message has no end, or more after it')
    return plain


def whole_message(event: Mapping[str, Any], limit: int) -> Message | None:
    """The message of a body that came in one event, not compressed; None if it is not as simple as that."""
    body: bytes = event.get('body', b'')
    size = len(body) - 5
    if size < 0 or size > limit or body[0] or int.from_bytes(body[1:5], 'big') != size or event.get('more_body'):
        return None
    return Message(body[5:])


class MessageReader:
    """Cuts the messages out of a body that comes in pieces."""

    __slots__ = ('_buffer', '_encoding', '_limit')

    def __init__(self, encoding: str, limit: int) -> None:
        """`limit`: bytes of the largest message, decompressed too."""
        self._buffer = bytearray()
        self._encoding = encoding
        self._limit = limit

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self._buffer += data

    def close(self) -> None:
        """That was the whole body. It does not matter here: messages say where they end."""

    @property
    def unread(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._buffer)

    def next(self) -> Message | None:
        """The next whole message, or None. Raises BadRequest, TooLarge, BadEncoding."""
        buffer = self._buffer
        if len(buffer) < 5:
            return None
        size = int.from_bytes(buffer[1:5], 'big')
        if size > self._limit:
            raise TooLarge(size)
        if len(buffer) < size + 5:
            return None
        flag, data = buffer[0], bytes(buffer[5 : size + 5])
        del buffer[: size + 5]
        if flag == 0:
            return Message(data)
        if flag != 1:
            raise BadRequest(f'a message with the flags {flag:#x}')
        if self._encoding == 'identity':
            raise BadRequest('a message says that it is compressed, and the headers do not say how')
        return Message(decompress(data, self._encoding, self._limit), compressed=True)
