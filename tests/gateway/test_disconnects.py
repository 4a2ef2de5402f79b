"""Disconnects: a client that has gone away is noticed, whichever way its server tells it, and asking stays cheap."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from natsgate.gateway.disconnects import AT_ONCE, EVERY, Disconnects, Event

NOTHING: Event = {'type': 'http.request', 'body': b'', 'more_body': False}
GONE: Event = {'type': 'http.disconnect'}


class AtOnce:
    """A server that answers at once, for ever, with a future of its own that it sets whatever becomes of it."""

    def __init__(self) -> None:
        self.asked = 0
        self.gone = False
        self.futures: list[asyncio.Future[Event]] = []

    def __call__(self) -> asyncio.Future[Event]:
        self.asked += 1
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.futures.append(future)
        loop.call_later(0.001, self._answer, future)
        return future

    def _answer(self, future: asyncio.Future[Event]) -> None:
        self.futures.remove(future)
        future.set_result(GONE if self.gone else NOTHING)  # InvalidStateError, were it cancelled

    def go(self) -> None:
        self.gone = True


class AtTheEnd:
    """A server that answers when the client goes."""

    def __init__(self) -> None:
        self.asked = self.running = 0
        self._gone = asyncio.Event()

    async def __call__(self) -> Event:
        self.asked += 1
        self.running += 1
        try:
            await self._gone.wait()
        finally:
            self.running -= 1
        return GONE

    def go(self) -> None:
        self._gone.set()


class Broken(AtTheEnd):
    """A server that raises instead."""

    async def __call__(self) -> Event:
        await super().__call__()
        raise OSError('the connection is closed')


Server = AtOnce | AtTheEnd
EITHER = pytest.mark.parametrize('server', [AtOnce, AtTheEnd])
ANY = pytest.mark.parametrize('server', [AtOnce, AtTheEnd, Broken])


@asynccontextmanager
async def looking() -> AsyncIterator[Disconnects]:
    """Disconnects that look, and leave nothing: no task, and no error in a callback."""
    loop, errors = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda loop, context: errors.append(context))
    before = asyncio.all_tasks()
    disconnects = Disconnects()
    disconnects.open()
    yield disconnects
    disconnects.close()
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before
    assert not errors


class Call:
    """A call that waits."""

    def __init__(self, disconnects: Disconnects, server: Server) -> None:
        self.server = server
        self._disconnects = disconnects
        self.task = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        waiting = self._disconnects.add(self.server, task)
        try:
            await asyncio.sleep(60)
        finally:
            self._disconnects.discard(waiting)

    async def seen(self) -> float:
        """Let the client go; seconds until the call is cancelled for it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.server.go()
        async with asyncio.timeout(2):
            await asyncio.wait({self.task})
        assert self.task.cancelled()
        return loop.time() - began

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})


@ANY
async def test_a_client_that_goes_is_noticed(server: Callable[[], Server]) -> None:
    async with looking() as disconnects:
        call = Call(disconnects, server())
        await asyncio.sleep(4 * EVERY)
        assert not call.task.done()
        assert await call.seen() < 5 * EVERY


@ANY
async def test_one_that_goes_at_once_is_noticed(server: Callable[[], Server]) -> None:
    async with looking() as disconnects:
        assert await Call(disconnects, server()).seen() < 5 * EVERY


@EITHER
async def test_with_200_others(server: Callable[[], Server]) -> None:
    async with looking() as disconnects:
        calls = [Call(disconnects, server()) for _ in range(220)]
        await asyncio.sleep(5 * EVERY)
        times = [await call.seen() for call in calls[:20]]
        assert statistics.median(times) < 0.1
        assert not any(call.task.done() for call in calls[20:])
        await asyncio.gather(*(call.end() for call in calls[20:]))


async def test_most_calls_are_never_asked() -> None:
    """They are over before."""
    servers = []
    async with looking() as disconnects:
        for _ in range(100):
            call = Call(disconnects, server := AtOnce())
            await asyncio.sleep(0.001)
            await call.end()
            servers.append(server)
    assert not any(server.asked for server in servers)


async def test_a_round_asks_no_more_than_so_many() -> None:
    async with looking() as disconnects:
        calls = [Call(disconnects, AtOnce()) for _ in range(1000)]
        rounds: list[int] = []
        asked: Callable[[], int] = lambda: sum(call.server.asked for call in calls)  # noqa: E731
        await asyncio.sleep(3 * EVERY)
        loop = asyncio.get_running_loop()
        began, before = loop.time(), asked()
        await asyncio.sleep(20 * EVERY)
        rounds.append(asked() - before)
        assert 0 < rounds[0] <= AT_ONCE * ((loop.time() - began) / EVERY + 1)
        counts = [call.server.asked for call in calls]
        assert max(counts) - min(counts) <= 1, 'in turn'
        await asyncio.gather(*(call.end() for call in calls))


async def test_calls_that_are_over_take_no_turn() -> None:
    async with looking() as disconnects:
        over = [Call(disconnects, AtOnce()) for _ in range(1000)]
        last = Call(disconnects, AtOnce())
        await asyncio.sleep(3 * EVERY)
        await asyncio.gather(*(call.end() for call in over))
        assert await last.seen() < 5 * EVERY


@EITHER
async def test_a_call_that_ends_while_it_is_asked(server: Callable[[], Any]) -> None:
    """What asked is gone with it, and the server's answer finds nobody, which is no error."""
    async with looking() as disconnects:
        call = Call(disconnects, server())
        while not call.server.asked:
            await asyncio.sleep(0)
        await call.end()
        await asyncio.sleep(0.01)
        assert not getattr(call.server, 'running', 0)
        assert not getattr(call.server, 'futures', [])


@pytest.mark.parametrize('answer', [NOTHING, GONE])
async def test_a_call_that_ends_between_the_answer_and_its_callback(answer: Event) -> None:
    async with looking() as disconnects:
        futures: list[asyncio.Future[Event]] = []

        def receive() -> asyncio.Future[Event]:
            futures.append(asyncio.get_running_loop().create_future())
            return futures[-1]

        task = asyncio.create_task(asyncio.sleep(60))
        waiting = disconnects.add(receive, task)
        while not futures:
            await asyncio.sleep(0)
        futures[0].set_result(answer)
        disconnects.discard(waiting)
        await asyncio.sleep(3 * EVERY)
        assert len(futures) == 1
        assert not task.done()
        task.cancel()
        await asyncio.wait({task})


@EITHER
async def test_whoever_looks_no_more_asks_no_more(server: Callable[[], Any]) -> None:
    async with looking() as disconnects:
        call = Call(disconnects, server())
        while not call.server.asked:
            await asyncio.sleep(0)
        disconnects.close()
        await asyncio.sleep(0.01)
        before = call.server.asked
        await asyncio.sleep(4 * EVERY)
        assert call.server.asked == before
        await call.end()
