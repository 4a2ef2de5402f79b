"""Dialect: how a protocol for browsers writes a call into plain HTTP: bodies alone, no trailers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from natsgate.events.frames import Message
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.http_grpc import Pairs

_OF_HTTP = frozenset(
    {b'accept', b'accept-encoding', b'connect-accept-encoding', b'connect-content-encoding',
     b'connect-protocol-version', b'connect-timeout-ms', b'connection', b'content-encoding', b'content-length',
     b'content-type', b'host', b'keep-alive', b'proxy-connection', b'te', b'trailer', b'transfer-encoding', b'upgrade',
     b'x-grpc-web'}
)  # fmt: skip
Event = MutableMapping[str, Any]

_NO_CONTENT = 204
_NOT_BY_HANDLERS = (b'access-control-', b'connect-')


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Pairs
    body: bytes = b''

    def events(self) -> tuple[Event, Event]:
        """As ASGI has it."""
        sized = [] if self.status == _NO_CONTENT else [(b'content-length', b'%d' % len(self.body))]
        start = {'type': 'http.response.start', 'status': self.status, 'headers': [*self.headers, *sized]}
        return start, {'type': 'http.response.body', 'body': self.body, 'more_body': False}


class Reader(Protocol):
    """Cuts the messages out of a body that comes in pieces."""

    @property
    def unread(self) -> int:
        """Bytes that were not taken yet."""

    def feed(self, data: bytes) -> None:
        """More of the body."""

    def next(self) -> Message | None:
        """The next whole message, or None. Raises BadRequest, TooLarge, BadEncoding."""

    def close(self) -> None:
        """That was the whole body."""


class Dialect(Protocol):
    """One request in a protocol, and its answer."""

    malformed: Code
    """What a request ends with that breaks the protocol."""
    codec: str
    """How messages are written: proto or json."""

    def open(self, headers: Iterable[tuple[bytes, bytes]]) -> http.RequestHead:
        """What the headers say; the first to be called, but for whole(). Raises BadRequest, BadEncoding."""

    def reader(self, limit: int) -> Reader:
        """A reader of the body; `limit`: bytes of the largest message."""

    def whole(self, response: Response, message: Message | None) -> Reply:
        """An answer of which nothing was sent yet; `message` is the only one, if there is one."""


class StreamDialect(Dialect, Protocol):
    """One whose answers can be sent piece by piece."""

    def start(self, initial: Metadata) -> Pairs:
        """The headers."""

    def message(self, message: Message) -> bytes:
        """One message."""

    def end(self, response: Response) -> bytes:
        """The end: the status and trailing metadata."""


def metadata_headers(headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
    """The headers of a request that are the caller's own, and not those of HTTP or a protocol."""
    return [pair for pair in headers if pair[0] not in _OF_HTTP]


def write_initial(initial: Metadata) -> Pairs:
    """Initial metadata as headers, without what would say something else to a browser than the handler meant."""
    return [
        pair
        for pair in http.write_metadata(initial)
        if pair[0] not in _OF_HTTP and not pair[0].startswith(_NOT_BY_HANDLERS)
    ]
