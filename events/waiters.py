"""Waiters: tasks that wait until something has changed, any number of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Waiters:
    """Each looks whether it was for it, and waits again if it was not; who has waited longer looks first."""

    __slots__ = ('_futures', '_loop')

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Wait for the next wake()."""
        future = self._loop.create_future()
        self._futures.append(future)
        try:
            await future
        except asyncio.CancelledError:
            with suppress(ValueError):  # it was woken
                self._futures.remove(future)
            raise

    def wake(self) -> None:
        """Something has changed."""
        if not self._futures:  # as for nearly every frame
            return
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():  # it may have been cancelled in this moment
                future.set_result(None)
