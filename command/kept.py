"""A process of `natsgate` that is kept running: another one takes over from it before it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from natsgate.command import restarts
from natsgate.command.spawn import spawned

log = logging.getLogger('natsgate.command')

DRAIN_TIMEOUT = 5.0
"""Seconds that such a process is to take for what it runs, when it stops."""

SLOW = 10.0
"""Seconds after which one that is not ready is told of."""

_PAUSE = 1.0
_ENDS_WITHIN = DRAIN_TIMEOUT + 5
_GIVEN_UP_WITHIN = 1.0  # one that is not ready runs nothing


class Kept:
    """One process of `natsgate`, which another one takes over from."""

    def __init__(self, name: str, arguments: Sequence[str], number: int, settings: Mapping[str, Any]) -> None:
        """`settings` are those that differ from what command line, environment and file say."""
        self._name = name
        self._number = number
        self._settings = settings
        self._command = [sys.executable, '-m', 'natsgate.command.main', *arguments]
        self._current: asyncio.subprocess.Process | None = None
        self._processes: set[asyncio.subprocess.Process] = set()  # also those that start or stop
        self._tasks: set[asyncio.Task[None]] = set()
        self._again: asyncio.Task[None] | None = None
        self._renewing = asyncio.Lock()

    async def renew(self) -> None:
        """Start a new one. When it is ready, the old one ends what runs and stops; else the old one stays.

        Cancelled, the new one is given up.
        """
        if self._again is not None:
            self._again.cancel()  # what it starts is out of date
        async with self._renewing:
            await self._start()

    async def _start(self) -> None:
        # Bytecode is taken for fresh when a file has changed twice within a second.
        environ = {'PYTHONDONTWRITEBYTECODE': '1'}
        try:
            process, ready = await spawned(self._command, number=self._number, settings=self._settings, environ=environ)
        except OSError as error:
            log.error('the %s cannot be started: %s', self._name, error.strerror)
            return
        self._processes.add(process)
        try:
            is_ready = await self._heard(ready)
            if not is_ready:
                await self._ended(process)
        except asyncio.CancelledError:
            await self._end(process, within=_GIVEN_UP_WITHIN)
            raise
        if not is_ready:
            old = 'the one before goes on' if self._current else 'it is started when a file changes'
            log.error('the %s did not start; %s', self._name, old)
            return
        old_one, self._current = self._current, process
        self._spawn(self._watch(process))
        if old_one is not None:
            log.info('the new %s is ready', self._name)
            self._spawn(self._end(old_one))

    async def _heard(self, ready: asyncio.Future[bool]) -> bool:
        """Whether it has become ready. It has all the time that it needs: something heavy may be imported."""
        if not (await asyncio.wait({ready}, timeout=SLOW))[0]:
            old = '; the one before goes on' if self._current else ''
            log.warning('the %s is not ready after %g s: does an import hang?%s', self._name, SLOW, old)
        return await ready

    async def stop(self) -> None:
        """End it."""
        current, self._current = self._current, None
        if self._again is not None:
            self._again.cancel()
        if current is not None:
            await self._end(current)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def kill(self) -> None:
        """End at once whatever runs; stop() is still to be called."""
        self._current = None
        for process in self._processes:
            _send(process, signal.SIGKILL)

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine, name=f'dev/{self._name}')
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await self._ended(process)
        if process is self._current:
            self._current = None
            log.warning('the %s %s; it is started again in %g s', self._name, restarts.told(code), _PAUSE)
            self._again = self._spawn(self._start_again())

    async def _start_again(self) -> None:
        await asyncio.sleep(_PAUSE)
        async with self._renewing:
            if self._current is None:
                await self._start()

    async def _end(self, process: asyncio.subprocess.Process, *, within: float = _ENDS_WITHIN) -> None:
        _send(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                await self._ended(process)
        except TimeoutError:  # it does not listen: something holds up its event loop
            log.warning('the %s does not stop and is killed', self._name)
            _send(process, signal.SIGKILL)
            await self._ended(process)

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        code = await process.wait()
        self._processes.discard(process)
        return code


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
