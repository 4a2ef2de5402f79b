"""Disconnects: finds out which clients have gone away while their calls wait.

An ASGI server tells it only to who asks. Some wait with the answer until the client goes; others answer at once that nothing
has happened, again and again. So calls that have waited for a moment are asked in turn, a bounded number of them each
time: what the asking costs does not grow with the calls, only the time until a disconnect is seen does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

EVERY = 0.02
"""Seconds between two rounds."""
AT_ONCE = 60
"""Calls asked in one round: of 200 that wait, each is asked every 67 ms."""


class Waiting:
    """A call whose request has been read, and whose client may go away."""

    __slots__ = ('asking', 'over', 'receive', 'task')

    def __init__(self, task: asyncio.Task[Any], receive: Receive) -> None:
        self.task = task
        self.receive = receive
        self.asking: asyncio.Task[MutableMapping[str, Any]] | None = None
        self.over = False


class Disconnects:
    """The calls that wait, in the order in which they are asked."""

    def __init__(self) -> None:
        self._young: list[Waiting] = []
        self._queue: deque[Waiting] = deque()
        self._looking: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look."""
        self._looking = asyncio.create_task(self._look(), name='gateway/disconnects')

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def add(self, task: asyncio.Task[Any], receive: Receive) -> Waiting:
        """A call waits whose request was read to its end; `task` is cancelled when its client goes away."""
        waiting = Waiting(task, receive)
        self._young.append(waiting)
        return waiting

    def discard(self, waiting: Waiting) -> None:
        """The call has ended."""
        waiting.over = True
        if waiting.asking is not None:
            waiting.asking.cancel()

    async def _look(self) -> None:
        old: list[Waiting] = []
        while True:
            await asyncio.sleep(EVERY)
            # Most calls are over after one or two rounds, and are never asked.
            self._queue.extend(waiting for waiting in old if not waiting.over)
            old, self._young = self._young, []
            for _ in range(min(AT_ONCE, len(self._queue))):
                waiting = self._queue.popleft()
                if not waiting.over:
                    self._ask(waiting)

    def _ask(self, waiting: Waiting) -> None:
        async def receive() -> MutableMapping[str, Any]:
            return await waiting.receive()

        waiting.asking = asyncio.create_task(receive(), name='gateway/disconnects/ask')
        waiting.asking.add_done_callback(lambda asking: self._on_answer(waiting, asking))

    def _on_answer(self, waiting: Waiting, asking: asyncio.Task[MutableMapping[str, Any]]) -> None:
        waiting.asking = None
        if waiting.over or asking.cancelled():
            return
        if asking.exception() is not None or asking.result()['type'] == 'http.disconnect':
            waiting.task.cancel()
        else:
            self._queue.append(waiting)
