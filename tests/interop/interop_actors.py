"""The actors of grpc.testing.TestService: they do what gRPC's official interop clients ask for."""

import asyncio
from collections.abc import AsyncIterator

import interop_pb2 as pb

from natsgate.actors import Actor, Actors, Context
from natsgate.events import Code, Service

TEST = Service.of(pb, 'TestService')

ECHO_INITIAL = 'x-grpc-test-echo-initial'
ECHO_TRAILING = 'x-grpc-test-echo-trailing-bin'

Requests = AsyncIterator[pb.StreamingOutputCallRequest]
Responses = AsyncIterator[pb.StreamingOutputCallResponse]


async def empty_call(request: pb.Empty) -> pb.Empty:
    return pb.Empty()


async def unary_call(request: pb.SimpleRequest, context: Context) -> pb.SimpleResponse:
    echo_metadata(context)
    judge_compression(request, context)
    echo_status(request, context)
    context.set_compression(request.response_compressed.value)
    return pb.SimpleResponse(payload=payload(request.response_size))


async def streaming_output_call(request: pb.StreamingOutputCallRequest, context: Context) -> Responses:
    echo_metadata(context)
    echo_status(request, context)
    async for response in responses(request, context):
        yield response


async def streaming_input_call(
    requests: AsyncIterator[pb.StreamingInputCallRequest], context: Context
) -> pb.StreamingInputCallResponse:
    echo_metadata(context)
    size = 0
    async for request in requests:
        judge_compression(request, context)
        size += len(request.payload.body)
    return pb.StreamingInputCallResponse(aggregated_payload_size=size)


async def full_duplex_call(requests: Requests, context: Context) -> Responses:
    echo_metadata(context)
    async for request in requests:
        echo_status(request, context)
        async for response in responses(request, context):
            yield response


async def half_duplex_call(requests: Requests, context: Context) -> Responses:
    echo_metadata(context)
    for request in [request async for request in requests]:
        echo_status(request, context)
        async for response in responses(request, context):
            yield response


async def responses(request: pb.StreamingOutputCallRequest, context: Context) -> Responses:
    """The answers that a request asks for."""
    for wanted in request.response_parameters:
        await asyncio.sleep(wanted.interval_us / 1e6)
        context.set_compression(wanted.compressed.value)
        yield pb.StreamingOutputCallResponse(payload=payload(wanted.size))


def payload(size: int) -> pb.Payload:
    """So many bytes."""
    return pb.Payload(body=bytes(size))


def echo_metadata(context: Context) -> None:
    """Send back the metadata that is to be sent back."""
    if initial := [pair for pair in context.metadata if pair[0] == ECHO_INITIAL]:
        context.send_initial_metadata(initial)
    context.set_trailing_metadata(pair for pair in context.metadata if pair[0] == ECHO_TRAILING)


def echo_status(request: pb.SimpleRequest | pb.StreamingOutputCallRequest, context: Context) -> None:
    """End the call with the status that is asked for, if one is."""
    if request.response_status.code:
        context.abort(request.response_status.code, request.response_status.message)


def judge_compression(request: pb.SimpleRequest | pb.StreamingInputCallRequest, context: Context) -> None:
    """Refuse a message that did not come as it says that it did."""
    if request.HasField('expect_compressed') and request.expect_compressed.value != context.compressed:
        expected = 'a compressed' if request.expect_compressed.value else 'an uncompressed'
        context.abort(Code.INVALID_ARGUMENT, f'expected {expected} message')


ACTORS = Actors(
    Actor('empty', TEST['EmptyCall'], empty_call),
    Actor('unary', TEST['UnaryCall'], unary_call),
    Actor('output', TEST['StreamingOutputCall'], streaming_output_call),
    Actor('input', TEST['StreamingInputCall'], streaming_input_call),
    Actor('full', TEST['FullDuplexCall'], full_duplex_call),
    Actor('half', TEST['HalfDuplexCall'], half_duplex_call),
)
