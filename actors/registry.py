"""Actors: the actors of a program, and the same once connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

from natsgate.actors import consumer
from natsgate.actors.actor import Actor
from natsgate.actors.beats import Beats
from natsgate.actors.calls import Calls
from natsgate.actors.worker import Worker
from natsgate.events.connection import Connection
from natsgate.events.registry import Server, connected
from natsgate.events.status import ContractError
from natsgate.events.streams import StreamOptions, declare, limits_of


class Actors:
    """The actors of a program. Inert; connect() makes it live."""

    def __init__(self, *actors: Actor) -> None:
        """Raises ContractError for two actors that would be one consumer, or that take the same call."""
        limits_of(actor.event for actor in actors)
        _check_names(actors)
        self._actors = actors

    def get(self, name: str) -> Actor | None:
        """The actor of this name, or None."""
        return next((actor for actor in self._actors if actor.name == name), None)

    def __iter__(self) -> Iterator[Actor]:
        return iter(self._actors)

    def __add__(self, other: Actors) -> Actors:
        return Actors(*self, *other)

    @asynccontextmanager
    async def connect(
        self, server: Server = None, close: bool = True, *, timeout: float | None = 30
    ) -> AsyncIterator[ConnectedActors]:
        """Connect to NATS; arguments and errors as Events.connect()."""
        connection = await connected(server, timeout=timeout)
        try:
            yield ConnectedActors(connection, self._actors)
        finally:
            if close:
                await connection.close()


def _check_names(actors: Sequence[Actor]) -> None:
    consumers: dict[tuple[str, str], Actor] = {}
    calls: dict[str, Actor] = {}
    for actor in actors:
        stream = actor.event.stream_name
        if consumers.setdefault((stream, actor.consumer_name), actor) is not actor:
            raise ContractError(f'actor {actor.name!r}: declared twice on stream {stream}; give one another name')
        if getattr(actor.event, 'service', None):
            other = calls.setdefault(actor.event.subject_name, actor)
            if other is not actor:
                raise ContractError(
                    f'actors {other.name!r} and {actor.name!r} both take {actor.event.subject_name}; keep one'
                )


class ConnectedActors:
    """Actors with a connection: register, listen."""

    def __init__(self, connection: Connection, actors: Sequence[Actor]) -> None:
        self.connection = connection
        self._actors = actors
        self._options = StreamOptions()
        self._stopping = asyncio.Event()
        self.workers: tuple[Worker, ...] = ()

    async def register(self, *, options: StreamOptions | None = None) -> None:
        """Make the streams that are not there and the actors' consumers. Raises ContractError with the place."""
        self._options = options or StreamOptions()
        events = [actor.event for actor in self._actors]
        services = [event for event in events if getattr(event, 'service', None)]
        await declare(self.connection, events, options=self._options, update=False)
        await declare(self.connection, services, options=self._options)
        await asyncio.gather(*(consumer.declare(self.connection, actor) for actor in self._actors))

    async def _declare_again(self, actor: Actor) -> None:
        """What an operator has removed, or a server kept in memory alone."""
        await declare(self.connection, [actor.event], options=self._options, update=False)
        await consumer.declare(self.connection, actor)

    async def listen(self, *, burst: bool = False, drain_timeout: float = 25) -> None:
        """Take events until stop() is called, then end what runs, within `drain_timeout` seconds.

        `burst`: end as soon as the queues are empty, for tests and jobs by the clock. When it is cancelled instead,
        running handlers are cancelled too and their events given back at once.
        """
        calls = Calls(self.connection)
        self.workers = tuple(
            Worker(self.connection, actor, calls, declare=self._declare_again, burst=burst) for actor in self._actors
        )
        beats = Beats(self.connection, self.workers)
        try:
            await calls.open(actor.target for actor in self._actors if actor.answers)
            for worker in self.workers:
                await worker.open()
            await beats.open()
            if burst:
                await asyncio.gather(*(worker.idle() for worker in self.workers))
            else:
                await self._stopping.wait()
        except asyncio.CancelledError:
            drain_timeout = 0
            raise
        finally:
            await asyncio.shield(self._drain(drain_timeout, beats, calls))

    async def _drain(self, timeout: float, beats: Beats, calls: Calls) -> None:
        beats.drain()
        await asyncio.gather(*(worker.drain(timeout) for worker in self.workers))
        beats.close()
        calls.close()

    def stop(self) -> None:
        """Have listen() take nothing more and return."""
        self._stopping.set()
