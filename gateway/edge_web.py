"""What the ASGI edge serves besides plain gRPC: gRPC-Web and Connect, so that browsers and curl can call.

It works over HTTP/1.1 as well: no trailers are sent. Pages of other origins are let in by CORS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from google.protobuf import descriptor_pb2

from natsgate.events.failures import Failure, failed
from natsgate.events.kind import Kind
from natsgate.events.status import Code, Status, StatusError
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.asgi_call import Send, fail
from natsgate.gateway.call import Call
from natsgate.gateway.conversation import only_message
from natsgate.gateway.cors import Cors, is_preflight, may_see
from natsgate.gateway.dialect import Dialect, Reply, StreamDialect
from natsgate.gateway.disconnects import Disconnects, Event, Receive
from natsgate.gateway.gateway import Gateway, unknown_method
from natsgate.gateway.http_connect import ConnectGet, ConnectStream, ConnectUnary, read_query
from natsgate.gateway.http_grpc_web import GrpcWeb
from natsgate.gateway.json_codec import Schema
from natsgate.gateway.routes import Route
from natsgate.gateway.web_call import D, WebCall, WebStream

Scope = Mapping[str, Any]
Serve = Callable[[Call], Awaitable[Response]]
ResponseFor = Callable[[BaseException, int, str], Response]

_POST = (b'allow', b'POST')
_GET = (b'allow', b'GET, POST')
_CODECS = ('proto', 'json')
_NO_SIDE_EFFECTS = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS


@dataclass(frozen=True, slots=True)
class Request:
    """What an ASGI server gives."""

    scope: Scope
    receive: Receive
    send: Send

    @property
    def path(self) -> str:
        """The method, if there is one of this name."""
        path: str = self.scope['path']
        return path

    @property
    def headers(self) -> http.Pairs:
        """The headers, names in small letters."""
        headers: http.Pairs = self.scope['headers']
        return headers

    async def reply(self, reply: Reply) -> None:
        """Answer it as a whole."""
        for event in reply.events():
            await self.send(event)


class WebEdge:
    """Serves the requests that are not plain gRPC."""

    def __init__(self, gateway: Gateway, disconnects: Disconnects, response_for: ResponseFor) -> None:
        """`response_for` makes a status of what goes wrong on the way, given the limit of a message and the method."""
        self._gateway = gateway
        self._disconnects = disconnects
        self._response_for = response_for
        self._limit = gateway.options.max_message_size
        self._cors = Cors(gateway.options.cors_origin)
        self._schema = schema = Schema(gateway.pools)
        grpc_web = _grpc_web()
        self._unary: dict[bytes, Callable[[], Dialect]] = {
            **{f'application/{codec}'.encode(): partial(ConnectUnary, codec, schema.described) for codec in _CODECS},
            **grpc_web,
        }
        self._streams: dict[bytes, Callable[[], StreamDialect]] = {
            **{
                f'application/connect+{codec}'.encode(): partial(ConnectStream, codec, schema.described)
                for codec in _CODECS
            },
            **grpc_web,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive, send)
        if is_preflight(scope['method'], request.headers) and self._cors.allows(request.headers):
            await request.reply(Reply(204, self._cors.preflight(request.headers)))
            return
        if allowed := self._cors.allowed(request.headers):
            request = replace(request, send=_visible(send, allowed))
        kind, serve = self._found(request.path)
        match scope['method']:
            case 'POST':
                await self._post(kind, serve, request)
            case 'GET' if self._may_get(request.path, kind):
                await self._get(serve, request)
            case _:
                allow = _GET if self._may_get(request.path, kind) else _POST
                await request.reply(_refusal(405, allow, 'calls are made by POST'))

    def _found(self, method: str) -> tuple[Kind | None, Serve]:
        """Who streams, None in a method that is not there; and what serves it."""
        gateway = self._gateway
        if (route := gateway.routes.get(method)) is not None:
            if route.kind is Kind.UNARY:
                return route.kind, partial(self._ask, route)
            return route.kind, partial(gateway.stream, route)
        if (own := gateway.own.get(method)) is not None:
            return own[0], partial(gateway.answer, own[1])
        return None, partial(_unknown, method)

    async def _ask(self, route: Route, call: Call) -> Response:
        read = await only_message(call)
        if isinstance(read, Response):
            return read
        return await self._gateway.unary(
            route, read.data, metadata=call.metadata, remaining=call.remaining, compressed=read.compressed
        )

    def _may_get(self, method: str, kind: Kind | None) -> bool:
        if kind is not Kind.UNARY:
            return False
        found = self._schema.method(method)
        return found is not None and found.GetOptions().idempotency_level == _NO_SIDE_EFFECTS

    async def _get(self, serve: Serve, request: Request) -> None:
        try:
            query = read_query(request.scope['query_string'])
        except http.BadRequest as error:
            told = _malformed(ConnectUnary.malformed, error)
            await request.reply(ConnectUnary('json', self._schema.described).whole(told, None))
            return
        if query.codec in _CODECS:
            await self._serve(ConnectGet(query, self._schema.described), WebCall, Kind.UNARY, serve, request)
        else:
            await request.reply(_refusal(415, _GET, 'served: encoding=json, encoding=proto'))

    async def _post(self, kind: Kind | None, serve: Serve, request: Request) -> None:
        content_type = http.content_type(request.headers)
        essence = content_type.partition(b';')[0].strip().lower()
        if http.is_grpc(content_type):
            text = f'content-type {content_type.decode("latin-1")[:80]}: only protobuf is served'
            await fail(request.send, Response(status=Status(Code.UNIMPLEMENTED, text)))
        elif kind in (None, Kind.UNARY) and (unary := self._unary.get(essence)) is not None:
            await self._serve(unary(), WebCall, Kind.UNARY, serve, request)
        elif kind is not Kind.UNARY and (stream := self._streams.get(essence)) is not None:
            await self._serve(stream(), WebStream, kind or Kind.UNARY, serve, request)
        else:
            types = b', '.join((b'application/grpc', *(self._unary if kind is Kind.UNARY else self._streams)))
            await request.reply(_refusal(415, (b'accept-post', types), f'served: {types.decode()}'))

    async def _serve(self, dialect: D, make: type[WebCall[D]], kind: Kind, serve: Serve, request: Request) -> None:
        method = request.path
        try:
            head = dialect.open(request.headers)
        except http.BadRequest as error:
            await request.reply(dialect.whole(self._failed(error, dialect, method), None))
            return
        call = make(
            dialect,
            self._schema.codec(method) if dialect.codec == 'json' else None,
            head=head,
            receive=request.receive,
            send=request.send,
            limit=self._limit,
            disconnects=self._disconnects,
        )
        try:
            async with asyncio.timeout(head.timeout):
                response = await serve(call)
        except TimeoutError:
            response = failed(Failure.DEADLINE, 'the deadline has passed')
        except (Exception, asyncio.CancelledError) as error:
            response = self._failed(error, dialect, method)
        finally:
            call.close()
        await call.end(response, kind)

    def _failed(self, error: BaseException, dialect: Dialect, method: str) -> Response:
        match error:
            case StatusError():
                return Response(status=error.status, initial=error.initial, trailing=error.trailing)
            case http.BadRequest() if not isinstance(error, http.TooLarge | http.BadEncoding):
                return _malformed(dialect.malformed, error)
        return self._response_for(error, self._limit, method)


def _grpc_web() -> dict[bytes, Callable[[], GrpcWeb]]:
    binary, text = b'application/grpc-web', b'application/grpc-web-text'
    return {
        binary: partial(GrpcWeb, binary + b'+proto'),
        binary + b'+proto': partial(GrpcWeb, binary + b'+proto'),
        binary + b'+json': partial(GrpcWeb, binary + b'+json', codec='json'),
        text: partial(GrpcWeb, text + b'+proto', text=True),
        text + b'+proto': partial(GrpcWeb, text + b'+proto', text=True),
    }


async def _unknown(method: str, call: Call) -> Response:
    return unknown_method(method)


def _malformed(code: Code, error: http.BadRequest) -> Response:
    return Response(status=Status(code, str(error)))


def _refusal(status: int, header: tuple[bytes, bytes], text: str) -> Reply:
    return Reply(status, [header, (b'content-type', b'text/plain')], f'{text}\n'.encode())


def _visible(send: Send, allowed: http.Pairs) -> Send:
    """`send`, with the headers that let a page see the answer."""

    def sending(event: Event) -> Awaitable[None]:
        if event['type'] == 'http.response.start':
            event = {**event, 'headers': may_see(allowed, event['headers'])}
        return send(event)

    return sending
