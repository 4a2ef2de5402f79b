"""What is measured of whom: a table."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import h2load


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A load that some peers are put under."""

    name: str
    title: str
    stage: str
    """The peers of one stage run at the same time, and are measured in turn."""
    peers: tuple[str, ...]
    shape: h2load.Shape
    share: float = 1.0
    """How much of the usual time a measurement lasts."""
    full: bool = False
    """Only in a full run."""

    @property
    def unit(self) -> str:
        """What is counted."""
        return 'calls' if self.shape.answered == 1 else 'messages'


UNARY = '/bench.Echo/Unary'
MANY = ('bare', 'asgi', 'go', 'walnats', 'walnats-tuned', 'faststream', 'go-gateway', 'go-gateway-python')
OURS = ('natsgate', 'natsgate-envoy')
_SIZES = {16: '16 B', 1 << 10: '1 KiB', 64 << 10: '64 KiB', 1 << 20: '1 MiB'}


def unary(
    size: int, in_flight: int, peers: tuple[str, ...] = MANY + OURS, *, share: float = 1.0, full: bool = True
) -> Scenario:
    """Calls of one message each way."""
    shown = _SIZES[size]
    return Scenario(
        name=f'unary-{shown.replace(" ", "")}-{in_flight}',
        title=f'Unary echo of {shown}, {in_flight:,} in flight',
        stage='unary',
        peers=peers,
        shape=h2load.Shape(paths=(UNARY,), size=size, in_flight=in_flight),
        share=share,
        full=full,
    )


ONE_BY_ONE = unary(16, 1, (*MANY, 'request', 'by-hand', *OURS), share=0.5, full=False)
BUSY = unary(16, 128, full=False)

_ALL = (ONE_BY_ONE, BUSY)

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
