"""Asking: publish a request to its stream, wait for the response on one reply subject for all calls of this process."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass

from natsgate.events import subjects, wire
from natsgate.events.connection import Connection, Disconnected
from natsgate.events.failures import Failure, failed
from natsgate.events.metadata import Metadata, MetadataError
from natsgate.events.publishing import Again, Refused, Stored, read_ack, retry_delay, too_large
from natsgate.events.wire import Response

log = logging.getLogger('natsgate.events')

ACK_WAIT = 1.0
"""Seconds without an acknowledgement after which the request is published again, under the same id."""

_ACKS = '@ack'  # where a reply subject has its target: no event can have this name
_SWEEP = 0.25
_TOKENS_AT_ONCE = 256
_TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a request goes, and what is known about the event."""

    subject: str
    """Where it is published."""
    stream: str
    """The stream that takes it; named in errors."""
    target: str
    """Who may answer: a part of the reply subject."""
    idempotent: bool = False
    """Running it twice does no harm."""
    interest: bool = False
    """An event stream: it keeps nothing when no actor is registered."""


class Pending:
    """One request that waits."""

    __slots__ = ('ack_due', 'answer', 'attempts', 'destination', 'frame', 'give_up', 'refusals', 'reply', 'timer')

    def __init__(self, destination: Destination, reply: bytes, frame: bytes, answer: asyncio.Future[Response]) -> None:
        self.destination = destination
        self.reply = reply
        self.frame = frame
        self.answer = answer
        self.attempts = 0
        self.refusals = 0
        self.ack_due = 0.0
        self.give_up = 0.0
        self.timer: asyncio.TimerHandle | None = None


