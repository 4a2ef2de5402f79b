"""The yardstick: what grpc.aio alone costs. One generic handler, bytes in and bytes out, no NATS at all."""

import sys

import grpc
import uvloop
from counter import counter

METHOD = '/bench.Echo/Unary'

count = counter()


async def echo(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
    count()
    return request


class Echo(grpc.GenericRpcHandler):
    """Knows one method, and neither serializes nor deserializes."""

    handler = grpc.unary_unary_rpc_method_handler(echo)

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self.handler if call.method == METHOD else None


async def main(address: str) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


uvloop.run(main(*sys.argv[1:]))
