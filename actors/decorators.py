"""Decorators for handlers: when they run, how often, and which failures do not matter.

They keep what the handler is: plain or async, with or without the context, and what it returns. Not for handlers that
yield.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeVar

from natsgate.events.status import ContractError

H = TypeVar('H', bound=Callable[..., Any])

_RANGES = {
    'year': range(2000, 10_000),
    'month': range(1, 13),
    'day': range(1, 32),
    'hour': range(24),
    'minute': range(60),
}


def filter_time(
    *,
    year: int | Iterable[int] | None = None,
    month: int | Iterable[int] | None = None,
    day: int | Iterable[int] | None = None,
    hour: int | Iterable[int] | None = None,
    minute: int | Iterable[int] | None = None,
    timezone: tzinfo = UTC,
) -> Callable[[H], H]:
    """Run the handler of a Clock's event only at these times; what is left out does not matter.

    `@filter_time(hour=0, minute=0, timezone=ZoneInfo('Europe/Berlin'))`: at midnight in Berlin. Raises ContractError
    for numbers that no time has.
    """
    wanted = {
        name: _numbers(name, value)
        for name, value in (('year', year), ('month', month), ('day', day), ('hour', hour), ('minute', minute))
        if value is not None
    }

    def matches(moment: datetime) -> bool:
        local = moment.astimezone(timezone)
        return all(getattr(local, name) in numbers for name, numbers in wanted.items())

    def decorate(handler: H) -> H:
        if _is_async(handler):

            async def run(moment: datetime, *more: Any) -> Any:
                return await handler(moment, *more) if matches(moment) else None

            return _like(handler, run)
        return _like(handler, lambda moment, *more: handler(moment, *more) if matches(moment) else None)

    return decorate


def _numbers(name: str, value: int | Iterable[int]) -> Collection[int]:
    numbers = frozenset((value,) if isinstance(value, int) else value)
    if not numbers or not numbers <= set(_RANGES[name]):
        raise ContractError(f'filter_time: {name}={value!r}: no time matches that')
    return numbers


def rate_limit(max_jobs: int, period: float) -> Callable[[H], H]:
    """Begin at most `max_jobs` runs in any `period` seconds, in this process; the others wait for their turn.

    A run that waits holds a slot of its actor, and its caller's deadline goes on.
    """
    if max_jobs < 1 or period <= 0:
        raise ContractError('rate_limit: max_jobs must be at least 1, period more than 0')
    begun: deque[float] = deque(maxlen=max_jobs)
    lock = threading.Lock()

    def waits() -> Iterator[float]:
        with lock:
            now = time.monotonic()
            begins = max(now, begun[0] + period) if len(begun) == max_jobs else now
            begun.append(begins)
        if begins > now:
            yield begins - now

    return lambda handler: _waiting(handler, waits)


def require(predicate: Callable[[], object], *, pause: float = 0.1) -> Callable[[H], H]:
    """Run the handler only while this holds; until it does, look again every `pause` seconds.

    For what must be there first: a connection to a database, say.
    """
    if pause <= 0:
        raise ContractError('require: pause must be more than 0')

    def waits() -> Iterator[float]:
        while not predicate():
            yield pause

    return lambda handler: _waiting(handler, waits)


def suppress(*errors: type[Exception], logger: logging.Logger | None = None) -> Callable[[H], H]:
    """Take these exceptions for success: the event is done, and the result is None. For listeners above all.

    `logger` gets them with their traceback; without one they go to that of the actors.
    """
    log = logger or logging.getLogger('natsgate.actors')

    def decorate(handler: H) -> H:
        name = getattr(handler, '__qualname__', repr(handler))
        if _is_async(handler):

            async def run(*arguments: Any) -> Any:
                try:
                    return await handler(*arguments)
                except errors:
                    log.warning('%s failed, which does not matter', name, exc_info=True)

            return _like(handler, run)

        def run_plain(*arguments: Any) -> Any:
            try:
                return handler(*arguments)
            except errors:
                log.warning('%s failed, which does not matter', name, exc_info=True)

        return _like(handler, run_plain)

    return decorate


def _waiting(handler: H, waits: Callable[[], Iterable[float]]) -> H:
    """The handler, which waits first: an async one without the event loop, a plain one in its thread."""
    if _is_async(handler):

        async def run(*arguments: Any) -> Any:
            for seconds in waits():
                await asyncio.sleep(seconds)
            return await handler(*arguments)

        return _like(handler, run)

    def run_plain(*arguments: Any) -> Any:
        for seconds in waits():
            time.sleep(seconds)
        return handler(*arguments)

    return _like(handler, run_plain)


def _is_async(handler: Callable[..., Any]) -> bool:
    call = getattr(handler, '__call__', None)  # noqa: B004  the method itself is wanted
    if inspect.isasyncgenfunction(handler) or inspect.isasyncgenfunction(call):
        raise ContractError(f'{handler!r} yields: these decorators are for handlers with one response')
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def _like(handler: H, run: Callable[..., Any]) -> H:
    """`run`, with the name and the signature of the handler: an actor reads both."""
    return functools.wraps(handler)(run)  # type: ignore[return-value]
