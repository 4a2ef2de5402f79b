"""What a publish acknowledgement means, and what to do about it. Pure: the requester asks here, then acts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from natsgate.events import headers
from natsgate.events.failures import Failure, failed
from natsgate.events.wire import Response

RETRY_DELAYS = (0.05, 0.1, 0.2, 0.4, 0.5)
"""Seconds before the next try while a leader is being elected (4 to 10 s after a crash); the last repeats."""

_STORED = b'{"stream":'
_DUPLICATE_IN_PROCESS = 10158
_TOO_LARGE = frozenset({10054, 10097})
_FULL = frozenset({10077, 10167, 10047, 10023})
_NOT_NOW = frozenset({10008, 10076, 10164})


@dataclass(frozen=True, slots=True)
class Stored:
    """The stream has the message."""

    duplicate: bool = False
    """It had it already, under the same id."""


@dataclass(frozen=True, slots=True)
class Again:
    """Surely not stored, but worth another try."""

    otherwise: Response
    """The answer when there is no time left to try."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Surely not stored, and trying again would not help."""

    response: Response


Ack = Stored | Again | Refused


def is_new(payload: bytes) -> bool:
    """Whether it is the acknowledgement of a message that was stored, and was not there before."""
    return payload.startswith(_STORED) and b'"duplicate"' not in payload


def read_ack(block: bytes | None, payload: bytes, *, stream: str, seen: bool) -> Ack | None:
    """What the acknowledgement says; None when it is not one.

    `seen`: the stream was there before, so its silence is an election and not a missing stream.
    """
    if payload.startswith(_STORED):
        return Stored(duplicate=b'"duplicate":true' in payload.replace(b' ', b''))
    if (line := headers.status(block)) is not None:
        if line[0] != 503:
            return None
        response = failed(
            Failure.NO_STREAM, f'no stream takes this call: {stream} is not there, or has no leader', stream=stream
        )
        return Again(response) if seen else Refused(response)
    try:
        error = json.loads(payload)['error']
        number, text = int(error.get('err_code', 0)), str(error.get('description', ''))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return _read_error(number, text, stream)


def _read_error(number: int, text: str, stream: str) -> Ack:
    facts: dict[str, Any] = {'stream': stream, 'nats_error': number}
    if number in _FULL:
        return Refused(failed(Failure.QUEUE_FULL, f'the queue is full: {text}', **facts))
    if number in _TOO_LARGE:
        return Refused(failed(Failure.MESSAGE_TOO_LARGE, f'too large for stream {stream}: {text}', **facts))
    if number == _DUPLICATE_IN_PROCESS or number in _NOT_NOW:
        return Again(failed(Failure.NO_STREAM, f'the stream cannot store now: {text}', **facts))
    return Refused(failed(Failure.PUBLISH_REFUSED, f'the stream refused the call: {text}', **facts))


def sequence_of(payload: bytes) -> int | None:
    """Where in its stream an acknowledged message is; None when the acknowledgement does not say."""
    try:
        sequence = json.loads(payload)['seq']
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return sequence if isinstance(sequence, int) else None


def retry_delay(attempt: int) -> float:
    """Seconds to wait after the `attempt`-th try, counted from 1, before jitter."""
    return RETRY_DELAYS[min(attempt, len(RETRY_DELAYS)) - 1]


def too_large(size: int, limit: int) -> Response | None:
    """The answer to a message of `size` bytes, headers counted as the server does, or None if it fits."""
    if size <= limit:
        return None
    text = f'{size} bytes with headers are more than NATS takes ({limit} bytes; max_payload of the server)'
    return failed(Failure.MESSAGE_TOO_LARGE, text, limit=limit, size=size)