class Requester:
    """All requests of one connection that wait for an acknowledgement or a response."""

    def __init__(self, connection: Connection, *, patience: float = 10) -> None:
        """`patience`: seconds for which a publish is repeated whose acknowledgement stays away."""
        self._connection = connection
        self._patience = patience
        self._waiting: dict[bytes, Pending] = {}
        self._unacknowledged: dict[bytes, Pending] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._seen: set[str] = set()
        self._tokens: list[str] = []
        self._calls = 0
        # Not the connection's id: a gateway that is restarted under the same name must not repeat its ids.
        self._ids = secrets.token_hex(6)
        self._ack_prefix = f'{subjects.REPLY_PREFIX}{connection.id}.{_ACKS}.'.encode()
        self.on_interest: Callable[[Destination], None] | None = None
        """Called when an event stream has taken a request: whether anybody listens must be asked separately."""
        self.late = 0
        """Responses that came after their call had ended."""
        self.strays = 0
        """Messages on our reply subjects that were no responses."""

    async def open(self) -> None:
        """Subscribe to the reply subjects of this process, once."""
        self._loop = asyncio.get_running_loop()
        await self._connection.subscribe(f'{subjects.REPLY_PREFIX}{self._connection.id}.>', self._on_reply)
        self._connection.on_connected.append(self._publish_unacknowledged)

    def now(self) -> float:
        """The moment on the clock that deadlines are given in."""
        return self._connection.clock.now()

    @property
    def waiting(self) -> int:
        """Requests that wait at this moment."""
        return len(self._waiting)

    @property
    def unacknowledged(self) -> int:
        """Requests of which it is not known whether their stream has them."""
        return len(self._unacknowledged)

    async def ask(
        self,
        destination: Destination,
        payload: bytes,
        *,
        deadline: float,
        metadata: Metadata = (),
        call_id: str = '',
        extra: str = '',
    ) -> Response:
        """Publish a request and wait for its response, or for what is known to have gone wrong; never raises for it.

        `deadline` is a moment of the connection's clock. `call_id` makes the request known to the stream: a second
        one of the same id is not stored. `extra` are further header lines, already encoded.
        """
        refused = self._refusal(deadline)
        if refused is not None:
            return refused
        token = self._token()
        reply = subjects.reply_subject(self._connection.id, destination.target, token)
        try:
            head = self._head(destination, reply, deadline, metadata, call_id, extra)
        except MetadataError as error:
            return failed(Failure.BAD_METADATA, str(error))
        size = len(head) + len(payload)
        if (refused := too_large(size, self._connection.max_payload)) is not None:
            return refused
        subject, key = destination.subject.encode(), token.encode()
        frame = b'HPUB %b %b%b %d %d\r\n%b%b\r\n' % (subject, self._ack_prefix, key, len(head), size, head, payload)
        return await self._await(key, Pending(destination, reply.encode(), frame, self._loop.create_future()), deadline)

    def _refusal(self, deadline: float) -> Response | None:
        try:
            if not self._connection.connected:
                raise Disconnected('not connected to NATS')
            self._connection.check_backlog()
        except Disconnected as error:
            return failed(Failure.DISCONNECTED, f'NATS is away: {error}')
        if deadline <= self._connection.clock.now():
            return failed(Failure.DEADLINE, 'the deadline had passed before the call could be published')
        return None

    def _head(  # noqa: PLR0917
        self, destination: Destination, reply: str, deadline: float, pairs: Metadata, call_id: str, extra: str
    ) -> bytes:
        clock = self._connection.clock
        self._calls += 1
        head = wire.RequestHead(
            id=f'{destination.subject}:{call_id}' if call_id else f'{destination.subject}:{self._ids}.{self._calls}',
            reply=reply,
            deadline=clock.to_broker(deadline),
            metadata=pairs,
        )
        return wire.encode_request(head, ttl=max(1, math.ceil(deadline - clock.now())), extra=extra)

    async def _await(self, token: bytes, pending: Pending, deadline: float) -> Response:
        now = self._loop.time()
        remaining = deadline - self._connection.clock.now()
        pending.give_up = now + min(self._patience, remaining)
        pending.timer = self._loop.call_later(remaining, self._expire, token)
        self._waiting[token] = pending
        try:
            self._publish(token, pending)
            return await pending.answer
        finally:
            self._waiting.pop(token, None)
            self._unacknowledged.pop(token, None)
            pending.timer.cancel()

    def _publish(self, token: bytes, pending: Pending) -> None:
        now = self._loop.time()
        try:
            self._connection.write(pending.frame)
            pending.attempts += 1
        except Disconnected as error:
            if not pending.attempts:
                self._end(token, failed(Failure.DISCONNECTED, f'NATS is away: {error}'))
                return
        pending.ack_due = now + ACK_WAIT
        self._unacknowledged[token] = pending
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _sweep(self) -> None:
        """Publish again what was not acknowledged in time; give up on what was not for too long."""
        self._sweeper = None
        now = self._loop.time()
        for token, pending in list(self._unacknowledged.items()):
            if now >= pending.give_up:
                self._give_up(token, pending)
            elif now >= pending.ack_due:
                self._publish(token, pending)
        if self._unacknowledged and self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _give_up(self, token: bytes, pending: Pending) -> None:
        response = failed(
            Failure.PUBLISH_UNCERTAIN,
            f'stream {pending.destination.stream} did not acknowledge the call; it may have been stored and run',
            idempotent=pending.destination.idempotent,
            stream=pending.destination.stream,
            attempts=pending.attempts,
        )
        self._end(token, response)

    def _publish_unacknowledged(self) -> None:
        for token, pending in list(self._unacknowledged.items()):
            self._publish(token, pending)

    def _expire(self, token: bytes) -> None:
        pending = self._waiting.get(token)
        if pending is not None:
            self._end(token, failed(Failure.DEADLINE, 'the deadline has passed', attempts=pending.attempts))

    def _end(self, token: bytes, response: Response) -> None:
        pending = self._waiting.pop(token, None)
        self._unacknowledged.pop(token, None)
        if pending is not None and not pending.answer.done():
            pending.answer.set_result(response)

    # What arrives

    def _on_reply(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        token = subject[subject.rfind(b'.') + 1 :]
        pending = self._waiting.get(token)
        if pending is None:
            self.late += 1
        elif subject == pending.reply:
            try:
                self._end(token, wire.decode_response(header, payload))
            except wire.Stray as error:
                self.strays += 1
                log.warning('a message on a reply subject is not a response and was passed over: %s', error)
            except wire.Unreadable as error:
                self._end(token, failed(Failure.RESPONSE_UNREADABLE, f'the response cannot be read: {error}'))
        elif token in self._unacknowledged and subject.startswith(self._ack_prefix):
            self._on_ack(token, pending, header, payload)

    def _on_ack(self, token: bytes, pending: Pending, header: bytes | None, payload: bytes) -> None:
        destination = pending.destination
        ack = read_ack(header, payload, stream=destination.stream, seen=destination.stream in self._seen)
        match ack:
            case Stored(duplicate=True) if pending.attempts == 1:
                self._end(token, failed(Failure.DUPLICATE, 'an event with this id was emitted a moment ago'))
            case Stored():
                del self._unacknowledged[token]
                self._seen.add(destination.stream)
                if destination.interest and self.on_interest is not None:
                    self.on_interest(destination)
            case Again(otherwise):
                self._again(token, pending, otherwise)
            case Refused(response):
                self._end(token, response)

    def _again(self, token: bytes, pending: Pending, otherwise: Response) -> None:
        now = self._loop.time()
        delay = retry_delay(pending.attempts) * random.uniform(0.75, 1.25)  # noqa: S311  jitter is no secret
        pending.refusals += 1
        if now + delay >= pending.give_up:
            if pending.refusals == pending.attempts:  # each try was refused, so surely nothing is stored
                self._end(token, otherwise)
            else:
                self._give_up(token, pending)
            return
        pending.ack_due = now + delay + _SWEEP
        self._loop.call_later(delay, self._retry, token)

    def _retry(self, token: bytes) -> None:
        pending = self._unacknowledged.get(token)
        if pending is not None:
            self._publish(token, pending)

    def waits_for(self, destination: Destination) -> bool:
        """Whether any request to this destination's stream waits."""
        return any(pending.destination.stream == destination.stream for pending in self._waiting.values())

    def end_waiting(self, destination: Destination, response: Response) -> None:
        """End every acknowledged request to this destination's stream with the same response."""
        for token, pending in list(self._waiting.items()):
            if pending.destination.stream == destination.stream and token not in self._unacknowledged:
                self._end(token, response)

    def _token(self) -> str:
        if not self._tokens:
            pool = secrets.token_bytes(_TOKEN_BYTES * _TOKENS_AT_ONCE)
            self._tokens = [
                urlsafe_b64encode(pool[i : i + _TOKEN_BYTES])[:-2].decode() for i in range(0, len(pool), _TOKEN_BYTES)
            ]
        return self._tokens.pop()
