"""grpc.aio and FastStream put together the obvious way: the servicer's method awaits `broker.request()` (core NATS)."""

import sys

import grpc
import uvloop
from faststream.nats import NatsBroker


class Echo:
    """The servicer, as one would write it on generated code."""

    def __init__(self, broker: NatsBroker) -> None:
        self._broker = broker

    async def unary(self, request: bytes, _: grpc.aio.ServicerContext) -> bytes:
        return (await self._broker.request(request, 'bench-echo', timeout=30)).body


async def main(address: str, nats: str) -> None:
    async with NatsBroker(nats) as broker:
        server = grpc.aio.server()
        methods = {'Unary': grpc.unary_unary_rpc_method_handler(Echo(broker).unary)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('bench.Echo', methods),))
        server.add_insecure_port(address)
        await server.start()
        await server.wait_for_termination()


uvloop.run(main(*sys.argv[1:]))
