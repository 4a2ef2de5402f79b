"""The ASGI edge: gRPC over HTTP/2 on any ASGI server that has trailers. Bytes only; it decodes no message.

It sees what grpc.aio hides: the content type and the compressed flag. What grpc's core does there, it must do itself:
deadlines while a client sends or does not read, and noticing that a client has gone away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from natsgate.events.failures import Failure, failed
from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.call import Call, Message
from natsgate.gateway.conversation import only_message
from natsgate.gateway.disconnects import Disconnects, Waiting
from natsgate.gateway.gateway import Gateway, unknown_method
from natsgate.gateway.routes import Route

log = logging.getLogger('natsgate.gateway')

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_OK_START = {'type': 'http.response.start', 'status': 200, 'headers': [http.CONTENT_TYPE], 'trailers': True}
_OK_TRAILERS = {'type': 'http.response.trailers', 'headers': [(b'grpc-status', b'0')], 'more_trailers': False}
_GRPC = (b'application/grpc', b'application/grpc+proto')


class AsgiEdge:
    """An ASGI application in front of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._disconnects = Disconnects()
        self._limit = gateway.options.max_message_size
        self._unary = {route.method: route for route in gateway.routes.values() if route.kind is Kind.UNARY}

    def open(self) -> None:
        """Begin to look for clients that have gone away. On the loop that serves."""
        self._disconnects.open()

    def close(self) -> None:
        """Look no more."""
        self._disconnects.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        kind = next((value for name, value in scope['headers'] if name == b'content-type'), b'')
        if scope['method'] != 'POST' or not kind.startswith(b'application/grpc'):
            await _refuse(send, 415 if scope['method'] == 'POST' else 405)
            return
        if kind not in _GRPC:
            text = f'content-type {kind.decode("latin-1")[:80]}: only protobuf is served'
            await _end(send, Response(status=Status(Code.UNIMPLEMENTED, text)))
        elif (route := self._unary.get(scope['path'])) is not None:
            await self._serve_unary(route, scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    # Unary calls, without what only streaming needs

    async def _serve_unary(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        head = http.RequestHead()
        try:
            head = http.read_head(scope['headers'])
            message = await self._only_message(head, receive)
            response = (
                message
                if isinstance(message, Response)
                else await self._gateway.unary(
                    route, message.data,
                    metadata=head.metadata, remaining=head.timeout, compressed=message.compressed,
                )
            )  # fmt: skip
        except Exception as error:
            response = _response_for(error, self._limit, route.method)
        if response.status.code is not Code.OK:
            await _end(send, response)
            return
        encoding = head.accepts[0] if response.compressed and head.accepts else 'identity'
        await send(_start(response.initial, encoding) if response.initial or response.compressed else _OK_START)
        body = http.write_message(Message(response.payload, response.compressed), encoding)
        await send({'type': 'http.response.body', 'body': body, 'more_body': False})
        if response.trailing:
            await send(
                {'type': 'http.response.trailers', 'headers': http.write_status(response), 'more_trailers': False}
            )
        else:
            await send(_OK_TRAILERS)

    async def _ask(self, route: Route, head: http.RequestHead, message: Message, receive: Receive) -> Response:
        task = asyncio.current_task()
        assert task is not None
        waiting = self._disconnects.add(task, receive)
        try:
            return await self._gateway.unary(
                route, message.data, metadata=head.metadata, remaining=head.timeout, compressed=message.compressed
            )
        finally:
            self._disconnects.discard(waiting)

    async def _only_message(self, head: http.RequestHead, receive: Receive) -> Message | Response:
        event = await receive()
        body = event.get('body', b'')
        if event['type'] == 'http.request' and not event.get('more_body') and len(body) >= 5 and body[0] == 0:
            size = int.from_bytes(body[1:5], 'big')
            if size == len(body) - 5 and size <= self._limit:  # nearly always
                return Message(body[5:])
        call = AsgiCall(head, receive, _cannot_send, self._limit, Disconnects())
        call.take(event)
        try:
            async with asyncio.timeout(head.timeout):
                return await only_message(call)
        except TimeoutError:
            return failed(Failure.DEADLINE, 'the deadline passed before the request had come')
        finally:
            call.close()

    # Streaming calls, and the gateway's own methods

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope['path']
        serve = self._answer_of(method)
        if serve is None:
            await _end(send, unknown_method(method))
            return
        try:
            head = http.read_head(scope['headers'])
        except http.BadRequest as error:
            await _end(send, _response_for(error, self._limit, method))
            return
        call = AsgiCall(head, receive, send, self._limit, self._disconnects)
        try:
            async with asyncio.timeout(head.timeout):
                response = await serve(call)
        except TimeoutError:
            response = failed(Failure.DEADLINE, 'the deadline has passed')
        except Exception as error:
            response = _response_for(error, self._limit, method)
        finally:
            call.close()
        await call.end(response)

    def _answer_of(self, method: str) -> Callable[[Call], Awaitable[Response]] | None:
        gateway = self._gateway
        if (route := gateway.routes.get(method)) is not None:
            return lambda call: gateway.stream(route, call)
        if (own := gateway.own.get(method)) is not None:
            return lambda call: gateway.answer(own[1], call)
        return None


class AsgiCall:
    """A call of the core's, on an ASGI request."""

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
        self._coming: asyncio.Task[MutableMapping[str, Any]] | None = None
        self._waiting: Waiting | None = None
        self._began = False
        self._ended = False

    @property
    def remaining(self) -> float | None:
        """Seconds until the client's deadline."""
        return None if self._deadline is None else self._deadline - self._loop.time()

    def take(self, event: MutableMapping[str, Any]) -> None:
        """An event of the request. Raises CancelledError when the client has gone away."""
        if event['type'] == 'http.disconnect':
            raise asyncio.CancelledError
        self._reader.feed(event.get('body', b''))
        self._ended = not event.get('more_body')
        if self._ended:
            self._waiting = self._disconnects.add(self._task, self._receive)

    async def read(self) -> Message | None:
        """The client's next message. Raises BadRequest for what is none."""
        while (message := self._reader.next()) is None:
            if self._ended:
                if not self._reader.empty:
                    raise http.BadRequest('the request ends in the middle of a message')
                return None
            coming, self._coming = self._coming or self._next_event(), None
            self.take(await coming)
        if self._coming is None and not self._ended:
            # While the reader is held up, nobody else would notice that the client goes away.
            self._coming = self._next_event()
            self._coming.add_done_callback(self._on_event)
        return message

    def _next_event(self) -> asyncio.Task[MutableMapping[str, Any]]:
        async def receive() -> MutableMapping[str, Any]:
            return await self._receive()

        return self._loop.create_task(receive(), name='gateway/call/receive')

    def _on_event(self, coming: asyncio.Task[MutableMapping[str, Any]]) -> None:
        if not coming.cancelled() and coming.exception() is None and coming.result()['type'] == 'http.disconnect':
            self._task.cancel()

    def close(self) -> None:
        """Look no more whether the client is there."""
        if self._waiting is not None:
            self._disconnects.discard(self._waiting)
        if self._coming is not None:
            self._coming.cancel()

    async def send_initial(self, metadata: Metadata) -> None:
        """Send initial metadata now."""
        self._began = True
        await self._send(_start(metadata, self._encoding))

    async def write(self, message: Message) -> None:
        """Send a message."""
        if not self._began:
            await self.send_initial(())
        body = http.write_message(message, self._encoding)
        await self._send({'type': 'http.response.body', 'body': body, 'more_body': True})

    async def end(self, response: Response) -> None:
        """End the call; an error before anything was sent goes out as Trailers-Only."""
        unary = bool(response.payload) or response.compressed
        if not self._began and response.status.code is not Code.OK:
            await _end(self._send, response)
            return
        if not self._began:
            await self.send_initial(response.initial)
        if unary:
            await self.write(Message(response.payload, response.compressed))
        await self._send({'type': 'http.response.body', 'body': b'', 'more_body': False})
        trailers = http.write_status(response)
        await self._send({'type': 'http.response.trailers', 'headers': trailers, 'more_trailers': False})


def _start(initial: Metadata, encoding: str) -> dict[str, Any]:
    headers = [http.CONTENT_TYPE, *http.write_metadata(initial)]
    if encoding != 'identity':
        headers.append((b'grpc-encoding', encoding.encode()))
    return {'type': 'http.response.start', 'status': 200, 'headers': headers, 'trailers': True}


async def _end(send: Send, response: Response) -> None:
    """A failure before anything was sent: Trailers-Only, or with the handler's initial metadata before it."""
    trailers = http.write_status(response)
    if response.initial:
        await send(_start(response.initial, 'identity'))
        await send({'type': 'http.response.body', 'body': b'', 'more_body': False})
        await send({'type': 'http.response.trailers', 'headers': trailers, 'more_trailers': False})
        return
    headers = [http.CONTENT_TYPE, *trailers]
    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})
    await send({'type': 'http.response.body', 'body': b'', 'more_body': False})


async def _refuse(send: Send, status: int) -> None:
    headers = [(b'accept-post', b'application/grpc')] if status == 415 else [(b'allow', b'POST')]
    await send({'type': 'http.response.start', 'status': status, 'headers': headers})
    await send({'type': 'http.response.body', 'body': b'', 'more_body': False})


async def _cannot_send(event: MutableMapping[str, Any]) -> None:
    raise AssertionError('a reader sends nothing')


def _response_for(error: Exception, limit: int, method: str) -> Response:
    """What goes wrong on the way becomes a status."""
    match error:
        case http.TooLarge():
            text = f'a message of {error.size} bytes or more, {limit} are taken'
            return failed(Failure.MESSAGE_TOO_LARGE, text, limit=limit)
        case http.BadEncoding():
            status = Status(Code.UNIMPLEMENTED, str(error))
            return Response(status=status, trailing=(('grpc-accept-encoding', 'identity,gzip,deflate'),))
        case http.BadRequest():
            return Response(status=Status(Code.INTERNAL, str(error)))
    log.error('%s failed inside the gateway', method, exc_info=error)
    return failed(Failure.INTERNAL, 'the gateway failed; its log says why')
