"""Dead letter: a buried event, kept as it came, with what is known of its end. Pure.

docs/protocol.md says the same for other languages.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from natsgate.events import headers, wire
from natsgate.events.metadata import TRACE_KEYS
from natsgate.events.subjects import DEAD_PREFIX
from natsgate.events.wire import RequestHead, Unreadable

STREAM = '_DEAD'
"""The stream that keeps all dead letters."""

_FIELDS = 'Natsgate-Dead-'
_HEADERS_SIZE = f'{_FIELDS}Headers'
_SIZE = f'{_FIELDS}Size'
_LONGEST = 500  # characters of a reason


class Cause(StrEnum):
    """Why an event was buried."""

    FAILED = 'failed'
    """Its handler failed, and is not to be run again."""
    LATE = 'late'
    """Its time was spent, after more than one attempt."""
    CRASHED = 'crashed'
    """Each worker that ran it died."""
    UNREADABLE = 'unreadable'
    """Its headers, its payload or its kind cannot be read."""
    GIVEN_UP = 'given-up'
    """NATS gave it up: it was delivered as often as its consumer allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A buried event."""

    subject: str
    """Where the event was published."""
    stream: str
    """The stream that held it."""
    sequence: int
    """Where it was in that stream."""
    actor: str
    """The actor that buried it."""
    cause: Cause
    reason: str
    """In words, for operators."""
    attempts: int
    """How often it was delivered."""
    buried_at: int
    """Microseconds since 1970 on the broker's clock."""
    header: bytes = b''
    """Its header block, byte for byte."""
    payload: bytes = b''
    """Its payload, byte for byte."""
    size: int = 0
    """Bytes of its payload if that was too large to be kept, else 0."""
    consumer: str = ''
    """The actor's durable consumer, if it has another name than the actor."""

    @property
    def id(self) -> str:
        """The same however often the event is buried: the stream keeps it once."""
        digest = hashlib.sha256(self.header + self.payload).hexdigest()[:16]
        return f'{self.stream}:{self.sequence}:{self.actor}:{digest}'

    def head(self) -> RequestHead:
        """What the event said about itself. Raises Unreadable."""
        return wire.decode_request(self.header)

    def encode(self, *, max_payload: int) -> tuple[bytes, bytes]:
        """Header block and payload of the letter; the event's payload is left out where both would be too large."""
        block = self._block(0)
        if len(block) + len(self.header) + len(self.payload) <= max_payload:
            return block, self.header + self.payload
        return self._block(len(self.payload)), self.header

    def _block(self, size: int) -> bytes:
        fields = {
            wire.MESSAGE_ID: self.id,
            f'{_FIELDS}Stream': self.stream,
            f'{_FIELDS}Sequence': self.sequence,
            f'{_FIELDS}Actor': self.actor,
            f'{_FIELDS}Cause': self.cause,
            f'{_FIELDS}Reason': one_line(self.reason),
            f'{_FIELDS}Attempts': self.attempts,
            f'{_FIELDS}Time': self.buried_at,
            _HEADERS_SIZE: len(self.header),
        }
        if size:
            fields[_SIZE] = size
        if self.consumer:
            fields[f'{_FIELDS}Consumer'] = self.consumer
        lines = ''.join(f'{name}: {value}\r\n' for name, value in (*fields.items(), *self._trace()))
        return f'NATS/1.0\r\n{lines}\r\n'.encode('ascii')

    def _trace(self) -> list[tuple[str, str]]:
        """The trace headers under their own names, where tracing tools look for them."""
        try:
            pairs = headers.parse(self.header)
        except headers.MalformedHeaders:
            return []
        return [(name, one_line(value)) for name, value in pairs if name in TRACE_KEYS]

    @classmethod
    def decode(cls, subject: str, block: bytes, payload: bytes) -> DeadLetter:
        """The letter in a message of the stream. Raises Unreadable."""
        try:
            found = dict(headers.parse(block))
            held = _number(found[_HEADERS_SIZE])
            return cls(
                subject=subject.removeprefix(DEAD_PREFIX),
                stream=found[f'{_FIELDS}Stream'],
                sequence=_number(found[f'{_FIELDS}Sequence']),
                actor=found[f'{_FIELDS}Actor'],
                cause=Cause(found[f'{_FIELDS}Cause']),
                reason=found[f'{_FIELDS}Reason'],
                attempts=_number(found[f'{_FIELDS}Attempts']),
                buried_at=_number(found[f'{_FIELDS}Time']),
                header=payload[:held],
                payload=payload[held:],
                size=_number(found.get(_SIZE, '0')),
                consumer=found.get(f'{_FIELDS}Consumer', ''),
            )
        except (headers.MalformedHeaders, KeyError, ValueError) as error:
            raise Unreadable(f'no dead letter: {error}') from error


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f'{text[:20]!r} is no number')
    return int(text)


def one_line(text: str) -> str:
    """A text as a header's value: printable ASCII, not too long; what is not is written as Python writes it."""
    shown = ascii(text)[1:-1] if not (text.isascii() and text.isprintable()) else text
    return shown if len(shown) <= _LONGEST else f'{shown[:_LONGEST]} [cut]'


def subject_of(event_subject: str) -> str:
    """Where the dead letters of an event's subject are published."""
    return DEAD_PREFIX + event_subject


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterLimits:
    """What is kept of dead letters; above it the oldest go. For a stream that is not there yet."""

    age: float = 14 * 86_400
    """Seconds."""
    bytes: int = 256 << 20
    """Bytes of all letters; the server reserves them."""
    letters: int = 100_000
    """Letters."""
    letters_per_subject: int = 10_000
    """Letters of one event or method, so that none crowds out the others."""


def stream_config(limits: DeadLetterLimits, *, storage: str = 'file', replicas: int = 1) -> dict[str, Any]:
    """The configuration of the stream."""
    return {
        'name': STREAM,
        'subjects': [f'{DEAD_PREFIX}>'],
        'description': 'dead letters: natsgate dlq ls',
        'retention': 'limits',
        'storage': storage,
        'num_replicas': replicas,
        'discard': 'old',
        'max_age': int(limits.age * 1e9),
        'max_bytes': limits.bytes,
        'max_msgs': limits.letters,
        'max_msgs_per_subject': limits.letters_per_subject,
        'duplicate_window': 120_000_000_000,
        'allow_direct': True,
        'metadata': {'natsgate': 'dead-letters'},
    }
