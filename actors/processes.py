"""Processes: those that run one actor's handler. One that is killed or dies is replaced, unnoticed by the others."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Coroutine
from typing import Any

from natsgate.actors.actor import Actor
from natsgate.actors.context import Context
from natsgate.actors.execute_in import ProcessDied
from natsgate.actors.process import Initializer, Process
from natsgate.actors.process_child import Task
from natsgate.events.status import ContractError

log = logging.getLogger('natsgate.actors')

_AGAIN_AFTER = 1.0


def nothing() -> None:
    """The initializer that does nothing."""


class Processes:
    """As many as the actor has jobs, so that no event waits for one."""

    stops = True
    """Whether a run that is cancelled ends."""

    def __init__(self, actor: Actor, initializer: Initializer = nothing) -> None:
        """Raises ContractError when the event cannot travel to another process."""
        handler = actor.handler
        self._actor = actor
        self._task = Task(handler.__module__, handler.__qualname__, actor.takes_context, actor.event)
        self._initializer = initializer
        self._idle: asyncio.Queue[Process] = asyncio.Queue()
        self._all: set[Process] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        for what, value in (('event', self._task), ('initializer', initializer)):
            try:
                pickle.dumps(value)
            except Exception as error:
                text = f'its {what} cannot be given to a process: {error}'
                raise ContractError(f'actor {actor.name!r}: {text}') from error

    async def open(self) -> None:
        """Start them all. Raises ContractError when they cannot run the handler."""
        starts = (self._start() for _ in range(self._actor.max_jobs))
        for error in await asyncio.gather(*starts, return_exceptions=True):
            if error is not None:
                raise ContractError(f'actor {self._actor.name!r}: {error}') from error

    async def run(self, message: Any, context: Context) -> Any:
        """Run the handler in an idle process, killed if this is cancelled. Raises what it raises; ProcessDied."""
        while (process := await self._idle.get()).dead:  # no attempt is spent on one that is not there
            log.error('actor %s: a process ended that had nothing to do', self._actor.name)
            self._lose(process)
        try:
            result = await process.run(message, context)
        except asyncio.CancelledError:
            self._lose(process)
            raise
        except ProcessDied as error:
            log.error('actor %s: the process that ran %s ended: %s', self._actor.name, context.id, error)
            self._lose(process)
            raise
        except BaseException:
            self._idle.put_nowait(process)
            raise
        self._idle.put_nowait(process)
        return result

    async def close(self) -> None:
        """End them all."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(process.close() for process in self._all))

    async def _start(self) -> None:
        process = await Process.start(self._task, self._initializer)
        self._all.add(process)
        self._idle.put_nowait(process)

    def _lose(self, process: Process) -> None:
        process.kill()
        self._all.discard(process)
        self._keep(process.ended())
        if not self._closing:
            self._keep(self._replace())

    async def _replace(self) -> None:
        while True:
            try:
                await self._start()
            except (ContractError, OSError) as error:
                log.error('actor %s: no process in the place of one that ended: %s', self._actor.name, error)
                await asyncio.sleep(_AGAIN_AFTER)
            else:
                return

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=f'actors/{self._actor.name}/processes')
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
