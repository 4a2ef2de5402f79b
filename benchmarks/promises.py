"""What natsgate promises about itself and others: a table, and how it is judged. Pure.

Every promise is a ratio of two figures of the same round: what else the machine did then touched both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure import Measurement
from benchmarks.scenarios import BUSY, ONE_BY_ONE, Scenario


@dataclass(frozen=True, slots=True)
class Figure:
    """A value of one peer in one scenario."""

    scenario: Scenario
    peer: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A figure divided by another, and within what it must be."""

    line: int
    what: str
    of: Figure
    over: Figure
    floor: float
    """What must hold."""
    aim: float
    """What is aspired to: above the floor, or, where less is better, below it."""

    @property
    def less(self) -> bool:
        """Whether less is better."""
        return self.aim < self.floor

    def met(self, value: float, bound: float) -> bool:
        """Whether a value is as good as the bound."""
        return value <= bound if self.less else value >= bound


ASGI, GRPC = 'natsgate-envoy', 'natsgate'


def _busy(peer: str, value: str) -> Figure:
    return Figure(BUSY, peer, value)


def _one(peer: str) -> Figure:
    return Figure(ONE_BY_ONE, peer, 'p50_ms')


PROMISES = (
    Promise(
        line=1,
        what='calls/s, edge in Envoy ÷ bare `grpc.aio` echo',
        of=_busy(ASGI, 'rate'),
        over=_busy('bare', 'rate'),
        floor=1.8,
        aim=2.5,
    ),
    Promise(
        line=2,
        what='calls/s, edge in Envoy ÷ `grpc.aio` + walnats',
        of=_busy(ASGI, 'rate'),
        over=_busy('walnats', 'rate'),
        floor=6.5,
        aim=10,
    ),
    Promise(
        line=3,
        what='calls/s, edge in Envoy ÷ gateway and worker by hand in Go',
        of=_busy(ASGI, 'rate'),
        over=_busy('go-gateway', 'rate'),
        floor=0.5,
        aim=1.0,
    ),
    Promise(
        line=4,
        what='CPU of the gateway per call, edge in Envoy ÷ bare echo',
        of=_busy(ASGI, 'front_us'),
        over=_busy('bare', 'cpu_us'),
        floor=0.42,
        aim=0.3,
    ),
    Promise(
        line=5,
        what='CPU of the gateway per call, edge `grpc.aio` ÷ bare echo',
        of=_busy(GRPC, 'front_us'),
        over=_busy('bare', 'cpu_us'),
        floor=1.6,
        aim=1.3,
    ),
    Promise(
        line=6,
        what='CPU of the worker per call ÷ bare echo',
        of=_busy(ASGI, 'worker_us'),
        over=_busy('bare', 'cpu_us'),
        floor=0.15,
        aim=0.08,
    ),
    Promise(
        line=7,
        what='CPU of gateway, broker and worker together per call, edge in Envoy ÷ bare echo',
        of=_busy(ASGI, 'cpu_us'),
        over=_busy('bare', 'cpu_us'),
        floor=0.75,
        aim=0.5,
    ),
    Promise(
        line=8,
        what='p50 of one call at a time, edge in Envoy ÷ `conn.request()` without gRPC',
        of=_one(ASGI),
        over=_one('request'),
        floor=1.6,
        aim=1.3,
    ),
    Promise(
        line=9,
        what='p50 of `conn.request()` ÷ by hand: publish with acknowledgement, and a core hop and back',
        of=_one('request'),
        over=_one('by-hand'),
        floor=1.4,
        aim=1.2,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a promise was kept. A value is NaN if it was not measured, or in vain."""

    promise: Promise
    ratio: float
    """The median of the ratios of the rounds."""
    of: float
    over: float
    """The medians of the two figures."""

    @property
    def judged(self) -> bool:
        """Whether there is anything to judge."""
        return not math.isnan(self.ratio)

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if not self.judged:
            return 'not measured'
        if self.promise.met(self.ratio, self.promise.aim):
            return 'aim'
        return 'floor' if self.promise.met(self.ratio, self.promise.floor) else 'MISSED'


def judge(promise: Promise, found: Sequence[Measurement]) -> Verdict:
    """Judge one promise by all that was measured."""
    above, below = (rounds(found, figure.scenario.name, figure.peer) for figure in (promise.of, promise.over))
    pairs = [
        (above[number].value(promise.of.value), below[number].value(promise.over.value))
        for number in above
        if number in below
    ]
    if not pairs or any(one.problems for one in (*above.values(), *below.values())):
        return Verdict(promise=promise, ratio=math.nan, of=math.nan, over=math.nan)
    return Verdict(
        promise=promise,
        ratio=median(ratio(of, over) for of, over in pairs),
        of=median(of for of, _ in pairs),
        over=median(over for _, over in pairs),
    )


def ratio(of: float, over: float) -> float:
    """One divided by the other; NaN when that means nothing."""
    return of / over if over else math.nan


def rounds(found: Iterable[Measurement], scenario: str, peer: str) -> dict[int, Measurement]:
    """The measurements of one peer in one scenario by their round."""
    return {one.round: one for one in found if (one.scenario, one.peer) == (scenario, peer)}
