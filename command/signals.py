"""Stopping: the first signal asks, the second insists."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

log = logging.getLogger('natsgate.command')

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop_at_once(number: int) -> None:
    """End without further ado."""
    log.warning('stopping at once')
    os._exit(128 + number)


def leave_it_to_the_parent(number: int) -> None:
    """Go on stopping. A service manager signals all processes, and the parent passes the signal on: it comes twice."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a signal end the block with KeyboardInterrupt: an import of the user's may never come back to us."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class AnyStop(Protocol):
    """What says when to stop."""

    number: int

    async def serving(self) -> None:
        """Wait until the process is to stop."""


class Stop:
    """Set by SIGTERM and SIGINT. Before serving() the signal cancels what runs; after it, it is waited for."""

    def __init__(self, *, again: Callable[[int], None] = stop_at_once) -> None:
        """`again` is called with each signal but the first."""
        self._again = again
        self.number = 0
        """The signal that came first."""
        self._asked = asyncio.Event()
        self._task = asyncio.current_task()
        self._serving = False
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)

    async def serving(self) -> None:
        """Wait until the process is to stop."""
        self._serving = True
        await self._asked.wait()

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self._asked.is_set()

    def _on_signal(self, number: int) -> None:
        if self._asked.is_set():
            self._again(number)
            return
        self.number = number
        self._asked.set()
        if self._serving:
            log.info('stopping: what runs may end; once more to stop at once')
        elif self._task is not None:
            self._task.cancel()
