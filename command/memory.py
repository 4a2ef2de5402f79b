"""Memory: how often a serving process looks for garbage, and when it gives memory back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from typing import Protocol

_LOOK_EVERY = 5.0
_MANY = 1000


def serve_long(*, young: int) -> None:
    """What is loaded stays: it is looked at no more. What each call makes is freed without any looking.

    `young`: how many new objects begin a search. By default it is 700, and each call in flight is some twenty, none of
    which needs it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, 20, 20)


class Calls(Protocol):
    """Whose memory it is."""

    in_flight: int
    most_in_flight: int


async def give_back(calls: Calls, *, every: float = _LOOK_EVERY) -> None:
    """Give memory back to the system when the calls are over that took it, for as long as this runs.

    What is freed, the allocator keeps for the next calls; that is looked at after a thousand or more in flight, when
    there were few of them for all the time from one look to the next: `every` seconds.
    """
    most = 0
    while True:
        await asyncio.sleep(every)
        lately, calls.most_in_flight = calls.most_in_flight, calls.in_flight
        most = max(most, lately)
        if most >= _MANY and lately < most // 10:
            gc.collect()
            _trim()
            most = lately


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc's alone
    if trim is not None:
        trim(0)
