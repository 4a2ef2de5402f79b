"""What is measured of whom: a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from benchmarks import many
from benchmarks.h2load import Shape
from benchmarks.servers.shared import REPEATS


class Extent(IntEnum):
    """How much is measured."""

    QUICK = 0
    CORE = 1
    FULL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something that is done to some peers."""

    name: str
    title: str
    peers: tuple[str, ...]
    stage: str
    """The peers of one stage run at the same time."""
    extent: Extent = Extent.CORE
    """The least run that it is a part of."""
    once: bool = False
    """Measured in the first round alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load(Scenario):
    """Calls as fast as they are answered."""

    shape: Shape
    share: float = 1.0
    """How much of the usual time a measurement lasts."""

    @property
    def unit(self) -> str:
        """What is counted."""
        return 'calls' if self.shape.answered == 1 else 'messages'


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding(Scenario):
    """Calls that wait, of a peer that is started for it alone."""

    calls: int
    connections: int
    idle: int = 0
    """Connections without any call, beside the others."""
    cancels: int = 0
    """How many of the calls are cancelled, one after the other."""
    waves: int = 0
    """How often memory is looked at: once, and then after each further wave of as many calls. 0: never."""


UNARY, WAIT = '/bench.Echo/Unary', '/bench.Echo/Wait'
FRONTS = ('bare', 'asgi', 'go')
RIVALS = ('walnats', 'walnats-tuned', 'faststream', 'go-gateway', 'go-gateway-python')
OURS = ('natsgate', 'natsgate-envoy')
MEMORY = 'natsgate-memory'
_SIZES = {16: '16 B', 1 << 10: '1 KiB', 64 << 10: '64 KiB', 1 << 20: '1 MiB'}
_MUCH = '1,000 methods, 100,000 messages queued for another one'
_IN_FLIGHT = (1, 16, 128, 1024)
_MOST_BYTES = 64 << 20  # in flight at a time: nats-server holds no more for one connection


def _unary(size: int, in_flight: int, peers: Sequence[str], *, share: float = 1.0, extent: Extent) -> Load:
    shown = _SIZES[size]
    return Load(
        name=f'unary-{shown.replace(" ", "")}-{in_flight}',
        title=f'Unary echo of {shown}, {in_flight:,} in flight',
        stage='unary',
        peers=tuple(peers),
        shape=Shape(paths=(UNARY,), size=size, in_flight=in_flight),
        share=share,
        extent=extent,
    )


def _streaming(name: str, title: str, method: str, *, sent: int) -> Load:
    return Load(
        name=name,
        title=f'{title}, {REPEATS:,} messages of 64 B in a call, 8 calls in flight',
        stage='streaming',
        peers=('bare', 'go', *OURS),
        shape=Shape(paths=(f'/bench.Echo/{method}',), size=64, sent=sent, answered=REPEATS, in_flight=8),
        extent=Extent.QUICK,
    )


def _growth(
    name: str, title: str, peer: str, paths: Sequence[str], in_flight: int, *, extent: Extent = Extent.CORE
) -> Load:
    shape = Shape(paths=paths, size=16, in_flight=in_flight)
    return Load(name=name, title=title, stage='growth', peers=(peer,), shape=shape, extent=extent)


ONE_BY_ONE = _unary(16, 1, (*FRONTS, *RIVALS, 'request', 'by-hand', *OURS), share=0.5, extent=Extent.QUICK)
BUSY = _unary(16, 128, (*FRONTS, *RIVALS, *OURS, MEMORY), extent=Extent.QUICK)
GRID = tuple(
    _unary(size, in_flight, (*FRONTS, 'go-gateway', *OURS, MEMORY), extent=Extent.FULL)
    for size in _SIZES
    for in_flight in _IN_FLIGHT
    if (size, in_flight) not in ((16, 1), (16, 128)) and size * in_flight <= _MOST_BYTES
)
SERVER_STREAM = _streaming('server-stream', 'Server streaming', 'Repeat', sent=1)
BIDI = _streaming('bidi', 'Bidirectional echo', 'Chat', sent=REPEATS)
SMALL = _growth('small', 'One method, 128 in flight, nothing queued', 'natsgate-envoy', (UNARY,), 128)
LARGE = _growth('large', f'{_MUCH}, 1,024 in flight', 'natsgate-many', many.paths(), 1024)
BETWEEN = (  # which of the differences costs something
    _growth(
        'small-1024',
        'One method, 1,024 in flight, nothing queued',
        'natsgate-envoy',
        (UNARY,),
        1024,
        extent=Extent.FULL,
    ),
    _growth('large-128', f'{_MUCH}, 128 in flight', 'natsgate-many', many.paths(), 128, extent=Extent.FULL),
)
FEW_WAIT = Holding(
    name='waiting-200',
    title='200 calls that wait',
    stage='waiting',
    peers=OURS,
    calls=200,
    connections=4,
    cancels=20,
    extent=Extent.QUICK,
)
MANY_WAIT = Holding(
    name='waiting-10000',
    title='10,000 calls that wait, on 100 connections, beside 900 idle ones',
    stage='waiting',
    peers=('asgi', 'natsgate-envoy'),
    calls=10_000,
    connections=100,
    idle=900,
    cancels=2,
    waves=1,
)
MOST_WAIT = Holding(
    name='waiting-20000',
    title='20,000 calls that wait, on 200 connections, and as many again',
    stage='waiting',
    peers=('asgi', 'natsgate-wide'),
    calls=20_000,
    connections=200,
    waves=2,
    once=True,
)

SCENARIOS: tuple[Scenario, ...] = (
    ONE_BY_ONE,
    BUSY,
    *GRID,
    SERVER_STREAM,
    BIDI,
    SMALL,
    LARGE,
    *BETWEEN,
    FEW_WAIT,
    MANY_WAIT,
    MOST_WAIT,
)
