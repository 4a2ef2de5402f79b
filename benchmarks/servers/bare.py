"""The yardstick: what grpc.aio alone costs. One generic handler, bytes in and bytes out, no NATS at all."""

import sys
from collections.abc import AsyncIterator

import grpc
import uvloop
from shared import REPEATS, Gate, counter

# With the defaults, some of 1,024 calls at a time are refused.
OPTIONS = (('grpc.server.max_pending_requests', 10_000), ('grpc.server.max_pending_requests_hard_limit', 20_000))

count = counter()
gate = Gate()


async def unary(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
    count()
    return request


async def repeat(request: bytes, _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    count()
    for _ in range(REPEATS):
        yield request


async def chat(requests: AsyncIterator[bytes], _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    count()
    async for request in requests:
        yield request


async def wait(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
    count()
    await gate.wait()
    return request


HANDLERS = {
    '/bench.Echo/Unary': grpc.unary_unary_rpc_method_handler(unary),
    '/bench.Echo/Repeat': grpc.unary_stream_rpc_method_handler(repeat),
    '/bench.Echo/Chat': grpc.stream_stream_rpc_method_handler(chat),
    '/bench.Echo/Wait': grpc.unary_unary_rpc_method_handler(wait),
}


class Echo(grpc.GenericRpcHandler):
    """Knows a few methods, and neither serializes nor deserializes."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return HANDLERS.get(call.method)


async def main(address: str) -> None:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


uvloop.run(main(*sys.argv[1:]))
