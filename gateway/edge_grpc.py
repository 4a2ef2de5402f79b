"""The grpc.aio edge: HTTP/2 in, calls to the gateway's core, statuses out. Bytes only; it decodes no message.

Every method is registered in a request-streaming kind, because grpc.aio's unary kinds neither answer nor give back
their slot when a client half-closes without a message; on the wire there is no difference (docs/adr/0003).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc

from natsgate.events.failures import Failure, failed
from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code
from natsgate.events.wire import Response
from natsgate.gateway.call import Answer, Message
from natsgate.gateway.conversation import NO_MESSAGE, TWO_MESSAGES
from natsgate.gateway.gateway import Gateway, unknown_method
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.routes import Route

log = logging.getLogger('natsgate.gateway')

_Handler = Any  # grpc.RpcMethodHandler, which is generic to type checkers alone
Context = Any  # grpc.aio.ServicerContext, whose stubs cannot say that messages are bytes

_CODES = {Code[code.name]: code for code in grpc.StatusCode}
_DETAILS = 'grpc-status-details-bin'
_LOOK_EVERY = 0.1
_ENDED_KEPT = 10
_LOW = 1  # of grpc's levels: gzip before deflate


class GrpcEdge:
    """One grpc.aio server in front of a gateway."""

    def __init__(self, gateway: Gateway, *, credentials: grpc.ServerCredentials | None = None) -> None:
        self._credentials = credentials
        self._options = _channel_options(gateway.options)
        self._handlers = _Handlers(gateway)
        self._ended: list[grpc.aio.Server] = []
        self._server = self._new_server()

    def _new_server(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=self._options)
        server.add_generic_rpc_handlers([self._handlers])
        return server

    async def start(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Listen. Returns the addresses with their real ports. Raises OSError for one that cannot be bound."""
        bound = tuple(self._bind(address) for address in addresses)
        await self._server.start()
        self._keeper = asyncio.create_task(self._keep(bound), name='gateway/edge')
        return bound

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let the others end within `grace` seconds, cancel the rest."""
        self._keeper.cancel()
        await asyncio.gather(*(server.stop(grace) for server in (self._server, *self._ended)))

    async def _keep(self, addresses: Sequence[str]) -> None:
        """grpc.aio's server ends for good at a :path that is not UTF-8, which anybody can send: start another one."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self._server._server.is_running():  # type: ignore[attr-defined]  # private, and nothing else tells
                continue
            log.error('the gRPC server has ended by itself, another one is started')
            self._ended.append(self._server)  # its calls go on; the last few are kept for them
            if len(self._ended) > _ENDED_KEPT:
                await self._ended.pop(0).stop(None)
            try:
                self._server = self._new_server()
                for address in addresses:
                    self._bind(address)
                await self._server.start()
            except OSError as error:  # again, a moment later
                log.error('%s', error)

    def _bind(self, address: str) -> str:
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            reason = 'the port is in use, or the address is not of this host'
            if address.startswith('unix'):
                reason = 'something else has its name'
            raise OSError(f'cannot listen on {address}: {reason}') from error
        host, colon, _ = address.rpartition(':')
        return f'{host}:{port}' if colon and not address.startswith('unix') else address


