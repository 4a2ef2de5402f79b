"""One measurement: warm up, load, and check that every call was answered and handled exactly once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks import clients, load
from benchmarks.failure import BenchmarkError
from benchmarks.running import PARTS, Running
from benchmarks.scenarios import Load

WARM_UP = 0.15
"""Calls before the measurement, as a share of those in it; they also tell how many make up the wanted time."""

_FIRST_CALLS = 50  # the rate is not known at first, and the process is cold
_FIRST_WARM_UPS = 3
_GROWTH = 8.0  # from one warm-up to the next, at most: the first ones are slow
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one round found out about one peer in one scenario."""

    scenario: str
    peer: str
    round: int
    values: dict[str, float]
    """By their names: `rate` per second, `p50_ms`, `p99_ms`, `p999_ms`; CPU microseconds per call or message of each
    part (`front_us` …), of all together (`cpu_us`) and of the client (`client_us`); `client_share` of a core.
    """
    problems: tuple[str, ...] = ()
    """Why the figures cannot be used; empty if they can."""

    def value(self, name: str) -> float:
        """The value of this name; NaN when it was not found out."""
        return self.values.get(name, math.nan)


class Meter:
    """Measures one running peer in one scenario, and remembers how fast it was."""

    def __init__(self, running: Running, scenario: Load) -> None:
        self.running = running
        self.scenario = scenario
        self._rate = math.nan

    def measure(self, number: int, seconds: float) -> Measurement:
        """Measure for about so many seconds."""
        seconds *= self.scenario.share
        problems: list[str] = []
        values: dict[str, float] = {}
        try:
            self._warm_up(seconds, problems)
            before = self.running.cpu()
            done = self._load(round(self._rate * seconds), problems)
            after = self.running.cpu()
            used = {part: after[part] - before[part] for part in after}
            values = _values(done, used, self.scenario.shape.answered)
        except BenchmarkError as error:
            problems.append(str(error))
        return Measurement(
            scenario=self.scenario.name,
            peer=self.running.peer.name,
            round=number,
            values=values,
            problems=tuple(problems),
        )

    def _warm_up(self, seconds: float, problems: list[str]) -> None:
        if not math.isnan(self._rate):
            self._load(round(self._rate * seconds * WARM_UP), problems)
            return
        calls = max(_FIRST_CALLS, self.scenario.shape.in_flight)
        if self.running.peer.stumbles:
            self._stumble(calls)
        for _ in range(_FIRST_WARM_UPS):
            self._load(calls, problems)
            calls = min(round(self._rate * seconds * WARM_UP), round(calls * _GROWTH))

    def _stumble(self, calls: int) -> None:
        for _ in range(_FIRST_WARM_UPS):
            done = clients.call(self.running, self.scenario.shape, calls=calls, timeout=_PATIENCE)
            self.running.recount(calls)
            if not done.problems:
                return

    def _load(self, calls: int, problems: list[str]) -> load.Load:
        """Make so many calls. Raises BenchmarkError when one was not answered: what follows would mean nothing."""
        calls = max(calls, self.scenario.shape.in_flight)
        done = clients.call(self.running, self.scenario.shape, calls=calls, timeout=_PATIENCE)
        surplus = self.running.recount(calls)
        if done.problems:
            raise BenchmarkError('; '.join((*done.problems, *surplus)))
        problems.extend(surplus)
        self._rate = done.rate
        return done


def _values(done: load.Load, used: dict[str, float], messages: int) -> dict[str, float]:
    count = done.calls * messages
    values = {f'{part}_us': used[part] / count * 1e6 for part in PARTS if part in used}
    return values | {
        'rate': done.rate * messages,
        'p50_ms': done.quantile_ms(0.5),
        'p99_ms': done.quantile_ms(0.99),
        'p999_ms': done.quantile_ms(0.999),
        'cpu_us': sum(values.values()),
        'client_us': done.client / count * 1e6,
        'client_share': done.client * done.rate / done.calls,
    }
