"""Conversation: a streaming call between an edge and events: messages down, messages up, until one side ends it."""

from __future__ import annotations

import asyncio

from natsgate.events.failures import Failure, failed
from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code
from natsgate.events.streaming import StreamCall
from natsgate.events.wire import Response
from natsgate.gateway.call import Call, Message

NO_MESSAGE = 'the request has no message'
TWO_MESSAGES = 'the request has more than one message'


async def only_message(call: Call) -> Message | Response:
    """The message of a call that has exactly one, or the answer to a call that has another number of them."""
    message = await call.read()
    if message is None:
        return failed(Failure.UNKNOWN_METHOD, NO_MESSAGE)
    if await call.read() is not None:
        return failed(Failure.UNKNOWN_METHOD, TWO_MESSAGES)
    return message


async def converse(call: Call, stream: StreamCall, kind: Kind) -> Response:
    """Carry messages both ways until the call has ended; returns how. Left early, it cancels the streaming call.

    Raises what the client's messages could not be read for: that has ended the call.
    """
    pump = None
    if kind.client_streams:
        pump = asyncio.create_task(_pump(call, stream), name='gateway/call/up')
    try:
        response = await (_down(call, stream) if kind.server_streams else _single(stream))
    finally:
        stream.cancel()
        error = None if pump is None else await _stopped(pump)
    if error is not None:
        raise error
    return response


async def _stopped(pump: asyncio.Task[None]) -> BaseException | None:
    """What it failed with, once it has stopped."""
    pump.cancel()
    await asyncio.wait({pump})
    return None if pump.cancelled() else pump.exception()


async def _pump(call: Call, stream: StreamCall) -> None:
    """The client's messages, one by one, as fast as the actor takes them."""
    try:
        while (message := await call.read()) is not None:
            if not await stream.send(message):
                return
    except BaseException:  # the client is gone, or its edge failed: there is no more to come
        stream.cancel()
        raise
    stream.close()


async def _down(call: Call, stream: StreamCall) -> Response:
    """The actor's messages, as fast as the client takes them. A failure before the first stays Trailers-Only."""
    initial: Metadata = await stream.initial()
    if initial:
        await call.send_initial(initial)
    while messages := await stream.receive_some():
        await call.write(*messages)
    return stream.response


async def _single(stream: StreamCall) -> Response:
    """The one message of a client-streaming call, with its metadata."""
    messages: list[Message] = []
    while (message := await stream.receive()) is not None:
        if messages:  # not collected: an actor could send any number
            return failed(Failure.RESPONSE_UNREADABLE, 'more than one message came where one was due')
        messages.append(message)
    ended = stream.response
    if ended.status.code is not Code.OK:
        return Response(status=ended.status, initial=await stream.initial(), trailing=ended.trailing)
    if not messages:
        return failed(Failure.RESPONSE_UNREADABLE, 'no message came where one was due')
    return Response(
        payload=messages[0].data,
        initial=await stream.initial(),
        trailing=ended.trailing,
        compressed=messages[0].compressed,
    )
