"""Actors: the actors of a program, and the same once connected."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

from natsgate.actors import dead_letters as letters
from natsgate.actors.actor import Actor
from natsgate.actors.beats import Beats
from natsgate.actors.calls import Calls
from natsgate.actors.consumer import Consumer, consumers_of
from natsgate.actors.consumer import declare as declare_consumer
from natsgate.actors.credit import Budget
from natsgate.actors.dead_letters import DeadLetters
from natsgate.actors.discovery import Discovery
from natsgate.actors.emitter import Emitter, emit_what_is_due
from natsgate.actors.executors import Executors, executing
from natsgate.actors.given_up import GivenUp
from natsgate.actors.middleware import Middleware, checked
from natsgate.actors.misaddressed import Misaddressed
from natsgate.actors.process import Initializer
from natsgate.actors.puller import Puller
from natsgate.actors.watch import watching
from natsgate.actors.worker import Worker
from natsgate.events.connection import Connection, Disconnected
from natsgate.events.dead_letter import DeadLetterLimits
from natsgate.events.event import Limits
from natsgate.events.registry import Server, connected
from natsgate.events.sampling import keep_sampled
from natsgate.events.service import SERVICE_LIMITS
from natsgate.events.status import ContractError
from natsgate.events.streams import StreamOptions, check_types, declare, limits_of


class Actors:
    """The actors of a program. Inert; connect() makes it live."""

    def __init__(self, *actors: Actor, middlewares: Sequence[Middleware] = ()) -> None:
        """`middlewares`: for all of them, outside of their own.

        Raises ContractError for two actors that would be one consumer, or that take the same call.
        """
        if outer := checked('actors', middlewares):
            actors = tuple(replace(actor, middlewares=(*outer, *actor.middlewares)) for actor in actors)
        limits_of(actor.event for actor in actors)
        check_types(actor.event for actor in actors)
        _check_names(actors)
        self._actors = actors

    @classmethod
    def of(
        cls, servicer: object, add_to_server: Callable[[Any, Any], None], *,
        methods: Mapping[str, Mapping[str, Any]] | None = None, limits: Limits = SERVICE_LIMITS, **options: Any,
    ) -> Actors:  # fmt: skip
        """The methods of a gRPC servicer, unchanged: `Actors.of(Words(), words_pb2_grpc.add_WordsServicer_to_server)`.

        An actor is called after its method, `demo-v1-Words-Count`. `options` are those of Actor, for all methods;
        `methods` has more of them by the methods' names, and `name`: `methods={'Count': {'max_jobs': 8}}`. `limits` are
        the service's, as of Service.of(). Methods that the servicer has not written are left out.
        Raises ContractError, which names the place, for what would fail at the first call.
        """
        from natsgate.actors.servicer import actors_of  # imports grpc, which actors do without

        return cls(*actors_of(servicer, add_to_server, methods=methods, limits=limits, **options))

    def get(self, name: str) -> Actor | None:
        """The actor of this name, or None."""
        return next((actor for actor in self._actors if actor.name == name), None)

    def __getitem__(self, name: str) -> Actor:
        """The actor of this name. Raises ContractError, with those that there are."""
        if (found := self.get(name)) is None:
            known = ', '.join(sorted(actor.name for actor in self._actors)) or 'none'
            raise ContractError(f'no actor {name!r}; there are {known}')
        return found

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
    consumers_of(actors)
    calls: dict[str, Actor] = {}
    for actor in actors:
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
        self._limits = DeadLetterLimits()
        self.listening = asyncio.Event()
        """Set when events are taken."""
        self._stopping = asyncio.Event()
        self.workers: tuple[Worker, ...] = ()
        self.dead_letters = DeadLetters(connection)
        """What has become of the events that were buried since listen() began."""

    async def register(
        self, *, options: StreamOptions | None = None, dead_letters: DeadLetterLimits | None = None
    ) -> None:
        """Make the streams that are not there and the actors' consumers. Raises ContractError with the place.

        `dead_letters`: what is kept of them, if their stream is not there yet. That it cannot be made is no error.
        """
        self._options = options or StreamOptions()
        self._limits = dead_letters or DeadLetterLimits()
        events = [actor.event for actor in self._actors]
        services = [event for event in events if getattr(event, 'service', None)]
        await declare(self.connection, events, options=self._options, update=False)
        await declare(self.connection, services, options=self._options)
        await asyncio.gather(
            *(declare_consumer(self.connection, one) for one in consumers_of(self._actors)),
            letters.declare(self.connection, limits=self._limits, options=self._options),
        )

    async def _declare_again(self, source: Consumer) -> None:
        """What an operator has removed, or a server kept in memory alone."""
        events = [actor.event for actor in source.actors]
        await declare(self.connection, events, options=self._options, update=False)
        await declare_consumer(self.connection, source)

    async def listen(
        self,
        *,
        burst: bool = False,
        drain_timeout: float = 25,
        max_jobs: int | None = None,
        initializer: Initializer | None = None,
        discovery: bool = True,
    ) -> None:
        """Take events until stop() is called, then end what runs, within `drain_timeout` seconds.

        `burst`: end as soon as the queues are empty, delayed events that are due included; for tests and jobs by the
        clock. When it is cancelled instead, running handlers are cancelled too and their events given back at once.
        `max_jobs`: how many events are at work at a time in all actors together; each consumer has one at least.
        `initializer`: called first in each process that runs handlers. `discovery`: answer NATS' own tools what is
        served here (`nats service ls`).
        Raises ContractError when such a process cannot run its handler, or `max_jobs` is less than there are consumers.
        """
        budget = None if max_jobs is None else Budget(max_jobs, len(consumers_of(self._actors)))
        async with executing(self._actors, initializer, self._stopping) as executors:
            if executors is not None:
                with watching():
                    if burst:
                        await emit_what_is_due(self.connection, (actor.event for actor in self._actors))
                    await self._listen(executors, budget, burst, drain_timeout, discovery)

    async def _listen(
        self, executors: Executors, budget: Budget | None, burst: bool, drain_timeout: float, discovery: bool
    ) -> None:
        calls = Calls(self.connection)
        self.dead_letters = DeadLetters(self.connection, limits=self._limits, options=self._options)
        pullers = tuple(
            Puller(self.connection, source, declare=self._declare_again, burst=burst, budget=budget)
            for source in consumers_of(self._actors)
        )
        self.workers = tuple(
            Worker(self.connection, actor, calls, puller, letters=self.dead_letters, executor=executors.of(actor))
            for puller in pullers
            for actor in puller.source.actors
        )
        beats = Beats(self.connection, self.workers)
        emitter = Emitter(self.connection, () if burst else (actor.event for actor in self._actors))
        given_up = GivenUp(self.connection, self._actors, self.dead_letters)
        misaddressed = Misaddressed(self.connection, () if burst else self._actors, self.dead_letters)
        services = Discovery(self.connection, self.workers if discovery else ())
        streams = {actor.event.stream_name for actor in self._actors}
        clock = asyncio.create_task(keep_sampled(self.connection, streams), name='actors/clock')
        try:
            await calls.open(actor.target for actor in self._actors if actor.answers)
            for worker in self.workers:
                await worker.open()
            for puller in pullers:
                await puller.open()
            await given_up.open()
            await misaddressed.open()
            await beats.open()
            await emitter.open()
            await services.open()
            self.listening.set()
            if burst:
                await asyncio.gather(*(puller.empty.wait() for puller in pullers))
            else:
                await self._stopping.wait()
        except asyncio.CancelledError:
            drain_timeout = 0
            raise
        finally:
            clock.cancel()
            await asyncio.shield(
                self._drain(drain_timeout, pullers, (given_up, misaddressed, emitter, services), beats, calls)
            )

    async def _drain(
        self,
        timeout: float,
        pullers: Sequence[Puller],
        besides: Sequence[GivenUp | Misaddressed | Emitter | Discovery],
        beats: Beats,
        calls: Calls,
    ) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        for puller in pullers:
            puller.stop()
        beats.drain()
        # What was asked for before may be on the way, and is run: given back, it would count as an attempt.
        await asyncio.gather(*(puller.drain(timeout / 2) for puller in pullers))
        with suppress(Disconnected, TimeoutError):
            await self.connection.synced(timeout=2)
        for puller in pullers:
            puller.forget()
        left = max(0.0, ends - loop.time())
        await asyncio.gather(*(one.close() for one in besides), *(worker.drain(left) for worker in self.workers))
        beats.close()
        calls.close()

    def stop(self) -> None:
        """Have listen() take nothing more and return."""
        self._stopping.set()
        for worker in self.workers:  # a burst waits for nothing else
            worker.puller.empty.set()
