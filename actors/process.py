"""Process: one process that runs a handler, as seen by the worker that has started it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from natsgate.actors.context import Context
from natsgate.actors.execute_in import ProcessDied
from natsgate.actors.process_child import LENGTH, Outcome, Task, call_of, framed
from natsgate.events.status import ContractError

log = logging.getLogger('natsgate.actors')

Initializer = Callable[[], object]
"""Called in a process before the handler's module is imported. It has to be a function of a module, or a partial()."""

STARTS_WITHIN = 120.0
"""Seconds after which a process that still imports its handler's module is taken for one that hangs."""

_TOLD_AFTER = 10.0  # seconds of that
_ENDS_WITHIN = 2.0

# Nothing but sys.path has to be there before the first import; the rest comes over the socket.
_PROGRAM = 'import sys; sys.path[:] = {path!r}; from natsgate.actors.process_child import serve; serve({descriptor})'


class Process:
    """One process. It is not forked: a process with threads cannot be, safely."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, task: Task, initializer: Initializer) -> Process:
        """Start one that is ready. Raises ContractError if it cannot find or import the handler; OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, '-c', _PROGRAM.format(path=sys.path, descriptor=theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL, pass_fds=(theirs.fileno(),), start_new_session=True,
                )  # fmt: skip
            except BaseException:
                ours.close()
                raise
        started = cls(process, *await asyncio.open_connection(sock=ours))
        try:
            await started._begin(task, initializer)
        except BaseException:
            started.kill()
            await started.ended()
            raise
        return started

    async def _begin(self, task: Task, initializer: Initializer) -> None:
        self._writer.write(framed(initializer) + framed(task))
        telling = asyncio.get_running_loop().call_later(
            _TOLD_AFTER, log.warning, 'a process still imports %s, %g s after its start', task.module, _TOLD_AFTER
        )
        try:
            async with asyncio.timeout(STARTS_WITHIN):
                why = await self._receive()
        except ProcessDied as error:
            raise ContractError(f'its process ended before it was ready: {error}') from error
        except TimeoutError:
            text = f'its process was not ready after {STARTS_WITHIN:g} s: {task.module}, or the initializer, hangs'
            raise ContractError(text) from None
        finally:
            telling.cancel()
        if why:
            raise ContractError(f'its process cannot run it: {why}')

    @property
    def dead(self) -> bool:
        """Whether it has ended by itself, with nothing to do."""
        return self._reader.at_eof()

    async def run(self, message: Any, context: Context) -> Any:
        """Run the handler once. Raises what it raises; ProcessDied. Whoever cancels this has to kill the process."""
        self._writer.write(framed(call_of(message, context)))
        outcome: Outcome = await self._receive()
        context.initial, context.trailing, context.compress = outcome.said
        if outcome.error is not None:
            outcome.error.add_note(f'In its process:\n{outcome.trace}')
            raise outcome.error
        return outcome.result

    async def _receive(self) -> Any:
        try:
            await self._writer.drain()
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            data = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, OSError):
            self.kill()  # what is dead already keeps its exit code
            code = await self._process.wait()
            raise ProcessDied(_told(code)) from None
        return pickle.loads(data)  # noqa: S301  of a process of ours

    def kill(self) -> None:
        """End it at once, and what it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._writer.close()

    async def ended(self) -> None:
        """Wait until it has ended, after it was killed."""
        await self._process.wait()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def close(self) -> None:
        """Let it end, as it does when nobody talks to it any more."""
        self._writer.close()
        try:
            async with asyncio.timeout(_ENDS_WITHIN):
                await self._process.wait()
        except TimeoutError:
            self.kill()
        await self.ended()


def _told(code: int) -> str:
    return f'killed by {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
