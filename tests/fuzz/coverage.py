"""What an input reaches in our code: from which line to which, and after how few steps or many."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any

from fuzz.target import Target

_OURS = ('/events/', '/actors/', '/gateway/')


def reached(target: Target, data: bytes) -> set[object]:
    """The steps from line to line, with the magnitude of how often each was done."""
    steps: Counter[tuple[str, int, int]] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not any(folder in name for folder in _OURS) or '/tests/' in name:
            return None
        last = frame.f_lineno

        def in_frame(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            steps[name, last, frame.f_lineno] += 1
            last = frame.f_lineno
            return in_frame

        return in_frame

    sys.settrace(trace)
    try:
        target.check(data)
    finally:
        sys.settrace(None)
    return {(*step, count.bit_length()) for step, count in steps.items()}
