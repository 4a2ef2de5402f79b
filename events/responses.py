"""Responses: a streaming call of a Python producer: messages in, responses out, without gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from natsgate.events.event import EventWithResponse
from natsgate.events.failures import Failure, failed
from natsgate.events.frames import Message
from natsgate.events.metadata import Metadata
from natsgate.events.status import Code, StatusError
from natsgate.events.streaming import StreamCall

R = TypeVar('R')

Messages = AsyncIterable[Any] | Iterable[Any]


def decoded(event: EventWithResponse[Any, R], data: bytes) -> R:
    """The response in these bytes. Raises StatusError for one that is not what the event declares."""
    try:
        return event.decode_response(data)
    except Exception as error:  # a serializer of the user's own may raise anything
        text = f'the response cannot be read: {str(error) or type(error).__name__}'
        raise StatusError(failed(Failure.RESPONSE_UNREADABLE, text).status) from error


class Responses(Generic[R]):
    """The responses of one call, in order: `async for response in conn.stream(...)`.

    Leaving the loop early leaves the call running until `aclose()`; with `async with` it is cancelled at the end of the
    block. Raises StatusError when the call ends with another status than OK.
    """

    def __init__(self, call: StreamCall, event: EventWithResponse[Any, R], messages: Messages | None) -> None:
        self._call = call
        self._event = event
        self._sending: asyncio.Task[None] | None = None
        if messages is not None:
            self._sending = asyncio.create_task(self._send(messages), name=f'events/{event.name}/send')

    async def _send(self, messages: Messages) -> None:
        try:
            if isinstance(messages, AsyncIterable):
                async for message in messages:
                    if not await self._call.send(Message(self._event.encode(message))):
                        return
            else:
                for message in messages:
                    if not await self._call.send(Message(self._event.encode(message))):
                        return
        except BaseException:
            self._call.cancel()
            raise
        self._call.close()

    async def initial(self) -> Metadata:
        """Initial metadata, as soon as the actor has sent it; empty if it sends none."""
        return await self._call.initial()

    @property
    def trailing(self) -> Metadata:
        """Trailing metadata; only after the last response."""
        return self._call.response.trailing

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        try:
            message = await self._call.receive()
        except asyncio.CancelledError:
            self._call.cancel()
            raise
        if message is not None:
            try:
                return decoded(self._event, message.data)
            except StatusError:
                self._call.cancel()
                raise
        await self.aclose()
        response = self._call.response
        if response.status.code is not Code.OK:
            raise StatusError(response.status, initial=await self._call.initial(), trailing=response.trailing)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancel the call if it has not ended. Raises what the iterable of messages has raised."""
        self._call.cancel()
        sending, self._sending = self._sending, None
        if sending is not None:
            if not sending.done():
                sending.cancel()
            await asyncio.wait({sending})
            if not sending.cancelled() and (error := sending.exception()) is not None:
                raise error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
