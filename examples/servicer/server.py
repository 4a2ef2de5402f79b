"""Before: the library on a grpc.aio server."""

import asyncio
import sys

import grpc
import library_pb2_grpc
from servicer import Library


async def main() -> None:
    server = grpc.aio.server()
    library_pb2_grpc.add_LibraryServicer_to_server(Library(), server)
    port = server.add_insecure_port(sys.argv[1] if sys.argv[1:] else '127.0.0.1:50051')
    await server.start()
    print(f'serving on 127.0.0.1:{port}', flush=True)
    await server.wait_for_termination()


asyncio.run(main())
