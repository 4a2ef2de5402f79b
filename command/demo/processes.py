"""The demo's processes: natsgate itself, in processes of its own, heard line by line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STARTS_WITHIN = 30.0
"""Seconds within which a process must say that it is ready."""


class Process:
    """A running `natsgate …` and what it logs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lines: deque[tuple[int, str]] = deque(maxlen=100)
        self._count = 0
        self._ended = False
        self._said = asyncio.Condition()
        self._reader = asyncio.create_task(self._read(), name=f'demo/{process.pid}/output')

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def said(self) -> int:
        """How many lines there were so far."""
        return self._count

    async def says(self, start: str, *, after: int = 0) -> str:
        """The first line that begins so, of those after the `after`-th.

        Raises RuntimeError when the process ends first, and TimeoutError when it takes too long.
        """
        async with self._said:
            async with asyncio.timeout(STARTS_WITHIN):
                await self._said.wait_for(lambda: self._find(start, after) or self._ended)
            if (found := self._find(start, after)) is not None:
                return found
        raise RuntimeError(f'process {self.pid} ended: {self._lines[-1][1] if self._lines else "without a word"}')

    def _find(self, start: str, after: int) -> str | None:
        return next((line for number, line in self._lines if number > after and line.startswith(start)), None)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                async with self._said:
                    self._count += 1
                    self._lines.append((self._count, _message(line)))
                    self._said.notify_all()
        finally:
            async with self._said:
                self._ended = True
                self._said.notify_all()

    async def stop(self) -> None:
        """End it, politely at first."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader


def _message(line: bytes) -> str:
    try:
        return str(json.loads(line)['msg'])
    except (ValueError, KeyError, TypeError):
        return line.decode('utf-8', 'replace').rstrip()


@asynccontextmanager
async def started(arguments: list[str]) -> AsyncIterator[Process]:
    """Run `natsgate` with these arguments while the block lasts."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', 'natsgate.command.main', *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {'NATSGATE_LOG_FORMAT': 'json'}, start_new_session=True,
    )  # fmt: skip
    running = Process(process)
    try:
        yield running
    finally:
        await running.stop()
