"""The durable consumer of an actor: its configuration, the pull request, what the server says to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from natsgate.actors.actor import Actor
from natsgate.events import headers
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.interest import ANSWERS
from natsgate.events.status import ContractError

PULL_EXPIRES = 20.0
"""Seconds after which an unanswered pull request ends and is made anew."""
HEARTBEAT = 2.0
"""Seconds between two signs of life of a pull request that waits."""

_SECOND = 1_000_000_000
_DIGITS = 20
_OVERLAP = frozenset({10099, 10100, 10138})
_NO_STREAM = 10059


def consumer_config(actor: Actor) -> dict[str, Any]:
    """The consumer's configuration. Pure.

    The server counts deliveries but does not end them: the worker does, because it can tell the caller.
    """
    return {
        'durable_name': actor.consumer_name,
        'description': actor.description,
        'ack_policy': 'explicit',
        'deliver_policy': 'all',
        'replay_policy': 'instant',
        'filter_subject': actor.event.subject_name,
        'ack_wait': int(actor.ack_wait * _SECOND),
        'max_deliver': -1,
        'max_ack_pending': actor.max_ack_pending,
        'max_waiting': 2048,
        'metadata': {ANSWERS: 'yes' if actor.answers else 'no'},
    }


async def declare(connection: Connection, actor: Actor) -> None:
    """Create the actor's consumer, or bring it to the declared options. Raises ContractError, as streams.declare().

    Those of a worker's other actors stay when one is refused: only the server can say which are, by creating them, and
    one that was there before must not be removed.
    """
    stream = actor.event.stream_name
    body = {'stream_name': stream, 'config': consumer_config(actor), 'action': ''}
    try:
        await connection.api(f'CONSUMER.CREATE.{stream}.{actor.consumer_name}.{actor.event.subject_name}', body)
    except ApiError as error:
        if error.err_code in _OVERLAP:
            raise ContractError(await _taken(connection, actor)) from error
        raise ContractError(f'actor {actor.name!r} on stream {stream}: {error.description}') from error


async def _taken(connection: Connection, actor: Actor) -> str:
    """What to say of an actor whose method another consumer has."""
    stream, subject = actor.event.stream_name, actor.event.subject_name
    other = await _consumer_of(connection, stream, subject)
    if other is None:
        return (
            f'actor {actor.name!r}: another consumer of {stream} takes {subject} already, and only one may: '
            f"find it with: nats consumer ls '{stream}'; name the actor as it, or remove it"
        )
    return (
        f'actor {actor.name!r}: consumer {other!r} of {stream} takes {subject} already, and only one may: '
        f"name the actor {other!r}, or remove what is left of another: nats consumer rm '{stream}' '{other}'"
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


def pull_request(batch: int, *, no_wait: bool = False) -> bytes:
    """The payload of a pull request (ADR-42). Pure."""
    if no_wait:
        return json.dumps({'batch': batch, 'no_wait': True}).encode()
    return b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (batch, PULL_EXPIRES * _SECOND, HEARTBEAT * _SECOND)


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


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the reply subject of a delivered event says (ADR-15)."""

    attempt: int
    sequence: int
    """Of the stream: the same in each attempt."""


def read_delivery(reply: bytes) -> Delivery | None:
    """The delivery that an event's reply subject tells of, in its form of 9 tokens or of 11 and more. Pure."""
    tokens = reply.split(b'.')
    if len(tokens) < 9 or tokens[0] != b'$JS' or tokens[1] != b'ACK':
        return None
    attempt, sequence = tokens[4:6] if len(tokens) == 9 else tokens[6:8]
    if not (attempt.isdigit() and sequence.isdigit() and len(attempt) < _DIGITS and len(sequence) < _DIGITS):
        return None  # int() takes more than digits, and raises for very many
    return Delivery(int(attempt), int(sequence))
