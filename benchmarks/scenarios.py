"""What is measured of whom: a table."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import many
from benchmarks.h2load import Shape
from benchmarks.servers.shared import REPEATS


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Something that is done to some peers."""

    name: str
    title: str
    peers: tuple[str, ...]
    stage: str
    """The peers of one stage run at the same time."""
    full: bool = False
    """Only in a full run."""


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
_SIZES = {16: '16 B', 1 << 10: '1 KiB', 64 << 10: '64 KiB', 1 << 20: '1 MiB'}


def _unary(size: int, in_flight: int, peers: tuple[str, ...], *, share: float = 1.0, full: bool = True) -> Load:
    shown = _SIZES[size]
    return Load(
        name=f'unary-{shown.replace(" ", "")}-{in_flight}',
        title=f'Unary echo of {shown}, {in_flight:,} in flight',
        stage='unary',
        peers=peers,
        shape=Shape(paths=(UNARY,), size=size, in_flight=in_flight),
        share=share,
        full=full,
    )


def _streaming(name: str, title: str, method: str, *, sent: int) -> Load:
    return Load(
        name=name,
        title=f'{title}, {REPEATS:,} messages of 64 B in a call, 8 calls in flight',
        stage='streaming',
        peers=('bare', 'go', *OURS),
        shape=Shape(paths=(f'/bench.Echo/{method}',), size=64, sent=sent, answered=REPEATS, in_flight=8),
    )


ONE_BY_ONE = _unary(16, 1, (*FRONTS, *RIVALS, 'request', 'by-hand', *OURS), share=0.5, full=False)
BUSY = _unary(16, 128, (*FRONTS, *RIVALS, *OURS), full=False)
SERVER_STREAM = _streaming('server-stream', 'Server streaming', 'Repeat', sent=1)
BIDI = _streaming('bidi', 'Bidirectional echo', 'Chat', sent=REPEATS)
SMALL = Load(
    name='small',
    title='One method, 128 in flight, nothing queued',
    stage='growth',
    peers=('natsgate-envoy',),
    shape=Shape(paths=(UNARY,), size=16, in_flight=128),
)
LARGE = Load(
    name='large',
    title='1,000 methods, 1,024 in flight, 100,000 messages queued on another method',
    stage='growth',
    peers=('natsgate-many',),
    shape=Shape(paths=many.paths(), size=16, in_flight=1024),
)
FEW_WAIT = Holding(
    name='waiting-200',
    title='200 calls that wait',
    stage='waiting',
    peers=OURS,
    calls=200,
    connections=4,
    cancels=20,
)
MANY_WAIT = Holding(
    name='waiting-10000',
    title='10,000 calls that wait, on 100 connections, beside 900 idle ones',
    stage='waiting',
    peers=('asgi', 'natsgate-envoy'),
    calls=10_000,
    connections=100,
    idle=900,
    cancels=3,
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
)

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (ONE_BY_ONE, BUSY, SERVER_STREAM, BIDI, SMALL, LARGE, FEW_WAIT, MANY_WAIT, MOST_WAIT)
}
