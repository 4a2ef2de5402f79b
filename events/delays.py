"""Delays: events that wait in a stream of their own until they are due. Pure but for Delays.

The server itself watches the time (message schedules, ADR-51): it moves a message that is due to another subject, from
where a worker of the event emits it under its own id (actors/emitter.py). So what waits costs no worker anything.
"""

from __future__ import annotations

import math
import secrets
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from natsgate.events import emitting, headers, subjects, wire
from natsgate.events.connection import ApiError, Connection
from natsgate.events.failures import Failure, failed
from natsgate.events.pending import Destination
from natsgate.events.status import Code, ContractError, StatusError
from natsgate.events.streams import StreamOptions
from natsgate.events.wire import RequestHead, Unreadable

STREAM = subjects.DELAYED_STREAM
"""The work-queue stream in which events wait."""
EMITTERS = 'natsgate'
"""The queue group of the workers that emit what is due."""
ACK_WAIT = 5.0
"""Seconds after which another worker emits a due event, should this one be gone."""
LONGEST = 100 * 366 * 86400.0
"""Seconds that an event may wait at most."""

ID = 'Natsgate-Id'  # not Nats-Msg-Id: the waiting event and the due one are two messages of one stream
_SCHEDULE, _TARGET = 'Nats-Schedule', 'Nats-Schedule-Target'
_SECOND = 1_000_000_000


class Held(NamedTuple):
    """A message that waits: where it is published, and the header lines that say until when."""

    subject: str
    lines: str


class Due(NamedTuple):
    """An event that is due: where it is to be published, and its header block."""

    subject: str
    block: bytes


def checked_delay(delay: float) -> float:
    """The delay itself, in seconds. Raises ContractError for one that is none."""
    if not (math.isfinite(delay) and 0 <= delay <= LONGEST):
        raise ContractError(f'delay {delay}: seconds, from 0 to 100 years')
    return delay


def held(stream: str, subject: str, event_id: str, due: int) -> Held:
    """How an event waits until `due`, in the broker's microseconds; one of the same id that waits is replaced."""
    token = urlsafe_b64encode(sha256(event_id.encode()).digest())[:22].decode()
    moment = datetime.fromtimestamp(due / 1e6, UTC).isoformat().replace('+00:00', 'Z')
    target = subjects.due_subject(stream, subject, token)
    lines = f'{_SCHEDULE}: @at {moment}\r\n{_TARGET}: {target}\r\n{ID}: {event_id}\r\n'
    return Held(subjects.held_subject(stream, subject, token), lines)


def read_due(stream: str, subject: bytes, block: bytes | None) -> Due:
    """The event in a message that the server has moved. Raises Unreadable; never anything else."""
    try:
        found = subjects.read_due(stream, subject.decode())
        pairs = headers.parse(block)
    except (UnicodeDecodeError, headers.MalformedHeaders) as error:
        raise Unreadable(str(error)) from error
    event_id = dict(pairs).get(ID)
    if found is None or not event_id:
        raise Unreadable('it has no event or no id')
    lines = f'{wire.MESSAGE_ID}: {event_id}\r\n'
    for name, value in pairs:
        if name != ID and not name.startswith('Nats-'):
            lines += f'{name}: {value}\r\n'
    return Due(found, f'NATS/1.0\r\n{lines}\r\n'.encode())


def stream_config(options: StreamOptions) -> dict[str, Any]:
    """The stream of what waits."""
    return {
        'name': STREAM,
        'subjects': [f'{subjects.DELAY_PREFIX}>'],
        'description': 'events that wait until they are due',
        'retention': 'workqueue',
        'storage': options.storage,
        'num_replicas': options.replicas,
        'max_msgs_per_subject': 1,  # one that is emitted again under its id replaces the other
        'allow_msg_schedules': True,
        'metadata': {'natsgate': 'delayed'},
    }


def consumer_config(stream: str) -> dict[str, Any]:
    """Gives what is due, for one stream's events, to one of the workers that are there."""
    return {
        'durable_name': stream,
        'deliver_subject': subjects.emitter_subject(stream),
        'deliver_group': EMITTERS,
        'filter_subject': subjects.all_due(stream),
        'ack_policy': 'explicit',
        'ack_wait': int(ACK_WAIT * _SECOND),
        'max_ack_pending': 1000,
    }


class Delays:
    """Makes the stream of what waits, and its consumers, when the first event wants them."""

    def __init__(self, connection: Connection) -> None:
        self.options = StreamOptions()
        """How the stream is stored if it is made here."""
        self._connection = connection
        self._declared: set[str] = set()

    async def hold(
        self, destination: Destination, head: RequestHead, extra: str, payload: bytes, *, delay: float
    ) -> None:
        """Store an event that waits `delay` seconds. Raises StatusError as store(); ContractError: too old a server."""
        due = self._connection.clock.now() + delay
        stream = destination.stream
        event_id = head.id or destination.id_of(secrets.token_hex(16))
        known = stream in self._declared
        if not known:
            try:
                await self._declare(stream)
            except (ConnectionError, TimeoutError) as error:
                raise StatusError(failed(Failure.DISCONNECTED, f'NATS is away: {error}').status) from error
        where = held(stream, destination.subject, event_id, self._connection.clock.to_broker(due))  # known by now
        block = emitting.encoded(destination, head._replace(id=''), where.lines + extra)
        try:
            await emitting.store(self._connection, where.subject, STREAM, block, payload)
        except StatusError as error:
            self._declared.clear()
            if not known or error.status.code is not Code.UNAVAILABLE:
                raise
            # Should the stream be gone, it is made again.
            await self.hold(destination, head._replace(id=event_id), extra, payload, delay=delay)

    async def _declare(self, stream: str) -> None:
        config = consumer_config(stream)
        body = {'stream_name': STREAM, 'config': config, 'action': ''}
        try:
            await self._connection.api(f'STREAM.CREATE.{STREAM}', stream_config(self.options))
        except ApiError as error:
            if error.err_code != _NAME_IN_USE:  # an operator has changed it
                raise ContractError(f'stream {STREAM}: {error.description}; delays need nats-server 2.12') from error
        try:
            await self._connection.api(f'CONSUMER.CREATE.{STREAM}.{stream}.{config["filter_subject"]}', body)
        except ApiError as error:
            raise ContractError(f'consumer {stream} of stream {STREAM}: {error.description}') from error
        self._declared.add(stream)


_NAME_IN_USE = 10058
