"""What a client found out by making calls, whatever client it was."""

from __future__ import annotations

import math
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run of a client."""

    calls: int
    """How many were asked for, and sent."""
    rate: float = math.nan
    """Calls per second, from the first connection to the last answer."""
    times: Sequence[int] = ()
    """What each call took, in microseconds."""
    client: float = math.nan
    """CPU seconds of the client."""
    problems: tuple[str, ...] = ()
    """Why the figures cannot be used; empty if they can."""

    def quantile_ms(self, share: float) -> float:
        """Milliseconds that this share of the calls did not exceed; NaN without any."""
        return quantile(sorted(self.times), share) / 1000


def quantile(ordered: Sequence[int], share: float) -> float:
    """Return the smallest of the ordered values that this share of them does not exceed; NaN of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def run(command: Sequence[str], *, timeout: float, env: dict[str, str] | None = None) -> tuple[str, str, float]:
    """Run a client to its end; return what it printed, on either stream, and its CPU seconds.

    Raises subprocess.TimeoutExpired.
    """
    before = _children()
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=env)
    return done.stdout, done.stderr, _children() - before


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
