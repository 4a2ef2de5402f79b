"""AioContext: what a method of a grpc.aio servicer is given, on a call that came over NATS.

Names, order and errors are those of grpc.aio's own server: what a method may do, and what it gets for doing it at the
wrong moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

import grpc

from natsgate.actors.context import Context
from natsgate.actors.servicer_ending import Ending, sendable
from natsgate.events.metadata import MetadataError
from natsgate.events.status import Code, Status, StatusError

log = logging.getLogger('natsgate.actors')

UNKNOWN_PEER = 'unknown'
"""gRPC's own word for a peer that it does not know: callers are behind NATS, and their addresses do not travel."""

_FAILED = 'the handler failed; its log says why'


class Metadatum(NamedTuple):
    """One entry of the invocation metadata."""

    key: str
    value: str | bytes


class AioContext(grpc.aio.ServicerContext[Any, Any]):
    """The call, as grpc.aio's server would show it to the method."""

    def __init__(self, call: Context, requests: AsyncIterator[Any] | None, *, streams: bool) -> None:
        """`requests`: what the caller streams. `streams`: whether any number of messages goes back."""
        self.call = call
        """What natsgate knows beside: the attempt, the event's id."""
        self.ending = Ending()
        self._requests = requests
        self._streams = streams
        self._metadata_sent = False
        self._compressed = False
        self._plain_next = False
        self._over = False
        self._callbacks: list[Callable[[AioContext], None]] = []

    # Messages

    async def read(self) -> Any:
        """The caller's next message; grpc.aio.EOF after the last one."""
        self._check_running()
        if self._requests is None:
            return grpc.aio.EOF
        message = await anext(self._requests, grpc.aio.EOF)
        self._check_running()
        return message

    async def write(self, message: Any) -> None:
        """Send a message as soon as the caller takes it."""
        self._check_running()
        if not self._streams or self.call.on_response is None:
            raise TypeError('write() in a method that has one response: return it')
        self._check_type(message)
        self._choose_compression()
        await self.call.on_response(message)
        self._metadata_sent = True

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Once, and before the first message."""
        self._check_running()
        if self._metadata_sent:
            raise grpc.aio.UsageError('Send initial metadata failed: already sent')
        try:
            self.call.send_initial_metadata(sendable(initial_metadata))
        except MetadataError as error:
            self.ending.refuse(error)
            self.ending.abort(grpc.StatusCode.INTERNAL, '', ())
        self._metadata_sent = True

    def _check_running(self) -> None:
        if self.ending.aborted is not None:
            raise self.ending.aborted
        if self._over:
            raise grpc.aio.UsageError('RPC already finished.')

    def _check_type(self, message: Any) -> None:
        event: Any = self.call.event
        if type(message) is not event.response_schema:
            wanted = event.response_schema.DESCRIPTOR.full_name
            raise TypeError(f'{event.name}: a {wanted} is due, this is {type(message).__name__}')

    # The status

    async def abort(self, code: Any, details: str = '', trailing_metadata: Any = ()) -> NoReturn:
        """End the call with this status. Raises AbortError, always."""
        self.ending.abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """The same, with a status as `grpc_status.rpc_status.to_status()` makes it."""
        self.ending.abort(status.code, status.details, status.trailing_metadata)

    def set_code(self, code: Any) -> None:
        """The code with which the call ends when the method returns or raises."""
        self.ending.set_code(code)

    def code(self) -> Any:
        """What set_code() was given; None before."""
        return self.ending.code

    def set_details(self, details: str) -> None:
        """The text that goes with the code."""
        self.ending.set_details(details)

    def details(self) -> str:
        """What set_details() was given; empty before."""
        return self.ending.details

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Metadata that goes with the status."""
        self.ending.set_trailing(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """What set_trailing_metadata() was given; empty before."""
        return self.ending.trailing

    # Compression

    def set_compression(self, compression: grpc.Compression) -> None:
        """Whether messages go compressed, if the caller takes that; the gateway chooses how."""
        if self._metadata_sent:
            raise RuntimeError('Compression setting must be specified before sending initial metadata')
        self._compressed = compression is not grpc.Compression.NoCompression

    def disable_next_message_compression(self) -> None:
        """The next message goes as it is."""
        self._plain_next = True

    def _choose_compression(self) -> None:
        self.call.set_compression(self._compressed and not self._plain_next)
        self._plain_next = False

    # The caller

    def invocation_metadata(self) -> Any:
        """What the caller sent."""
        return tuple(Metadatum(*pair) for pair in self.call.metadata)

    def time_remaining(self) -> Any:
        """Seconds until the caller stops waiting; None when nobody set a limit."""
        return self.call.time_remaining()

    def peer(self) -> str:
        """Callers are behind NATS: it is not known."""
        return UNKNOWN_PEER

    def peer_identities(self) -> None:
        """Not known, as on a port without TLS."""

    def peer_identity_key(self) -> None:
        """Not known, as on a port without TLS."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Nothing is known."""
        return {}

    # The end

    def add_done_callback(self, callback: Any) -> None:
        """Called with this context when the call is over."""
        self._callbacks.append(callback)

    def done(self) -> bool:
        """Whether the call is over: its status is certain, or nobody waits for it."""
        return self._over or self.ending.aborted is not None

    def cancelled(self) -> bool:
        """Whether the method has set CANCELLED, as grpc.aio understands it."""
        return self.ending.status.code is Code.CANCELLED

    def respond(self, response: Any) -> Any:
        """The response of a method that has returned. Raises StatusError unless the call ends well."""
        status = self.ending.said(self.call)
        if status.code is not Code.OK:
            raise StatusError(status)
        if not self._streams:
            self._check_type(response)
            self._choose_compression()
        return response

    def fail(self, error: Exception) -> NoReturn:
        """End with what the method had said before it raised this; with the error itself if it had said nothing."""
        status = self.ending.said(self.call)
        if status.code is Code.OK:
            raise error
        if error is self.ending.aborted:
            # It holds the frame of the method, with the request and us. What a later use raises does not.
            self.ending.aborted = grpc.aio.AbortError(*error.args)
            raise StatusError(status) from error
        log.error('%s: the servicer raised after it had said how the call ends', self.call.event.name, exc_info=error)
        if self.ending.aborted is None and not status.message:
            status = Status(status.code, _FAILED, status.details)
        raise StatusError(status) from error

    def close(self) -> None:
        """The call is over."""
        if self._over:
            return
        self._over = True
        loop = asyncio.get_running_loop()
        for callback in self._callbacks:
            loop.call_soon(self._call_back, callback)  # once the response has left

    def _call_back(self, callback: Callable[[AioContext], None]) -> None:
        try:
            callback(self)
        except Exception as error:
            log.error('%s: a done callback failed', self.call.event.name, exc_info=error)
