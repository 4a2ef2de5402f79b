"""The grpc.aio edge: HTTP/2 in, calls to the gateway's core, statuses out. Bytes only; it decodes no message.

Every method is registered in a request-streaming kind, because grpc.aio's unary kinds neither answer nor give back
their slot when a client half-closes without a message; on the wire there is no difference (docs/adr/0003).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc

from natsgate.events.failures import Failure, failed
from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code
from natsgate.events.wire import Response
from natsgate.gateway.gateway import Gateway, unknown_method
from natsgate.gateway.routes import Route

log = logging.getLogger('natsgate.gateway')

_Handler = Any  # grpc.RpcMethodHandler, which is generic to type checkers alone
Context = Any  # grpc.aio.ServicerContext, whose stubs cannot say that messages are bytes

_CODES = {Code[code.name]: code for code in grpc.StatusCode}
_DETAILS = 'grpc-status-details-bin'


class GrpcEdge:
    """One grpc.aio server in front of a gateway."""

    def __init__(self, gateway: Gateway, *, credentials: grpc.ServerCredentials | None = None) -> None:
        self._gateway = gateway
        self._credentials = credentials
        self._server = grpc.aio.server(options=_channel_options(gateway))
        self._server.add_generic_rpc_handlers([_Handlers(gateway)])

    async def start(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Listen. Returns the addresses with their real ports. Raises OSError for one that cannot be bound."""
        bound = tuple(self._bind(address) for address in addresses)
        await self._server.start()
        return bound

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let the others end within `grace` seconds, cancel the rest."""
        await self._server.stop(grace)

    def _bind(self, address: str) -> str:
        try:
            if self._credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise OSError(
                f'cannot listen on {address}: the port is in use, or the address is not of this host'
            ) from error
        host, colon, _ = address.rpartition(':')
        return f'{host}:{port}' if colon and not address.startswith('unix') else address


class _Handlers(grpc.GenericRpcHandler):
    """One dictionary for all methods: registering each with the server would cost every call (docs/adr/0003)."""

    def __init__(self, gateway: Gateway) -> None:
        self._by_method: dict[str, _Handler] = {
            method: grpc.stream_unary_rpc_method_handler(_unary(gateway, route))
            for method, route in gateway.routes.items()
            if route.kind is Kind.UNARY
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler | None:
        method = handler_call_details.method
        found = self._by_method.get(method)
        if found is not None:
            return found
        return grpc.stream_unary_rpc_method_handler(_refuse(method))


def _unary(gateway: Gateway, route: Route) -> Any:
    async def unary(_: AsyncIterator[bytes], context: Context) -> bytes:
        message = await context.read()
        if not isinstance(message, bytes):  # grpc.aio.EOF
            return await _end(context, failed(Failure.UNKNOWN_METHOD, 'the request has no message'))
        metadata: Metadata = context.invocation_metadata()
        try:
            response = await gateway.unary(route, message, metadata=metadata, remaining=context.time_remaining())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # by the client, the deadline or the server's stop: grpc answers
            response = failed(Failure.INTERNAL, 'the call was cancelled inside the gateway')
        except Exception:
            log.exception('%s failed inside the gateway', route.method)
            response = failed(Failure.INTERNAL, 'the gateway failed; its log says why')
        return await _end(context, response)

    return unary


def _refuse(method: str) -> Any:
    async def refuse(_: AsyncIterator[bytes], context: Context) -> bytes:
        return await _end(context, unknown_method(method))

    return refuse


async def _end(context: Context, response: Response) -> bytes:
    """Answer with this response. An error goes out as Trailers-Only unless the handler sent initial metadata."""
    if response.initial:
        await context.send_initial_metadata(response.initial)
    status = response.status
    if status.code is Code.OK:
        if response.trailing:
            context.set_trailing_metadata(response.trailing)
        return response.payload
    trailing = response.trailing
    if status.details:
        trailing = (*trailing, (_DETAILS, status.details))
    await context.abort(_CODES[status.code], status.message, trailing)
    raise AssertionError('abort() returns never')


def _channel_options(gateway: Gateway) -> list[tuple[str, Any]]:
    options = gateway.options
    # What each of these prevents is told in docs/operations.md.
    values: Mapping[str, Any] = {
        'grpc.so_reuseport': 0,
        'grpc.max_receive_message_length': options.max_message_size,
        'grpc.max_send_message_length': -1,
        'grpc.max_metadata_size': options.max_metadata_size,
        'grpc.absolute_max_metadata_size': options.max_metadata_size,
        'grpc.max_concurrent_streams': 1000,
        'grpc.keepalive_time_ms': 120_000,
        'grpc.keepalive_timeout_ms': 20_000,
        'grpc.keepalive_permit_without_calls': 1,
        'grpc.http2.min_ping_interval_without_data_ms': 10_000,
        'grpc.server_handshake_timeout_ms': 20_000,
    }
    return list(values.items())
