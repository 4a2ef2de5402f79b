"""walnats on the wire: what the library walnats 1.2.6 publishes and reads, for events shared with its programs. Pure.

Only events declared with `walnats=True` travel so. Their streams and consumers are those that walnats makes, to the
letter: it does not start on a stream that it could not have made itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from natsgate.events import headers, metadata, subjects, wire
from natsgate.events.metadata import TRACE_ID, Metadata, is_traceparent
from natsgate.events.wire import RequestHead, Unreadable

if TYPE_CHECKING:
    from natsgate.events.event import Limits

REPLY = 'Walnats-Reply'
TRACE = 'Walnats-Trace'
DELAY = 'Walnats-Delay'

RESPONSE_WANTED = 4.0
"""Seconds for which a walnats program waits unless it was told otherwise. It does not say."""

_SECOND = 1_000_000_000
_INBOX = re.compile(r'_INBOX(?:\.[A-Za-z0-9_-]{1,64}){1,4}\Z')
_KEPT = ('nats-', 'walnats-', 'natsgate-', 'grpc-', 'ce-')  # headers that are no metadata


def stream_of(name: str) -> str:
    """The stream of an event; there, `a.b` and `a-b` have the same."""
    return name.replace('.', '-')


def stream_config(name: str, limits: Limits, description: str) -> dict[str, Any]:
    """The configuration of an event's stream. What it does not say is the server's default, for walnats as for us."""
    config: dict[str, Any] = {
        'name': stream_of(name),
        'subjects': [name],
        'retention': 'interest',
        'discard': 'old',
        'max_age': int((limits.age or 0) * _SECOND),
        'max_consumers': limits.consumers or -1,
        'max_msgs': limits.messages or -1,
        'max_bytes': limits.bytes or -1,
        'max_msg_size': limits.message_size or -1,
    }
    return config | ({'description': description} if description else {})


def reply_pattern(target: str) -> re.Pattern[str]:
    """Where an actor may respond: to an inbox as walnats makes them, or to a reply subject of ours for this target."""
    return re.compile(f'{_INBOX.pattern}|{subjects.reply_pattern(target).pattern}')


def takes_only_data(reply: str) -> bool:
    """Whether a walnats program waits there. It takes whatever comes for the result, a failure as well."""
    return _INBOX.match(reply) is not None


def encode_request(head: RequestHead, *, ttl: int | None = None, extra: str = '') -> bytes:
    """The header block of a request: as wire.encode_request, but without a TTL, which such streams refuse.

    Metadata travels under its own names, as the `meta` of walnats does. Raises MetadataError.
    """
    block = 'NATS/1.0\r\n'
    if head.id:
        block += f'{wire.MESSAGE_ID}: {head.id}\r\n'
    if head.reply:
        block += f'{REPLY}: {head.reply}\r\n'
    if head.deadline is not None:  # walnats passes it over, an actor of ours does not
        block += f'{wire.DEADLINE}: {head.deadline}\r\n'
    if head.due is not None:
        block += f'{DELAY}: {head.due / 1e6}\r\n'
    for pair in head.metadata:
        key = pair[0]
        line = metadata.encode((pair,), '')
        if key in (TRACE_ID, 'traceparent') and TRACE not in block:
            block += TRACE + line[len(key) :]
        if key.startswith(_KEPT):
            block += wire.REQUEST_METADATA + line
        elif key != TRACE_ID:
            block += line
    return f'{block}{extra}\r\n'.encode('ascii')


def decode_request(block: bytes | None) -> RequestHead:
    """What the header block of a request says, of walnats' making or of ours. Raises Unreadable, nothing else."""
    head = wire.decode_request(block)
    pairs = headers.parse(block)
    found = dict(pairs)
    delay = found.get(DELAY)
    return head._replace(
        reply=found.get(REPLY, ''),
        kind=wire.UNARY,
        metadata=_metadata(pairs, found),
        due=None if delay is None else _microseconds(delay),
    )


def _metadata(pairs: list[tuple[str, str]], found: dict[str, str]) -> Metadata:
    kept: list[tuple[str, str | bytes]] = []
    for name, value in pairs:
        if name.startswith(wire.REQUEST_METADATA):
            kept += _legal(name[len(wire.REQUEST_METADATA) :], value)
        elif name == TRACE:
            key = 'traceparent' if is_traceparent(value) else TRACE_ID
            kept += _legal(key, value) if key not in found else ()
        elif not name.lower().startswith(_KEPT):
            kept += _legal(name.lower(), value)
    return tuple(kept)


def _legal(key: str, value: str) -> Metadata:
    """One pair, or none: walnats lets headers through that gRPC could not carry."""
    try:
        return metadata.decode([(key, value)], '')
    except metadata.MetadataError:
        return ()


def _microseconds(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 2**33:  # which no NaN and no infinity is
        raise Unreadable(f'{DELAY} is not a time')
    return int(seconds * 1e6)
