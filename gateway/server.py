"""One gateway process: connection, requester, core and edge put together, and taken apart in the right order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from natsgate.events.connection import Connection
from natsgate.events.interest import InterestWatch
from natsgate.events.requester import Requester
from natsgate.events.sampling import keep_sampled
from natsgate.gateway.edge_grpc import GrpcEdge
from natsgate.gateway.gateway import Gateway, MessageClass
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.routes import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A gateway that serves."""

    addresses: tuple[str, ...]
    """Where it listens, with the real ports."""
    gateway: Gateway
    requester: Requester


@asynccontextmanager
async def serving(
    connection: Connection,
    routes: Mapping[str, Route],
    *,
    listen: Sequence[str] = ('127.0.0.1:0',),
    options: GatewayOptions = GatewayOptions(),  # noqa: B008  frozen
    message_class: MessageClass | None = None,
    credentials: grpc.ServerCredentials | None = None,
    patience: float = 10.0,
    drain_timeout: float = 25.0,
) -> AsyncIterator[Serving]:
    """Serve until the block is left; then refuse new calls and let the others end within `drain_timeout` seconds.

    The connection is the caller's: it is neither opened nor closed here. Raises OSError for an address that cannot
    be bound.
    """
    requester = Requester(connection, patience=patience)
    await requester.open()
    InterestWatch(connection, requester)
    gateway = Gateway(routes, requester, options=options, message_class=message_class)
    edge = GrpcEdge(gateway, credentials=credentials)
    addresses = await edge.start(listen)
    clock = asyncio.create_task(
        keep_sampled(connection, (route.stream for route in routes.values())), name='gateway/clock'
    )
    try:
        yield Serving(addresses=addresses, gateway=gateway, requester=requester)
    finally:
        clock.cancel()
        await edge.stop(drain_timeout)
