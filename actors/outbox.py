"""Outbox: the responses of the last seconds.

A response is published with a reply subject of ours, so that the server tells at once when nobody took it (a gateway
between two connections): it is then published again until its deadline. So it is when a gateway that was cut off asks
for what it may have missed. An event that is delivered once more although it was answered (an acknowledgement was
lost) gets the same response, and its handler does not run twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from natsgate.actors.actor import Actor
from natsgate.actors.consumer import Delivery
from natsgate.events import headers
from natsgate.events.connection import Connection, Disconnected

KEEP_FOR = 10.0
"""Seconds for which a response is kept."""
KEEP_COUNT = 32_768
"""Responses that a process keeps at most: those of two seconds, after which an unacknowledged event comes again."""
KEEP_BYTES = 32 * 1024 * 1024

_RESEND_AFTER = 0.1
_SENT = '@sent'  # where other inboxes have a stream: none can have this name


class Sent:
    """One response, as it is published."""

    __slots__ = ('at', 'deadline', 'delivery', 'frame', 'reply')

    def __init__(self, frame: bytes, reply: bytes, delivery: Delivery, at: float, deadline: float) -> None:
        self.frame = frame
        self.reply = reply
        self.delivery = delivery
        self.at = at
        self.deadline = deadline


def name_of(actor: Actor) -> bytes:
    """What the names of an actor's events begin with."""
    return f'{actor.event.stream_name}.{actor.name}.'.encode()


class Outbox:
    """Publishes the responses of a process.

    An event is known by its actor's name_of() and its sequence on the stream; both are in the reply subject, too.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = connection.clock
        self._prefix = f'{connection.inbox}.{_SENT}.'.encode()
        self._sent: OrderedDict[bytes, Sent] = OrderedDict()  # a plain dict is slow to tell its oldest entry
        self._unwritten: dict[bytes, None] = {}
        self._by_reply: dict[bytes, bytes] = {}
        self._bytes = 0
        self._purger: asyncio.TimerHandle | None = None
        self._sid = 0

    async def open(self) -> None:
        """Subscribe to what comes back."""
        self._loop = asyncio.get_running_loop()
        self._sid = await self._connection.subscribe(self._prefix.decode() + '>', self._on_returned)
        self._connection.on_connected.append(self._publish_unwritten)

    def close(self) -> None:
        """Forget all; nothing more is published again."""
        self._connection.unsubscribe(self._sid)
        self._connection.forget(self._sid)
        self._connection.on_connected.remove(self._publish_unwritten)
        if self._purger is not None:
            self._purger.cancel()
        self._sent.clear()

    def send(
        self, reply: bytes, head: bytes, payload: bytes, *, name: bytes, delivery: Delivery, now: float, deadline: float
    ) -> None:
        """Publish a response; nobody wants it after `deadline`, a moment of the connection's clock, as `now` is."""
        event, size = b'%b%d' % (name, delivery.sequence), len(head) + len(payload)
        frame = b'HPUB %b %b%b %d %d\r\n%b%b\r\n' % (reply, self._prefix, event, len(head), size, head, payload)
        if event in self._sent:  # a stream that is made anew counts from 1 again
            self._drop(event)
        self._sent[event] = Sent(frame, reply, delivery, now, deadline)
        self._bytes += len(frame)
        self._write(event, frame)
        if self._purger is None:
            self._purger = self._loop.call_later(KEEP_FOR, self._purge)
        while len(self._sent) > KEEP_COUNT or self._bytes > KEEP_BYTES:
            self._drop(next(iter(self._sent)))

    def answer_again(self, name: bytes, delivery: Delivery) -> bool:
        """Publish the response to an event once more that was answered before; False when it is not known."""
        event = b'%b%d' % (name, delivery.sequence)
        sent = self._sent.get(event)
        if sent is None or not sent.delivery.is_same(delivery):
            return False
        self._write(event, sent.frame)
        return True

    def repeat(self, reply: bytes) -> None:
        """Publish again what went to this reply subject, if it is known."""
        if not self._by_reply:  # asked for rarely, and then for many at once
            self._by_reply = {sent.reply: event for event, sent in self._sent.items()}
            self._loop.call_soon(self._by_reply.clear)
        event = self._by_reply.get(reply, b'')
        sent = self._sent.get(event)
        if sent is not None and self._clock.now() < sent.deadline:
            self._write(event, sent.frame)

    def _send_again(self, event: bytes) -> None:
        sent = self._sent.get(event)
        if sent is not None:
            self._write(event, sent.frame)

    def _write(self, event: bytes, frame: bytes) -> None:
        try:
            self._connection.write(frame)
        except Disconnected:
            self._unwritten[event] = None

    def _on_returned(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        line, event = headers.status(header), subject[len(self._prefix) :]
        if line is None or line[0] != 503:
            return
        sent = self._sent.get(event)
        if sent is not None and self._clock.now() + _RESEND_AFTER < sent.deadline:
            self._loop.call_later(_RESEND_AFTER, self._send_again, event)

    def _publish_unwritten(self) -> None:
        now = self._clock.now()
        unwritten, self._unwritten = self._unwritten, {}
        for event in unwritten:
            sent = self._sent.get(event)
            if sent is not None and now < sent.deadline:
                self._write(event, sent.frame)

    def _purge(self) -> None:
        self._purger = None
        oldest_kept = self._clock.now() - KEEP_FOR
        while self._sent and next(iter(self._sent.values())).at <= oldest_kept:
            self._drop(next(iter(self._sent)))
        if self._sent:
            self._purger = self._loop.call_later(KEEP_FOR / 4, self._purge)

    def _drop(self, event: bytes) -> None:
        self._bytes -= len(self._sent.pop(event).frame)
