"""A puller that stops: an event that the server gives to a pull request which is called off reaches nobody."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from natsgate.actors import Actor
from natsgate.actors.consumer import BRIEFLY, PULL_EXPIRES, Consumer
from natsgate.actors.puller import Puller
from natsgate.events import Event
from natsgate.events.connection import Connection
from natsgate.events.dispatcher import OnMsg

EVENT = Event('e', 'e', str)
SECOND = 1_000_000_000


class Server:
    """What a puller needs of a connection, and what it says there."""

    inbox, connected = 'inbox', True

    def __init__(self) -> None:
        self.on_connected: list[Callable[[], None]] = []
        self.asked: list[tuple[int, float]] = []
        """Batch, and seconds that it waits."""
        self.subscribed = False
        self.sequence = 0

    async def subscribe(self, subject: str, on_msg: OnMsg) -> int:
        self.on_msg, self.subscribed = on_msg, True
        return 1

    def unsubscribe(self, sid: int) -> None:
        self.subscribed = False

    def forget(self, sid: int) -> None: ...

    def offer(self, frame: bytes) -> bool:
        body = json.loads(frame.split(b'\r\n')[1])
        self.asked.append((body['batch'], body['expires'] / SECOND))
        return True

    def give(self) -> None:
        """An event, which reaches nobody who is not subscribed."""
        assert self.subscribed
        self.sequence += 1
        self.on_msg(b'e', b'$JS.ACK.s.c.1.%d.%d.0.0' % (self.sequence, self.sequence), None, b'')

    def end(self, missing: int) -> None:
        """A pull request has waited long enough."""
        self.on_msg(b'inbox', b'', b'NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: %d\r\n\r\n' % missing, b'')


async def opened(server: Server, taken: list[int]) -> Puller:
    async def declare(_: Consumer) -> None: ...

    source = Consumer('c', (Actor('c', EVENT, print),))
    puller = Puller(cast(Connection, server), source, declare=declare, burst=False)

    def take(reply: bytes, delivery: Any, header: bytes | None, payload: bytes) -> None:
        taken.append(delivery.sequence)
        puller.finished()

    puller.takers[b'e'] = take
    await puller.open()
    return puller


def ends_at_once(coroutine: Coroutine[Any, Any, None]) -> bool:
    """Whether it waits for nothing."""
    with pytest.raises(StopIteration):
        coroutine.send(None)
    return True


async def test_few_are_asked_for_and_for_long_until_events_keep_coming() -> None:
    server, taken = Server(), list[int]()
    puller = await opened(server, taken)
    assert server.asked == [(16, PULL_EXPIRES)]
    for _ in range(20):
        server.give()
    assert server.asked[-1][1] == BRIEFLY
    assert puller.credit.promised > 16
    puller.stop()
    await puller.drain(0)


async def test_one_that_idles_stops_at_once() -> None:
    server = Server()
    puller = await opened(server, [])
    server.give()
    puller.stop()
    assert ends_at_once(puller.drain(25))
    assert not server.subscribed


@pytest.mark.parametrize('answered', ['with events', 'with nothing'])
async def test_what_was_asked_for_ends_before_nothing_more_is_sent(answered: str) -> None:
    server, taken = Server(), list[int]()
    puller = await opened(server, taken)
    for _ in range(20):
        server.give()
    asked, promised = len(server.asked), puller.credit.promised
    puller.stop()
    draining = asyncio.create_task(puller.drain(25))
    await asyncio.sleep(0)
    for _ in range(promised - 1):
        server.give()
        await asyncio.sleep(0)
    if answered == 'with events':
        server.give()
    else:
        server.end(missing=1)
    await draining
    assert not server.subscribed
    assert len(taken) == 20 + promised - (answered == 'with nothing')
    assert len(server.asked) == asked


async def test_a_server_that_does_not_end_them_is_not_waited_for() -> None:
    server = Server()
    puller = await opened(server, [])
    for _ in range(20):
        server.give()
    puller.stop()
    await puller.drain(25)
    assert not server.subscribed
