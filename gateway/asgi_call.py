"""AsgiCall: a call of the core's, on an ASGI request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.call import Message
from natsgate.gateway.disconnects import Disconnects, Event, Receive, Waiting, ask, forget, is_gone

Send = Callable[[Event], Awaitable[None]]

END: Event = {'type': 'http.response.body', 'body': b'', 'more_body': False}
_READ_AHEAD = 1 << 20


class AsgiCall:
    """Reading, writing, and noticing that the client has gone away: then the task that made it is cancelled."""

    def __init__(
        self, head: http.RequestHead, receive: Receive, send: Send, limit: int, disconnects: Disconnects
    ) -> None:
        self.metadata: Metadata = head.metadata
        self._loop = asyncio.get_running_loop()
        self._deadline = None if head.timeout is None else self._loop.time() + head.timeout
        self._encoding = head.accepts[0] if head.accepts else 'identity'
        self._reader = http.MessageReader(head.encoding, limit)
        self._receive = receive
        self._send = send
        self._disconnects = disconnects
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._asked: asyncio.Future[Event] | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._waiting: Waiting | None = None
        self._began = False
        self._ended = False

    @property
    def remaining(self) -> float | None:
        """Seconds until the client's deadline."""
        return None if self._deadline is None else self._deadline - self._loop.time()

    # Reading. While the reader is held up, what comes is read ahead, within limits: nothing else says that the client
    # has gone away.

    async def read(self) -> Message | None:
        """The client's next message. Raises BadRequest for what is none."""
        while (message := self._reader.next()) is None:
            if self._ended:
                if self._reader.unread:
                    raise http.BadRequest('the request ends in the middle of a message')
                return None
            self._listen()
            self._arrival = self._loop.create_future()
            await self._arrival  # of the next event; or cancelled, when the client has gone away
        if self._reader.unread < _READ_AHEAD:
            self._listen()
        return message

    def take(self, event: Event) -> None:
        """An event of the request."""
        if event['type'] == 'http.disconnect':
            self._task.cancel()
            return
        self._reader.feed(event.get('body', b''))
        self._ended = not event.get('more_body')
        if self._ended:
            self._waiting = self._disconnects.add(self._receive, self._task)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
        elif self._reader.unread < _READ_AHEAD:
            self._listen()

    def _listen(self) -> None:
        if self._asked is None and not self._ended:
            self._asked = ask(self._receive)
            self._asked.add_done_callback(self._on_event)

    def _on_event(self, asked: asyncio.Future[Event]) -> None:
        if asked is not self._asked:
            return  # closed since
        self._asked = None
        if asked.cancelled() or is_gone(asked):
            self._task.cancel()
        else:
            self.take(asked.result())

    def close(self) -> None:
        """Look no more whether the client is there."""
        if self._waiting is not None:
            self._disconnects.discard(self._waiting)
        if self._asked is not None:
            forget(self._asked, self._on_event)
            self._asked = None

    # Writing

    async def send_initial(self, metadata: Metadata) -> None:
        """Send initial metadata now."""
        self._began = True
        await self._send(start(metadata, self._encoding))
        await self._put(b'')  # servers keep headers back until there is a body

    async def write(self, *messages: Message) -> None:
        """Send messages, all of them in one piece of the body."""
        if not self._began:
            self._began = True
            await self._send(start((), self._encoding))
        await self._put(b''.join(http.write_message(message, self._encoding) for message in messages))

    async def _put(self, body: bytes) -> None:
        sent = self._send({'type': 'http.response.body', 'body': body, 'more_body': True})
        try:
            # As in forget(): a future of the server's own is not cancelled with us.
            await (asyncio.shield(sent) if asyncio.isfuture(sent) else sent)
        except OSError:  # the client has gone away
            self._task.cancel()
            await self._loop.create_future()
        except asyncio.CancelledError:
            if asyncio.isfuture(sent):
                sent.add_done_callback(_passed_over)
            raise

    async def end(self, response: Response, kind: Kind) -> None:
        """End the call; an error before anything was sent goes out as Trailers-Only."""
        ok = response.status.code is Code.OK
        if not self._began and not ok:
            await fail(self._send, response)
            return
        if not self._began:
            await self._send(start(response.initial, self._encoding))
        body = b''
        if ok and not kind.server_streams:
            body = http.write_message(Message(response.payload, response.compressed), self._encoding)
        await self._send(last(body))
        await self._send(trailers(response))


def _passed_over(sent: asyncio.Future[None]) -> None:
    if not sent.cancelled():
        sent.exception()


def start(initial: Metadata, encoding: str) -> Event:
    """The beginning of a response."""
    headers = [http.CONTENT_TYPE, *http.write_metadata(initial)]
    if encoding != 'identity':
        headers.append((b'grpc-encoding', encoding.encode()))
    return {'type': 'http.response.start', 'status': 200, 'headers': headers, 'trailers': True}


def last(body: bytes) -> Event:
    """The last part of a response's body."""
    return {'type': 'http.response.body', 'body': body, 'more_body': False}


def trailers(response: Response) -> Event:
    """The end of one."""
    return {'type': 'http.response.trailers', 'headers': http.write_status(response), 'more_trailers': False}


async def fail(send: Send, response: Response) -> None:
    """A failure before anything was sent: Trailers-Only, or with the handler's initial metadata before it."""
    if response.initial:
        await send(start(response.initial, 'identity'))
        await send(END)
        await send(trailers(response))
        return
    headers = [http.CONTENT_TYPE, *http.write_status(response)]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    await send(END)
