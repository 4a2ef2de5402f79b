"""Actors and a gateway in the test's own process, on a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from natsgate.actors import Actors, ConnectedActors
from natsgate.events.connection import Connection, ConnectOptions, open_connection
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Override, routes
from natsgate.gateway.server import Serving, serving

_ENDS_WITHIN = 1.0


async def until(condition: Callable[[], object], timeout: float = 5) -> None:
    """Wait until something holds. Raises TimeoutError when it does not within `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)


async def connect(url: str, **options: Any) -> Connection:
    """A connection that comes back at once when it was lost. `options` are those of ConnectOptions."""
    return await open_connection(ConnectOptions(servers=(url,), reconnect_wait=0.05, **options), timeout=10)


@asynccontextmanager
async def listening(actors: ConnectedActors, *, drain_timeout: float, discovery: bool = True) -> AsyncIterator[None]:
    """Register the actors and let them take events until the block is left."""
    await actors.register()
    task = asyncio.create_task(actors.listen(drain_timeout=drain_timeout, discovery=discovery), name='testing/listen')
    ready = asyncio.create_task(actors.listening.wait(), name='testing/ready')
    try:
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():  # otherwise it has failed
            yield
    finally:
        ready.cancel()
        actors.stop()
        await task


@asynccontextmanager
async def running_actors(
    url: str, actors: Actors, *, drain_timeout: float = _ENDS_WITHIN, **connection: Any
) -> AsyncIterator[ConnectedActors]:
    """Register the actors and let them work until the block is left."""
    opened = await connect(url, **connection)
    connected = ConnectedActors(opened, tuple(actors))
    try:
        async with listening(connected, drain_timeout=drain_timeout):
            yield connected
    finally:
        await opened.close()


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway, and a way to call it."""

    serving: Serving
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        """Where it listens: `host:port`."""
        return self.serving.addresses[0]


@asynccontextmanager
async def running_gateway(
    url: str,
    descriptors: Descriptors,
    *,
    overrides: Mapping[str, Override] | None = None,
    patience: float = 10,
    channel_options: Sequence[tuple[str, Any]] = (),
    **options: Any,
) -> AsyncIterator[RunningGateway]:
    """Serve on a free port until the block is left. `options` are those of GatewayOptions."""
    connection = await connect(url)
    gateway = serving(
        connection,
        descriptors,
        routes(descriptors, overrides),
        options=GatewayOptions(**options),
        patience=patience,
        drain_timeout=_ENDS_WITHIN,
    )
    try:
        async with (
            gateway as running,
            grpc.aio.insecure_channel(running.addresses[0], options=channel_options) as channel,
        ):
            yield RunningGateway(running, channel)
    finally:
        await connection.close()
