"""`natsgate …` in a process of its own: what can really be killed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from natsgate.command.child import dying_with_us
from natsgate.testing.running import until


class Program:
    """A process, and what it says in its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        """The messages of its log."""
        self._reading = asyncio.create_task(self._read(), name='testing/read')

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            text = line.decode()
            self.lines.append(json.loads(text)['msg'] if text.startswith('{') else text.rstrip())

    async def says(self, part: str, timeout: float = 20) -> str:
        """Wait for a line with this in it. Raises TimeoutError, AssertionError when the process ends before."""
        await until(lambda: self.find(part) or self._reading.done(), timeout)
        found = self.find(part)
        assert found is not None, f'never said {part!r}: {self.lines}'
        return found

    def find(self, part: str) -> str | None:
        """The first line with this in it, or None."""
        return next((line for line in self.lines if part in line), None)

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.terminate()

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.process.kill()

    async def end(self, timeout: float = 15) -> int:
        """Wait until it has ended, after it was asked to; its exit code."""
        async with asyncio.timeout(timeout):
            code = await self.process.wait()
            await self._reading
        return code


@asynccontextmanager
async def program(
    *arguments: str,
    module: str = 'natsgate.command.main',
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Program]:
    """Run `natsgate`, or another module, with these arguments; it is killed when the block is left, or ends with us.

    `env` is added to ours.
    """
    process = await asyncio.create_subprocess_exec(
        *dying_with_us(), sys.executable, '-m', module, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        cwd=cwd, env={**os.environ, 'NATSGATE_LOG_FORMAT': 'json', **(env or {})},
    )  # fmt: skip
    running = Program(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await running.end()
