"""`--workers N`: a parent that serves nothing itself keeps N processes of the same command running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from natsgate.command import restarts
from natsgate.command.embedded import EmbeddedNats
from natsgate.command.options import NatsSettings, ServeSettings, WorkSettings
from natsgate.command.ports import reserved
from natsgate.command.signals import AnyStop, Stop
from natsgate.command.spawn import spawned
from natsgate.events.status import ContractError

log = logging.getLogger('natsgate.command')


async def parent(settings: ServeSettings | WorkSettings, command: Sequence[str]) -> int:
    """Run `command` in as many processes as `settings.workers` says, until a signal says stop.

    Returns the exit code. Raises ContractError, and OSError for a port that is in use.
    """
    if settings.workers > restarts.MOST:
        raise ContractError(f'workers: {settings.workers} are too many, at most {restarts.MOST}: take one per core')
    children = Children(command, settings)
    stop = Stop(again=children.kill)
    with _shared_ports(settings) as ports:
        async with _own_nats(settings) as servers:
            return await children.run(stop, ports | servers)


@contextmanager
def _shared_ports(settings: ServeSettings | WorkSettings) -> Iterator[dict[str, Any]]:
    if not isinstance(settings, ServeSettings):
        yield {}
        return
    with reserved(settings.listen) as addresses:
        yield {'listen': addresses}


@asynccontextmanager
async def _own_nats(settings: NatsSettings) -> AsyncIterator[dict[str, Any]]:
    if not settings.embedded:
        yield {}
        return
    if settings.nats:
        raise ContractError('--embedded and --nats: one or the other')
    async with EmbeddedNats() as server:
        yield {'embedded': False, 'nats': (server.url,)}


class Children:
    """The processes. The first is started alone: what is wrong with all of them is then told once.

    Of the others no more start at a time than there are cores, so that those that run keep theirs.
    """

    def __init__(self, command: Sequence[str], settings: ServeSettings | WorkSettings) -> None:
        self._command = command
        self._workers = settings.workers
        # Part of reply subjects, which no two gateways may share. Workers of one name are told apart all the same.
        self._name = settings.name if isinstance(settings, ServeSettings) else ''
        self._told: Mapping[str, Any] = {}
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._others_may = asyncio.Event()  # be started: one was ready
        self._starts = asyncio.Semaphore(os.cpu_count() or 1)  # held until a process is ready or has ended
        self._stopping = asyncio.Event()
        self._insisted = 0

    async def run(self, stop: AnyStop, told: Mapping[str, Any]) -> int:
        """Keep them running until a signal says stop; returns the exit code. `told` are settings that differ."""
        self._told = told
        passing_on = asyncio.create_task(self._pass_on(stop), name='parent/stop')
        first, *others = (
            asyncio.create_task(self._keep(number), name=f'parent/{number}') for number in range(1, self._workers + 1)
        )
        code = await first
        if not self._others_may.is_set():
            for task in (passing_on, *others):
                task.cancel()
            return code
        codes = [code, *await asyncio.gather(*others)]
        passing_on.cancel()
        for number, code in enumerate(codes, 1):
            if not restarts.clean(code) and not self._insisted:
                log.warning('process %d %s while it stopped', number, restarts.told(code))
        log.info('stopped')
        return restarts.exit_code(codes, insisted=self._insisted)

    def kill(self, number: int) -> None:
        """End them at once: the second signal, which was this one."""
        log.warning('stopping at once')
        self._insisted = number
        for process in self._processes.values():
            _send(process, signal.SIGKILL)

    async def _pass_on(self, stop: AnyStop) -> None:
        await stop.serving()
        self._stopping.set()
        self._others_may.set()
        for number, process in self._processes.items():
            # SIGINT while Python starts would print a traceback.
            _send(process, stop.number if number in self._ready else signal.SIGTERM)

    async def _keep(self, number: int) -> int:
        """Run one, and again when it ends; returns the last exit code."""
        if number > 1:
            await self._others_may.wait()
        early = 0
        while await self._may_start():
            began = time.monotonic()
            code = await self._run(number)
            if self._stopping.is_set() or restarts.gives_up(code, ever_ready=self._others_may.is_set()):
                return code
            early = restarts.early_deaths(early, time.monotonic() - began)
            pause = restarts.pause(early)
            when = f'in {pause:g} s' if pause else 'at once'
            log.warning('process %d %s; it is started again %s', number, restarts.told(code), when)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
        return 0  # there is none to be stopped

    async def _may_start(self) -> bool:
        """Wait until the next one may; False when none may any more."""
        await self._starts.acquire()
        if self._stopping.is_set():
            self._starts.release()
        return not self._stopping.is_set()

    async def _run(self, number: int) -> int:
        """Run one, which may start, until it ends; returns its exit code."""
        try:
            process = await self._start(number)
        except OSError as error:
            self._starts.release()
            log.warning('process %d cannot be started: %s', number, error.strerror)
            return 1
        self._processes[number] = process
        if self._stopping.is_set():  # while it was being started
            _send(process, signal.SIGKILL if self._insisted else signal.SIGTERM)
        try:
            return await process.wait()
        finally:
            del self._processes[number]
            self._ready.discard(number)

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        told = dict(self._told) | {'workers': 1}
        if self._name:
            told['name'] = f'{self._name}-{number}'
        process, ready = await spawned(self._command, number=number, settings=told)
        ready.add_done_callback(lambda ready: self._hear(ready.result(), number, process.pid))
        return process

    def _hear(self, ready: bool, number: int, pid: int) -> None:
        self._starts.release()
        if not ready:
            return  # it ended before it was
        self._ready.add(number)
        self._others_may.set()
        log.info('process %d of %d is ready (pid %d)', number, self._workers, pid)


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def command_of(arguments: Sequence[str] | None) -> list[str]:
    """The command line that starts this process again."""
    if arguments is None:
        return [sys.executable, *sys.orig_argv[1:]]
    return [sys.executable, '-m', 'natsgate.command.main', *arguments]
