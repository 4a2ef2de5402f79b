"""gRPC-Web, as headers and bodies: the trailers are the last frame of the body, and all of it may be base64. Pure.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable

from natsgate.events.frames import Message
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.dialect import Reader, Reply, metadata_headers, write_initial
from natsgate.gateway.http_grpc import Pairs

_TRAILERS = 0x80
_TAKES_TRAILERS = (b'te', b'trailers')  # as part of the body: it need not say so
_PADDED = re.compile(rb'[^=]+={0,2}')


class GrpcWeb:
    """One call by gRPC-Web."""

    malformed = Code.INTERNAL

    def __init__(self, content_type: bytes, *, codec: str = 'proto', text: bool = False) -> None:
        """`text`: the bodies are base64."""
        self.codec = codec
        self._content_type = content_type
        self._text = text
        self._head = http.RequestHead()

    def open(self, headers: Iterable[tuple[bytes, bytes]]) -> http.RequestHead:
        """What the headers say. Raises BadRequest."""
        self._head = http.read_head([*metadata_headers(headers), _TAKES_TRAILERS])
        return self._head

    def reader(self, limit: int) -> Reader:
        """A reader of the body."""
        frames = http.MessageReader(self._head.encoding, limit)
        return TextReader(frames) if self._text else frames

    def start(self, initial: Metadata) -> Pairs:
        """The headers of an answer."""
        headers = [(b'content-type', self._content_type), *write_initial(initial)]
        return [*headers, (b'grpc-encoding', self._encoding.encode())] if self._head.accepts else headers

    def message(self, message: Message) -> bytes:
        """One message in it."""
        return self._body(http.write_message(message, self._encoding))

    def end(self, response: Response) -> bytes:
        """The frame with the trailers."""
        lines = b''.join(b'%b: %b\r\n' % pair for pair in http.write_status(response))
        return self._body(b'%c%b%b' % (_TRAILERS, len(lines).to_bytes(4, 'big'), lines))

    def whole(self, response: Response, message: Message | None) -> Reply:
        """All of it."""
        body = b'' if message is None else self.message(message)
        return Reply(200, self.start(response.initial), body + self.end(response))

    @property
    def _encoding(self) -> str:
        return self._head.accepts[0] if self._head.accepts else 'identity'

    def _body(self, data: bytes) -> bytes:
        return b64encode(data) if self._text else data


class TextReader:
    """A body in base64; its pieces are padded each by itself, or all together."""

    def __init__(self, frames: Reader) -> None:
        self._frames = frames
        self._text = bytearray()

    @property
    def unread(self) -> int:
        """Bytes that were not taken yet."""
        return self._frames.unread + len(self._text)

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self._text += data

    def next(self) -> Message | None:
        """The next whole message, or None. Raises BadRequest, TooLarge, BadEncoding."""
        if whole := len(self._text) // 4 * 4:
            self._frames.feed(decode_pieces(bytes(self._text[:whole])))
            del self._text[:whole]
        return self._frames.next()

    def close(self) -> None:
        """That was the whole body."""
        self._frames.close()


def decode_pieces(text: bytes) -> bytes:
    """What pieces of base64 say that stand one after the other, each padded. Raises BadRequest."""
    pieces = _PADDED.findall(text)
    try:
        if sum(map(len, pieces)) == len(text):
            return b''.join(b64decode(piece, validate=True) for piece in pieces)
    except binascii.Error:
        pass
    raise http.BadRequest('the body is not base64')
