"""Slow readers, written from the documents, without a look at the code that they are compared with."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from base64 import b64decode
from binascii import Error
from collections.abc import Iterator

from natsgate.events.parser import MAX_SIZE, Control, Msg, Operation

Messages = list[tuple[int, bytes]]

_OWS = ' \t'
_B64 = re.compile(rb'(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?\Z')  # padded, or not


def headers(block: bytes) -> list[tuple[str, str]] | None:
    """ADR-4: a status line, and lines of `name: value`. None for what is no header block."""
    if not block:
        return []
    if block[:8] != b'NATS/1.0':
        return None
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None
    found = []
    position = text.find('\r\n')
    while position >= 0:
        start = position + 2
        position = text.find('\r\n', start)
        line = text[start : position if position >= 0 else len(text)]
        if not line:
            continue
        colon = line.find(':')
        if colon <= 0:
            return None
        value = line[colon + 1 :]
        while value and value[0] in _OWS:
            value = value[1:]
        while value and value[-1] in _OWS:
            value = value[:-1]
        found.append((line[:colon], value))
    return found


def messages(body: bytes) -> Messages | None:
    """Length-prefixed messages: flag, data. None for a flag other than 0 and 1, or an end in the middle."""
    found = []
    while body:
        if len(body) < 5:
            return None
        flag, length = struct.unpack('>BI', body[:5])
        if flag > 1 or len(body) < 5 + length:
            return None
        found.append((flag, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def decompressed(data: bytes, encoding: str) -> bytes | None:
    """What is in it, if it is one whole gzip member or zlib stream and nothing else."""
    try:
        if encoding == 'deflate':
            packed = zlib.decompressobj()
            plain = packed.decompress(data)
            return plain if packed.eof and not packed.unused_data else None
        plain = gzip.decompress(data)
        # gzip takes several members, and zeros after them: gRPC's peers do not send those.
        packed = zlib.decompressobj(wbits=31)
        return plain if packed.decompress(data) == plain and packed.eof and not packed.unused_data else None
    except (EOFError, OSError, zlib.error, struct.error):
        return None


def binary(value: bytes) -> list[bytes] | None:
    """The values of a `-bin` header; None for what is not base64."""
    found = []
    for one in value.split(b','):
        text = one.strip()
        if not _B64.match(text):
            return None
        try:
            found.append(b64decode(text + b'=' * (-len(text) % 4), validate=True))
        except Error:
            return None
    return found


def timeout(value: bytes) -> float | None:
    """Seconds of a grpc-timeout; None for what is none."""
    found = re.fullmatch(rb'([0-9]{1,8})([HMSmun])', value)
    if not found:
        return None
    scale = {b'H': 3600e9, b'M': 60e9, b'S': 1e9, b'm': 1e6, b'u': 1e3, b'n': 1.0}
    return int(found[1]) * scale[found[2]] / 1e9


def quoted(text: str) -> str:
    """A grpc-message (gRPC over HTTP/2, Percent-Encoded)."""
    return ''.join(
        chr(byte) if 0x20 <= byte <= 0x7E and byte != 0x25 else f'%{byte:02X}'
        for byte in text.encode('utf-8', 'replace')
    )


def unquoted(text: str) -> str:
    """Its text; a percent sign that begins nothing stands for itself."""
    plain, position, data = bytearray(), 0, text.encode('utf-8', 'surrogatepass')
    while position < len(data):
        pair = data[position + 1 : position + 3]
        if data[position] == 0x25 and re.fullmatch(rb'[0-9A-Fa-f]{2}', pair):
            plain.append(int(pair, 16))
            position += 3
        else:
            plain.append(data[position])
            position += 1
    return plain.decode('utf-8', 'replace')


def delivery(reply: bytes) -> tuple[int, int] | None:
    """Attempt and stream sequence of an ack subject (ADR-15): 9 tokens, or 11 and more with domain and account."""
    tokens = reply.split(b'.')
    if tokens[:2] != [b'$JS', b'ACK'] or len(tokens) < 9:
        return None
    numbers = tokens[4:6] if len(tokens) == 9 else tokens[6:8]
    if len(numbers) < 2 or not all(re.fullmatch(rb'[0-9]{1,19}', number) for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])


class NotNats(Exception):  # noqa: N818
    """What no nats-server sends."""


def operations(data: bytes) -> list[Operation] | None:
    """The whole operations of what a nats-server sends; None for what it does not."""
    try:
        return list(_operations(data))
    except NotNats:
        return None


def _operations(data: bytes) -> Iterator[Operation]:
    while (end := data.find(b'\r\n')) >= 0:
        line, rest = data[:end], data[end + 2 :]
        if line[:4] not in (b'MSG ', b'HMSG'):
            name, _, argument = line.partition(b' ')
            _must(not line or name.upper() in (b'PING', b'PONG', b'+OK', b'-ERR', b'INFO'))
            if line:
                yield Control(name.upper(), argument)
            data = rest
            continue
        words = re.split(rb'[ \t\n\r\x0b\x0c]+', line.strip(b' \t\n\r\x0b\x0c'))
        size = _number(words[-1])
        _must(size <= MAX_SIZE)
        if len(rest) < size + 2:
            return
        payload, data = rest[:size], rest[size + 2 :]
        _must(rest[size : size + 2] == b'\r\n')
        match words:
            case [b'MSG', subject, sid, *reply, _]:
                header, split = None, 0
            case [b'HMSG', subject, sid, *reply, length, _]:
                split = _number(length)
                header = payload[:split]
            case _:
                raise NotNats
        _must(split <= size and len(reply) <= 1)
        yield Msg(_number(sid), subject, reply[0] if reply else b'', header, payload[split:])


def _must(holds: bool) -> None:
    if not holds:
        raise NotNats


def _number(text: bytes) -> int:
    _must(re.fullmatch(rb'[0-9]{1,4300}', text) is not None)  # Python's own limit
    return int(text)
