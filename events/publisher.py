"""Publisher: has requests stored by their streams, and takes them out again when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable

from natsgate.events.connection import Connection, Disconnected
from natsgate.events.failures import Failure, failed
from natsgate.events.pending import Destination, Pending
from natsgate.events.publishing import Again, Refused, Stored, is_new, read_ack, retry_delay, sequence_of
from natsgate.events.wire import Response

ACK_WAIT = 1.0
"""Seconds without an acknowledgement after which a request is published again, under the same id."""

_SWEEP = 0.25
_REMEMBERED = 10.0


class Publisher:
    """Publishes requests, again and again under the same id, until their streams have acknowledged them."""

    def __init__(
        self, connection: Connection, *, answers_to: bytes, patience: float, end: Callable[[Pending, Response], None]
    ) -> None:
        """`answers_to`: what the subjects of acknowledgements begin with. `end` ends a request."""
        self.patience = patience
        self.on_interest: Callable[[Destination], None] | None = None
        """Called when an event stream has taken a request: whether anybody listens must be asked separately."""
        self._connection = connection
        self._answers_to = answers_to
        self._end = end
        self._unacknowledged: dict[bytes, Pending] = {}
        self._withdrawn: dict[bytes, Pending] = {}
        self._seen: set[str] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        connection.on_connected.append(self._publish_all)

    def close(self) -> None:
        """Publish nothing more after a reconnect."""
        self._connection.on_connected.remove(self._publish_all)

    def __len__(self) -> int:
        """Requests of which it is not known whether their stream has them."""
        return len(self._unacknowledged)

    def __contains__(self, pending: Pending) -> bool:
        return pending.token in self._unacknowledged

    def forget(self, pending: Pending) -> None:
        """The request is surely stored, or over: publish it no more."""
        self._unacknowledged.pop(pending.token, None)

    def publish(self, pending: Pending) -> None:
        """Publish a request, for the first time or again."""
        try:
            self._connection.write(pending.frame)
            pending.attempts += 1
        except Disconnected as error:
            if not pending.attempts:
                self._end(pending, failed(Failure.DISCONNECTED, f'NATS is away: {error}'))
                return
        pending.ack_due = self._loop.time() + ACK_WAIT
        self._unacknowledged[pending.token] = pending
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _sweep(self) -> None:
        """Publish again what was not acknowledged in time; give up on what was not for too long."""
        self._sweeper = None
        now = self._loop.time()
        for pending in list(self._unacknowledged.values()):
            if now >= pending.give_up:
                self._give_up(pending)
            elif now >= pending.ack_due:
                self.publish(pending)
        if self._unacknowledged and self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _give_up(self, pending: Pending) -> None:
        response = failed(
            Failure.PUBLISH_UNCERTAIN,
            f'stream {pending.destination.stream} did not acknowledge the call; it may have been stored and run',
            idempotent=pending.destination.idempotent,
            stream=pending.destination.stream,
            attempts=pending.attempts,
        )
        self._end(pending, response)

    def _publish_all(self) -> None:
        for pending in list(self._unacknowledged.values()):
            self.publish(pending)

    # Acknowledgements

    def on_ack(self, token: bytes, header: bytes | None, payload: bytes) -> None:
        """An acknowledgement has arrived."""
        pending = self._unacknowledged.get(token)
        if pending is None:
            if (withdrawn := self._withdrawn.pop(token, None)) is not None:
                self._on_withdrawn(withdrawn, header, payload)
            return
        destination = pending.destination
        if is_new(payload):  # as nearly all are
            self._stored(pending, payload)
            return
        ack = read_ack(header, payload, stream=destination.stream, seen=destination.stream in self._seen)
        match ack:
            case Stored(duplicate=True) if pending.attempts == 1:
                self._end(pending, failed(Failure.DUPLICATE, 'an event with this id was emitted a moment ago'))
            case Stored():
                self._stored(pending, payload)
            case Again(otherwise):
                self._again(pending, otherwise)
            case Refused(response):
                self._end(pending, response)

    def _stored(self, pending: Pending, ack: bytes) -> None:
        del self._unacknowledged[pending.token]
        pending.ack = ack
        destination = pending.destination
        self._seen.add(destination.stream)
        if destination.interest and self.on_interest is not None:
            self.on_interest(destination)

    def _again(self, pending: Pending, otherwise: Response) -> None:
        now = self._loop.time()
        delay = retry_delay(pending.attempts) * random.uniform(0.75, 1.25)  # noqa: S311  jitter is no secret
        pending.refusals += 1
        if now + delay >= pending.give_up:
            if pending.refusals == pending.attempts:  # each try was refused, so surely nothing is stored
                self._end(pending, otherwise)
            else:
                self._give_up(pending)
            return
        pending.ack_due = now + delay + _SWEEP
        self._loop.call_later(delay, self._retry, pending)

    def _retry(self, pending: Pending) -> None:
        if pending in self:
            self.publish(pending)

    # Withdrawing

    def withdraw(self, pending: Pending) -> None:
        """Nobody waits any more: delete the copy in the stream, as soon as it is known where it is."""
        if self._unacknowledged.pop(pending.token, None) is not None:
            self._withdrawn[pending.token] = pending
            self._loop.call_later(_REMEMBERED, self._withdrawn.pop, pending.token, None)
        elif pending.ack:
            self._delete(pending.destination, pending.ack)

    def _on_withdrawn(self, pending: Pending, header: bytes | None, payload: bytes) -> None:
        match read_ack(header, payload, stream=pending.destination.stream, seen=True):
            case Stored(duplicate) if not duplicate or pending.attempts > 1:  # else it is somebody else's
                self._delete(pending.destination, payload)

    def _delete(self, destination: Destination, ack: bytes) -> None:
        sequence = sequence_of(ack)
        if sequence is None or destination.interest:  # other actors of an event still want it
            return
        body = json.dumps({'seq': sequence, 'no_erase': True}).encode()
        subject = f'$JS.API.STREAM.MSG.DELETE.{destination.stream}'.encode()
        # When it is lost, the request's deadline and its TTL remain.
        self._connection.offer(b'PUB %b %bdeleted %d\r\n%b\r\n' % (subject, self._answers_to, len(body), body))
