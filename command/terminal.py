"""Terminal: text for people."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def harmless(line: str) -> str:
    """A line of others' text, without what a terminal would obey."""
    return line if line.isprintable() else ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
