"""Threads: plain code runs in them. Nobody can stop it there: a run that is cancelled goes on to its end."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from natsgate.actors.context import Context


async def in_thread(pool: Executor, context: Context, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a thread of the pool, with this task's context variables. `context` is told which run it is."""
    context.thread = pool.submit(contextvars.copy_context().run, _call, function, *arguments)
    return await asyncio.wrap_future(context.thread)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (StopIteration, KeyboardInterrupt) as error:  # no future carries the one, the other would stop the loop
        raise RuntimeError(f'the handler raised {type(error).__name__}') from error
