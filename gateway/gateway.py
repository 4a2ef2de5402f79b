"""The gateway's core: a call in, a response out. It never sees which edge a call came from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf import message as protobuf
from google.protobuf.descriptor_pool import DescriptorPool

from natsgate.events import metadata as md
from natsgate.events.failures import Failure, failed, unreadable_request
from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata
from natsgate.events.pending import Destination
from natsgate.events.requester import Requester
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway.call import Answer, Call, Message
from natsgate.gateway.conversation import converse, only_message
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.routes import Route

MessageClass = Callable[[str], type[protobuf.Message]]
"""Finds a message class by its full name."""


class Gateway:
    """Answers the calls of all routes through one requester."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        requester: Requester,
        *,
        options: GatewayOptions = GatewayOptions(),  # noqa: B008  frozen
        message_class: MessageClass | None = None,
        own: Mapping[str, tuple[Kind, Answer]] | None = None,
        pools: Sequence[DescriptorPool] = (),
    ) -> None:
        """`message_class` is needed where `options.validate` is on. `own`: the methods of the gateway itself.

        `pools`: the messages of all methods, for edges that write them as JSON.
        """
        self.routes = routes
        self.own = own or {}
        self.options = options
        self.pools = pools
        self._requester = requester
        self._message_class = message_class
        self._destinations = {method: destination_of(route) for method, route in routes.items()}
        self._timeouts = {method: effective_timeout(route.timeout, options.timeout) for method, route in routes.items()}
        self.in_flight = 0
        self.most_in_flight = 0
        """The most at a time since somebody has set it back."""
        self._own_tasks: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def unary(
        self,
        route: Route,
        message: bytes,
        *,
        metadata: Metadata,
        remaining: float | None,
        compressed: bool = False,
        watch: Callable[[asyncio.Future[Response]], object] | None = None,
    ) -> Response:
        """The response to a unary call. `remaining`: the client's seconds, or None when it set no deadline.

        `watch` is given what the call waits for: cancelling that cancels the call. Raises CancelledError.
        """
        refused = self._refusal(route, message, metadata)
        if refused is not None:
            return refused
        method = route.method
        timeout = self._timeouts[method]
        if remaining is not None and remaining < timeout:
            timeout = remaining
        asked = self._requester.begin(
            self._destinations[method], message, timeout=timeout, metadata=metadata, compressed=compressed
        )
        if isinstance(asked, Response):
            return asked
        if watch is not None:
            watch(asked.answer)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await asked.answer
        except asyncio.CancelledError:
            self._requester.abandon(asked)
            raise
        finally:
            self.in_flight -= 1

    async def stream(self, route: Route, call: Call) -> Response:
        """Serve a streaming call: how it ended, and the one response where there is only one.

        The client's deadline bounds it; without one it may last for ever. The timeouts of the method and of the gateway
        are idle timeouts here; the gateway's other one bounds how long it waits for a worker.
        """
        refused = self._refusal(route, None, call.metadata)
        if refused is not None:
            return refused
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._converse(route, call)
        finally:
            self.in_flight -= 1

    async def _converse(self, route: Route, call: Call) -> Response:
        message = Message(b'')
        if not route.kind.client_streams:
            read = await only_message(call)
            refused = read if isinstance(read, Response) else self._invalid(route, read.data)
            if refused is not None:
                return refused
            assert isinstance(read, Message)
            message = read
        idle = [limit for limit in (route.timeout, self.options.stream_idle_timeout) if limit is not None]
        remaining = call.remaining
        stream = self._requester.stream(
            self._destinations[route.method],
            message.data,
            route.kind,
            deadline=None if remaining is None else self._requester.now() + remaining,
            take_within=self.options.timeout,
            idle_timeout=min(idle, default=None),
            metadata=call.metadata,
            compressed=message.compressed,
        )
        return stream if isinstance(stream, Response) else await converse(call, stream, route.kind)

    async def answer(self, answer: Answer, call: Call) -> Response:
        """Serve a method of the gateway's own. It counts against no limit: a full gateway is still healthy."""
        task = asyncio.current_task()
        assert task is not None
        self._own_tasks.add(task)
        try:
            return await answer(call)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            return Response(status=Status(Code.UNAVAILABLE, 'the server is shutting down'))
        finally:
            self._own_tasks.discard(task)

    def end_own(self) -> None:
        """End the calls of the gateway's own methods: some would stay open for as long as their clients do."""
        self._ending = True
        for task in self._own_tasks:
            task.cancel()

    def _refusal(self, route: Route, message: bytes | None, metadata: Metadata) -> Response | None:
        limit = self.options.max_in_flight
        if self.in_flight >= limit:
            return failed(Failure.TOO_MANY_CALLS, f'{limit} calls are in flight, more are not taken', limit=limit)
        if metadata and (size := md.size(metadata)) > (limit := self.options.max_metadata_size):
            text = f'{size} bytes of metadata, {limit} are taken'
            return failed(Failure.METADATA_TOO_LARGE, text, limit=limit, size=size)
        return None if message is None else self._invalid(route, message)

    def _invalid(self, route: Route, message: bytes) -> Response | None:
        if self.options.validate and self._message_class is not None:
            return _unreadable(self._message_class(route.request_type), message)
        return None


def destination_of(route: Route) -> Destination:
    """Where the calls of a route are published."""
    return Destination(
        subject=route.subject,
        stream=route.stream,
        target=route.target,
        idempotent=route.idempotent,
        interest=route.target != route.service,
        grace=route.grace,
        walnats=route.walnats,
    )


def effective_timeout(*limits: float | None) -> float:
    """The least of those that are set, in seconds, never negative. At least one must be set."""
    return max(0.0, min(limit for limit in limits if limit is not None))


def unknown_method(method: str) -> Response:
    """The response to a call of a method that no route has."""
    return failed(Failure.UNKNOWN_METHOD, f'unknown method {method[:200]}')


def _unreadable(kind: type[protobuf.Message], message: bytes) -> Response | None:
    try:
        kind.FromString(message)
    except protobuf.DecodeError:
        name = kind.DESCRIPTOR.full_name
        return unreadable_request(f'the request is not a {name}', name)
    return None
