"""gRPC metadata: what is allowed, and how it travels as NATS headers. Pure.

A key travels under a prefix of ours, so a client can set neither a `Nats-*` header nor one of natsgate's own. The W3C
trace headers alone keep their own names, because every tracing tool on NATS looks for them there.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache

Metadata = tuple[tuple[str, str | bytes], ...]
"""Pairs of key and value, in order, keys repeated as often as they were sent; values of `-bin` keys are bytes."""

TRACE_KEYS = frozenset({'traceparent', 'tracestate', 'baggage'})
TRACE_ID = 'trace-id'
"""The key of a trace id that is no W3C traceparent."""

_KEY = re.compile(r'[0-9a-z_.-]+\Z')
_TRACEPARENT = re.compile(r'[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z')
_ENTRY_OVERHEAD = 32
_KEPT_BY_GRPC = frozenset(
    {'te', 'content-type', 'content-length', 'connection', 'host', 'transfer-encoding', 'user-agent', 'grpc-status',
     'grpc-message', 'grpc-status-details-bin', 'grpc-timeout', 'grpc-encoding', 'grpc-accept-encoding'}
)  # fmt: skip


class MetadataError(ValueError):
    """Metadata that must not travel; the text says which key and why, without repeating the value."""


def size(metadata: Iterable[tuple[str, str | bytes]]) -> int:
    """Bytes as HTTP/2 counts them against a header limit: key, value and 32 for each entry (RFC 9113, 10.5.1)."""
    total = 0
    for key, value in metadata:
        total += len(key) + len(value) + _ENTRY_OVERHEAD
    return total


def encode(metadata: Iterable[tuple[str, str | bytes]], prefix: str, *, own_names: bool = True) -> str:
    """Header lines, each ended by CR LF. Raises MetadataError for what gRPC forbids: above all controls and CR LF.

    `own_names`: the trace headers keep their own names (in a request they are the message's as well as the call's).
    """
    lines = ''
    for key, value in metadata:
        name = key if own_names and key in TRACE_KEYS else prefix + key
        if _is_binary(key) or isinstance(value, bytes) or not (value.isascii() and value.isprintable()):
            lines += f'{name}: {_encoded(key, value)}\r\n'
        else:
            lines += f'{name}: {value}\r\n'
    return lines


@lru_cache(1024)
def _is_binary(key: str) -> bool:
    """Whether its values are bytes. Raises MetadataError for what is no key."""
    if not _KEY.match(key):
        raise MetadataError(f'metadata key {key[:64]!r} has characters other than 0-9 a-z _ . -')
    return key.endswith('-bin')


def _encoded(key: str, value: str | bytes) -> str:
    if _is_binary(key):
        return b64encode(value if isinstance(value, bytes) else value.encode('utf-8', 'surrogateescape')).decode()
    if isinstance(value, bytes):  # grpc gives bytes for what is not text: only a key with -bin may carry it
        raise MetadataError(f'metadata {key[:64]!r} is not text, and its key does not end in -bin')
    if not _is_printable(value):
        raise MetadataError(f'metadata {key[:64]!r} has a character that is not printable ASCII')
    return value


def is_traceparent(text: str) -> bool:
    """Whether it is a W3C traceparent."""
    return _TRACEPARENT.match(text) is not None


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def decode(headers: Sequence[tuple[str, str]], prefix: str, *, own_names: bool = True) -> Metadata:
    """The metadata among the headers. Raises MetadataError for keys or values that gRPC could not carry."""
    found: list[tuple[str, str | bytes]] = []
    for name, text in headers:
        if name.startswith(prefix):
            key = name[len(prefix) :]
        elif own_names and name in TRACE_KEYS:
            key = name
        else:
            continue
        found.append((key, _decoded(key, text)))
    return tuple(found)


def from_base64(text: str | bytes) -> bytes:
    """Bytes in base64, as grpc-go takes it: padded as it should be, or not at all. Raises ValueError."""
    data = text.encode('ascii') if isinstance(text, str) else text
    bare = data.rstrip(b'=')
    padding = b'=' * (-len(bare) % 4)
    if data not in (bare, bare + padding):
        raise ValueError('wrongly padded')  # which Python's own strict mode lets pass
    return b64decode(bare + padding, validate=True)


def _decoded(key: str, text: str) -> str | bytes:
    if not _is_binary(key):
        if not _is_printable(text):
            raise MetadataError(f'metadata {key[:64]!r} has a character that is not printable ASCII')
        return text
    try:
        return from_base64(text)
    except ValueError as error:
        raise MetadataError(f'metadata {key[:64]!r} is not base64') from error


def checked(metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
    """What a handler wants to send, as it will travel. Raises MetadataError for keys that belong to gRPC itself."""
    pairs: list[tuple[str, str | bytes]] = []
    for name, value in metadata:
        key = name.lower()
        if key in _KEPT_BY_GRPC or key.startswith(':'):
            raise MetadataError(f'metadata key {key[:64]!r} belongs to gRPC itself')
        _encoded(key, value)
        if key.endswith('-bin') and isinstance(value, str):
            pairs.append((key, value.encode()))
        else:
            pairs.append((key, value))
    return tuple(pairs)
