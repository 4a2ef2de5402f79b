"""One gateway process: connection, requester, core and edge put together, and taken apart in the right order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from natsgate.events.connection import Connection
from natsgate.events.interest import InterestWatch
from natsgate.events.presence import PresenceWatch
from natsgate.events.requester import Requester
from natsgate.events.sampling import keep_sampled
from natsgate.gateway.edge_grpc import GrpcEdge
from natsgate.gateway.gateway import Gateway, destination_of
from natsgate.gateway.health import WHOLE_SERVER, Health
from natsgate.gateway.infrastructure import Infrastructure
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Route

_LAST_WORDS = 1.0  # seconds for the statuses of calls that did not end in time: grpc's own would invite a repetition


class Edge(Protocol):
    """What speaks HTTP/2."""

    async def start(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Listen. Returns the addresses with their real ports. Raises OSError for one that cannot be bound."""

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let the others end within `grace` seconds, cancel the rest."""


EdgeFactory = Callable[[Gateway], Edge]


class Serving:
    """A gateway that serves."""

    def __init__(
        self,
        addresses: tuple[str, ...],
        gateway: Gateway,
        requester: Requester,
        presence: PresenceWatch,
        health: Health,
    ) -> None:
        self.addresses = addresses
        """Where it listens, with the real ports."""
        self.gateway = gateway
        self.requester = requester
        self.presence = presence
        self.health = health

    async def drain(self, delay: float) -> None:
        """Say that no calls should come any more, and serve those that come all the same for `delay` seconds."""
        self.health.drain()
        await asyncio.sleep(delay)


@asynccontextmanager
async def serving(
    connection: Connection,
    descriptors: Descriptors,
    routes: Mapping[str, Route],
    *,
    listen: Sequence[str] = ('127.0.0.1:0',),
    options: GatewayOptions = GatewayOptions(),  # noqa: B008  frozen
    edge: EdgeFactory = GrpcEdge,
    patience: float = 10.0,
    drain_timeout: float = 25.0,
) -> AsyncIterator[Serving]:
    """Serve until the block is left; then refuse new calls and let the others end within `drain_timeout` seconds.

    `edge` makes the edge. The connection is the caller's: it is neither opened nor closed here. Raises OSError for an
    address that cannot be bound.
    """
    own = Infrastructure(descriptors, sorted({route.service for route in routes.values()}), options.reflection)
    presence = PresenceWatch(connection, map(destination_of, routes.values()))
    requester = Requester(connection, patience=patience, presence=presence)
    await requester.open()
    InterestWatch(connection, requester)
    gateway = Gateway(
        routes,
        requester,
        options=options,
        message_class=descriptors.message_class,
        own=own.answers,
        pools=(descriptors.pool, own.pool),
    )
    _keep_health(own.health, connection, presence, routes)
    await presence.open()
    front = edge(gateway)
    addresses = await front.start(listen)
    clock = asyncio.create_task(
        keep_sampled(connection, (route.stream for route in routes.values())), name='gateway/clock'
    )
    try:
        yield Serving(addresses, gateway, requester, presence, own.health)
    finally:
        clock.cancel()
        own.health.drain()
        own.health.end_watches()
        gateway.end_own()
        stopping = asyncio.create_task(front.stop(drain_timeout + _LAST_WORDS), name='gateway/stop')
        await asyncio.wait({stopping}, timeout=drain_timeout)
        requester.break_off()
        await stopping
        requester.close()
        presence.close()


def _keep_health(health: Health, connection: Connection, presence: PresenceWatch, routes: Mapping[str, Route]) -> None:
    """The whole server is as healthy as its connection to NATS; a service also wants a worker."""
    subjects: dict[str, set[str]] = {}
    unseen = {route.service for route in routes.values() if route.walnats}  # its actors give no signs of life
    for route in routes.values():
        subjects.setdefault(route.service, set()).add(route.subject)

    def look() -> None:
        connected = connection.connected
        health.set(WHOLE_SERVER, connected)
        for service, of_service in subjects.items():
            health.set(service, connected and (service in unseen or not of_service.isdisjoint(presence.served)))

    connection.on_connected.append(look)
    connection.on_disconnected.append(look)
    presence.on_change.append(look)
    look()
