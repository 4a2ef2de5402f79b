"""How promises are kept. Pure.

A ratio is of two figures of the same round: what else the machine did then touched both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure import Measurement
from benchmarks.promises import Figure, Promise


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a promise was kept. A value is NaN if it was not measured, or in vain."""

    promise: Promise
    value: float
    """The median of the ratios of the rounds, or of the figure."""
    of: float
    over: float
    """The medians of the two figures."""

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if math.isnan(self.value):
            return 'not measured'
        return 'told' if self.promise.bound is None else self.promise.bound.verdict(self.value)


def judge(promise: Promise, found: Sequence[Measurement]) -> Verdict:
    """Judge one promise by all that was measured."""
    of = _values(promise.of, found)
    over = dict.fromkeys(of, 1.0) if promise.over is None else _values(promise.over, found)
    both = [number for number in of if number in over]
    if not both:
        return Verdict(promise=promise, value=math.nan, of=math.nan, over=math.nan)
    return Verdict(
        promise=promise,
        value=median(ratio(of[number], over[number]) for number in both),
        of=median(of[number] for number in both),
        over=math.nan if promise.over is None else median(over[number] for number in both),
    )


def ratio(of: float, over: float) -> float:
    """One divided by the other; NaN when that means nothing."""
    return of / over if over else math.nan


def rounds(found: Iterable[Measurement], scenario: str, peer: str) -> dict[int, Measurement]:
    """The measurements of one peer in one scenario by their round; of two of a round, the one with problems is last."""
    return {one.round: one for one in found if (one.scenario, one.peer) == (scenario, peer)}


def middle(found: Iterable[Measurement], scenario: str, peer: str, value: str) -> float:
    """The median of the rounds; NaN when there are none, or one is invalid."""
    own = rounds(found, scenario, peer).values()
    if not own or any(one.problems for one in own):
        return math.nan
    return median(one.value(value) for one in own)


def _values(figure: Figure, found: Sequence[Measurement]) -> dict[int, float]:
    """The figure of each round; nothing at all when one of them is invalid."""
    own = rounds(found, figure.scenario.name, figure.peer)
    if any(one.problems for one in own.values()):
        return {}
    return {number: one.value(figure.value) for number, one in own.items()}
