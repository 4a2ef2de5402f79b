"""Decorators: what a decorated handler does, and that an actor still knows what it is."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from natsgate.actors import Actor, Context, decorators
from natsgate.actors.decorators import filter_time, rate_limit, require, suppress
from natsgate.events import ContractError, Event

EVENT = Event('e', datetime).with_response(str)
NOON = datetime(2030, 1, 31, 12, 30, tzinfo=UTC)
ALL = (filter_time(hour=12), rate_limit(10, 1), require(lambda: True), suppress(KeyError))


def plain(moment: datetime, context: Context) -> str:
    return f'{moment:%H} {context.attempt}'


async def coroutine(moment: datetime, context: Context) -> str:
    return plain(moment, context)


async def result(handler: Callable[..., Any], *arguments: Any) -> Any:
    found = handler(*arguments)
    return await found if inspect.isawaitable(found) else found


@pytest.mark.parametrize('decorate', ALL)
@pytest.mark.parametrize('handler', [plain, coroutine])
async def test_a_handler_stays_what_it_is(decorate: Callable[[Any], Any], handler: Callable[..., Any]) -> None:
    decorated = decorate(handler)
    before, after = Actor('a', EVENT, handler), Actor('a', EVENT, decorated)
    assert (after.takes_context, after.is_async) == (True, before.is_async)
    assert decorated.__name__ == handler.__name__
    assert await result(decorated, NOON, Context(event=EVENT)) == '12 1'


@pytest.mark.parametrize('decorate', ALL)
def test_a_handler_that_yields_is_refused(decorate: Callable[[Any], Any]) -> None:
    async def stream(moment: datetime) -> AsyncIterator[str]:
        yield 'x'

    with pytest.raises(ContractError, match='yields'):
        decorate(stream)


@pytest.mark.parametrize(
    ('pattern', 'runs'),
    [
        ({}, True),
        ({'hour': 12}, True),
        ({'hour': 13}, False),
        ({'minute': range(0, 60, 5)}, True),
        ({'minute': range(0, 60, 7)}, False),
        ({'year': 2030, 'month': 1, 'day': (30, 31)}, True),
        ({'hour': 13, 'timezone': ZoneInfo('Europe/Berlin')}, True),
        ({'day': 1, 'month': 2, 'timezone': ZoneInfo('Pacific/Auckland')}, True),
    ],
)
@pytest.mark.parametrize('handler', [plain, coroutine])
async def test_times(pattern: dict[str, Any], runs: bool, handler: Callable[..., Any]) -> None:
    found = await result(filter_time(**pattern)(handler), NOON, Context(event=EVENT))
    assert (found is not None) is runs


@pytest.mark.parametrize('pattern', [{'hour': 24}, {'minute': -1}, {'month': 0}, {'day': ()}, {'year': 30}])
def test_times_that_never_come(pattern: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match='no time matches'):
        filter_time(**pattern)


async def test_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs begin two in a second; time is ours."""
    now, slept = [100.0], []
    monkeypatch.setattr(decorators.time, 'monotonic', lambda: now[0])

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    monkeypatch.setattr(decorators.asyncio, 'sleep', sleep)
    limited = rate_limit(2, 1)(coroutine)
    for _ in range(5):
        await limited(NOON, Context(event=EVENT))
    assert slept == [1, 1, 2]
    now[0] += 10
    await limited(NOON, Context(event=EVENT))
    assert slept == [1, 1, 2]


async def test_what_is_required() -> None:
    ready = threading.Event()
    tasks = [
        asyncio.create_task(require(ready.is_set, pause=0.01)(coroutine)(NOON, Context(event=EVENT))),
        asyncio.create_task(asyncio.to_thread(require(ready.is_set, pause=0.01)(plain), NOON, Context(event=EVENT))),
    ]
    done, _ = await asyncio.wait(tasks, timeout=0.05)
    assert not done
    ready.set()
    assert await asyncio.gather(*tasks) == ['12 1', '12 1']


async def test_failures_that_do_not_matter(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(error: Exception) -> None:
        raise error

    def fail_plainly(error: Exception) -> None:
        raise error

    for handler in (fail, fail_plainly):
        decorated = suppress(KeyError, OSError)(handler)
        assert await result(decorated, KeyError('x')) is None
        assert await result(decorated, FileNotFoundError('x')) is None
        with pytest.raises(ValueError, match='x'):
            await result(decorated, ValueError('x'))
    assert caplog.text.count('does not matter') == 4


@pytest.mark.parametrize('wrong', [lambda: rate_limit(0, 1), lambda: rate_limit(1, 0), lambda: require(bool, pause=0)])
def test_options_that_cannot_be(wrong: Callable[[], Any]) -> None:
    with pytest.raises(ContractError):
        wrong()
