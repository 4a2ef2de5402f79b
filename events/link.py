"""Link: one end of the frames of a streaming call, at its caller or at its actor.

Frames are numbered and counted; credit keeps both sides from holding more than a window; who has nothing to say sends a
ping. What is lost ends the call: a link never hands on messages with a hole in between.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from natsgate.events import frames
from natsgate.events.connection import Connection
from natsgate.events.flow import Incoming, Outgoing, Window
from natsgate.events.frames import Frame, FrameKind, Message
from natsgate.events.metadata import Metadata, MetadataError
from natsgate.events.waiters import Waiters
from natsgate.events.wire import Response, Unreadable

PING_EVERY = 0.5
"""Seconds without a frame of ours after which the other side gets a ping."""
SILENCE = 2.0
"""Seconds without a frame of the other side's after which it counts as dead."""

_BATCH = 64 * 1024
_OVERHEAD = 128


class LinkBroken(Exception):  # noqa: N818
    """The other side is gone, or a frame was lost: nothing more can be sent or received."""


class Link:
    """Numbers, counts, credit and a queue for what was not read yet."""

    def __init__(
        self,
        connection: Connection,
        own: bytes,
        *,
        window: Window,
        on_broken: Callable[[str], None],
    ) -> None:
        """`own` is this end's inbox. `on_broken` is called once, with the reason."""
        self.own = own
        self.peer = b''
        """The other end's inbox; empty while it is not known."""
        self.broken = ''
        """Why nothing more can be sent or received."""
        self.closed = False
        """The other side has said that it sends no more messages."""
        self.active = 0.0
        """When the last message was sent or received."""
        self._connection = connection
        self._window = window
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._senders = Waiters()
        self._readers = Waiters()
        self.reset()

    def reset(self) -> None:
        """Begin anew, with another peer: nothing was sent or received yet."""
        self.peer = b''
        self._number = 0
        self._expected = 0
        self._out = Outgoing()
        self._in = Incoming(self._window)
        self._queue: deque[Message] = deque()
        self._given: Sequence[Message] = ()
        self._batch: list[Message] = []
        self._batch_bytes = 0
        self._flushing = False
        self.heard = self.active = self.written = self._loop.time()

    # Sending

    @property
    def sent(self) -> int:
        """Messages sent so far."""
        return self._out.messages

    @property
    def received(self) -> int:
        """Messages received so far, read or not."""
        return self._in.messages

    def grant(self, messages: int, bytes: int) -> None:
        """The other side takes messages up to these totals."""
        self._out.grant(messages, bytes)
        if self._out.may_send:
            self._senders.wake()

    @property
    def max_message(self) -> int:
        """Bytes of the largest message that a frame can carry."""
        return self._connection.max_payload - _OVERHEAD

    async def send(self, message: Message) -> None:
        """Send a message as soon as there is credit. Raises LinkBroken. It must not be larger than max_message."""
        while not self._out.may_send and not self.broken:
            await self._senders.wait()
        if self.broken:
            raise LinkBroken(self.broken)
        size = len(message.data)
        if self._batch and self._batch_bytes + size > min(_BATCH, self.max_message):
            self.flush()
        self._out.sent(size)
        self._batch.append(message)
        self._batch_bytes += size + frames.PREFIX_SIZE
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the messages that are waiting to go out together."""
        self._flushing = False
        if self._batch and not self.broken:
            payload = frames.join(self._batch)
            self._batch.clear()
            self._batch_bytes = 0
            self.active = self._loop.time()
            self._write(frames.encode(self._number, FrameKind.DATA), payload)

    def write(self, kind: FrameKind, a: int | None = None, b: int | None = None) -> None:
        """Write a frame that carries nothing but its kind and numbers, after the messages that wait."""
        self.flush()
        self._write(frames.encode(self._number, kind, a, b))

    def accept(self) -> None:
        """Write the accept frame, with credit for the other side's messages."""
        self.write(FrameKind.ACCEPT, self._in.granted_messages, self._in.granted_bytes)

    def headers(self, initial: Metadata) -> None:
        """Write the initial metadata. Raises MetadataError when NATS does not take that much."""
        block = frames.encode_headers(self._number, initial)
        if len(block) > self.max_message:  # the server would end the connection, and all calls on it
            raise MetadataError(f'{len(block)} bytes of initial metadata are more than NATS takes')
        self._write(block)

    def end(self, response: Response) -> None:
        """Write the end frame."""
        self.flush()
        self._write(frames.encode_end(self._number, self._out.messages, response))

    def _write(self, block: bytes, payload: bytes = b'') -> None:
        if self.broken or not self.peer:
            return
        self._number += 1
        self.written = self._loop.time()
        # What is not sent while NATS is away is not missed: whoever watches over the links ends or revives them then.
        self._connection.offer(
            b'HPUB %b %b %d %d\r\n%b%b\r\n'
            % (self.peer, self.own, len(block), len(block) + len(payload), block, payload)
        )

    # Receiving

    def on_frame(self, frame: Frame) -> bool:
        """Take a frame of the other side's. False when it is a repetition, or broke the link."""
        if frame.number < self._expected or self.broken:
            return False
        if frame.number > self._expected:
            self.fail(f'frame {self._expected} did not arrive before frame {frame.number}')
            return False
        self._expected += 1
        self.heard = self._loop.time()
        kind = frame.kind
        if kind is FrameKind.DATA:
            return self._on_data(frame)
        if kind is FrameKind.CREDIT or kind is FrameKind.ACCEPT:
            self.grant(frame.a, frame.b)
        elif kind is FrameKind.CLOSE or kind is FrameKind.END:
            if frame.a != self._in.messages:
                self.fail(f'{self._in.messages} messages arrived of {frame.a}')
                return False
            self.closed = True
            self.wake_reader()
        return True

    def _on_data(self, frame: Frame) -> bool:
        try:
            messages = frame.messages()
        except Unreadable as error:
            self.fail(str(error))
            return False
        for message in messages:
            if not self._in.arrived(len(message.data)):
                self.fail('the other side sent more than it had credit for')
                return False
        self.active = self.heard
        self._queue.extend(messages)
        self.wake_reader()
        return True

    def wake_reader(self) -> None:
        """Something has changed that a reader wants to know."""
        self._readers.wake()

    async def receive(self) -> Message | None:
        """The other side's next message; None after the last one. Raises LinkBroken."""
        while not self._queue:
            if self.broken:
                raise LinkBroken(self.broken)
            if self.closed:
                return None
            await self.arrival()
        message = self._queue.popleft()
        self._taken(message)
        return message

    async def receive_some(self) -> Sequence[Message]:
        """The other side's next messages, as many as have arrived within reason; none after the last one.

        They count as read when more are asked for. Raises LinkBroken.
        """
        for message in self._given:
            self._taken(message)
        self._given = ()
        while not self._queue:
            if self.broken:
                raise LinkBroken(self.broken)
            if self.closed:
                return ()
            await self.arrival()
        given, size = [self._queue.popleft()], 0
        # No more than a quarter of the window: while these are written, the sender has credit to go on with.
        while self._queue and len(given) < self._window.messages // 4 and size < self._window.bytes // 4:
            given.append(self._queue.popleft())
            size += len(given[-1].data)
        self._given = given
        return given

    def _taken(self, message: Message) -> None:
        more = self._in.taken(len(message.data))
        if more is not None and not self.closed:
            self.write(FrameKind.CREDIT, *more)

    async def arrival(self) -> None:
        """Wait until something has changed that a reader wants to know."""
        await self._readers.wait()

    @property
    def unread(self) -> bool:
        """Whether messages wait to be read."""
        return bool(self._queue)

    # The end

    def fail(self, reason: str) -> None:
        """Nothing more can be sent or received; what was received and not read is dropped."""
        if not self.broken:
            self._on_broken(reason)  # it may say a last word
            self.stop(reason)

    def stop(self, reason: str = 'the call is over', *, keep: bool = False) -> None:
        """End this side quietly: whoever waits to send or to receive gets LinkBroken.

        `keep`: what was received can still be read.
        """
        self.flush()
        self.broken = self.broken or reason
        if not keep:
            self._queue.clear()
        self.wake_reader()
        self._senders.wake()


