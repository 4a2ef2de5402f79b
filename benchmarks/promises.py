"""What natsgate promises about itself beside others: a table. Pure."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Bound:
    """Within what a figure must be. Where the aim is below the floor, less is better."""

    floor: float
    """What must hold."""
    aim: float
    """What is aspired to."""

    @property
    def less(self) -> bool:
        """Whether less is better."""
        return self.aim < self.floor

    def verdict(self, value: float) -> str:
        """The verdict in a word."""
        if self._is_met(value, self.aim):
            return 'aim'
        return 'floor' if self._is_met(value, self.floor) else 'MISSED'

    def _is_met(self, value: float, limit: float) -> bool:
        return value <= limit if self.less else value >= limit


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure, most often divided by another, and within what it must be."""

    line: str
    what: str
    of: Figure
    over: Figure | None
    """What it is divided by; without one, the figure is judged itself."""
    bound: Bound | None
    """None where nothing is promised: the figure is only told."""


def _busy(peer: str, value: str) -> Figure:
    return Figure(BUSY, peer, value)


def _one(peer: str) -> Figure:
    return Figure(ONE_BY_ONE, peer, 'p50_ms')


ASGI, GRPC = 'natsgate-envoy', 'natsgate'

PROMISES = (
    Promise(
        '1', 'calls/s, edge in Envoy ÷ bare `grpc.aio` echo',
        _busy(ASGI, 'rate'), _busy('bare', 'rate'), Bound(1.8, 2.5),
    ),
    Promise(
        '2', 'calls/s, edge in Envoy ÷ `grpc.aio` + walnats',
        _busy(ASGI, 'rate'), _busy('walnats', 'rate'), Bound(6.5, 10),
    ),
    Promise(
        '3', 'calls/s, edge in Envoy ÷ gateway and worker by hand in Go',
        _busy(ASGI, 'rate'), _busy('go-gateway', 'rate'), Bound(0.5, 1.0),
    ),
    Promise(
        '4', 'CPU of the gateway per call, edge in Envoy ÷ bare echo',
        _busy(ASGI, 'front_us'), _busy('bare', 'cpu_us'), Bound(0.42, 0.3),
    ),
    Promise(
        '5', 'CPU of the gateway per call, edge `grpc.aio` ÷ bare echo',
        _busy(GRPC, 'front_us'), _busy('bare', 'cpu_us'), Bound(1.6, 1.3),
    ),
    Promise(
        '6', 'CPU of the worker per call ÷ bare echo',
        _busy(ASGI, 'worker_us'), _busy('bare', 'cpu_us'), Bound(0.15, 0.08),
    ),
    Promise(
        '7', 'CPU of gateway, broker and worker together per call, edge in Envoy ÷ bare echo',
        _busy(ASGI, 'cpu_us'), _busy('bare', 'cpu_us'), Bound(0.75, 0.5),
    ),
    Promise(
        '8', 'p50 of one call at a time, edge in Envoy ÷ `conn.request()` without gRPC',
        _one(ASGI), _one('request'), Bound(1.6, 1.3),
    ),
    Promise(
        '9', 'p50 of `conn.request()` ÷ by hand: publish with acknowledgement, and a core hop and back',
        _one('request'), _one('by-hand'), Bound(1.4, 1.2),
    ),
    Promise(
        '10', 'messages/s of 64 B, server streaming, edge in Envoy ÷ bare `grpc.aio`',
        Figure(SERVER_STREAM, ASGI, 'rate'), Figure(SERVER_STREAM, 'bare', 'rate'), Bound(1.0, 3.0),
    ),
    Promise(
        '', 'messages/s of 64 B, bidirectional, edge in Envoy ÷ bare `grpc.aio`',
        Figure(BIDI, ASGI, 'rate'), Figure(BIDI, 'bare', 'rate'), None,
    ),
    Promise(
        '11', 'CPU per call at 1,000 methods, 1,024 in flight, 100,000 queued for another one ÷ the small case',
        Figure(LARGE, 'natsgate-many', 'cpu_us'), Figure(SMALL, ASGI, 'cpu_us'), Bound(1.2, 1.05),
    ),
    Promise(
        '12', 'bytes of the gateway per waiting call ÷ an application on the same edge that only waits',
        Figure(MANY_WAIT, ASGI, 'call_bytes'), Figure(MANY_WAIT, 'asgi', 'call_bytes'), Bound(1.5, 1.2),
    ),
    Promise(
        '13', 'memory of the gateway when 20,000 calls wait for the second time ÷ the first time',
        Figure(MOST_WAIT, 'natsgate-wide', 'again'), None, Bound(1.1, 1.05),
    ),
    Promise(
        '', 'share of it that the system gets back after that ÷ an application on the same edge that only waits',
        Figure(MOST_WAIT, 'natsgate-wide', 'given_back'), Figure(MOST_WAIT, 'asgi', 'given_back'), None,
    ),
    Promise(
        '14', 'slowest of 20 cancels, ms until the handler knows, 200 calls wait, edge in Envoy',
        Figure(FEW_WAIT, ASGI, 'cancel_max_ms'), None, Bound(100, 50),
    ),
    Promise('', 'the same with 10,000 calls that wait', Figure(MANY_WAIT, ASGI, 'cancel_max_ms'), None, None),
    Promise('', 'cores that it uses while 200 calls wait', Figure(FEW_WAIT, ASGI, 'waiting_share'), None, None),
    Promise('', 'cores that it uses while 10,000 calls wait', Figure(MANY_WAIT, ASGI, 'waiting_share'), None, None),
)  # fmt: skip
