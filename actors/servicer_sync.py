"""SyncContext: what a plain method of a servicer is given. It runs in a thread; what it asks of NATS, in the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, NoReturn

import grpc

from natsgate.actors.servicer_context import AioContext
from natsgate.events.link import LinkBroken

log = logging.getLogger('natsgate.actors')

_OVER = (LinkBroken, asyncio.CancelledError, concurrent.futures.CancelledError, grpc.aio.UsageError)


class SyncContext(grpc.ServicerContext):
    """The call, as gRPC's own servers would show it to a plain method."""

    def __init__(self, aio: AioContext) -> None:
        self.call = aio.call
        """What natsgate knows beside: the attempt, the event's id."""
        self._aio = aio
        self._loop = asyncio.get_running_loop()
        self._callbacks: list[Callable[[], None]] = []
        aio.add_done_callback(self._call_back)

    def wait(self, doing: Coroutine[Any, Any, Any]) -> Any:
        """Do this in the loop, and wait for it in this thread."""
        return asyncio.run_coroutine_threadsafe(doing, self._loop).result()

    def write(self, message: Any) -> None:
        """Send a message as soon as the caller takes it."""
        self.wait(self._aio.write(message))

    def read(self) -> Any:
        """The caller's next message; grpc.aio.EOF after the last one. Raises RpcError when the call is over."""
        try:
            return self.wait(self._aio.read())
        except _OVER as error:
            raise grpc.RpcError('the call is over') from error

    # The status

    def abort(self, code: Any, details: str | bytes, trailing_metadata: Any = ()) -> NoReturn:
        """End the call with this status. Raises, always. gRPC's plain server takes bytes as details as well."""
        self._aio.ending.abort(code, _text(details), trailing_metadata)

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """The same, with a status as `grpc_status.rpc_status.to_status()` makes it."""
        self._aio.ending.abort(status.code, status.details, status.trailing_metadata)

    def set_code(self, code: Any) -> None:
        """The code with which the call ends when the method returns or raises."""
        self._aio.set_code(code)

    def code(self) -> Any:
        """What set_code() was given; None before."""
        return self._aio.code()

    def set_details(self, details: str | bytes) -> None:
        """The text that goes with the code; gRPC's plain server takes bytes as well."""
        self._aio.set_details(_text(details))

    def details(self) -> bytes:
        """What set_details() was given, as bytes: gRPC's plain server has it so."""
        return self._aio.details().encode()

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Metadata that goes with the status."""
        self._aio.set_trailing_metadata(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """What set_trailing_metadata() was given; empty before."""
        return self._aio.trailing_metadata()

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Once, and before the first message. Raises ValueError after that."""
        try:
            self.wait(self._aio.send_initial_metadata(initial_metadata))
        except grpc.aio.UsageError as error:
            raise ValueError('Initial metadata no longer allowed!') from error

    def set_compression(self, compression: grpc.Compression) -> None:
        """Whether messages go compressed, if the caller takes that; the gateway chooses how."""
        self._aio.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        """The next message goes as it is."""
        self._aio.disable_next_message_compression()

    # The caller

    def invocation_metadata(self) -> Any:
        """What the caller sent."""
        return self._aio.invocation_metadata()

    def time_remaining(self) -> Any:
        """Seconds until the caller stops waiting; None when nobody set a limit."""
        return self._aio.time_remaining()

    def peer(self) -> str:
        """Callers are behind NATS: it is not known."""
        return self._aio.peer()

    def peer_identities(self) -> None:
        """Not known, as on a port without TLS."""

    def peer_identity_key(self) -> None:
        """Not known, as on a port without TLS."""

    def auth_context(self) -> Mapping[str, Any]:
        """Nothing is known."""
        return self._aio.auth_context()

    # The end

    def is_active(self) -> bool:
        """Whether somebody still waits for the status."""
        return not self._aio.done()

    def cancel(self) -> bool:
        """End the call with CANCELLED. What the method does after that reaches nobody. False: it is over already."""
        active = self.is_active()
        self._aio.ending.cancel()
        self._loop.call_soon_threadsafe(self._aio.close)
        return active

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Called when the call is over, also while the method still runs. False: it is over already."""
        if self._aio.done():
            return False
        self._callbacks.append(callback)
        return True

    def _call_back(self, _: AioContext) -> None:
        if self._callbacks:  # they may block: that is what such servicers are allowed to
            threading.Thread(target=self._call_all, name='servicer-callbacks', daemon=True).start()

    def _call_all(self) -> None:
        for callback in self._callbacks:
            try:
                callback()
            except Exception as error:
                log.error('a callback of a servicer failed', exc_info=error)


def _text(details: str | bytes) -> str:
    return details.decode('utf-8', 'replace') if isinstance(details, bytes) else details


class SyncRequests:
    """What the caller streams, for a plain method: an iterator. Raises RpcError when the call is over."""

    def __init__(self, context: SyncContext) -> None:
        self._context = context

    def __iter__(self) -> SyncRequests:
        return self

    def __next__(self) -> Any:
        message = self._context.read()
        if message is grpc.aio.EOF:
            raise StopIteration
        return message


def write_all(responses: Iterable[Any], context: SyncContext) -> None:
    """Send what a plain method yields, and close it when the call is over."""
    try:
        for response in responses:
            context.write(response)
    finally:
        if (close := getattr(responses, 'close', None)) is not None:
            close()
