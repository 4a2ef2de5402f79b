"""What natsgate promises about itself and others: a table, and how it is judged. Pure.

Every promise is a ratio of two figures of the same round: what else the machine did then touched both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure import Measurement
from benchmarks.scenarios import (
    BIDI,
    BUSY,
    FEW_WAIT,
    LARGE,
    MANY_WAIT,
    MOST_WAIT,
    ONE_BY_ONE,
    SERVER_STREAM,
    SMALL,
    Scenario,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A value of one peer in one scenario."""

    scenario: Scenario
    peer: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A figure, most often divided by another, and within what it must be."""

    line: str
    what: str
    of: Figure
    over: Figure | None = None
    """What it is divided by; without one, the figure is judged itself."""
    floor: float = math.nan
    """What must hold; NaN where nothing is promised."""
    aim: float = math.nan
    """What is aspired to."""
    less: bool = False
    """Less is better."""

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
        line='1',
        what='calls/s, edge in Envoy ÷ bare `grpc.aio` echo',
        of=_busy(ASGI, 'rate'),
        over=_busy('bare', 'rate'),
        floor=1.8,
        aim=2.5,
    ),
    Promise(
        line='2',
        what='calls/s, edge in Envoy ÷ `grpc.aio` + walnats',
        of=_busy(ASGI, 'rate'),
        over=_busy('walnats', 'rate'),
        floor=6.5,
        aim=10,
    ),
    Promise(
        line='3',
        what='calls/s, edge in Envoy ÷ gateway and worker by hand in Go',
        of=_busy(ASGI, 'rate'),
        over=_busy('go-gateway', 'rate'),
        floor=0.5,
        aim=1.0,
    ),
    Promise(
        line='4',
        what='CPU of the gateway per call, edge in Envoy ÷ bare echo',
        of=_busy(ASGI, 'front_us'),
        over=_busy('bare', 'cpu_us'),
        floor=0.42,
        aim=0.3,
        less=True,
    ),
    Promise(
        line='5',
        what='CPU of the gateway per call, edge `grpc.aio` ÷ bare echo',
        of=_busy(GRPC, 'front_us'),
        over=_busy('bare', 'cpu_us'),
        floor=1.6,
        aim=1.3,
        less=True,
    ),
    Promise(
        line='6',
        what='CPU of the worker per call ÷ bare echo',
        of=_busy(ASGI, 'worker_us'),
        over=_busy('bare', 'cpu_us'),
        floor=0.15,
        aim=0.08,
        less=True,
    ),
    Promise(
        line='7',
        what='CPU of gateway, broker and worker together per call, edge in Envoy ÷ bare echo',
        of=_busy(ASGI, 'cpu_us'),
        over=_busy('bare', 'cpu_us'),
        floor=0.75,
        aim=0.5,
        less=True,
    ),
    Promise(
        line='8',
        what='p50 of one call at a time, edge in Envoy ÷ `conn.request()` without gRPC',
        of=_one(ASGI),
        over=_one('request'),
        floor=1.6,
        aim=1.3,
        less=True,
    ),
    Promise(
        line='9',
        what='p50 of `conn.request()` ÷ by hand: publish with acknowledgement, and a core hop and back',
        of=_one('request'),
        over=_one('by-hand'),
        floor=1.4,
        aim=1.2,
        less=True,
    ),
    Promise(
        line='10',
        what='messages/s of 64 B, server streaming, edge in Envoy ÷ bare `grpc.aio`',
        of=Figure(SERVER_STREAM, ASGI, 'rate'),
        over=Figure(SERVER_STREAM, 'bare', 'rate'),
        floor=1.0,
        aim=3.0,
    ),
    Promise(
        line='',
        what='messages/s of 64 B, bidirectional, edge in Envoy ÷ bare `grpc.aio`',
        of=Figure(BIDI, ASGI, 'rate'),
        over=Figure(BIDI, 'bare', 'rate'),
    ),
    Promise(
        line='11',
        what='CPU per call at 1,000 methods, 1,024 in flight, 100,000 queued for another one ÷ the small case',
        of=Figure(LARGE, 'natsgate-many', 'cpu_us'),
        over=Figure(SMALL, ASGI, 'cpu_us'),
        floor=1.2,
        aim=1.05,
        less=True,
    ),
    Promise(
        line='12',
        what='bytes of the gateway per waiting call ÷ an application on the same edge that only waits',
        of=Figure(MANY_WAIT, ASGI, 'call_bytes'),
        over=Figure(MANY_WAIT, 'asgi', 'call_bytes'),
        floor=1.5,
        aim=1.2,
        less=True,
    ),
    Promise(
        line='13',
        what='memory of the gateway when 20,000 calls wait for the second time ÷ the first time',
        of=Figure(MOST_WAIT, 'natsgate-wide', 'again'),
        floor=1.1,
        aim=1.05,
        less=True,
    ),
    Promise(
        line='',
        what='share of it that the system gets back after that ÷ an application on the same edge that only waits',
        of=Figure(MOST_WAIT, 'natsgate-wide', 'given_back'),
        over=Figure(MOST_WAIT, 'asgi', 'given_back'),
    ),
    Promise(
        line='14',
        what='slowest of 20 cancels, ms until the handler knows, 200 calls wait, edge in Envoy',
        of=Figure(FEW_WAIT, ASGI, 'cancel_max_ms'),
        floor=100,
        aim=50,
        less=True,
    ),
    Promise(
        line='',
        what='the same with 10,000 calls that wait',
        of=Figure(MANY_WAIT, ASGI, 'cancel_max_ms'),
    ),
    Promise(
        line='',
        what='cores that the gateway uses while 200 calls wait',
        of=Figure(FEW_WAIT, ASGI, 'waiting_share'),
    ),
    Promise(
        line='',
        what='cores that the gateway uses while 10,000 calls wait',
        of=Figure(MANY_WAIT, ASGI, 'waiting_share'),
    ),
)


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
    def judged(self) -> bool:
        """Whether there is anything to judge."""
        return not math.isnan(self.value)

    @property
    def word(self) -> str:
        """The verdict in a word."""
        if not self.judged:
            return 'not measured'
        if math.isnan(self.promise.floor):
            return 'told'
        if self.promise.met(self.value, self.promise.aim):
            return 'aim'
        return 'floor' if self.promise.met(self.value, self.promise.floor) else 'MISSED'


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


def _values(figure: Figure, found: Sequence[Measurement]) -> dict[int, float]:
    """The figure of each round; nothing at all when one of them is invalid."""
    own = rounds(found, figure.scenario.name, figure.peer)
    if any(one.problems for one in own.values()):
        return {}
    return {number: one.value(figure.value) for number, one in own.items()}


def ratio(of: float, over: float) -> float:
    """One divided by the other; NaN when that means nothing."""
    return of / over if over else math.nan


def rounds(found: Iterable[Measurement], scenario: str, peer: str) -> dict[int, Measurement]:
    """The measurements of one peer in one scenario by their round."""
    return {one.round: one for one in found if (one.scenario, one.peer) == (scenario, peer)}
