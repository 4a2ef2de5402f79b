"""Memory: how often a serving process looks for garbage, and when it gives memory back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Callable

_YOUNG = 10_000
_LOOK_EVERY = 5.0
_MANY = 1000


def serve_long() -> None:
    """What is loaded stays: it is looked at no more. What each call makes is freed without any looking.

    Calls in flight are many young objects that live for a moment; by default, 700 of them begin a search.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)


async def give_back(in_flight: Callable[[], int]) -> None:
    """Give memory back to the system when the calls are over that took it, for as long as this runs.

    What is freed, the allocator keeps for the next calls; that is looked at after a thousand or more in flight.
    """
    most = 0
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        now = in_flight()
        most = max(most, now)
        if most >= _MANY and now < most // 10:
            gc.collect()
            _trim()
            most = now


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc's alone
    if trim is not None:
        trim(0)
