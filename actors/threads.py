"""Threads: plain code runs in them. Nobody can stop it there: a run that is cancelled goes on to its end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from natsgate.actors.context import Context


class Pool:
    """Threads, up to a number. Other than those of ThreadPoolExecutor they hold up no program that wants to end: what
    still runs then was given back, and is run elsewhere.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._free_to_start = threads
        self._name = name
        self._idle = threading.Semaphore(0)
        self._work: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have it run as soon as a thread is free. To be called from the event loop."""
        future: Future[Any] = Future()
        self._work.put((future, function, arguments))
        if not self._idle.acquire(blocking=False) and self._free_to_start:
            self._free_to_start -= 1
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        return future

    def close(self) -> None:
        """End the threads, each when it has nothing more to run."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, function, arguments = work
            if future.set_running_or_notify_cancel():
                try:
                    result = function(*arguments)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del work, future, function, arguments  # nothing is kept while it waits
            self._idle.release()
        self._work.put(None)  # for the next one


async def in_thread(pool: Pool, context: Context, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a thread of the pool, with this task's context variables. `context` is told which run it is."""
    context.thread = pool.submit(contextvars.copy_context().run, _call, function, *arguments)
    try:
        return await asyncio.wrap_future(context.thread)
    finally:
        if context.thread.done():  # it holds the exception, whose traceback holds the context, and the message
            context.thread = None


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (StopIteration, KeyboardInterrupt) as error:  # no future carries the one, the other would stop the loop
        raise RuntimeError(f'the handler raised {type(error).__name__}') from error