class End(Protocol):
    """Who owns a link: the caller's end of a call, or the actor's."""

    link: Link

    def on_silence(self) -> None:
        """The other side is silent; said again and again."""

    def on_lost(self) -> None:
        """The connection to NATS was lost: frames may be, too."""


class Links:
    """The links of one connection that are alive: it sends their pings, and notices which of them fall silent."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ends: set[End] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._ticked = 0.0
        connection.on_disconnected.append(self._on_disconnected)

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, end: End) -> None:
        """Watch over an end's link."""
        self._ends.add(end)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._ticked = loop.time()
            self._timer = loop.call_later(PING_EVERY, self._tick)

    def discard(self, end: End) -> None:
        """Watch no more."""
        self._ends.discard(end)

    def close(self) -> None:
        """Watch over none."""
        self._connection.on_disconnected.remove(self._on_disconnected)
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PING_EVERY, self._tick) if self._ends else None
        now = loop.time()
        stood_still = now - self._ticked > 2 * PING_EVERY  # this process itself: it has not read what came meanwhile
        self._ticked = now
        for end in list(self._ends):
            link = end.link
            if stood_still:
                link.heard = now
            if now - link.written >= PING_EVERY / 2:
                link.write(FrameKind.PING)
            if now - link.heard > SILENCE:
                end.on_silence()

    def _on_disconnected(self) -> None:
        for end in list(self._ends):
            end.on_lost()
