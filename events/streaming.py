"""StreamCall: the caller's end of a streaming call.

Its request is a durable event. The actor that takes it accepts, and from then on frames go straight between the
two. Until the first message has gone one way or the other, the call may move to another attempt unseen; then it is
committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from natsgate.events import frames, headers, subjects
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.failures import Failure, failed
from natsgate.events.flow import Window
from natsgate.events.frames import Frame, FrameKind, Message
from natsgate.events.link import Link, LinkBroken
from natsgate.events.metadata import Metadata
from natsgate.events.pending import Pending
from natsgate.events.publishing import sequence_of, too_large
from natsgate.events.wire import Response, Unreadable

if TYPE_CHECKING:
    from natsgate.events.requester import Requester

log = logging.getLogger('natsgate.events')

_NO_MESSAGE = 10037
_LOOK_EVERY = 2.0
_COMMITTING = frozenset({FrameKind.HEADERS, FrameKind.DATA, FrameKind.END})


class StreamCall:
    """Messages out, messages in, and how it ended. Made by Requester.stream()."""

    def __init__(
        self, requester: Requester, connection: Connection, pending: Pending, *,
        window: Window, take_within: float, idle_timeout: float | None,
    ) -> None:  # fmt: skip
        self._requester = requester
        self._connection = connection
        self._pending = pending
        self._pattern = subjects.call_pattern(pending.destination.target)
        self._committed = False
        self._closing = False
        self._former: set[bytes] = set()
        self._initial: Metadata | None = None
        self._ended_by_actor = False
        self._looking: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.link = Link(connection, pending.reply, window=window, on_broken=self._on_broken)
        self._take_within = take_within
        self._taking = self._loop.call_later(take_within, self._not_taken)
        self._idle_timer: asyncio.TimerHandle | None = None
        if idle_timeout is not None:
            self._idle_timeout = idle_timeout
            self._idle_timer = self._loop.call_later(idle_timeout, self._look_whether_idle)
        pending.on_message = self._on_message
        pending.answer.add_done_callback(self._on_end)

    # For whoever has made the call

    async def send(self, message: Message) -> bool:
        """Send a message as soon as the actor takes it. False: the call is over, no more is sent."""
        if len(message.data) > self.link.max_message:
            refused = too_large(len(message.data), self.link.max_message)
            assert refused is not None
            self._end(refused)
            return False
        try:
            await self.link.send(message)
        except LinkBroken:
            return False
        self._commit()
        return not self.done

    def close(self) -> None:
        """Say that there are no more messages."""
        self._closing = True
        if self.link.peer:
            self.link.write(FrameKind.CLOSE, self.link.sent)
            self._commit()

    async def initial(self) -> Metadata:
        """Initial metadata, as soon as the actor has sent it; empty once it is certain that it sends none."""
        while self._initial is None and not self.link.unread and not self.done:
            await self.link.arrival()
        return self._initial or ()

    async def receive(self) -> Message | None:
        """The actor's next message; None when the call has ended."""
        try:
            return await self.link.receive()
        except LinkBroken:
            return None

    async def receive_some(self) -> Sequence[Message]:
        """The actor's next messages, as many as have come; none when the call has ended."""
        try:
            return await self.link.receive_some()
        except LinkBroken:
            return ()

    @property
    def done(self) -> bool:
        """Whether the call has ended; messages may still wait to be read."""
        return self._pending.answer.done()

    @property
    def response(self) -> Response:
        """How the call ended: status and trailing metadata. Only when it has (receive() gave None)."""
        return self._pending.answer.result()

    def cancel(self) -> None:
        """End the call if it has not ended: nobody waits for it any more."""
        if not self.done:
            self._tell_actor()
            self._requester.end(self._pending, failed(Failure.CANCELLED, 'the caller has cancelled the call'))

    # What arrives

    def _on_message(self, reply: bytes, header: bytes | None, payload: bytes) -> None:
        if not frames.is_frame(header):
            self._on_plain(header, payload)
            return
        assert header is not None
        try:
            frame = frames.decode(header, payload)
            if frame.kind is FrameKind.ACCEPT and reply != self.link.peer:
                self._on_accept(reply, frame)
            elif reply != self.link.peer:
                self._on_stranger(reply, frame)
            elif self.link.on_frame(frame):
                self._on_frame(frame)
        except Unreadable as error:
            self._end(failed(Failure.RESPONSE_UNREADABLE, f'a frame cannot be read: {error}'))

    def _on_stranger(self, reply: bytes, frame: Frame) -> None:
        """A frame of an actor that is not, or no longer, the one; or of the one, whose accept frame was lost."""
        if not self._pattern.match(reply):
            return
        if self.link.peer:
            self._requester.send_away(reply)
        elif frame.kind in _COMMITTING:  # it has had the event acknowledged: no other will get it
            self.link.peer = reply
            known = reply in self._former
            self.link.fail('its worker was silent for too long' if known else 'its accept frame did not arrive')
        elif reply not in self._former:
            self._forget_actor(reply)
        # It hears nothing, and gives the event back; told `gone`, it would terminate what no other has yet.

    def _on_plain(self, header: bytes | None, payload: bytes) -> None:
        """The server's word that nobody took a frame of ours, or an actor's that it does not run the call."""
        line = headers.status(header)
        if line is not None and line[0] == 503:
            if self._committed:
                self._on_broken('its worker is gone')
        elif not self._committed:
            self._requester.take(self._pending, header, payload)

    def _on_accept(self, reply: bytes, frame: Frame) -> None:
        if not self._pattern.match(reply):
            log.warning('an actor accepted a call with an inbox that is not one of its target: %r', reply[:200])
            return
        if self._committed:
            self._requester.send_away(reply)
            return
        if self.link.peer:
            self._former.add(self.link.peer)
            self._requester.send_away(self.link.peer)
        self.link.reset()
        self.link.peer = reply
        if not self.link.on_frame(frame):
            return
        self._requester.publisher.forget(self._pending)
        self._requester.links.add(self)
        self.link.write(FrameKind.GO)
        if self._closing:
            self.close()

    def _on_frame(self, frame: Frame) -> None:
        match frame.kind:
            case FrameKind.HEADERS:
                self._commit()
                self._initial = frame.initial()
                self.link.wake_reader()
            case FrameKind.DATA:
                self._commit()
            case FrameKind.END:
                self._commit()
                self._ended_by_actor = True
                self._requester.end(self._pending, frame.response())
            case FrameKind.CLOSE:
                self.link.fail('an actor closes no call, it ends it')

    def _commit(self) -> None:
        self._committed = True

    # Time, silence, loss

    def on_silence(self) -> None:
        """The actor is silent: a committed call ends, another one waits for the next attempt."""
        if self._committed:
            self.link.fail('its worker is silent')
        else:
            self._forget_actor(self.link.peer)

    def on_lost(self) -> None:
        """The connection was lost."""
        if self._committed:
            self.link.fail('the connection to NATS was lost')
        else:
            self._forget_actor(self.link.peer)

    def _forget_actor(self, inbox: bytes) -> None:
        self._former.add(inbox)
        self._requester.links.discard(self)
        self.link.reset()
        self._taking.cancel()
        self._taking = self._loop.call_later(self._take_within, self._not_taken)
        if self._looking is None or self._looking.done():
            self._looking = self._loop.create_task(self._look(), name='events/stream/look')

    async def _look(self) -> None:
        """The actor may have had the event acknowledged and died before its first frame: then no other gets it."""
        stream = self._pending.destination.stream
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            sequence = sequence_of(self._pending.ack)
            if self.link.peer or self.done or sequence is None:
                return
            try:
                await self._connection.api(f'STREAM.MSG.GET.{stream}', {'seq': sequence})
            except ApiError as error:
                if error.err_code == _NO_MESSAGE and not self.link.peer:
                    self._on_broken('its worker is gone, and the request with it')
                    return
            except (Disconnected, NoResponders, TimeoutError):
                continue

    def _not_taken(self) -> None:
        if self.link.peer or self._committed:
            return
        text = f'no worker took the call within {self._take_within:g} s'
        if self._former:  # one did, and its handler may have begun
            self._on_broken(text)
        else:
            self._end(failed(Failure.NO_WORKER, text))

    def _look_whether_idle(self) -> None:
        left = self.link.active + self._idle_timeout - self._loop.time()
        if left > 0:
            self._idle_timer = self._loop.call_later(left, self._look_whether_idle)
        else:
            self._end(failed(Failure.DEADLINE, f'no message for {self._idle_timeout:g} s'))

    def _on_broken(self, reason: str) -> None:
        self._end(
            failed(
                Failure.STREAM_BROKEN,
                f'the call broke off: {reason}',
                idempotent=self._pending.destination.idempotent,
            )
        )

    # The end

    def _end(self, response: Response) -> None:
        self._tell_actor()
        self._requester.end(self._pending, response)

    def _tell_actor(self) -> None:
        if self.link.peer and not self.done:
            self.link.write(FrameKind.CANCEL)
        elif not self.done:
            self._requester.cancel(self._pending)

    def _on_end(self, answer: asyncio.Future[Response]) -> None:
        self._taking.cancel()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._looking is not None:
            self._looking.cancel()
        self._requester.links.discard(self)
        self.link.stop(keep=self._ended_by_actor)
