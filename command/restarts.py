"""What becomes of a process that ended: when it is started again, and what its end means. No I/O."""

from __future__ import annotations

import signal
from collections.abc import Iterable

MOST = 256
"""Processes of one parent: more are a slip of the pen that would take the memory of the machine."""

YOUNG = 10.0
"""Seconds; a process that lived longer is started again at once."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""Seconds before one is started again that died young; doubled with each time in a row."""

HOPELESS = frozenset({2, 78})
"""Exit codes that another try does not change: the command line's, the configuration's."""


def early_deaths(before: int, lived: float) -> int:
    """How many times in a row it died young, now that it died after `lived` seconds."""
    return before + 1 if lived < YOUNG else 0


def pause(early: int) -> float:
    """Seconds before it is started again."""
    return min(FIRST_PAUSE * 2.0 ** min(early - 1, 30), LONGEST_PAUSE) if early else 0.0


def gives_up(code: int, *, ever_ready: bool) -> bool:
    """Whether to end with this exit code instead of trying again. What was ever ready can be so again."""
    return not ever_ready and code in HOPELESS


def told(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f'ended with exit code {code}'
    try:
        return f'was ended by {signal.Signals(-code).name}'
    except ValueError:
        return f'was ended by signal {-code}'


def clean(code: int) -> bool:
    """Whether a process that was asked to stop did so. Until Python has begun, the signal itself ends it."""
    return code in (0, -signal.SIGTERM)


def exit_code(codes: Iterable[int], *, insisted: int) -> int:
    """The parent's own, from those of its children and the signal that said `at once`, if one did."""
    if insisted:
        return 128 + insisted
    return 0 if all(map(clean, codes)) else 1
