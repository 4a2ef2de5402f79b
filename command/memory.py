"""Memory: how often a serving process looks for garbage."""

from __future__ import annotations

import gc

_YOUNG = 10_000


def serve_long() -> None:
    """What is loaded stays: it is looked at no more. What each call makes is freed without any looking.

    Calls in flight are many young objects that live for a moment; by default, 700 of them begin a search.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
