"""WebCall: a call of the core's by a protocol for browsers, on an ASGI request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code, StatusError
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.asgi_call import AsgiCall, Send, last
from natsgate.gateway.call import Message
from natsgate.gateway.dialect import Dialect, StreamDialect
from natsgate.gateway.disconnects import Disconnects, Event, Receive
from natsgate.gateway.json_codec import JsonCodec

D = TypeVar('D', bound=Dialect)

_AT_ONCE = 16 << 10
_THREADS = ThreadPoolExecutor(1, 'json')


class WebCall(AsgiCall, Generic[D]):
    """A call that is answered as a whole."""

    def __init__(
        self,
        dialect: D,
        codec: JsonCodec | None,
        *,
        head: http.RequestHead,
        receive: Receive,
        send: Send,
        limit: int,
        disconnects: Disconnects,
    ) -> None:
        """`codec`: None where messages stay as they are."""
        super().__init__(head, receive, send, limit, disconnects)
        self._body = dialect.reader(limit)
        self._reader = self._body  # type: ignore[assignment]  # it can do what is asked of one
        self._dialect = dialect
        self._codec = codec

    def take(self, event: Event) -> None:
        """An event of the request."""
        super().take(event)
        if self._ended:
            self._body.close()

    async def read(self) -> Message | None:
        """The client's next message. Raises BadRequest and StatusError for what is none."""
        message = await super().read()
        if message is None or self._codec is None:
            return message
        return Message(await _converted(self._codec.read, message.data), message.compressed)

    async def end(self, response: Response, kind: Kind) -> None:
        """End the call."""
        response, message = await self._last(response, kind)
        for event in self._dialect.whole(response, message).events():
            await self._send(event)

    async def _last(self, response: Response, kind: Kind) -> tuple[Response, Message | None]:
        """How the call ends, with the one message of the response where there is only one."""
        if response.status.code is not Code.OK or kind.server_streams:
            return response, None
        try:
            return response, await self._written(Message(response.payload, response.compressed))
        except StatusError as error:
            return Response(status=error.status), None

    async def _written(self, message: Message) -> Message:
        if self._codec is None:
            return message
        return Message(await _converted(self._codec.write, message.data), message.compressed)


class WebStream(WebCall[StreamDialect]):
    """A call that is answered piece by piece."""

    async def send_initial(self, metadata: Metadata) -> None:
        """Send initial metadata now."""
        await self._begin(metadata)
        await self._put(b'')  # servers keep headers back until there is a body

    async def write(self, *messages: Message) -> None:
        """Send messages. Raises StatusError for one that cannot be written; those before it are sent."""
        if not self._began:
            await self._begin(())
        if self._codec is None:
            await self._put(b''.join(map(self._dialect.message, messages)))
            return
        for message in messages:
            await self._put(self._dialect.message(await self._written(message)))

    async def _begin(self, initial: Metadata) -> None:
        self._began = True
        await self._send({'type': 'http.response.start', 'status': 200, 'headers': self._dialect.start(initial)})

    async def end(self, response: Response, kind: Kind) -> None:
        """End the call."""
        if not self._began:
            await super().end(response, kind)
            return
        response, message = await self._last(response, kind)
        body = (b'' if message is None else self._dialect.message(message)) + self._dialect.end(response)
        await self._send(last(body))


async def _converted(convert: Callable[[bytes], bytes], data: bytes) -> bytes:
    """Long ones in a thread, one at a time: megabytes of JSON take seconds, in which the others go on."""
    if len(data) <= _AT_ONCE:
        return convert(data)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, convert, data)
