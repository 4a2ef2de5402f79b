"""Asking: publish a request to its stream, wait for the response on one reply subject for all calls of this process."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets

from natsgate.events import frames, subjects, walnats, wire
from natsgate.events.connection import Connection, Disconnected
from natsgate.events.deadlines import Deadlines
from natsgate.events.failures import Failure, failed
from natsgate.events.flow import Window
from natsgate.events.kind import Kind
from natsgate.events.link import Links
from natsgate.events.metadata import Metadata, MetadataError
from natsgate.events.pending import Destination, Pending
from natsgate.events.presence import PresenceWatch
from natsgate.events.publisher import Publisher
from natsgate.events.publishing import too_large
from natsgate.events.streaming import StreamCall
from natsgate.events.tokens import Tokens
from natsgate.events.wire import Response

log = logging.getLogger('natsgate.events')

_ACKS = '@ack'  # where a reply subject has its target: no event can have this name
_AT_DEADLINE = 0.01  # a cancellation this near to the deadline is the deadline's own


class Requester:
    """All requests of one connection that wait for an acknowledgement, a response or frames."""

    def __init__(
        self,
        connection: Connection,
        *,
        patience: float = 10,
        presence: PresenceWatch | None = None,
        window: Window = Window(),  # noqa: B008  frozen
    ) -> None:
        """`patience`: seconds for which a publish is repeated whose acknowledgement stays away.

        `presence` knows which workers live; without it, calls wait for workers until their deadline. `window` is
        what a streaming call may hold that was not read yet.
        """
        self._connection = connection
        self._patience = patience
        self._presence = presence
        self._window = window
        self._waiting: dict[bytes, Pending] = {}
        self._tokens = Tokens()
        self._calls = 0
        # Not the connection's id: a gateway that is restarted under the same name must not repeat its ids.
        self._ids = secrets.token_hex(6)
        self._ack_prefix = f'{subjects.REPLY_PREFIX}{connection.id}.{_ACKS}.'.encode()
        self.late = 0
        """Responses that came after their call had ended."""
        self.strays = 0
        """Messages on our reply subjects that were no responses."""

    async def open(self) -> None:
        """Subscribe to the reply subjects of this process, once."""
        self._loop = asyncio.get_running_loop()
        self.publisher = Publisher(
            self._connection, answers_to=self._ack_prefix, patience=self._patience, end=self.end
        )  # fmt: skip
        self.links = Links(self._connection)
        self.deadlines = Deadlines(self._waiting, self._connection.clock, expire=self._expire)
        if self._presence is not None:
            self._presence.on_absent = self._end_unserved
            self._presence.on_gone = self._end_taken
        self._connection.requesters.add(self)
        self._connection.on_connected.append(self._ask_again)
        self._sid = await self._connection.subscribe(f'{subjects.REPLY_PREFIX}{self._connection.id}.>', self._on_reply)

    def close(self) -> None:
        """End all that waits, and hear nothing more."""
        self.break_off()
        self.deadlines.close()
        self.publisher.close()
        self.links.close()
        self._connection.requesters.discard(self)
        self._connection.on_connected.remove(self._ask_again)
        self._connection.unsubscribe(self._sid)
        self._connection.forget(self._sid)

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
        return len(self.publisher)

    async def ask(
        self,
        destination: Destination,
        payload: bytes,
        *,
        deadline: float,
        metadata: Metadata = (),
        call_id: str = '',
        extra: str = '',
        compressed: bool = False,
    ) -> Response:
        """Publish a request and wait for its response, or for what is known to have gone wrong; never raises for it.

        `deadline` is a moment of the connection's clock. `call_id` makes the request known to the stream: a second
        one of the same id is not stored. `extra` are further header lines, already encoded. When it is cancelled, the
        handler is, too, and a request that is still in the queue is taken out of it.
        """
        asked = self.begin(
            destination, payload, timeout=deadline - self.now(), metadata=metadata, call_id=call_id, extra=extra,
            compressed=compressed,
        )  # fmt: skip
        if isinstance(asked, Response):
            return asked
        try:
            return await asked.answer
        except asyncio.CancelledError:
            self.abandon(asked)
            raise

    def begin(
        self,
        destination: Destination,
        payload: bytes,
        *,
        timeout: float,
        metadata: Metadata = (),
        call_id: str = '',
        extra: str = '',
        compressed: bool = False,
    ) -> Pending | Response:
        """Publish a request that ends within `timeout` seconds; or what is known to have gone wrong.

        As ask(), without a coroutine of its own: wait for the `answer`, and abandon() it if that is cancelled.
        """
        token = self._tokens.next()
        now = self.now()
        head = wire.RequestHead(
            self._id(destination, call_id),
            subjects.reply_subject(self._connection.id, destination.target, token),
            self._connection.clock.to_broker(now + timeout),
            wire.UNARY,
            compressed,
            (0, 0),
            metadata,
        )
        pending = self._request(destination, payload, head, token, timeout=timeout, ttl=timeout, extra=extra)
        if isinstance(pending, Pending):
            pending.deadline = now + timeout
            self._register(pending, timeout)
            self.deadlines.watch(pending, timeout)
        return pending

    def abandon(self, pending: Pending) -> None:
        """Nobody waits for the answer any more, which was cancelled."""
        if pending.deadline - self.now() > _AT_DEADLINE:
            self.cancel(pending)
        self.forget(pending)

    def stream(
        self,
        destination: Destination,
        payload: bytes,
        kind: Kind,
        *,
        deadline: float | None,
        take_within: float,
        idle_timeout: float | None = None,
        metadata: Metadata = (),
        call_id: str = '',
        extra: str = '',
        compressed: bool = False,
    ) -> StreamCall | Response:
        """Publish the request of a streaming call; or what is known to have gone wrong.

        `take_within`: seconds within which an actor must take it. `idle_timeout`: seconds that may pass between two
        messages. The caller must read the call to its end, or cancel it.
        """
        token = self._tokens.next()
        head = wire.RequestHead(
            id=self._id(destination, call_id),
            reply=subjects.reply_subject(self._connection.id, destination.target, token),
            deadline=None if deadline is None else self._connection.clock.to_broker(deadline),
            metadata=metadata,
            kind=kind,
            compressed=compressed,
            credit=(self._window.messages, self._window.bytes),
        )
        timeout = None if deadline is None else deadline - self.now()
        take_within = take_within if timeout is None else min(take_within, timeout)
        pending = self._request(destination, payload, head, token, timeout=timeout, ttl=take_within, extra=extra)
        if isinstance(pending, Response):
            return pending
        if deadline is not None and timeout is not None:
            pending.deadline = deadline
            self.deadlines.watch(pending, timeout)
        call = StreamCall(
            self, self._connection, pending, window=self._window, take_within=take_within, idle_timeout=idle_timeout
        )
        self._register(pending, take_within)
        return call

    def _id(self, destination: Destination, call_id: str) -> str:
        self._calls += 1
        return destination.id_of(call_id) if call_id else f'{destination.subject}:{self._ids}.{self._calls}'

    def _request(
        self, destination: Destination, payload: bytes, head: wire.RequestHead, token: str, *,
        timeout: float | None, ttl: float, extra: str,
    ) -> Pending | Response:  # fmt: skip
        refused = self._refusal(destination, timeout)
        if refused is not None:
            return refused
        encode = walnats.encode_request if destination.walnats else wire.encode_request
        try:
            block = encode(head, ttl=max(1, math.ceil(ttl)), extra=extra)
        except MetadataError as error:
            return failed(Failure.BAD_METADATA, str(error))
        size = len(block) + len(payload)
        if (refused := too_large(size, self._connection.max_payload)) is not None:
            return refused
        subject, key = destination.subject.encode(), token.encode()
        frame = b'HPUB %b %b%b %d %d\r\n%b%b\r\n' % (subject, self._ack_prefix, key, len(block), size, block, payload)
        return Pending(destination, key, head.reply.encode(), frame, self._loop.create_future())

    def _refusal(self, destination: Destination, timeout: float | None) -> Response | None:
        try:
            if not self._connection.connected:
                raise Disconnected('not connected to NATS')
            self._connection.check_backlog()
        except Disconnected as error:
            return failed(Failure.DISCONNECTED, f'NATS is away: {error}')
        if timeout is not None and timeout <= 0:
            return failed(Failure.DEADLINE, 'the deadline had passed before the call could be published')
        presence = self._presence
        if presence is not None and destination.subject not in presence.served:
            return presence.refusal(destination)
        return None

    def _register(self, pending: Pending, within: float) -> None:
        pending.began = self._loop.time()
        pending.give_up = pending.began + min(self._patience, within)
        self._waiting[pending.token] = pending
        self.publisher.publish(pending)

    def _expire(self, pending: Pending) -> None:
        self.end(pending, failed(Failure.DEADLINE, 'the deadline has passed', attempts=pending.attempts))

    def end(self, pending: Pending, response: Response) -> None:
        """End a request with this response; nothing if it has ended."""
        answer = pending.answer
        if not answer.done():
            self.forget(pending)
            answer.set_result(response)

    def forget(self, pending: Pending) -> None:
        """Nobody waits for it."""
        self._waiting.pop(pending.token, None)
        self.publisher.forget(pending)
        if pending.timer is not None:
            pending.timer.cancel()

    def cancel(self, pending: Pending) -> None:
        """Nobody waits any more: have the handler cancelled wherever it runs, and the queued copy removed."""
        subject = subjects.cancel_subject(pending.destination.target).encode()
        self._connection.offer(b'PUB %b %d\r\n%b\r\n' % (subject, len(pending.reply), pending.reply))
        self.publisher.withdraw(pending)

    def _ask_again(self) -> None:
        """There is a connection again: what was on the way over the former one is lost, but its sender still has it."""
        for pending in self._waiting.values():
            if pending.on_message is None:
                destination = pending.destination
                subject, body = subjects.missed_subject(destination.target), f'{destination.subject} '.encode()
                size = len(body) + len(pending.reply)
                self._connection.offer(b'PUB %b %d\r\n%b%b\r\n' % (subject.encode(), size, body, pending.reply))

    def break_off(self) -> None:
        """End all that waits: this process stops before the answers are there."""
        for pending in list(self._waiting.values()):
            self.cancel(pending)
            text = 'the gateway stopped before the call had ended'
            self.end(pending, failed(Failure.GATEWAY_STOPPED, text, idempotent=pending.destination.idempotent))

    # What arrives

    def _on_reply(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        token = subject[subject.rfind(b'.') + 1 :]
        if subject.startswith(self._ack_prefix):
            self.publisher.on_ack(token, header, payload)
            return
        pending = self._waiting.get(token)
        if pending is None:
            self._on_late(subject, reply, header, payload)
        elif subject != pending.reply:
            self.strays += 1
        elif pending.on_message is not None:
            pending.on_message(reply, header, payload)
        else:
            self.take(pending, header, payload)

    def take(self, pending: Pending, header: bytes | None, payload: bytes) -> None:
        """End a request with the response that has arrived; what is none is passed over."""
        try:
            self.end(pending, wire.decode_response(header, payload))
        except wire.Stray as error:
            if pending.destination.walnats:  # its actors answer with data alone, and send our headers back
                self.end(pending, Response(payload=payload))
                return
            if worker := wire.taken_by(header):
                pending.taken_by = worker
                return
            self.strays += 1
            log.warning('a message on a reply subject is not a response and was passed over: %s', error)
        except wire.Unreadable as error:
            self.end(pending, failed(Failure.RESPONSE_UNREADABLE, f'the response cannot be read: {error}'))

    def _on_late(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        token = subject[subject.rfind(b'.') + 1 :]
        if any(token in other._waiting for other in self._connection.requesters if other is not self):
            return
        if header is None or not frames.is_frame(header):
            self.late += 1
            return
        try:
            frame = frames.decode(header, payload)
        except wire.Unreadable:
            return
        target = subject[len(subjects.REPLY_PREFIX) + len(self._connection.id) + 1 :].rpartition(b'.')[0].decode()
        if frame.kind is frames.FrameKind.ACCEPT and subjects.call_pattern(target).match(reply):
            self.send_away(reply)

    def send_away(self, inbox: bytes) -> None:
        """Tell an actor that the call it has accepted is not its own."""
        block = frames.encode(0, frames.FrameKind.GONE)
        self._connection.offer(b'HPUB %b %d %d\r\n%b\r\n' % (inbox, len(block), len(block), block))

    # Without workers

    def _end_unserved(self, subject: str, response: Response, absence: float) -> None:
        """Nobody has taken this subject for `absence` seconds. What was published before that may have run."""
        vanished = self._loop.time() - absence
        for pending in list(self._waiting.values()):
            destination = pending.destination
            if destination.subject == subject:
                self.publisher.withdraw(pending)
                may_have_run = pending.began < vanished
                self.end(pending, _gone(destination) if may_have_run else response)

    def _end_taken(self, gone: frozenset[str]) -> None:
        """These workers are gone, and with them the calls that nobody else may run."""
        for pending in [pending for pending in self._waiting.values() if pending.taken_by in gone]:
            text = 'the worker that ran the call is gone; it is not run again, because it must not run twice'
            idempotent = pending.destination.idempotent
            self.end(pending, failed(Failure.WORKER_CRASHED, text, idempotent=idempotent, attempts=1))

    def waits_for(self, destination: Destination) -> bool:
        """Whether any request to this destination's stream waits."""
        return any(pending.destination.stream == destination.stream for pending in self._waiting.values())

    def end_waiting(self, destination: Destination, response: Response) -> None:
        """End every acknowledged request to this destination's stream with the same response."""
        for pending in list(self._waiting.values()):
            if pending.destination.stream == destination.stream and pending not in self.publisher:
                self.end(pending, response)


def _gone(destination: Destination) -> Response:
    text = 'its workers are gone, and one of them may have run it'
    return failed(Failure.WORKER_CRASHED, text, idempotent=destination.idempotent)