class _Handlers(grpc.GenericRpcHandler):
    """One dictionary for all methods: registering each with the server would cost every call (docs/adr/0003)."""

    def __init__(self, gateway: Gateway) -> None:
        self._by_method: dict[str, _Handler] = {
            method: _handler(gateway, route) for method, route in gateway.routes.items()
        }
        self._by_method |= {method: _own(gateway, kind, answer) for method, (kind, answer) in gateway.own.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        method = handler_call_details.method
        found = self._by_method.get(method)
        if found is not None:
            return found
        return grpc.stream_unary_rpc_method_handler(_refuse(method))


class GrpcCall:
    """A call of the core's, on a grpc.aio context."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.metadata: Metadata = context.invocation_metadata()

    @property
    def remaining(self) -> float | None:
        """Seconds until the client's deadline."""
        seconds: float | None = self._context.time_remaining()
        return seconds

    async def read(self) -> Message | None:
        """The client's next message. grpc.aio does not say whether it came compressed."""
        message = await self._context.read()
        if isinstance(message, bytes):
            return Message(message)
        await self._context.read()  # grpc.aio.EOF, also when the client has gone away: asked again, it says so
        return None

    async def send_initial(self, metadata: Metadata) -> None:
        """Send initial metadata now."""
        await self._context.send_initial_metadata(metadata)

    async def write(self, *messages: Message) -> None:
        """Send messages."""
        for message in messages:
            if not message.compressed:
                self._context.disable_next_message_compression()
            await self._context.write(message.data)


def _handler(gateway: Gateway, route: Route) -> _Handler:
    if route.kind is Kind.UNARY:
        return grpc.stream_unary_rpc_method_handler(_unary(gateway, route))

    async def stream(context: Context) -> Response:
        return await gateway.stream(route, GrpcCall(context))

    return _served(route.kind, _guarded(stream, route.method))


def _own(gateway: Gateway, kind: Kind, answer: Answer) -> _Handler:
    async def own(context: Context) -> Response:
        return await gateway.answer(answer, GrpcCall(context))

    return _served(kind, _guarded(own, 'a method of the gateway itself'))


def _served(kind: Kind, serve: Callable[[Context], Awaitable[Response]]) -> _Handler:
    async def streams(_: AsyncIterator[bytes], context: Context) -> None:
        await _end(context, await serve(context))

    async def unary(_: AsyncIterator[bytes], context: Context) -> bytes:
        return await _end(context, await serve(context))

    if kind.server_streams:
        return grpc.stream_stream_rpc_method_handler(streams)
    return grpc.stream_unary_rpc_method_handler(unary)


def _unary(gateway: Gateway, route: Route) -> Any:
    """The commonest kind, without what only streaming needs."""

    async def ask(context: Context) -> Response:
        message = await context.read()
        if not isinstance(message, bytes):  # grpc.aio.EOF
            return failed(Failure.UNKNOWN_METHOD, NO_MESSAGE)
        if isinstance(await context.read(), bytes):
            return failed(Failure.UNKNOWN_METHOD, TWO_MESSAGES)
        metadata: Metadata = context.invocation_metadata()
        return await gateway.unary(route, message, metadata=metadata, remaining=context.time_remaining())

    guarded = _guarded(ask, route.method)

    async def unary(_: AsyncIterator[bytes], context: Context) -> bytes:
        return await _end(context, await guarded(context))

    return unary


def _guarded(serve: Callable[[Context], Awaitable[Response]], name: str) -> Callable[[Context], Awaitable[Response]]:
    """Whatever goes wrong inside ends in a status: grpc.aio would tell the client our exceptions, or nothing at all."""

    async def guarded(context: Context) -> Response:
        try:
            return await serve(context)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # by the client, the deadline or the server's stop: grpc answers
            return failed(Failure.INTERNAL, 'the call was cancelled inside the gateway')
        except Exception:
            log.exception('%s failed inside the gateway', name)
            return failed(Failure.INTERNAL, 'the gateway failed; its log says why')

    return guarded


def _refuse(method: str) -> Any:
    async def refuse(_: AsyncIterator[bytes], context: Context) -> bytes:
        return await _end(context, unknown_method(method))

    return refuse


async def _end(context: Context, response: Response) -> bytes:
    """Answer with this response. An error goes out as Trailers-Only unless something was sent before it."""
    if response.initial:
        await context.send_initial_metadata(response.initial)
    status = response.status
    if status.code is Code.OK:
        if not response.compressed:
            context.disable_next_message_compression()
        if response.trailing:
            context.set_trailing_metadata(response.trailing)
        return response.payload
    trailing = response.trailing
    if status.details:
        trailing = (*trailing, (_DETAILS, status.details))
    await context.abort(_CODES[status.code], status.message, trailing)
    raise AssertionError('abort() returns never')


def _channel_options(options: GatewayOptions) -> list[tuple[str, Any]]:
    # What each of these prevents is told in docs/operations.md.
    values: dict[str, Any] = {
        # Compress each answer as the client takes it; the edge leaves it out where the actor does not ask for it.
        # context.set_compression() is no way: it heeds neither what the client takes nor unary answers.
        'grpc.default_compression_level': _LOW,
        # A client's broken header would otherwise stay in the table that a proxy's connection shares among its clients.
        'grpc.http2.hpack_table_size.decoder': 0,
        'grpc.so_reuseport': int(options.reuse_port),
        'grpc.max_receive_message_length': options.max_message_size,
        'grpc.max_send_message_length': -1,
        'grpc.max_metadata_size': options.max_metadata_size,
        'grpc.absolute_max_metadata_size': options.max_metadata_size,
        'grpc.max_concurrent_streams': options.max_concurrent_streams,
        # By default, some of more than 1,000 calls that come at once are refused, and of more than 3,000 all.
        'grpc.server.max_pending_requests': options.max_in_flight,
        'grpc.server.max_pending_requests_hard_limit': 2 * options.max_in_flight,
        # It counts calls that have ended and are not cleared away yet, and refuses those that a client may well begin.
        # Against floods of resets stand grpc's limit of pending requests and our own of calls in flight.
        'grpc.http.overload_protection': 0,
        'grpc.max_allowed_incoming_connections': options.max_connections,
        'grpc.keepalive_time_ms': _milliseconds(options.keepalive_time),
        'grpc.keepalive_timeout_ms': _milliseconds(options.keepalive_timeout),
        # C-core does not heed the keepalive's own timeout (grpc/grpc#39239), but only that of pings, a minute.
        'grpc.http2.ping_timeout_ms': _milliseconds(options.keepalive_timeout),
        'grpc.keepalive_permit_without_calls': 1,
        'grpc.http2.min_ping_interval_without_data_ms': _milliseconds(options.keepalive_min_interval),
        'grpc.server_handshake_timeout_ms': 20_000,
    }
    if options.max_connection_age:
        values['grpc.max_connection_age_ms'] = _milliseconds(options.max_connection_age)
        if options.max_connection_age_grace:
            values['grpc.max_connection_age_grace_ms'] = _milliseconds(options.max_connection_age_grace)
    if options.max_connection_idle:
        values['grpc.max_connection_idle_ms'] = _milliseconds(options.max_connection_idle)
    return list(values.items())


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
