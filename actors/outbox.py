"""Outbox: the responses of the last seconds.

A response is published with a reply subject of ours, so that the server tells at once when nobody took it (a gateway
between two connections): it is then published again until its deadline. An event that is delivered once more although
it was answered (an acknowledgement was lost) gets the same response, and its handler does not run twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from natsgate.events import headers
from natsgate.events.connection import Connection, Disconnected

KEEP_FOR = 10.0
"""Seconds for which a response is kept."""
KEEP_COUNT = 8192
KEEP_BYTES = 32 * 1024 * 1024

_RESEND_AFTER = 0.1


@dataclass(slots=True)
class Sent:
    """One response, as it is published."""

    frame: bytes
    sequence: int
    at: float
    deadline: float
    written: bool


class Outbox:
    """Publishes the responses of one worker."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._prefix = f'{connection.inbox}.{name}.'
        self._sent: OrderedDict[int, Sent] = OrderedDict()  # a plain dict is slow to tell its oldest entry
        self._by_sequence: dict[int, int] = {}
        self._bytes = 0
        self._next = 0
        self._purger: asyncio.TimerHandle | None = None
        self._sid = 0

    async def open(self) -> None:
        """Subscribe to what comes back."""
        self._loop = asyncio.get_running_loop()
        self._sid = await self._connection.subscribe(self._prefix + '*', self._on_returned)
        self._connection.on_connected.append(self._publish_unwritten)

    def close(self) -> None:
        """Forget all; nothing more is published again."""
        self._connection.unsubscribe(self._sid)
        self._connection.forget(self._sid)
        self._connection.on_connected.remove(self._publish_unwritten)
        if self._purger is not None:
            self._purger.cancel()
        self._sent.clear()

    def send(self, reply: bytes, head: bytes, payload: bytes, *, sequence: int, deadline: float) -> None:
        """Publish a response; `deadline` is a moment of the loop's clock after which nobody wants it."""
        self._next += 1
        number = self._next
        size = len(head) + len(payload)
        frame = b'HPUB %b %b%d %d %d\r\n%b%b\r\n' % (
            reply, self._prefix.encode(), number, len(head), size, head, payload
        )  # fmt: skip
        sent = Sent(frame, sequence, self._loop.time(), deadline, self._write(frame))
        self._sent[number] = sent
        self._by_sequence[sequence] = number
        self._bytes += len(frame)
        if self._purger is None:
            self._purger = self._loop.call_later(KEEP_FOR, self._purge)
        while len(self._sent) > KEEP_COUNT or self._bytes > KEEP_BYTES:
            self._drop_oldest()

    def send_again(self, sequence: int) -> bool:
        """Publish the response to an event that was answered before; False when it is not known."""
        number = self._by_sequence.get(sequence)
        if number is None:
            return False
        sent = self._sent[number]
        sent.written = self._write(sent.frame)
        return True

    def _write(self, frame: bytes) -> bool:
        try:
            self._connection.write(frame)
        except Disconnected:
            return False
        return True

    def _on_returned(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        line = headers.status(header)
        if line is None or line[0] != 503:
            return
        number = int(subject[len(self._prefix) :])
        sent = self._sent.get(number)
        if sent is not None and self._loop.time() + _RESEND_AFTER < sent.deadline:
            self._loop.call_later(_RESEND_AFTER, self._publish_again, number)

    def _publish_again(self, number: int) -> None:
        if (sent := self._sent.get(number)) is not None:
            sent.written = self._write(sent.frame)

    def _publish_unwritten(self) -> None:
        now = self._loop.time()
        for sent in self._sent.values():
            if not sent.written and now < sent.deadline:
                sent.written = self._write(sent.frame)

    def _purge(self) -> None:
        self._purger = None
        oldest_kept = self._loop.time() - KEEP_FOR
        while self._sent and next(iter(self._sent.values())).at <= oldest_kept:
            self._drop_oldest()
        if self._sent:
            self._purger = self._loop.call_later(KEEP_FOR / 4, self._purge)

    def _drop_oldest(self) -> None:
        number, sent = self._sent.popitem(last=False)
        self._bytes -= len(sent.frame)
        if self._by_sequence.get(sent.sequence) == number:
            del self._by_sequence[sent.sequence]
