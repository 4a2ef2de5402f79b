"""A servicer of grpc.testing.TestService, as one writes it for grpc.aio, and the actors that it makes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import interop_pb2 as pb
import interop_pb2_grpc

from natsgate.actors import Actors

ECHO_INITIAL = 'x-grpc-test-echo-initial'
ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin'


class TestService(interop_pb2_grpc.TestServiceServicer):
    """Knows nothing of natsgate. It yields in one streaming method, and writes in the other."""

    __test__ = False

    async def EmptyCall(self, request: pb.Empty, context: Any) -> pb.Empty:
        return pb.Empty()

    async def UnaryCall(self, request: pb.SimpleRequest, context: Any) -> pb.SimpleResponse:
        if request.response_compressed.value:
            context.set_compression(grpc.Compression.Gzip)
        await echo_metadata(context)
        await echo_status(request, context)
        return pb.SimpleResponse(payload=pb.Payload(body=bytes(request.response_size)))

    async def StreamingOutputCall(self, request: Any, context: Any) -> AsyncIterator[Any]:
        context.set_compression(grpc.Compression.Gzip)
        await echo_metadata(context)
        await echo_status(request, context)
        async for response in responses(request, context):
            yield response

    async def StreamingInputCall(self, request_iterator: Any, context: Any) -> Any:
        await echo_metadata(context)
        size = sum([len(request.payload.body) async for request in request_iterator])
        return pb.StreamingInputCallResponse(aggregated_payload_size=size)

    async def FullDuplexCall(self, request_iterator: Any, context: Any) -> None:
        context.set_compression(grpc.Compression.Gzip)
        await echo_metadata(context)
        while (request := await context.read()) is not grpc.aio.EOF:
            await echo_status(request, context)
            async for response in responses(request, context):
                await context.write(response)

    async def HalfDuplexCall(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        await echo_metadata(context)
        for request in [request async for request in request_iterator]:
            async for response in responses(request, context):
                yield response


async def responses(request: Any, context: Any) -> AsyncIterator[Any]:
    """The answers that a request asks for."""
    for wanted in request.response_parameters:
        await asyncio.sleep(wanted.interval_us / 1e6)
        if not wanted.compressed.value:
            context.disable_next_message_compression()
        yield pb.StreamingOutputCallResponse(payload=pb.Payload(body=bytes(wanted.size)))


async def echo_metadata(context: Any) -> None:
    """Send back the metadata that is to be sent back."""
    metadata = context.invocation_metadata()
    if initial := [entry for entry in metadata if entry.key == ECHO_INITIAL]:
        await context.send_initial_metadata(tuple(initial))
    context.set_trailing_metadata(tuple(entry for entry in metadata if entry.key == ECHO_TRAILING))


async def echo_status(request: Any, context: Any) -> None:
    """End the call with the status that is asked for, if one is."""
    if request.response_status.code:
        await context.abort(request.response_status.code, request.response_status.message)


ACTORS = Actors.of(TestService(), interop_pb2_grpc.add_TestServiceServicer_to_server)
