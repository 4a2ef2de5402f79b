"""Deadlines: ends what waits for too long. A request gets a timer when it has lasted a moment, as few do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from natsgate.events.clock import BrokerClock
from natsgate.events.pending import Pending

YOUNG = 0.05
"""Seconds within which most requests end."""


class Deadlines:
    """The timers of one requester's requests."""

    def __init__(
        self, waiting: Mapping[bytes, Pending], clock: BrokerClock, *, expire: Callable[[Pending], None]
    ) -> None:
        """`waiting`: the requests that have not ended, by their tokens. `expire` is called with one that is late."""
        self._waiting = waiting
        self._clock = clock
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._young: list[bytes] = []  # tokens: what has ended is not kept by us
        self._growing: asyncio.TimerHandle | None = None

    def watch(self, pending: Pending, timeout: float) -> None:
        """The request is late in so many seconds, at its `deadline`."""
        if timeout < 2 * YOUNG:
            self._time(pending, timeout)
            return
        self._young.append(pending.token)
        if self._growing is None:
            self._growing = self._loop.call_later(YOUNG, self._grow)

    def close(self) -> None:
        """Nothing is late any more, but for what has a timer."""
        if self._growing is not None:
            self._growing.cancel()

    def _grow(self) -> None:
        self._growing = None
        young, self._young = self._young, []
        now = self._clock.now()
        for token in young:
            if (pending := self._waiting.get(token)) is not None:
                self._time(pending, pending.deadline - now)

    def _time(self, pending: Pending, timeout: float) -> None:
        pending.timer = self._loop.call_later(timeout, self._expire, pending)
