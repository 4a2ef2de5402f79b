"""Disconnects: finds out which clients have gone away while their calls wait.

An ASGI server tells it only to who asks. Some wait with the answer until the client goes; others answer at once that
nothing has happened, again and again. So calls that have waited for a moment are asked in turn, a bounded number of
them each time: what the asking costs does not grow with the calls, only the time until a disconnect is seen does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]

EVERY = 0.02
"""Seconds between two rounds."""
AT_ONCE = 100
"""Calls asked in one round: of 200 that wait, each is asked every 40 ms."""


def ask(receive: Receive) -> asyncio.Future[Event]:
    """Ask for a request's next event."""
    return asyncio.ensure_future(receive())


async def asked_within(receive: Receive, seconds: float) -> Event:
    """A request's next event. Raises TimeoutError if it does not come in time."""
    asked = ask(receive)
    if not asked.done():
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        wake = partial(_wake, waiter)
        asked.add_done_callback(wake)
        timer = loop.call_later(seconds, wake)
        try:
            await waiter
        finally:
            timer.cancel()
            if not asked.done():
                forget(asked, wake)
    if not asked.done():
        raise TimeoutError
    return asked.result()


def _wake(waiter: asyncio.Future[None], _: object = None) -> None:
    if not waiter.done():
        waiter.set_result(None)


def forget(asked: asyncio.Future[Event], callback: Callable[[asyncio.Future[Event]], None] | None = None) -> None:
    """Hear no more of what was asked. A future of the server's own is not cancelled: it would be set all the same."""
    if callback is not None:
        asked.remove_done_callback(callback)
    if isinstance(asked, asyncio.Task):
        asked.cancel()


def is_gone(asked: asyncio.Future[Event]) -> bool:
    """Whether the answer is that the client has gone away."""
    return asked.exception() is not None or asked.result()['type'] == 'http.disconnect'


class Waiting:
    """A call whose request has been read, and whose client may go away."""

    __slots__ = ('asked', 'discarded', 'known', 'receive', 'waits')

    def __init__(self, waits: asyncio.Future[Any], receive: Receive) -> None:
        self.waits = waits
        self.receive = receive
        self.asked: asyncio.Future[Event] | None = None
        self.known = False
        """Its end is told to us."""
        self.discarded = False

    @property
    def over(self) -> bool:
        return self.discarded or self.waits.done()


class Disconnects:
    """The calls that wait, in the order in which they are asked."""

    def __init__(self) -> None:
        self._young: list[Waiting] = []
        self._queue: deque[Waiting] = deque()
        self._by_question: dict[asyncio.Future[Event], Waiting] = {}
        self._looking: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin to look."""
        self._looking = asyncio.create_task(self._look(), name='gateway/disconnects')

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()
        for waiting in tuple(self._by_question.values()):
            self.discard(waiting)

    def add(self, receive: Receive, waits: asyncio.Future[Any]) -> Waiting:
        """A call waits whose request was read to its end; `waits` is cancelled when its client goes away.

        It is the call's task, or what the task waits for. The call is over with it, or when it is discarded.
        """
        waiting = Waiting(waits, receive)
        self._young.append(waiting)
        return waiting

    def discard(self, waiting: Waiting) -> None:
        """The call has ended."""
        waiting.discarded = True
        if (asked := waiting.asked) is not None:
            waiting.asked = None
            del self._by_question[asked]
            forget(asked, self._on_answer)

    async def _look(self) -> None:
        old: list[Waiting] = []
        while True:
            await asyncio.sleep(EVERY)
            # Most calls are over after one or two rounds, and are never asked.
            self._queue.extend(waiting for waiting in old if not waiting.over)
            old, self._young = self._young, []
            asked = 0
            while self._queue and asked < AT_ONCE:
                waiting = self._queue.popleft()
                if not waiting.over:
                    self._ask(waiting)
                    asked += 1

    def _ask(self, waiting: Waiting) -> None:
        if not waiting.known:
            waiting.known = True
            waiting.waits.add_done_callback(lambda _: self.discard(waiting))
        waiting.asked = asked = ask(waiting.receive)
        self._by_question[asked] = waiting
        asked.add_done_callback(self._on_answer)

    def _on_answer(self, asked: asyncio.Future[Event]) -> None:
        waiting = self._by_question.pop(asked, None)
        if waiting is None:
            return  # the call has ended since
        waiting.asked = None
        if asked.cancelled():
            return
        if is_gone(asked):
            waiting.waits.cancel()
        else:
            self._queue.append(waiting)
