"""The broker's clock, as this process knows it: deadlines on the wire are compared on it alone.

Local wall clocks may be wrong and may jump, so the offset is kept against the monotonic clock. A process that has not
yet seen the broker's time takes its own wall clock for it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime

_FRACTION = re.compile(r'\.(\d+)')


class BrokerClock:
    """Translates between this process's monotonic seconds and the broker's microseconds since 1970."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._error = float('inf')
        self._sampled_at = 0.0

    @property
    def sampled(self) -> bool:
        """Whether the broker's time was ever seen."""
        return self._error != float('inf')

    def sample(self, asked_at: float, answered_at: float, broker_time: str) -> None:
        """Learn from one answer: `broker_time` (RFC 3339) was read between the two monotonic moments.

        The narrower the two, the better the sample; a worse one replaces a better one only after a minute.
        """
        error = (answered_at - asked_at) / 2
        if error <= self._error or answered_at - self._sampled_at > 60:
            self._offset = seconds_of(broker_time) - (asked_at + answered_at) / 2
            self._error, self._sampled_at = error, answered_at

    def to_broker(self, moment: float) -> int:
        """A monotonic moment as the broker's microseconds."""
        return int((moment + self._offset) * 1e6)

    def to_local(self, microseconds: int) -> float:
        """The broker's microseconds as a monotonic moment."""
        return microseconds / 1e6 - self._offset

    def now(self) -> float:
        """The monotonic moment."""
        return self._monotonic()


def seconds_of(timestamp: str) -> float:
    """Seconds since 1970 of an RFC 3339 time with up to nanoseconds, as the server writes it. Raises ValueError."""
    micro = _FRACTION.sub(lambda found: f'.{found[1][:6]:0<6}', timestamp.replace('Z', '+00:00'))
    moment = datetime.fromisoformat(micro)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
