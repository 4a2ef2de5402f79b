"""Exchange: the actor's end of a streaming call: messages from its caller, responses to it, and the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from natsgate.actors.calls import Calls
from natsgate.actors.context import Context
from natsgate.events import frames, headers
from natsgate.events.connection import Connection
from natsgate.events.event import EventWithResponse
from natsgate.events.failures import Failure, failed
from natsgate.events.flow import Window
from natsgate.events.frames import FrameKind, Message
from natsgate.events.link import Link
from natsgate.events.metadata import Metadata
from natsgate.events.publishing import too_large
from natsgate.events.status import StatusError
from natsgate.events.wire import RequestHead, Response, Unreadable

log = logging.getLogger('natsgate.actors')

WINDOW = Window()


class Exchange:
    """One streaming call at work."""

    def __init__(
        self,
        connection: Connection,
        calls: Calls,
        event: EventWithResponse[Any, Any],
        head: RequestHead,
        context: Context,
        *,
        on_commit: Callable[[], None],
        on_over: Callable[[str], None],
    ) -> None:
        """`on_commit`: the call belongs to this attempt from here on. `on_over`: nobody waits for it any more, why."""
        self.link = Link(connection, calls.inbox(event.target), window=WINDOW, on_broken=self._on_broken)
        self.link.peer = head.reply.encode()
        self.link.grant(*head.credit)
        self.committed = False
        self.gone = False
        """The call is over or goes on elsewhere: the event is done."""
        self._calls = calls
        self._event = event
        self._context = context
        self._on_commit = on_commit
        self._on_over = on_over
        self._chosen = asyncio.get_running_loop().create_future()
        context.on_initial = self._send_initial
        context.on_response = self.send

    def open(self) -> None:
        """Tell the caller that the call runs here."""
        self._calls.add(self)
        self.link.accept()

    async def chosen(self) -> None:
        """Wait until the caller has said that this attempt is the one."""
        await self._chosen

    # For the handler

    def messages(self) -> Messages:
        """What the caller sends."""
        return Messages(self.link, self._event, self._context)

    async def send(self, response: Any) -> None:
        """Send a response, as soon as the caller takes it. Raises StatusError, LinkBroken."""
        try:
            data = self._event.encode_response(response)
        except Exception as error:  # a serializer of the user's own may raise anything
            log.error('%s: what the handler gave cannot be sent: %s', self._event.name, error)
            text = 'the handler gave something else than the event declares; its log says what'
            raise StatusError(failed(Failure.RESPONSE_UNREADABLE, text).status) from error
        if (oversized := too_large(len(data), self.link.max_message)) is not None:
            raise StatusError(oversized.status, trailing=oversized.trailing)
        await self.link.send(Message(data, self._context.compress))
        self._commit()

    def _send_initial(self, initial: Metadata) -> None:
        if self._context.initial or self.link.sent:
            raise ValueError('initial metadata was sent already')
        self.link.headers(initial)
        self._commit()

    def _commit(self) -> None:
        if not self.committed:
            self.committed = True
            self.link.flush()
            self._on_commit()

    # The end

    def end(self, response: Response) -> None:
        """Send the status, and before it the initial metadata if none was sent."""
        if response.initial and not self._context.initial and not self.link.sent:
            self.link.headers(response.initial)
        self.link.end(response._replace(initial=(), payload=b''))
        self._commit()
        self.close()

    def close(self) -> None:
        """Take and send nothing more."""
        self._calls.discard(self)
        self.link.stop()
        self._context.on_initial = None
        self._chosen.cancel()

    # What arrives

    def on_message(self, reply: bytes, header: bytes | None, payload: bytes) -> None:
        """A message in the inbox: a frame, or the server's word that nobody has taken one of ours."""
        if not frames.is_frame(header):
            line = headers.status(header)
            if line is not None and line[0] == 503:
                self._over('its caller is gone')
            return
        assert header is not None
        try:
            frame = frames.decode(header, payload)
        except Unreadable as error:
            self.link.fail(str(error))
            return
        if reply != self.link.peer and frame.kind is not FrameKind.GONE:
            return  # only the caller may speak here
        if frame.kind is FrameKind.GONE:
            self.gone = True
            self._over('the call is over, or goes on elsewhere')
        elif self.link.on_frame(frame):
            match frame.kind:
                case FrameKind.GO:
                    if not self._chosen.done():
                        self._chosen.set_result(None)
                case FrameKind.CANCEL:
                    self.gone = True
                    self._over('cancelled by its caller')
                case FrameKind.DATA | FrameKind.CLOSE:
                    self._commit()

    def on_silence(self) -> None:
        """The caller is silent."""
        self._over('its caller is silent')

    def on_lost(self) -> None:
        """The connection was lost."""
        self._over('the connection to NATS was lost')

    def _on_broken(self, reason: str) -> None:
        idempotent = self._event.idempotent
        self.link.end(failed(Failure.STREAM_BROKEN, f'the call broke off: {reason}', idempotent=idempotent))
        self._over(reason)

    def _over(self, reason: str) -> None:
        self.close()
        self._on_over(reason)


class Messages:
    """The caller's messages, decoded one by one: an async iterator."""

    def __init__(self, link: Link, event: EventWithResponse[Any, Any], context: Context) -> None:
        self._link = link
        self._event = event
        self._context = context

    def __aiter__(self) -> Messages:
        return self

    async def __anext__(self) -> Any:
        message = await self._link.receive()
        if message is None:
            raise StopAsyncIteration
        self._context.compressed = message.compressed
        try:
            return self._event.decode(message.data)
        except Exception as error:  # a serializer of the user's own may raise anything
            response = failed(Failure.EVENT_UNREADABLE, f'a message cannot be read: {error}')
            raise StatusError(response.status, trailing=response.trailing) from error
