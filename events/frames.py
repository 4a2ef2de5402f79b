"""Frames: what travels on a streaming call's two inboxes after its request. Pure.

A frame is a NATS message whose header `Natsgate-Frame: <number> <kind>[ <a> <b>]` says what it is. Numbers count from 0
in each direction, so that a frame that was lost, doubled or overtaken is noticed. docs/protocol.md has the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from natsgate.events import headers, metadata, wire
from natsgate.events.metadata import Metadata
from natsgate.events.wire import Response, Unreadable

FRAME = 'Natsgate-Frame'

PREFIX_SIZE = 5
"""Bytes before each message of a data frame: the compressed flag and the length, as in gRPC over HTTP/2."""

_START = b'NATS/1.0\r\nNatsgate-Frame: '
_NAME = b'Natsgate-Frame:'
_MAX_NUMBER = 1 << 62


class FrameKind(Enum):
    """What a frame says."""

    ACCEPT = b'accept'
    """Actor: I run the call; here is my inbox (the reply subject), and credit: a messages, b bytes."""
    GO = b'go'
    """Caller: you are the one."""
    GONE = b'gone'
    """Caller: the call is over, or belongs to another attempt."""
    HEADERS = b'headers'
    """Actor: initial metadata."""
    DATA = b'data'
    """Both: one or more messages."""
    CLOSE = b'close'
    """Caller: no more messages; there were a."""
    END = b'end'
    """Actor: the status and trailing metadata; there were a messages."""
    CREDIT = b'credit'
    """Both: since the beginning you may send a messages, b bytes."""
    PING = b'ping'
    """Both: I am still here."""
    CANCEL = b'cancel'
    """Caller: nobody waits any more."""


_KINDS = {kind.value: kind for kind in FrameKind}


class Message:
    """One message of a call, as its client or its actor sent it."""

    __slots__ = ('compressed', 'data')

    def __init__(self, data: bytes, compressed: bool = False) -> None:
        self.data = data
        """The serialized message, never compressed."""
        self.compressed = compressed
        """Whether it travels compressed on HTTP/2. An edge that cannot see that says False."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.data, self.compressed) == (other.data, other.compressed)

    def __hash__(self) -> int:
        return hash((self.data, self.compressed))

    def __repr__(self) -> str:
        return f'Message({self.data!r}, {self.compressed})'


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, decoded but for what only few frames have."""

    number: int
    kind: FrameKind
    a: int = 0
    b: int = 0
    payload: bytes = b''
    block: bytes = field(default=b'', repr=False)
    """The whole header block."""

    def messages(self) -> list[Message]:
        """The messages of a data frame. Raises Unreadable."""
        return split(self.payload)

    def initial(self) -> Metadata:
        """The metadata of a headers frame. Raises Unreadable."""
        return wire.decode_initial(self.block)

    def response(self) -> Response:
        """The status and trailing metadata of an end frame. Raises Unreadable."""
        return wire.decode_response(self.block, b'')


def is_frame(block: bytes | None) -> bool:
    """Whether a header block belongs to a frame."""
    return block is not None and _NAME in block


def encode(number: int, kind: FrameKind, a: int | None = None, b: int | None = None) -> bytes:
    """The header block of a frame without further headers."""
    return _start(number, kind, a, b) + b'\r\n\r\n'


def encode_headers(number: int, initial: Metadata) -> bytes:
    """The header block of a headers frame. Its metadata is checked already (metadata.checked)."""
    lines = metadata.encode(initial, wire.INITIAL_METADATA, own_names=False)
    return b'%b\r\n%b\r\n' % (_start(number, FrameKind.HEADERS, None, None), lines.encode('ascii'))


def encode_end(number: int, count: int, response: Response) -> bytes:
    """The header block of an end frame."""
    rest = wire.encode_response(response)[len(headers.VERSION) :]
    return _start(number, FrameKind.END, count, None) + rest


def _start(number: int, kind: FrameKind, a: int | None, b: int | None) -> bytes:
    if a is None:
        return b'%b%d %b' % (_START, number, kind.value)
    if b is None:
        return b'%b%d %b %d' % (_START, number, kind.value, a)
    return b'%b%d %b %d %d' % (_START, number, kind.value, a, b)


def decode(block: bytes, payload: bytes) -> Frame:
    """The frame in a message whose header block is_frame(). Raises Unreadable; never anything else."""
    if block.startswith(_START):
        line, end, _ = block[len(_START) :].partition(b'\r\n')
        if not end:
            raise Unreadable('a frame whose header does not end')
    else:  # other libraries write headers in another order
        try:
            line = dict(headers.parse(block)).get(FRAME, '').encode('ascii')
        except (headers.MalformedHeaders, UnicodeEncodeError) as error:
            raise Unreadable(f'a frame with broken headers: {error}') from None
    parts = line.split(b' ')
    kind = _KINDS.get(parts[1]) if 2 <= len(parts) <= 4 else None
    if kind is None:
        raise Unreadable(f'not a frame: {line[:40]!r}')
    return Frame(
        _number(parts[0]),
        kind,
        _number(parts[2]) if len(parts) > 2 else 0,
        _number(parts[3]) if len(parts) > 3 else 0,
        payload,
        block,
    )


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19 or (number := int(text)) > _MAX_NUMBER:
        raise Unreadable(f'{text[:20]!r} is not a number')
    return number


def join(messages: Iterable[Message]) -> bytes:
    """The payload of a data frame."""
    return b''.join(
        b'%c%b%b' % (1 if message.compressed else 0, len(message.data).to_bytes(4, 'big'), message.data)
        for message in messages
    )


def split(payload: bytes) -> list[Message]:
    """The messages in the payload of a data frame. Raises Unreadable."""
    found = []
    position, end = 0, len(payload)
    while position < end:
        after = position + PREFIX_SIZE
        if after > end or payload[position] > 1:
            raise Unreadable('a data frame is not made of whole messages')
        stop = after + int.from_bytes(payload[position + 1 : after], 'big')
        if stop > end:
            raise Unreadable('a data frame is not made of whole messages')
        found.append(Message(payload[after:stop], payload[position] == 1))
        position = stop
    return found
