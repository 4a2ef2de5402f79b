"""The picture: bars, as SVG, for light and dark pages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import isnan

from benchmarks import table
from benchmarks.measure import Measurement
from benchmarks.running import PARTS
from benchmarks.scenarios import BUSY, ONE_BY_ONE, Scenario
from benchmarks.verdicts import middle

_WIDTH, _LABEL, _VALUE, _ROW, _BAR, _HEAD = 760, 150, 90, 22, 14, 44
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 15px }
  .quiet { fill: #656d76 }
  .ours { font-weight: 600 }
  .front { fill: #0969da } .broker { fill: #8250df } .worker { fill: #1a7f37 } .other { fill: #8c959f }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9198a1 }
    .front { fill: #4493f8 } .broker { fill: #ab7df8 } .worker { fill: #3fb950 } .other { fill: #6e7681 }
  }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A peer's bar: its parts from left to right, by their class."""

    peer: str
    parts: Sequence[tuple[str, float]]

    @property
    def value(self) -> float:
        """How long it is."""
        return sum(value for _, value in self.parts)


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars that are compared."""

    title: str
    note: str
    bars: Sequence[Bar]
    digits: int = 0
    legend: Sequence[str] = ()
    """The classes of parts that are explained."""


def panels(found: Sequence[Measurement]) -> list[Panel]:
    """What the picture shows of what was measured; nothing of what was not."""
    shown = [
        Panel('Calls per second', 'more is better; unary, 16 B, 128 in flight', _bars(BUSY, found, 'rate')),
        Panel('CPU per call, µs', 'less is better:', _stacked(BUSY, found), legend=PARTS),
        Panel('One call at a time, p50 in ms', 'less is better', _bars(ONE_BY_ONE, found, 'p50_ms'), digits=2),
    ]
    return [panel for panel in shown if panel.bars]


def svg(shown: Sequence[Panel]) -> str:
    """The picture."""
    lines, top = [], 0
    for panel in shown:
        lines += _panel(panel, top)
        top += _HEAD + _ROW * len(panel.bars) + _ROW
    size = f'viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return '\n'.join([head, f'<title>natsgate beside its peers</title>\n<style>{_STYLE}</style>', *lines, '</svg>\n'])


def _panel(panel: Panel, top: int) -> list[str]:
    words = ''.join(
        f'<tspan class="{kind}" dx="8">■</tspan><tspan class="quiet"> {kind}</tspan>' for kind in panel.legend
    )
    lines = [
        f'<text x="0" y="{top + 20}" class="title">{escape(panel.title)}</text>',
        f'<text x="{_WIDTH}" y="{top + 20}" class="quiet" text-anchor="end">{escape(panel.note)}{words}</text>',
    ]
    longest = max(bar.value for bar in panel.bars)
    scale = (_WIDTH - _LABEL - _VALUE) / longest if longest else 0
    for number, bar in enumerate(panel.bars):
        lines += _bar(bar, top + _HEAD + number * _ROW, scale, panel.digits)
    return lines


def _bar(bar: Bar, y: int, scale: float, digits: int) -> list[str]:
    ours = ' class="ours"' if bar.peer.startswith('natsgate') else ''
    lines = [f'<text x="{_LABEL - 8}" y="{y + 2}" text-anchor="end"{ours}>{escape(bar.peer)}</text>']
    x = float(_LABEL)
    for kind, value in bar.parts:
        width = value * scale
        lines.append(f'<rect x="{x:.1f}" y="{y - 9}" width="{width:.1f}" height="{_BAR}" class="{kind}"/>')
        x += width
    return [*lines, f'<text x="{x + 6:.1f}" y="{y + 2}" class="quiet">{table.number(bar.value, digits)}</text>']


def _bars(scenario: Scenario, found: Sequence[Measurement], value: str) -> list[Bar]:
    bars = []
    for peer in scenario.peers:
        length = middle(found, scenario.name, peer, value)
        if not isnan(length):
            bars.append(Bar(peer, [('front' if peer.startswith('natsgate') else 'other', length)]))
    return bars


def _stacked(scenario: Scenario, found: Sequence[Measurement]) -> list[Bar]:
    bars = []
    for peer in scenario.peers:
        parts = [(part, middle(found, scenario.name, peer, f'{part}_us')) for part in PARTS]
        if known := [(part, value) for part, value in parts if not isnan(value)]:
            bars.append(Bar(peer, known))
    return bars
