"""Executors: what runs the handlers that do not run in the event loop, and the actor that the worker sees instead."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

from natsgate.actors.actor import Actor
from natsgate.actors.context import Context
from natsgate.actors.execute_in import ExecuteIn
from natsgate.actors.middleware import around
from natsgate.actors.process import Initializer
from natsgate.actors.processes import Processes, nothing
from natsgate.actors.threads import Pool, in_thread


class Executor(Protocol):
    """Runs an actor's handler."""

    stops: bool
    """Whether a run that is cancelled ends."""

    async def open(self) -> None:
        """Be ready. Raises ContractError."""

    async def run(self, message: Any, context: Context, /) -> Any:
        """Run the handler once. Raises what it raises."""

    async def close(self) -> None:
        """Run nothing more."""


class Loop:
    """Runs plain handlers in the event loop."""

    stops = True

    def __init__(self, actor: Actor) -> None:
        self._handler = actor.handler
        self._takes_context = actor.takes_context

    async def open(self) -> None:
        """Nothing is needed."""

    async def run(self, message: Any, context: Context) -> Any:
        """Run it here."""
        result = self._handler(message, context) if self._takes_context else self._handler(message)
        return await result if inspect.isawaitable(result) else result

    async def close(self) -> None:
        """Nothing is left."""


class Threads(Loop):
    """Runs plain handlers in threads, as many as the actor has jobs, with the context variables of their tasks."""

    stops = False

    def __init__(self, actor: Actor) -> None:
        super().__init__(actor)
        self._pool = Pool(actor.max_jobs, f'actor-{actor.name}')

    async def run(self, message: Any, context: Context) -> Any:
        """Run it in a thread."""
        arguments = (message, context) if self._takes_context else (message,)
        result = await in_thread(self._pool, context, self._handler, *arguments)
        return await result if inspect.isawaitable(result) else result

    async def close(self) -> None:
        """What runs goes on; nobody waits for it."""
        self._pool.close()


def executor_of(actor: Actor, initializer: Initializer) -> Executor | None:
    """What runs the actor's handler; None for one that is awaited where it is. Raises ContractError."""
    match actor.execute_in:
        case ExecuteIn.PROCESS:
            return Processes(actor, initializer)
        case ExecuteIn.THREAD:
            return Threads(actor)
    return None if actor.is_async else Loop(actor)


class Executors:
    """Those of all actors of a worker process."""

    def __init__(self, actors: Iterable[Actor], initializer: Initializer) -> None:
        """Raises ContractError."""
        self._by_actor = {_key(actor): executor_of(actor, initializer) for actor in actors}

    def of(self, actor: Actor) -> Executor | None:
        """What runs the actor's handler; None for one that is awaited where it is."""
        return self._by_actor[_key(actor)]

    async def open(self) -> None:
        """Be ready. Raises ContractError."""
        opening = (executor.open() for executor in self._by_actor.values() if executor)
        for error in await asyncio.gather(*opening, return_exceptions=True):
            if error is not None:
                raise error

    async def close(self) -> None:
        """Run nothing more."""
        await asyncio.gather(*(executor.close() for executor in self._by_actor.values() if executor))


def _key(actor: Actor) -> tuple[str, str]:
    return actor.event.stream_name, actor.name


@asynccontextmanager
async def executing(
    actors: Iterable[Actor], initializer: Initializer | None, stopping: asyncio.Event
) -> AsyncIterator[Executors | None]:
    """The executors of these actors; None if it is to stop before they are ready.

    Raises ContractError when a process cannot run its handler.
    """
    executors = Executors(actors, initializer or nothing)
    try:
        yield executors if await _unless(stopping, executors.open()) else None
    finally:
        await executors.close()


async def _unless(stopping: asyncio.Event, doing: Coroutine[Any, Any, None]) -> bool:
    """Do this, unless it is to stop before. Whether it is done. Raises what it raises."""
    task = asyncio.create_task(doing, name='actors/executors')
    stopped = asyncio.create_task(stopping.wait(), name='actors/stopped')
    try:
        done, _ = await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            task.result()
        return task in done
    finally:
        for one in (task, stopped):
            one.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)


def as_run(actor: Actor, executor: Executor | None) -> Actor:
    """The actor as its worker sees it: with an async handler, and the middlewares in it."""
    if executor is not None:
        actor = replace(actor, handler=executor.run, execute_in=ExecuteIn.LOOP)
    if not actor.middlewares:
        return actor
    handler = around(actor.handler, actor.middlewares, actor.kind, takes_context=actor.takes_context)
    return replace(actor, handler=handler, middlewares=())
