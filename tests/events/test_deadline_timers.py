"""Deadlines: whoever lasts is ended in time, and nothing is kept of who does not."""

import asyncio

import pytest

from natsgate.events.clock import BrokerClock
from natsgate.events.deadlines import YOUNG, Deadlines
from natsgate.events.pending import Destination, Pending

DESTINATION = Destination(subject='s', stream='s', target='t')


class Requests:
    """Those that wait, and when they were ended."""

    def __init__(self) -> None:
        self.waiting: dict[bytes, Pending] = {}
        self.late: dict[bytes, float] = {}
        self.clock = BrokerClock()
        self.deadlines = Deadlines(self.waiting, self.clock, expire=self._expire)

    def begin(self, token: bytes, timeout: float) -> Pending:
        pending = Pending(DESTINATION, token, b'r', b'f', asyncio.get_running_loop().create_future())
        pending.deadline = self.clock.now() + timeout
        self.waiting[token] = pending
        self.deadlines.watch(pending, timeout)
        return pending

    def _expire(self, pending: Pending) -> None:
        del self.waiting[pending.token]
        self.late[pending.token] = self.clock.now() - pending.deadline


@pytest.mark.parametrize('timeout', [0.01, 2 * YOUNG, 3 * YOUNG])
async def test_who_lasts_is_ended_at_its_deadline(timeout: float) -> None:
    requests = Requests()
    requests.begin(b'a', timeout)
    await asyncio.sleep(timeout / 2)
    requests.begin(b'b', timeout)
    async with asyncio.timeout(5):
        while len(requests.late) < 2:
            await asyncio.sleep(0.005)
    assert all(late > -0.005 for late in requests.late.values())
    requests.deadlines.close()


async def test_who_ends_at_once_has_no_timer() -> None:
    requests = Requests()
    ended, waits = requests.begin(b'a', 10), requests.begin(b'b', 10)
    del requests.waiting[b'a']
    async with asyncio.timeout(5):
        while waits.timer is None:
            await asyncio.sleep(0.005)
    assert ended.timer is None
    waits.timer.cancel()


async def test_nothing_is_looked_at_after_the_end() -> None:
    requests = Requests()
    waits = requests.begin(b'a', 10)
    requests.deadlines.close()
    await asyncio.sleep(2 * YOUNG)
    assert waits.timer is None
