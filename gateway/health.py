"""Health: whether the gateway and each of its services serve now (grpc.health.v1).

Probes and proxies ask with Check, clients that balance load keep a Watch open on every connection. All of it runs on
one event loop, and it needs no lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any

from google.protobuf import message as protobuf

from natsgate.events.frames import Message
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway.call import Call

WHOLE_SERVER = ''
"""The name that asks for the gateway itself."""
LIVENESS = 'liveness'
"""A service that always serves: it says that the process is alive, whatever becomes of NATS."""

_PACKAGE = 'grpc.health.v1'
_MOST_LISTED = 100
_SHOWN = 200


class Serving(IntEnum):
    """The statuses of a service, with gRPC's numbers (grpc.health.v1.HealthCheckResponse.ServingStatus)."""

    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class Health:
    """The status of the server and of its services, and the three calls that tell it."""

    def __init__(self, services: Iterable[str], *, message_class: Callable[[str], type[protobuf.Message]]) -> None:
        """Nothing serves until set() says so. `message_class` finds the classes of grpc.health.v1 by their names."""
        self._statuses = dict.fromkeys((WHOLE_SERVER, *services), Serving.NOT_SERVING)
        self._statuses[LIVENESS] = Serving.SERVING
        self._draining = False
        self._ended = False
        self._changed = asyncio.Event()  # one for all watchers: a change costs nothing while nobody watches
        self._check_request: Any = message_class(f'{_PACKAGE}.HealthCheckRequest')
        self._list_request: Any = message_class(f'{_PACKAGE}.HealthListRequest')
        self._list_response: Any = message_class(f'{_PACKAGE}.HealthListResponse')
        response: Any = message_class(f'{_PACKAGE}.HealthCheckResponse')
        self._encoded = {status: response(status=status).SerializeToString() for status in Serving}

    def set(self, service: str, serving: bool) -> None:
        """Say whether a service serves; one that was not known is from now on. Liveness stays as it is, and after
        drain() nothing serves again.
        """
        status = Serving.SERVING if serving and not self._draining else Serving.NOT_SERVING
        if service != LIVENESS and self._statuses.get(service) is not status:
            self._statuses[service] = status
            self._wake()

    def drain(self) -> None:
        """From now on nothing serves, so that no new calls are sent here; watchers are told."""
        self._draining = True
        for service in tuple(self._statuses):
            self.set(service, False)

    def end_watches(self) -> None:
        """End the Watch calls, those that come later as well: each is told the latest status before."""
        self._ended = True
        self._wake()

    async def check(self, call: Call) -> Response:
        """Health.Check, an Answer."""
        request = await _read(call, self._check_request)
        if isinstance(request, Response):
            return request
        status = self._statuses.get(request.service)
        if status is None:
            return _failed(Code.NOT_FOUND, f'unknown service {request.service[:_SHOWN]!r}')
        return Response(payload=self._encoded[status])

    async def list(self, call: Call) -> Response:
        """Health.List, an Answer."""
        request = await _read(call, self._list_request)
        if isinstance(request, Response):
            return request
        if len(self._statuses) > _MOST_LISTED:
            text = f'{len(self._statuses)} services, {_MOST_LISTED} can be listed; ask for each with Check'
            return _failed(Code.RESOURCE_EXHAUSTED, text)
        response = self._list_response()
        for service, status in self._statuses.items():
            response.statuses[service].status = status
        return Response(payload=response.SerializeToString())

    async def watch(self, call: Call) -> Response:
        """Health.Watch, an Answer. A client that reads slowly misses what changed meanwhile, never the latest."""
        request = await _read(call, self._check_request)
        if isinstance(request, Response):
            return request
        told: Serving | None = None
        while True:
            # Between the look and the wait nothing else runs, so that no change is missed.
            changed, status = self._changed, self._statuses.get(request.service, Serving.SERVICE_UNKNOWN)
            if status is not told:
                await call.write(Message(self._encoded[status]))
                told = status
            elif self._ended:
                return _failed(Code.UNAVAILABLE, 'the server is shutting down')
            else:
                await changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


async def _read(call: Call, kind: Any) -> Any:
    """The request of a call that has one; a Response when it cannot be read."""
    message = await call.read()
    if message is None:
        return _failed(Code.UNIMPLEMENTED, 'the request has no message')
    try:
        return kind.FromString(message.data)
    except protobuf.DecodeError:
        # A plain gRPC server says INTERNAL to this.
        return _failed(Code.INTERNAL, f'the request is not a {kind.DESCRIPTOR.full_name}')


def _failed(code: Code, text: str) -> Response:
    return Response(status=Status(code, text))
