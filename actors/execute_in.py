"""Where a handler runs, and whether it can run there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import Enum
from typing import Any

JOBS = 64
"""How many events an actor works on at a time in one process, unless told otherwise."""


class ExecuteIn(Enum):
    """Where a handler runs."""

    LOOP = 'loop'
    """In the event loop: an async one, or a plain one that neither waits nor computes for long."""
    THREAD = 'thread'
    """In a thread: a plain one that waits."""
    PROCESS = 'process'
    """In a process of its own: a plain one that computes. Found there by its module and name."""


class ProcessDied(Exception):  # noqa: N818
    """The process that ran a handler ended by itself: killed for its memory, or by its own crash."""


def default_of(*, is_async: bool) -> ExecuteIn:
    """Where a handler runs that nobody has said anything about. Pure."""
    return ExecuteIn.LOOP if is_async else ExecuteIn.THREAD


def jobs_of(where: ExecuteIn) -> int:
    """How many at a time, unless told otherwise: processes that compute are no faster than there are cores."""
    return _cores() if where is ExecuteIn.PROCESS else JOBS


def _cores() -> int:
    """Those that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def objection(where: ExecuteIn, handler: Callable[..., Any], *, is_async: bool, streams: bool) -> str:
    """Why this handler cannot run there; empty if it can."""
    if streams and where is not ExecuteIn.LOOP:
        return f'a streaming call cannot run in a {where.value}: put what blocks into one with asyncio.to_thread'
    if is_async and where is not ExecuteIn.LOOP:
        return f'an async handler runs in the event loop; make it a plain def to run it in a {where.value}'
    if where is ExecuteIn.PROCESS:
        return _unfindable(handler)
    return ''


def _unfindable(handler: Callable[..., Any]) -> str:
    """A process finds a handler by its name, so it has to have one, in a module that can be imported."""
    module, name = getattr(handler, '__module__', None), getattr(handler, '__qualname__', None)
    if not module or not name:
        return 'a process finds the handler by its name, and it has none; make it a function of a module'
    if module == '__main__':
        return 'a process imports the module of the handler, and this one is the program itself; put it into another'
    if find(module, name) is not handler:
        return f'a process finds the handler by its name, and {module}.{name} is not it; make it a function of a module'
    return ''


def find(module: str, name: str) -> Any:
    """What has this name in an imported module; None if nothing has."""
    found: Any = sys.modules.get(module)
    for part in name.split('.'):
        found = getattr(found, part, None)
    return found
