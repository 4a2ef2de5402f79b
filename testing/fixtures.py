"""Fixtures for pytest: a nats-server, actors, a gateway, a channel to it, and faults between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol, TypeVar

import pytest
import pytest_asyncio

from natsgate.actors import Actors, ConnectedActors
from natsgate.command.embedded import EmbeddedNats
from natsgate.testing.faults import Faults
from natsgate.testing.protos import Protos, descriptors_of
from natsgate.testing.running import RunningGateway, connect, running_actors, running_gateway

T = TypeVar('T')


class StartActors(Protocol):
    """Starts actors; they stop at the end of the test."""

    async def __call__(self, actors: Actors, *, url: str = '') -> ConnectedActors:
        """`url`: where NATS is, if not at `natsgate_nats`."""


class StartGateway(Protocol):
    """Starts a gateway; it stops at the end of the test."""

    async def __call__(
        self, protos: Protos, actors: Actors | None = None, *, url: str = '', **options: Any
    ) -> RunningGateway:
        """`actors` are started too. `url`: where NATS is for the gateway. `options` are those of running_gateway()."""


@pytest.fixture(scope='session')
def natsgate_server() -> Iterator[EmbeddedNats]:
    """The session's nats-server. Take `natsgate_nats`, which cleans it up after each test."""
    server = EmbeddedNats()
    # A thread apart, for this one may have a loop of the tests; the same to the end, for the server dies with it.
    with ThreadPoolExecutor(1, 'natsgate-server') as thread:
        thread.submit(asyncio.run, server.start()).result()
        yield server
        thread.submit(asyncio.run, server.stop()).result()


@pytest_asyncio.fixture
async def natsgate_nats(natsgate_server: EmbeddedNats) -> AsyncIterator[EmbeddedNats]:
    """A real nats-server with nothing on it. A test may kill() it and start() it."""
    yield natsgate_server
    if not natsgate_server.pid:
        await natsgate_server.start()
    await _remove_streams(natsgate_server.url)


async def _remove_streams(url: str) -> None:
    connection = await connect(url)
    try:
        while names := (await connection.api('STREAM.NAMES'))['streams']:
            await asyncio.gather(*(connection.api(f'STREAM.DELETE.{name}') for name in names))
    finally:
        await connection.close()


class _Running(AsyncExitStack):
    """Ends what was started, in the event loop in which it was made: there it must have been started, too."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()

    async def enter_async_context(self, cm: AbstractAsyncContextManager[T, bool | None]) -> T:
        if asyncio.get_running_loop() is not self._loop:
            pytest.fail(
                'the test runs in another event loop than the fixtures of natsgate: '
                'let asyncio_default_fixture_loop_scope be the loop scope of the test',
                pytrace=False,
            )
        return await super().enter_async_context(cm)


@pytest_asyncio.fixture
async def natsgate_running(natsgate_nats: EmbeddedNats) -> AsyncIterator[AsyncExitStack]:
    """What runs until the end of the test; what was started last ends first."""
    async with _Running() as running:
        yield running


@pytest_asyncio.fixture
async def natsgate_faults(natsgate_nats: EmbeddedNats, natsgate_running: AsyncExitStack) -> Faults:
    """A wire to `natsgate_nats` on which faults can be switched on: give its `url` to actors or to a gateway."""
    return await natsgate_running.enter_async_context(Faults(natsgate_nats.url))


@pytest.fixture
def natsgate_actors(natsgate_nats: EmbeddedNats, natsgate_running: AsyncExitStack) -> StartActors:
    """`await natsgate_actors(ACTORS)`: actors at work."""

    async def start(actors: Actors, *, url: str = '') -> ConnectedActors:
        return await natsgate_running.enter_async_context(running_actors(url or natsgate_nats.url, actors))

    return start


@pytest.fixture
def natsgate_gateway(
    natsgate_nats: EmbeddedNats, natsgate_running: AsyncExitStack, natsgate_actors: StartActors
) -> StartGateway:
    """`await natsgate_gateway('hello.proto', ACTORS)`: a gateway with actors behind it, and its `channel`."""

    async def start(protos: Protos, actors: Actors | None = None, *, url: str = '', **options: Any) -> RunningGateway:
        if actors is not None:
            await natsgate_actors(actors)
        gateway = running_gateway(url or natsgate_nats.url, descriptors_of(protos), **options)
        return await natsgate_running.enter_async_context(gateway)

    return start
