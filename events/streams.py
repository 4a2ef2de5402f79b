"""Streams: how a service's queue and an event's stream are configured, and how they are declared.

A service stream is a work queue: one group of workers takes each call once, and a call waits while none is there. An
event stream keeps an event until every actor that is registered has taken it. Both refuse when they are full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, get_origin

from natsgate.events import walnats
from natsgate.events.connection import ApiError, Connection
from natsgate.events.event import AnyEvent, Event, EventWithResponse, Limits
from natsgate.events.status import ContractError
from natsgate.events.subjects import SERVICE_PREFIX

DEDUP_WINDOW = 60.0
"""Seconds within which a stream recognizes an id: longer than any repetition of ours, short enough for memory."""

_NO_STREAM = 10059
_NAME_IN_USE = 10058
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How streams are stored, where this process declares one that is not there yet."""

    storage: str = 'file'
    """`file` survives a restart of the server; `memory` does not."""
    replicas: int = 1
    """1, or 3 in a cluster: then one server may fail."""


def stream_config(event: AnyEvent, options: StreamOptions = StreamOptions()) -> dict[str, Any]:
    """The configuration of the stream that holds this event. Pure."""
    if event.walnats:
        return walnats.stream_config(event.subject_name, event.limits, event.description)
    service = event.service if isinstance(event, EventWithResponse) else None
    limits = event.limits
    config: dict[str, Any] = {
        'name': event.stream_name,
        'subjects': [f'{SERVICE_PREFIX}{service}.*' if service else event.subject_name],
        'retention': 'workqueue' if service else 'interest',
        'storage': options.storage,
        'num_replicas': options.replicas,
        'discard': 'new',
        'max_age': int(limits.age * _SECOND) if limits.age else 0,
        'max_bytes': _or_unlimited(limits.bytes),
        'max_msg_size': _or_unlimited(limits.message_size),
        'max_consumers': _or_unlimited(limits.consumers),
        'duplicate_window': int(min(DEDUP_WINDOW, limits.age or DEDUP_WINDOW) * _SECOND),
        'allow_msg_ttl': True,
        'allow_direct': True,
        'description': f'calls of the gRPC service {service}' if service else event.description,
        'metadata': {'natsgate': 'service' if service else 'event'},
    }
    if service and limits.messages is not None:
        # Each method has its own limit, so that a slow one does not fill the queue of the others.
        return config | {'max_msgs_per_subject': limits.messages, 'discard_new_per_subject': True, 'max_msgs': -1}
    return config | {'max_msgs': _or_unlimited(limits.messages)}


def _or_unlimited(limit: int | None) -> int:
    return -1 if limit is None else limit


async def declare(
    connection: Connection,
    events: Iterable[AnyEvent],
    *,
    options: StreamOptions = StreamOptions(),
    create: bool = True,
    update: bool = True,
) -> None:
    """Create the events' streams, or bring those that are there to the declared limits, all at the same time.

    A stream that is shared with walnats is never changed. What is not declared here (replicas, storage, placement of a
    stream that exists) stays as an operator set it.
    Raises ContractError when the server cannot do it, ConnectionError or TimeoutError when NATS is away.
    """
    by_stream = {event.stream_name: event for event in events}
    await asyncio.gather(
        *(
            _declare_one(connection, stream_config(event, options), create, update and not event.walnats)
            for event in by_stream.values()
        )
    )


async def _declare_one(connection: Connection, config: dict[str, Any], create: bool, update: bool) -> None:
    name = config['name']
    try:
        try:
            current = (await connection.api(f'STREAM.INFO.{name}'))['config']
        except ApiError as error:
            if error.err_code != _NO_STREAM or not create:
                raise
            await _create(connection, config)
            return
        (subject,) = config['subjects']
        if subject not in (taken := current.get('subjects', [])) and config['retention'] == 'interest':
            raise ContractError(_taken(name, ', '.join(taken), subject))
        if not update:
            return
        wanted = current | {key: config[key] for key in config if key not in ('storage', 'num_replicas')}
        wanted['metadata'] = current.get('metadata', {}) | config['metadata']
        if wanted != current:
            await connection.api(f'STREAM.UPDATE.{name}', wanted)
    except ApiError as error:
        raise ContractError(f'stream {name} ({", ".join(config["subjects"])}): {error.description}') from error


async def _create(connection: Connection, config: dict[str, Any]) -> None:
    try:
        await connection.api(f'STREAM.CREATE.{config["name"]}', config)
    except ApiError as error:
        if error.err_code != _NAME_IN_USE:  # another process was faster, perhaps with other limits: that is well
            raise


def limits_of(events: Iterable[AnyEvent]) -> dict[str, Limits]:
    """The limits by stream. Raises ContractError when two events of one stream do not agree, or may not share it."""
    found: dict[str, Limits] = {}
    subjects: dict[str, str] = {}
    for event in events:
        (subject,) = stream_config(event)['subjects']
        if (other := subjects.setdefault(event.stream_name, subject)) != subject:
            raise ContractError(_taken(event.stream_name, other, subject))
        if found.setdefault(event.stream_name, event.limits) != event.limits:
            raise ContractError(f'event {event.name}: its stream {event.stream_name} is declared with other limits too')
    return found


def _taken(stream: str, other: str, subject: str) -> str:
    text = f'stream {stream} is that of {other}, and cannot be that of {subject} as well'
    return f'{text}: walnats gives a.b and a-b the same one; rename one of them'


def check_types(events: Iterable[AnyEvent]) -> None:
    """Raise ContractError when events of one subject are declared with different types."""
    requests: dict[str, Any] = {}
    answers: dict[str, Any] = {}
    for event in events:
        declared = [(requests, 'brings', event.schema)]
        if isinstance(event, EventWithResponse):
            declared.append((answers, 'is answered with', event.response_schema))
        for found, what, schema in declared:
            if (other := found.setdefault(event.subject_name, schema)) != schema:
                raise ContractError(
                    f'event {event.name}: one declaration {what} {_shown(other)}, another {_shown(schema)}; '
                    f'declare it once, and import it'
                )


def _shown(schema: Any) -> str:
    return schema.__name__ if isinstance(schema, type) and get_origin(schema) is None else str(schema)


def is_interest(event: AnyEvent) -> bool:
    """Whether the event's stream keeps nothing while no actor is registered."""
    return isinstance(event, Event) or event.service is None
