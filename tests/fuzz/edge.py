"""Targets: what an edge reads."""

from __future__ import annotations

import gzip
import re
import zlib

from fuzz import reference
from fuzz.target import pairs, pieces, target

from natsgate.gateway import http_grpc as http

LIMIT = 1 << 16
PACKED = gzip.compress(b'abc' * 9, mtime=0), zlib.compress(b'abc' * 9)


@target(
    'edge', b'\x1e', b'\x1f', b'te\x1ftrailers\x1e', b'grpc-timeout\x1f', b'5S', b'grpc-encoding\x1fgzip',
    b'grpc-accept-encoding\x1fidentity, gzip,deflate', b'content-type\x1fapplication/grpc', b'x-bin\x1f', b'YQ==', b',',
    b'\xff',
)  # fmt: skip
def head(data: bytes) -> None:
    """A request's headers are read as their names say, or refused."""
    sent = list(pairs(data))
    values = dict(sent)
    binary = [reference.binary(value) for name, value in sent if name.endswith(b'-bin')]
    times = [reference.timeout(value) for name, value in sent if name == b'grpc-timeout']
    try:
        found = http.read_head(sent)
    except http.BadRequest:
        assert None in binary or None in times or values.get(b'te') != b'trailers'
        return
    assert None not in binary
    assert values[b'te'] == b'trailers'
    assert found.timeout == (times[-1] if times else None)
    assert [value for _, value in found.metadata if isinstance(value, bytes)] == sum(binary, [])  # noqa: RUF017
    names = {name.encode('latin-1') for name, _ in found.metadata}
    assert not names & {b'te', b'grpc-timeout', b'grpc-encoding', b'grpc-accept-encoding', b'content-type'}
    assert set(found.accepts) <= set(http.ENCODINGS)
    written = http.write_metadata(found.metadata)
    if not all((name + value).isascii() for name, value in sent):
        return  # refused by the gateway: it is never written
    assert http.read_head([(b'te', b'trailers'), *written]).metadata == found.metadata


@target('edge', b'0', b'99999999', b'H', b'M', b'S', b'm', b'u', b'n', b'_', b'-', b'+', b' ', b'.', b'\xb2')
def timeout(data: bytes) -> None:
    """Digits and a unit, or refused."""
    expected = reference.timeout(data)
    try:
        found = http.read_timeout(data)
    except http.BadRequest:
        assert expected is None
        return
    assert expected is not None
    assert abs(found - expected) <= 1e-9 * expected


@target('edge', b'YQ', b'YQ==', b',', b'=', b' ', b'-', b'_', b'AAAA', b'\n', b'\xff')
def binary(data: bytes) -> None:
    """Base64, with all its padding or none."""
    try:
        found = list(http.read_binary(data))
    except http.BadRequest:
        assert reference.binary(data) is None
        return
    assert found == reference.binary(data)


@target(
    'edge', b'\0\0\0\0\0', b'\1', b'\0\0\0\0\3abc', b'\2', b'\xff\xff\xff\xff', PACKED[0], PACKED[1],
    b'\1' + len(PACKED[0]).to_bytes(4) + PACKED[0], b'\1' + len(PACKED[1]).to_bytes(4) + PACKED[1],
)  # fmt: skip
def messages(data: bytes) -> None:
    """However a body is cut, its messages are those that the slow reader finds, or it is refused."""
    parts, whole = pieces(data)
    for encoding in ('identity', *http.ENCODINGS):
        expected = _expected(whole, encoding)
        for feeding in (parts, [whole]):
            reader = http.MessageReader(encoding, LIMIT)
            found: reference.Messages | None = []
            try:
                for part in feeding:
                    reader.feed(part)
                    while (message := reader.next()) is not None:
                        found.append((int(message.compressed), message.data))
            except http.BadRequest:
                found = None
            assert (None if reader.unread else found) == expected


def _expected(body: bytes, encoding: str) -> reference.Messages | None:
    found = reference.messages(body)
    if found is None:
        return None
    plain = [(flag, reference.decompressed(data, encoding) if flag else data) for flag, data in found]
    if any(data is None or len(data) > LIMIT for _, data in plain) or (
        encoding == 'identity' and any(f for f, _ in plain)
    ):
        return None
    return [(flag, data) for flag, data in plain if data is not None]


@target('edge', *PACKED, PACKED[0][:10], PACKED[1][:2], b'\0' * 8)
def compressed(data: bytes) -> None:
    """What is decompressed is what the standard library finds, and never more than the limit."""
    for encoding in http.ENCODINGS:
        expected = reference.decompressed(data, encoding)
        for limit in (16, LIMIT):
            try:
                found = http.decompress(data, encoding, limit)
            except http.BadRequest:
                assert expected is None or len(expected) > limit
                continue
            assert found == expected
            assert http.decompress(http.compress(found, encoding), encoding, limit) == found


@target('edge', b'application/grpc', b'+proto', b'+json', b';', b' ', b'-web', b'x')
def content_type(data: bytes) -> None:
    """What is served is gRPC with protobuf, whatever its parameters; what is gRPC's is told a status."""
    assert http.is_served(data) == bool(re.fullmatch(rb'application/grpc(\+proto)?\s*(;.*)?', data, re.DOTALL))
    assert http.is_grpc(data) == bool(re.fullmatch(rb'application/grpc([+; ].*)?', data, re.DOTALL))
