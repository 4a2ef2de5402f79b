"""The durable consumer of an actor: its configuration, the pull request, what the server says to it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from natsgate.actors.actor import Actor
from natsgate.events import headers
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.interest import ANSWERS
from natsgate.events.status import ContractError

PULL_EXPIRES = 20.0
"""Seconds after which an unanswered pull request ends and is made anew."""
BRIEFLY = 0.5
"""The same, where events keep coming, and where others could use the slots that are kept free for it."""
HEARTBEAT = 2.0
"""Seconds between two signs of life of a pull request that waits."""

_SECOND = 1_000_000_000
_DIGITS = 20
_OVERLAP = frozenset({10099, 10100, 10138})
_NO_STREAM = 10059


_SHARED = ('max_jobs', 'ack_wait', 'max_ack_pending', 'answers')


@dataclass(frozen=True, slots=True)
class Consumer:
    """A durable consumer, and the actors whose events it gives out: one, most often."""

    name: str
    actors: tuple[Actor, ...]

    @property
    def stream(self) -> str:
        """The stream that it reads."""
        return self.actors[0].event.stream_name

    @property
    def subjects(self) -> tuple[str, ...]:
        """What it gives out."""
        return tuple(actor.event.subject_name for actor in self.actors)

    def config(self) -> dict[str, Any]:
        """What JetStream is told.

        The server counts deliveries but does not end them: the worker does, because it can tell the caller.
        """
        first = self.actors[0]
        subjects = self.subjects
        filters = {'filter_subjects': subjects} if len(subjects) > 1 else {'filter_subject': subjects[0]}
        # Workers of walnats may share the consumer, and could not declare it again with more.
        ours = {} if first.event.walnats else filters | {'max_waiting': 2048}
        return ours | {
            'durable_name': self.name,
            'description': first.description,
            'ack_policy': 'explicit',
            'deliver_policy': 'all',
            'replay_policy': 'instant',
            'ack_wait': int(first.ack_wait * _SECOND),
            'max_deliver': -1,
            'max_ack_pending': first.max_ack_pending,
            'metadata': {ANSWERS: 'yes' if first.answers else 'no'},
        }


def consumers_of(actors: Iterable[Actor]) -> tuple[Consumer, ...]:
    """The consumers of these actors. Raises ContractError for actors that cannot share the one they name."""
    found: dict[tuple[str, str], list[Actor]] = {}
    for actor in actors:
        sharing = found.setdefault((actor.event.stream_name, actor.consumer_name), [])
        if sharing:
            _check_sharing(sharing[0], actor)
        sharing.append(actor)
    return tuple(Consumer(name, tuple(sharing)) for (_, name), sharing in found.items())


def _check_sharing(first: Actor, other: Actor) -> None:
    stream = first.event.stream_name
    if not first.consumer or not other.consumer:
        raise ContractError(f'actor {other.name!r}: declared twice on stream {stream}; give one another name')
    for option in _SHARED:
        if getattr(first, option) != getattr(other, option):
            raise ContractError(
                f'actors {first.name!r} and {other.name!r} share consumer {other.consumer!r}, '
                f'but differ in {option}; give them the same'
            )


async def declare(connection: Connection, consumer: Consumer) -> None:
    """Create a consumer, or bring it to the declared options. Raises ContractError, as streams.declare().

    Those of a worker's other actors stay when one is refused: only the server can say which are, by creating them, and
    one that was there before must not be removed.
    """
    stream = consumer.stream
    config = consumer.config()
    body = {'stream_name': stream, 'config': config, 'action': ''}
    verb = f'CONSUMER.CREATE.{stream}.{consumer.name}'
    try:
        await connection.api(f'{verb}.{config["filter_subject"]}' if 'filter_subject' in config else verb, body)
    except ApiError as error:
        if error.err_code in _OVERLAP:
            raise ContractError(await _taken(connection, consumer)) from error
        raise ContractError(f'consumer {consumer.name!r} on stream {stream}: {error.description}') from error


async def _taken(connection: Connection, consumer: Consumer) -> str:
    """What to say of an actor whose method another consumer has."""
    stream = consumer.stream
    for actor in consumer.actors:
        subject = actor.event.subject_name
        other = await _consumer_of(connection, stream, subject)
        if other is not None and other != consumer.name:
            return (
                f'actor {actor.name!r}: consumer {other!r} of {stream} takes {subject} already, and only one may: '
                f"name the actor {other!r}, or remove what is left of another: nats consumer rm '{stream}' '{other}'"
            )
    return (
        f'actor {consumer.actors[0].name!r}: another consumer of {stream} takes {consumer.subjects[0]} already, '
        f"and only one may: find it with: nats consumer ls '{stream}'; name the actor as it, or remove it"
    )


async def _consumer_of(connection: Connection, stream: str, subject: str) -> str | None:
    """The consumer of a stream that takes this subject; None when there is none, or NATS does not tell."""
    offset = 0
    try:
        while found := (await connection.api(f'CONSUMER.LIST.{stream}', {'offset': offset}, timeout=2))['consumers']:
            for consumer in found:
                config = consumer['config']
                filters = config.get('filter_subjects') or [config.get('filter_subject') or '>']
                if any(covers(pattern, subject) for pattern in filters):
                    return str(consumer['name'])
            offset += len(found)
    except (ApiError, Disconnected, NoResponders, TimeoutError, KeyError, TypeError):
        pass  # a worker's permissions need not allow it
    return None


def covers(pattern: str, subject: str) -> bool:
    """Whether a subject is among those that a pattern with wildcards means. Pure."""
    wanted, parts = pattern.split('.'), subject.split('.')
    if wanted[-1] == '>':
        wanted, parts = wanted[:-1], parts[: len(wanted) - 1] if len(parts) >= len(wanted) else []
    return len(wanted) == len(parts) and all(want in ('*', part) for want, part in zip(wanted, parts, strict=True))


def pull_request(batch: int, *, no_wait: bool = False, briefly: bool = False) -> bytes:
    """The payload of a pull request (ADR-42). Pure."""
    if no_wait:
        return json.dumps({'batch': batch, 'no_wait': True}).encode()
    expires, heartbeat = (BRIEFLY, BRIEFLY / 2) if briefly else (PULL_EXPIRES, HEARTBEAT)
    return b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (batch, expires * _SECOND, heartbeat * _SECOND)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The pull request still waits."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A pull request is over; this many events of it will not come."""

    missing: int
    empty: bool
    """The queue had nothing more."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The pull requests are lost; `gone`: so is the consumer, as far as can be known."""

    reason: str
    gone: bool


