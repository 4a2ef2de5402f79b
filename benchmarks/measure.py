"""One measurement: warm up, load, and check that every call was answered and handled exactly once."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import load
from benchmarks.failure import BenchmarkError
from benchmarks.peers import Peer

WARM_UP = 0.15
"""Calls before the measurement, as a share of those in it; they also tell how many make up the wanted time."""

_FIRST_GUESS = {1: 300.0, 128: 800.0}
_FIRST_WARM_UPS = 3  # the rate is a guess at first, and the process is cold

_PATIENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one round found out about one peer at one concurrency."""

    peer: str
    round: int
    in_flight: int
    calls: int
    """How many were measured; the warm-up is not among them."""
    rate: float
    """Calls per second."""
    p50_ms: float
    p99_ms: float
    cpu_us: dict[str, float]
    """CPU microseconds per call of each part."""
    problems: tuple[str, ...]
    """Why the figures cannot be used; empty if they can."""

    @property
    def cpu_sum_us(self) -> float:
        """CPU microseconds per call of all parts together."""
        return sum(self.cpu_us.values())


class Meter:
    """Measures one peer, and remembers how fast it was and how many calls it has handled."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._rates = dict(_FIRST_GUESS)
        self._cold = set(_FIRST_GUESS)
        self._handled = peer.count()

    def measure(self, number: int, in_flight: int, seconds: float) -> Measurement:
        """Measure for about so many seconds."""
        times = _FIRST_WARM_UPS if in_flight in self._cold else 1
        self._cold.discard(in_flight)
        warm = [self._load(in_flight, seconds * WARM_UP) for _ in range(times)]
        try:
            before = self.peer.cpu()
            done = self._load(in_flight, seconds)
            after = self.peer.cpu()
            problems = (*(problem for run in (*warm, done) for problem in run.problems), *self.recount())
        except BenchmarkError as error:
            before = after = {}
            done, problems = warm[-1], (str(error),)
        return Measurement(
            peer=self.peer.name,
            round=number,
            in_flight=in_flight,
            calls=done.calls,
            rate=done.rate,
            p50_ms=done.p50_ms,
            p99_ms=done.p99_ms,
            cpu_us={part: (after[part] - before[part]) / done.calls * 1e6 for part in after},
            problems=problems,
        )

    def recount(self) -> tuple[str, ...]:
        """Say by how much the handler's runs differ from the calls made since the last time."""
        expected, self._handled = self._handled, self.peer.count()
        if self._handled == expected:
            return ()
        excess = self._handled - expected
        return (f'the handler ran {abs(excess)} times {"more" if excess > 0 else "less"} than there were calls',)

    def _load(self, in_flight: int, seconds: float) -> load.Load:
        calls = max(in_flight, round(self._rates[in_flight] * seconds))
        done = load.run(
            self.peer.address,
            self.peer.folder,
            calls=calls,
            in_flight=in_flight,
            timeout=_PATIENCE + 3 * seconds,
        )
        self._handled += calls  # what it must have handled by now
        if not done.problems:
            self._rates[in_flight] = done.rate
        return done
