"""The ASGI edge: gRPC over HTTP/2 on any ASGI server that has trailers. Bytes only; it decodes no message.

It sees what grpc.aio hides: the content type and the compressed flag. What grpc's core does there, it must do itself:
deadlines while a client sends or does not read, and noticing that a client has gone away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from functools import partial
from typing import Any

from natsgate.events.failures import Failure, failed
from natsgate.events.kind import Kind
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.asgi_call import AsgiCall, Send, fail, last, start, trailers
from natsgate.gateway.call import Call, Message
from natsgate.gateway.conversation import only_message
from natsgate.gateway.disconnects import Disconnects, Event, Receive, asked_within
from natsgate.gateway.edge_web import WebEdge
from natsgate.gateway.gateway import Gateway, unknown_method
from natsgate.gateway.routes import Route

log = logging.getLogger('natsgate.gateway')

Scope = MutableMapping[str, Any]
Serve = Callable[[Call], Awaitable[Response]]

_OK_START = {'type': 'http.response.start', 'status': 200, 'headers': [http.CONTENT_TYPE], 'trailers': True}
_OK_TRAILERS = {'type': 'http.response.trailers', 'headers': [(b'grpc-status', b'0')], 'more_trailers': False}
_NO_HEAD = http.RequestHead()
_TOO_SLOW = 'the deadline passed before the request had come'


class AsgiEdge:
    """An ASGI application in front of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._disconnects = Disconnects()
        self._limit = gateway.options.max_message_size
        self._web = WebEdge(gateway, self._disconnects, _response_for)
        self._unary = {route.method: route for route in gateway.routes.values() if route.kind is Kind.UNARY}

    def open(self) -> None:
        """Begin to look for clients that have gone away. On the loop that serves."""
        self._disconnects.open()

    def close(self) -> None:
        """Look no more."""
        self._disconnects.close()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """One request."""
        if http.is_served(http.content_type(scope['headers'])) and scope['method'] == 'POST':
            route = self._unary.get(scope['path'])
            if route is not None:
                return self._serve_unary(route, scope, receive, send)
        return self._serve_other(scope, receive, send)

    # Unary calls, without what only streaming needs

    async def _serve_unary(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        head = _NO_HEAD
        try:
            try:
                head = http.read_head(scope['headers'])
                remaining = head.timeout
                event = await (receive() if remaining is None else asked_within(receive, remaining))
                message: Message | Response | None = http.whole_message(event, self._limit)
                if message is None:
                    message, remaining = await self._only_message(head, event, receive)
                if isinstance(message, Message):
                    response = await self._gateway.unary(
                        route,
                        message.data,
                        metadata=head.metadata,
                        remaining=remaining,
                        compressed=message.compressed,
                        watch=partial(self._disconnects.add, receive),
                    )
                else:
                    response = message
            except Exception as error:
                response = _response_for(error, self._limit, route.method)
            await self._answer(response, head, send)
        except (asyncio.CancelledError, OSError):
            return  # nobody hears an answer: the client has gone away

    async def _only_message(
        self, head: http.RequestHead, event: Event, receive: Receive
    ) -> tuple[Message | Response, float | None]:
        """The message that did not come in one piece, or is none; and the seconds that are left then."""
        call = AsgiCall(head, receive, _cannot_send, self._limit, self._disconnects)
        try:
            async with asyncio.timeout(head.timeout):
                call.take(event)
                return await only_message(call), call.remaining
        except TimeoutError:
            return failed(Failure.DEADLINE, _TOO_SLOW), 0.0
        finally:
            call.close()

    async def _answer(self, response: Response, head: http.RequestHead, send: Send) -> None:
        status, payload, initial, trailing, compressed = response
        if status.code is not Code.OK:
            await fail(send, response)
        elif initial or trailing or compressed:
            encoding = head.accepts[0] if compressed and head.accepts else 'identity'
            await send(start(initial, encoding))
            await send(last(http.write_message(Message(payload, compressed), encoding)))
            await send(trailers(response))
        else:
            await send(_OK_START)
            await send(last(http.write_plain(payload)))
            await send(_OK_TRAILERS)

    # Streaming calls, the gateway's own methods, and what is none of ours

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope['method'] != 'POST' or not http.is_served(http.content_type(scope['headers'])):
                await self._web(scope, receive, send)
            else:
                await self._serve(scope['path'], scope, receive, send)
        except (asyncio.CancelledError, OSError):
            return  # as above

    async def _serve(self, method: str, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._found(method)
        if found is None:
            await fail(send, unknown_method(method))
            return
        kind, serve = found
        try:
            head = http.read_head(scope['headers'])
        except http.BadRequest as error:
            await fail(send, _response_for(error, self._limit, method))
            return
        call = AsgiCall(head, receive, send, self._limit, self._disconnects)
        try:
            async with asyncio.timeout(head.timeout):
                response = await serve(call)
        except TimeoutError:
            response = failed(Failure.DEADLINE, 'the deadline has passed')
        except (Exception, asyncio.CancelledError) as error:
            response = _response_for(error, self._limit, method)
        finally:
            call.close()
        await call.end(response, kind)

    def _found(self, method: str) -> tuple[Kind, Serve] | None:
        gateway = self._gateway
        if (route := gateway.routes.get(method)) is not None:
            return route.kind, lambda call: gateway.stream(route, call)
        if (own := gateway.own.get(method)) is not None:
            return own[0], lambda call: gateway.answer(own[1], call)
        return None


async def _cannot_send(event: Event) -> None:
    raise AssertionError('a reader sends nothing')


def _response_for(error: BaseException, limit: int, method: str) -> Response:
    """What goes wrong on the way becomes a status. Raises the CancelledError or OSError of a client that is gone."""
    match error:
        case asyncio.CancelledError():
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise error
            return failed(Failure.INTERNAL, 'the call was cancelled inside the gateway')
        case TimeoutError():
            return failed(Failure.DEADLINE, _TOO_SLOW)
        case OSError():
            raise error
        case http.TooLarge():
            text = f'a message of {error.size} bytes or more, {limit} are taken'
            return failed(Failure.MESSAGE_TOO_LARGE, text, limit=limit)
        case http.BadEncoding():
            status = Status(Code.UNIMPLEMENTED, str(error))
            return Response(status=status, trailing=(http.ACCEPTED,))
        case http.BadRequest():
            return Response(status=Status(Code.INTERNAL, str(error)))
    log.error('%s failed inside the gateway', method, exc_info=error)
    return failed(Failure.INTERNAL, 'the gateway failed; its log says why')
