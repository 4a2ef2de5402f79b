"""What a run measures, of all that could be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatch

from benchmarks import prepare
from benchmarks.failure import BenchmarkError
from benchmarks.peers import PEERS
from benchmarks.promises import PROMISES
from benchmarks.scenarios import SCENARIOS, Extent, Scenario


def chosen(extent: Extent, only: Sequence[str] | None, peers: Collection[str] | None) -> list[Scenario]:
    """The scenarios, each with those of its peers that take part. Raises BenchmarkError when there are none.

    `only`: patterns of names, whatever the extent. `peers`: who takes part; a quick run has those of the promises that
    need nothing to be built.
    """
    if peers is None:
        peers = _quick_peers() if extent is Extent.QUICK else PEERS
    named = [scenario for scenario in SCENARIOS if _is_wanted(scenario, extent, only)]
    found = [replace(one, peers=tuple(peer for peer in one.peers if peer in peers)) for one in named]
    if not any(one.peers for one in found):
        raise BenchmarkError(f'no scenario is called {" or ".join(only or ())}, or it has other peers: --list tells')
    return [one for one in found if one.peers]


def left_out(scenarios: Sequence[Scenario]) -> str:
    """What else there is, in a line for people; empty when that is nothing."""
    names = sorted(set(PEERS) - {peer for one in scenarios for peer in one.peers})
    others = [one.name for one in SCENARIOS if one.name not in {found.name for found in scenarios}]
    parts = [f'{what}: {", ".join(some)}' for what, some in (('peers', names), ('scenarios', others)) if some]
    return f'not measured: {"; ".join(parts)}' if parts else ''


def _is_wanted(scenario: Scenario, extent: Extent, only: Sequence[str] | None) -> bool:
    if only is None:
        return scenario.extent <= extent
    return any(fnmatch(scenario.name, pattern) for pattern in only)


def _quick_peers() -> set[str]:
    figures = [figure for promise in PROMISES for figure in (promise.of, promise.over) if figure is not None]
    return {figure.peer for figure in figures if PEERS[figure.peer].needs is not prepare.go}
