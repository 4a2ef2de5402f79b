"""Medians, ratios, and the table. Pure: measurements in, Markdown out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measure import Measurement

PARTS = ('front', 'broker', 'worker')

Quantity = Callable[[Measurement], float]


def rate(one: Measurement) -> float:
    return one.rate


def cpu(one: Measurement) -> float:
    return one.cpu_sum_us


def front(one: Measurement) -> float:
    return one.cpu_us.get('front', math.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A promise about two peers at 128 in flight; without least and most it only informs."""

    what: str
    """The words of the verdict."""
    quantity: Quantity
    """What is compared."""
    peers: tuple[str, str]
    """Whose is divided by whose."""
    least: float = -math.inf
    most: float = math.inf
    """Outside of these the promise is broken."""

    @property
    def promises(self) -> bool:
        return self.least > -math.inf or self.most < math.inf

    def holds(self, value: float) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        if self.most < math.inf:
            return f'at most {self.most}'
        return f'at least {self.least}'


BOUNDS = (
    Bound(what='gateway CPU / bare echo CPU', quantity=front, peers=('natsgate', 'bare'), most=2.0),
    Bound(what='natsgate calls/s / walnats', quantity=rate, peers=('natsgate', 'walnats'), least=1.3),
    Bound(what='natsgate summed CPU / walnats', quantity=cpu, peers=('natsgate', 'walnats'), most=0.7),
    Bound(what='natsgate in Envoy, calls/s / bare echo', quantity=rate, peers=('natsgate-envoy', 'bare'), least=1.0),
    Bound(what='natsgate in Envoy, summed CPU / bare echo', quantity=cpu, peers=('natsgate-envoy', 'bare')),
    Bound(what='natsgate calls/s / walnats, tuned', quantity=rate, peers=('natsgate', 'walnats-tuned')),
    Bound(what='natsgate summed CPU / walnats, tuned', quantity=cpu, peers=('natsgate', 'walnats-tuned')),
)
BOUNDS_AT = 128


def ratio(all_: Sequence[Measurement], in_flight: int, peers: tuple[str, str], quantity: Quantity) -> float:
    """Return the median, over the rounds, of one peer's quantity divided by the other's in the same round.

    Round by round, because what else the machine did in a round touched both. NaN if there is nothing to compare,
    or if one of them is invalid.
    """
    above, below = (of(all_, in_flight, peer) for peer in peers)
    if not above or not below or invalid(above) or invalid(below):
        return math.nan
    return median(quantity(one) / quantity(other) for one, other in zip(above, below, strict=True))


def of(all_: Iterable[Measurement], in_flight: int, peer: str) -> list[Measurement]:
    """Return the rounds of one peer at one concurrency, in their order."""
    return sorted((one for one in all_ if (one.in_flight, one.peer) == (in_flight, peer)), key=lambda one: one.round)


def invalid(rounds: Iterable[Measurement]) -> bool:
    """Tell whether any of the rounds had a problem."""
    return any(one.problems for one in rounds)


def table(all_: Sequence[Measurement], in_flight: int) -> str:
    """Return the Markdown table of one concurrency."""
    peers = list(dict.fromkeys(one.peer for one in all_))
    heads = ['peer', 'calls/s', 'p50 ms', 'p99 ms', *(f'{part} µs' for part in PARTS), 'CPU µs']
    heads += [f'{what} ÷ {peer}' for peer in ('bare', 'walnats') for what in ('calls/s', 'CPU')]
    rows = [_row(all_, in_flight, peer) for peer in peers]
    rules = ['---', *['---:'] * (len(heads) - 1)]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in (heads, rules, *rows))


def verdict(all_: Sequence[Measurement]) -> tuple[str, bool]:
    """Return the promises as a Markdown list, and whether all that could be judged hold."""
    lines, kept = [], True
    for bound in BOUNDS:
        value = ratio(all_, BOUNDS_AT, bound.peers, bound.quantity)
        judged = not math.isnan(value)
        kept &= not judged or bound.holds(value)
        word = ('holds' if bound.holds(value) else 'DOES NOT HOLD') if judged else 'not measured'
        wanted = f' (wanted: {bound}): {word}' if bound.promises else ' (no promise)'
        lines.append(f'- {bound.what}: {_number(value, 2)}{wanted}')
    return '\n'.join(lines), kept


def problems(all_: Iterable[Measurement]) -> list[str]:
    """Return every problem in one line of its own."""
    return [
        f'round {one.round}, {one.peer}, {one.in_flight} in flight: {problem}'
        for one in all_
        for problem in one.problems
    ]


def _row(all_: Sequence[Measurement], in_flight: int, peer: str) -> list[str]:
    rounds = of(all_, in_flight, peer)
    if invalid(rounds):
        return [peer, 'invalid', *['-'] * 10]
    cells = [peer]
    for quantity, digits in ((rate, 0), (lambda one: one.p50_ms, 2), (lambda one: one.p99_ms, 2)):
        cells.append(_number(median(map(quantity, rounds)), digits))
    cells += [_number(median(one.cpu_us.get(part, math.nan) for one in rounds), 0) for part in PARTS]
    cells.append(_number(median(map(cpu, rounds)), 0))
    for other in ('bare', 'walnats'):
        cells += [_number(ratio(all_, in_flight, (peer, other), quantity), 2) for quantity in (rate, cpu)]
    return cells


def _number(value: float, digits: int) -> str:
    return '-' if math.isnan(value) else f'{value:,.{digits}f}'
