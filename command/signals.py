"""Stopping: the first signal asks, the second insists."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from types import FrameType

log = logging.getLogger('natsgate.command')


class Stop:
    """Set by SIGTERM and SIGINT. Before serving() the signal cancels what runs; after it, it is waited for."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._task = asyncio.current_task()
        self._serving = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    async def serving(self) -> None:
        """Wait until the process is to stop."""
        self._serving = True
        await self._asked.wait()

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self._asked.is_set()

    def _on_signal(self, number: int, frame: FrameType | None = None) -> None:
        if self._asked.is_set():
            log.warning('stopping at once')
            os._exit(128 + number)
        self._asked.set()
        if self._serving:
            log.info('stopping: what runs may end; once more to stop at once')
        elif self._task is not None:
            self._task.cancel()
