"""The gateway's core: a call in, a response out. It never sees which edge a call came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.message import DecodeError, Message

from natsgate.events import metadata as md
from natsgate.events.failures import Failure, failed, unreadable_request
from natsgate.events.metadata import Metadata
from natsgate.events.requester import Destination, Requester
from natsgate.events.wire import Response
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.routes import Route

MessageClass = Callable[[str], type[Message]]
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
    ) -> None:
        """`message_class` is needed where `options.validate` is on."""
        self.routes = routes
        self.options = options
        self._requester = requester
        self._message_class = message_class
        self._destinations = {method: destination_of(route) for method, route in routes.items()}
        self.in_flight = 0

    async def unary(self, route: Route, message: bytes, *, metadata: Metadata, remaining: float | None) -> Response:
        """The response to a unary call. `remaining`: the client's seconds, or None when it set no deadline."""
        refused = self._refusal(route, message, metadata)
        if refused is not None:
            return refused
        timeout = effective_timeout(remaining, route.timeout, self.options.timeout)
        requester = self._requester
        self.in_flight += 1
        try:
            return await requester.ask(
                self._destinations[route.method], message, deadline=requester.now() + timeout, metadata=metadata
            )
        finally:
            self.in_flight -= 1

    def _refusal(self, route: Route, message: bytes, metadata: Metadata) -> Response | None:
        limit = self.options.max_in_flight
        if self.in_flight >= limit:
            return failed(Failure.TOO_MANY_CALLS, f'{limit} calls are in flight, more are not taken', limit=limit)
        if metadata and (size := md.size(metadata)) > (limit := self.options.max_metadata_size):
            text = f'{size} bytes of metadata, {limit} are taken'
            return failed(Failure.METADATA_TOO_LARGE, text, limit=limit, size=size)
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
    )


def effective_timeout(*limits: float | None) -> float:
    """The least of those that are set, in seconds, never negative. At least one must be set."""
    return max(0.0, min(limit for limit in limits if limit is not None))


def unknown_method(method: str) -> Response:
    """The response to a call of a method that no route has."""
    return failed(Failure.UNKNOWN_METHOD, f'unknown method {method[:200]}')


def _unreadable(kind: type[Message], message: bytes) -> Response | None:
    try:
        kind.FromString(message)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        return unreadable_request(f'the request is not a {name}', name)
    return None
