"""What a handler and the benchmark tell each other, through memory that they share.

The file named by BENCH_COUNT holds three native unsigned 64-bit integers, mapped into memory: an access costs some
60 ns and no system call, so that it does not show in what is measured. One process writes each of them.
"""

import asyncio
import mmap
import os
import time
from collections.abc import Callable

HANDLED, CANCELLED_AT, OPEN = range(3)
"""How often a handler ran; when one was cancelled last, in monotonic nanoseconds; whether the gate is open."""
SIZE = 24
REPEATS = 1000  # as in echo.proto

_LOOK_EVERY = 0.02


def _mapped() -> 'memoryview[int]':
    with open(os.environ['BENCH_COUNT'], 'r+b') as file:
        return memoryview(mmap.mmap(file.fileno(), SIZE)).cast('Q')


def counter() -> Callable[[], None]:
    """Return a function that counts one run of a handler."""
    cells = _mapped()

    def add() -> None:
        cells[HANDLED] += 1

    return add


class Gate:
    """Closed while the benchmark says so."""

    def __init__(self) -> None:
        self._cells = _mapped()
        self._waiting: set[asyncio.Future[None]] = set()
        self._looking: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Wait until it is open, and tell when the wait is cancelled."""
        loop = asyncio.get_running_loop()
        opened = loop.create_future()
        self._waiting.add(opened)
        if self._looking is None:
            self._look()
        try:
            await opened
        except asyncio.CancelledError:
            self._cells[CANCELLED_AT] = time.monotonic_ns()
            raise
        finally:
            self._waiting.discard(opened)

    def _look(self) -> None:
        if self._cells[OPEN]:
            for opened in self._waiting:
                if not opened.done():
                    opened.set_result(None)
        self._looking = None
        if self._waiting:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_EVERY, self._look)
