"""The outbox: one for all actors of a process, each with events of its own."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from natsgate.actors import outbox as module
from natsgate.actors.consumer import Delivery
from natsgate.actors.outbox import Outbox
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import wire
from natsgate.events.connection import Connection, ConnectOptions, open_connection

FIRST, DOTTED = b'words.count.', b'words.count.of.words.'
DELIVERY = Delivery(2, 1, b'1790000000000000000')


@pytest.fixture
async def connection(nats: EmbeddedNats) -> AsyncIterator[Connection]:
    connection = await open_connection(ConnectOptions(servers=(nats.url,)), timeout=10)
    yield connection
    await connection.close()


@pytest.fixture
async def outbox(connection: Connection) -> AsyncIterator[Outbox]:
    outbox = Outbox(connection)
    await outbox.open()
    yield outbox
    outbox.close()


def send(outbox: Outbox, connection: Connection, name: bytes, payload: bytes, *, sequence: int = 1) -> None:
    now = connection.clock.now()
    delivery = Delivery(1, sequence, DELIVERY.stored)
    outbox.send(b'answers.' + payload, wire.OK_BLOCK, payload, name=name, delivery=delivery, now=now, deadline=now + 60)


async def test_events_of_two_actors_with_one_sequence(outbox: Outbox, connection: Connection) -> None:
    came: list[bytes] = []
    await connection.subscribe('answers.*', lambda subject, reply, header, payload: came.append(payload))
    send(outbox, connection, FIRST, b'one')
    send(outbox, connection, DOTTED, b'other')
    assert outbox.answer_again(FIRST, DELIVERY)
    assert outbox.answer_again(DOTTED, DELIVERY)
    outbox.repeat(b'answers.one')
    assert not outbox.answer_again(b'words.ponder.', DELIVERY)
    assert not outbox.answer_again(FIRST, Delivery(2, 1, b'of a stream that was made anew'))
    await connection.synced()
    assert came == [b'one', b'other', b'one', b'other', b'one']


async def test_what_nobody_took_is_published_again(outbox: Outbox, connection: Connection) -> None:
    send(outbox, connection, FIRST, b'one')
    send(outbox, connection, DOTTED, b'other')
    await connection.synced()
    came: asyncio.Queue[bytes] = asyncio.Queue()
    await connection.subscribe('answers.*', lambda subject, reply, header, payload: came.put_nowait(payload))
    async with asyncio.timeout(5):
        assert {await came.get(), await came.get()} == {b'one', b'other'}


async def test_what_is_kept_is_bounded_for_all_together(
    outbox: Outbox, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, 'KEEP_COUNT', 3)
    for sequence in range(1, 6):
        send(outbox, connection, b'words.count%d.' % sequence, b'%d' % sequence, sequence=sequence)
    known = [
        outbox.answer_again(b'words.count%d.' % sequence, Delivery(2, sequence, DELIVERY.stored))
        for sequence in range(1, 6)
    ]
    assert known == [False, False, True, True, True]
