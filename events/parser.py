"""The NATS client protocol, the half that a client reads. Pure: bytes in, operations out.

Subjects and headers are handed on as bytes: what a peer put into a message can therefore never break the connection.
"""

from __future__ import annotations

from typing import NamedTuple

_MSG = (b'HMSG', b'MSG ')
_CONTROL = frozenset({b'PING', b'PONG', b'+OK', b'-ERR', b'INFO'})

MAX_LINE = 64 * 1024
"""Bytes that a control line may take; INFO of a large cluster is the longest."""
MAX_SIZE = 64 * 1024 * 1024
"""Bytes that a message may take: the most that a nats-server can be configured to."""


class BrokenProtocol(Exception):  # noqa: N818
    """The peer does not speak the NATS protocol, or we lost our place in it: connect anew."""


class Msg(NamedTuple):
    """The parts of a message by their names; `header` is the whole block, or None."""

    sid: int
    subject: bytes
    reply: bytes
    header: bytes | None
    payload: bytes


class Control(NamedTuple):
    """Anything else: PING, PONG, +OK, -ERR, INFO."""

    op: bytes
    argument: bytes


Operation = tuple[int, bytes, bytes, 'bytes | None', bytes] | Control
"""A message is a plain tuple of what Msg names: each one is made once and taken apart once."""


class Parser:
    """Cuts a byte stream into operations; keeps what is not whole yet."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._needed = 0

    def feed(self, data: bytes) -> list[Operation]:
        """The operations that these bytes complete. Raises BrokenProtocol."""
        if self._held:
            self._parts.append(data)
            self._held += len(data)
            if self._held < self._needed:  # a large payload arrives in many reads: joined once, not at every read
                return []
            data = b''.join(self._parts)
            self._parts.clear()
            self._held = 0
        found: list[Operation] = []
        position, self._needed = self._cut(data, found)
        if position < len(data):
            rest = data[position:]
            self._parts.append(rest)
            self._held = len(rest)
            self._needed -= position
        return found

    @staticmethod
    def _cut(data: bytes, found: list[Operation]) -> tuple[int, int]:
        position = 0
        while True:
            end = data.find(b'\r\n', position)
            if end < 0:
                if len(data) - position > MAX_LINE:
                    raise BrokenProtocol('a control line does not end')
                return position, position
            op = data[position : position + 4]
            if op in _MSG:
                arguments = data[position:end].split()
                start = end + 2
                try:
                    size = int(arguments[-1])
                    if size > MAX_SIZE or not arguments[-1].isdigit():  # int() takes more
                        raise ValueError('size')
                    after = start + size + 2
                    if after > len(data):
                        return position, after
                    found.append(_message(arguments, data, start, after - 2))
                except (ValueError, IndexError):
                    raise BrokenProtocol(f'malformed {op!r} line') from None
                position = after
            else:
                if end - position > MAX_LINE:
                    raise BrokenProtocol('a control line is too long')
                if end > position:
                    name, _, argument = data[position:end].partition(b' ')
                    if name.upper() not in _CONTROL:
                        raise BrokenProtocol(f'unknown operation {name[:20]!r}')
                    found.append(Control(name.upper(), argument))
                position = end + 2


def _message(
    arguments: list[bytes], data: bytes, start: int, stop: int
) -> tuple[int, bytes, bytes, bytes | None, bytes]:
    """MSG <subject> <sid> [reply] <size>, HMSG <subject> <sid> [reply] <header size> <size>. Raises ValueError."""
    if data[stop : stop + 2] != b'\r\n':
        raise ValueError('no end')
    reply = b''
    if arguments[0] == b'MSG':
        if len(arguments) == 4:
            _, subject, sid, _ = arguments
        else:
            _, subject, sid, reply, _ = arguments
        if not sid.isdigit():
            raise ValueError('not a number')
        return int(sid), subject, reply, None, data[start:stop]
    if len(arguments) == 5:
        name, subject, sid, header, _ = arguments
    else:
        name, subject, sid, reply, header, _ = arguments
    body = start + int(header)
    if body > stop or name != b'HMSG' or not (sid + header).isdigit():
        raise ValueError('not numbers, or headers longer than the message')
    return int(sid), subject, reply, data[start:body], data[body:stop]
