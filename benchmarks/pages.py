"""Where the figures are told: docs/performance.md, between its markers, and the picture beside it."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import machine, picture, table
from benchmarks.failure import BenchmarkError
from benchmarks.peers import PEERS
from benchmarks.prepare import HERE
from benchmarks.report import Report
from benchmarks.scenarios import SCENARIOS

DOCS = HERE.parent / 'docs'
PAGE = DOCS / 'performance.md'
PICTURE = DOCS / 'performance.svg'


def write(report: Report) -> None:
    """Write page and picture. Raises BenchmarkError when the page lacks a marker."""
    PAGE.write_text(filled(PAGE.read_text(), parts(report)))
    PICTURE.write_text(picture.svg(picture.panels(report.found)))


def parts(report: Report) -> dict[str, str]:
    """What the page's markers stand for."""
    return {
        'promises': table.of_promises(report.verdicts),
        'peers': table.table(['peer', 'what it is'], [[peer.name, peer.about] for peer in PEERS.values()], left=2),
        'tables': tables(report),
        'made with': machine.header(report.about),
    }


def tables(report: Report) -> str:
    """A table for each scenario that was measured."""
    measured = {one.scenario for one in report.found}
    return '\n\n'.join(
        f'### {scenario.title}\n\n{table.of_scenario(scenario, report.found)}'
        for scenario in SCENARIOS
        if scenario.name in measured
    )


def filled(page: str, found: Mapping[str, str]) -> str:
    """The page with other text between its markers, `<!-- name -->` and `<!-- /name -->`. Pure."""
    for name, text in found.items():
        begin, end = f'<!-- {name} -->\n', f'<!-- /{name} -->'
        if page.count(begin) != 1 or page.count(end) != 1:
            raise BenchmarkError(f'the page should have one place {begin.strip()}, and its end')
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f'{before}{begin}\n{text}\n\n{end}{after}'
    return page
