"""A run: stage by stage, the peers are started, measured in turn, round by round, and stopped."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks import holding
from benchmarks.measure import Measurement, Meter
from benchmarks.peers import PEERS
from benchmarks.running import Running
from benchmarks.scenarios import Holding, Load, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much time a run takes."""

    rounds: int
    """How often each peer is measured in each scenario."""
    seconds: float
    """About how long each time."""


def run(scenarios: Sequence[Scenario], folder: Path, pace: Pace) -> list[Measurement]:
    """Measure all scenarios. Raises BenchmarkError when a peer does not start."""
    found = []
    for stage, members in groupby(scenarios, key=lambda scenario: scenario.stage):
        place = folder / stage
        place.mkdir()
        stack = ExitStack()
        try:
            for one in _stage(tuple(members), place, pace, stack):
                print(_progress(one, pace.rounds), file=sys.stderr, flush=True)
                found.append(one)
        finally:
            with _uninterrupted():
                stack.close()
    return found


def _stage(scenarios: Sequence[Scenario], folder: Path, pace: Pace, stack: ExitStack) -> Iterator[Measurement]:
    if loads := [scenario for scenario in scenarios if isinstance(scenario, Load)]:
        yield from _in_turn(loads, folder, pace, stack)
    for number in range(1, pace.rounds + 1):
        for scenario in scenarios:
            if isinstance(scenario, Holding) and (number == 1 or not scenario.once):
                for name in scenario.peers:
                    yield _afresh(scenario, name, number, folder)


def _in_turn(scenarios: Sequence[Load], folder: Path, pace: Pace, stack: ExitStack) -> Iterator[Measurement]:
    """All peers run, and are measured in turn."""
    names = [name for name in PEERS if any(name in scenario.peers for scenario in scenarios)]
    started = {name: Running(PEERS[name], folder / name, stack) for name in names}
    meters = [[Meter(started[name], scenario) for name in scenario.peers] for scenario in scenarios]
    for number in range(pace.rounds):
        for group in meters:
            first = number % len(group)  # each begins a round once, so that none always follows the same one
            for meter in group[first:] + group[:first]:
                yield meter.measure(number + 1, pace.seconds)
    for name, running in started.items():
        if late := running.recount(0):
            scenario = next(one for one in reversed(scenarios) if name in one.peers)
            yield Measurement(scenario=scenario.name, peer=name, round=pace.rounds, values={}, problems=late)


def _afresh(scenario: Holding, name: str, number: int, folder: Path) -> Measurement:
    """A peer is started for one measurement."""
    stack = ExitStack()
    try:
        running = Running(PEERS[name], folder / f'{scenario.name}-{name}-{number}', stack)
        return holding.measure(running, scenario, number)
    finally:
        with _uninterrupted():
            stack.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Nothing interrupts the stopping."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(one: Measurement, rounds: int) -> str:
    where = f'round {one.round}/{rounds}  {one.scenario:<18}{one.peer:<18}'
    if one.problems:
        return f'{where}: INVALID: {"; ".join(one.problems)}'
    return f'{where}: ' + ', '.join(f'{name} {value:,.{2 if value < 10 else 0}f}' for name, value in one.values.items())