def read_status(block: bytes | None) -> Heartbeat | Ended | Broken | None:
    """What the server says on the pull inbox; None when it is no status. Pure."""
    line = headers.status(block)
    if line is None:
        return None
    code, text = line
    if code == 100:
        return Heartbeat()
    try:
        missing = int(dict(headers.parse(block)).get('Nats-Pending-Messages', '-1'))
    except (headers.MalformedHeaders, ValueError):
        missing = -1
    lowered = text.lower()
    if code in (404, 408) or (code == 409 and 'batch completed' in lowered):
        return Ended(max(0, missing), empty=code != 409)
    return Broken(f'{code} {text}', gone=code == 503 or 'consumer deleted' in lowered or 'not found' in lowered)


class Delivery:
    """What the reply subject of a delivered event says (ADR-15)."""

    __slots__ = ('attempt', 'sequence', 'stored')

    def __init__(self, attempt: int, sequence: int, stored: bytes) -> None:
        self.attempt = attempt
        self.sequence = sequence
        """Of the stream: the same in each attempt."""
        self.stored = stored
        """When the event was stored: a stream that is made anew counts from 1 again."""

    def __str__(self) -> str:
        return f'message {self.sequence}'

    def is_same(self, other: Delivery) -> bool:
        """Whether both are of one event."""
        return self.sequence == other.sequence and self.stored == other.stored


def read_delivery(reply: bytes) -> Delivery | None:
    """The delivery that an event's reply subject tells of, in its form of 9 tokens or of 11 and more. Pure."""
    tokens = reply.split(b'.')
    if len(tokens) < 9 or tokens[0] != b'$JS' or tokens[1] != b'ACK':
        return None
    attempt, sequence, _, stored = tokens[4:8] if len(tokens) == 9 else tokens[6:10]
    if not (attempt.isdigit() and sequence.isdigit() and len(attempt) < _DIGITS and len(sequence) < _DIGITS):
        return None  # int() takes more than digits, and raises for very many
    return Delivery(int(attempt), int(sequence), stored)
