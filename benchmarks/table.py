"""Medians, ratios, and tables. Pure: measurements in, Markdown out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

from benchmarks.measure import Measurement
from benchmarks.promises import Bound
from benchmarks.scenarios import Load, Scenario
from benchmarks.verdicts import Verdict, middle, ratio, rounds

Column = tuple[str, str, int]
"""The head, the name of the value, and its digits behind the point."""

_LOAD: tuple[Column, ...] = (
    ('p50 ms', 'p50_ms', 2),
    ('p99 ms', 'p99_ms', 2),
    ('p99.9 ms', 'p999_ms', 2),
    ('front µs', 'front_us', 0),
    ('broker µs', 'broker_us', 0),
    ('worker µs', 'worker_us', 0),
    ('CPU µs', 'cpu_us', 0),
    ('client', 'client_share', 2),
)
_HOLDING: tuple[Column, ...] = (
    ('bytes per call', 'call_bytes', 0),
    ('bytes per idle connection', 'connection_bytes', 0),
    ('second wave ÷ first', 'again', 2),
    ('given back', 'given_back', 2),
    ('cores while they wait', 'waiting_share', 2),
    ('cancel ms', 'cancel_ms', 1),
    ('slowest ms', 'cancel_max_ms', 1),
)


def of_scenario(scenario: Scenario, found: Sequence[Measurement]) -> str:
    """The Markdown table of one scenario: its peers, each with the medians of its rounds."""
    columns: tuple[Column, ...] = _HOLDING
    compared: tuple[str, ...] = ()
    if isinstance(scenario, Load):
        columns = ((f'{scenario.unit}/s', 'rate', 0), *_LOAD)
        compared = ('rate', 'cpu_us') if 'bare' in scenario.peers else ()
    heads = ['peer', *(head for head, _, _ in columns)]
    heads += [f'{head} ÷ bare' for head, value, _ in columns if value in compared]
    peers = [peer for peer in scenario.peers if rounds(found, scenario.name, peer)]
    return table(heads, [_row(scenario, peer, found, columns, compared) for peer in peers])


def of_promises(verdicts: Iterable[Verdict]) -> str:
    """The Markdown table of the promises."""
    heads = ['', 'promise', 'measured', 'floor', 'aim', 'of', 'over', 'met']
    return table(heads, [_judged(one) for one in verdicts], left=2)


def problems(found: Iterable[Measurement]) -> list[str]:
    """Every problem in one line of its own."""
    return [f'round {one.round}, {one.peer}, {one.scenario}: {problem}' for one in found for problem in one.problems]


def number(value: float, digits: int) -> str:
    """A number for people; a dash for NaN."""
    return '-' if math.isnan(value) else f'{value:,.{digits}f}'


def _row(
    scenario: Scenario, peer: str, found: Sequence[Measurement], columns: Sequence[Column], compared: Sequence[str]
) -> list[str]:
    own, bare = (rounds(found, scenario.name, name) for name in (peer, 'bare'))
    if any(one.problems for one in own.values()):
        return [peer, 'invalid', *['-'] * (len(columns) + len(compared) - 1)]

    def to_bare(value: str) -> str:
        ratios = [ratio(own[key].value(value), bare[key].value(value)) for key in own if key in bare]
        return number(median(ratios) if ratios else math.nan, 2)

    cells = [number(middle(found, scenario.name, peer, value), digits) for _, value, digits in columns]
    return [peer, *cells, *map(to_bare, compared)]


def _judged(verdict: Verdict) -> list[str]:
    promise, bound = verdict.promise, verdict.promise.bound
    bounds = ['-', '-'] if bound is None else [_limit(bound, bound.floor), _limit(bound, bound.aim)]
    figures = (_figure(verdict.of), _figure(verdict.over))
    return [promise.line, promise.what, _figure(verdict.value), *bounds, *figures, verdict.word]


def _limit(bound: Bound, limit: float) -> str:
    return f'{"≤" if bound.less else "≥"} {limit:g}'


def _figure(value: float) -> str:
    """Three digits are enough, whatever the unit."""
    return number(value, 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    rules = ['---'] * left + ['---:'] * (len(heads) - left)
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in (heads, rules, *rows))
