"""grpc.aio and walnats put together the obvious way: the servicer's method awaits `conn.request()`."""

import sys

import grpc
import uvloop
from walnats import Events
from walnats._events._connection import ConnectedEvents
from walnats_event import ECHO


class Echo:
    """The servicer, as one would write it on generated code."""

    def __init__(self, connection: ConnectedEvents) -> None:
        self._connection = connection

    async def unary(self, request: bytes, _: grpc.aio.ServicerContext) -> bytes:
        return await self._connection.request(ECHO, request)


async def main(address: str, nats: str) -> None:
    async with Events(ECHO).connect(nats) as connection:
        await connection.register()
        server = grpc.aio.server()
        methods = {'Unary': grpc.unary_unary_rpc_method_handler(Echo(connection).unary)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('bench.Echo', methods),))
        server.add_insecure_port(address)
        await server.start()
        await server.wait_for_termination()


uvloop.run(main(*sys.argv[1:]))
