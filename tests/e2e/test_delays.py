"""Delayed events: when they come, under which id, and what they survive."""

import asyncio
import math
import time
from typing import Any

import pytest
from support import connect, running_actors, until, words_service

from natsgate.actors import Actor, Actors, Context
from natsgate.actors.emitter import Emitter
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import CloudEvent, ContractError, Event, Events, Limits, StatusError, delays
from natsgate.events.clock import BrokerClock
from natsgate.events.connection import Connection, ConnectOptions
from natsgate.events.streams import StreamOptions

REMIND = Event('remind.me', str)


class Heard:
    """What a handler was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.contexts: list[Context] = []

    async def __call__(self, text: str, context: Context) -> None:
        self.texts.append(text)
        self.contexts.append(context)

    def actors(self, **options: Any) -> Actors:
        return Actors(Actor('hear', REMIND, self, **options))


async def state(nats: EmbeddedNats, stream: str = delays.STREAM) -> dict[str, Any]:
    connection = await connect(nats.url)
    found: dict[str, Any] = (await connection.api(f'STREAM.INFO.{stream}'))['state']
    await connection.close()
    return found


async def test_it_comes_when_it_is_due_and_not_before(nats: EmbeddedNats) -> None:
    heard = Heard()
    async with running_actors(nats.url, heard.actors()), Events(REMIND).connect(nats.url) as conn:
        await conn.emit(
            REMIND, 'later', delay=0.6, uid='u', trace_id='t', meta=CloudEvent(id='c', source='s', type='t')
        )
        await conn.emit(REMIND, 'sooner', delay=0.3)
        await conn.emit(REMIND, 'now', sync=True, delay=0)
        await until(lambda: len(heard.texts) == 3)
    assert heard.texts == ['now', 'sooner', 'later']
    context = heard.contexts[2]
    assert (context.id, context.attempt, context.metadata) == ('remind.me:u', 1, (('trace-id', 't'),))
    assert heard.contexts[1].id.startswith('remind.me:')
    assert (await state(nats))['messages'] == 0


async def test_what_waits_takes_no_slot_and_no_worker(nats: EmbeddedNats) -> None:
    heard = Heard()
    actors = heard.actors(max_jobs=1, max_ack_pending=1)
    async with running_actors(nats.url, actors), Events(REMIND).connect(nats.url) as conn:
        await asyncio.gather(*(conn.emit(REMIND, 'next year', delay=366 * 86400) for _ in range(500)))
        await conn.emit(REMIND, 'now')
        await until(lambda: heard.texts)
    assert heard.texts == ['now']
    assert (await state(nats))['messages'] == 500
    assert (await state(nats, 'remind=me'))['messages'] == 0


async def test_many_that_are_due_at_once(nats: EmbeddedNats) -> None:
    heard = Heard()
    async with running_actors(nats.url, heard.actors()), Events(REMIND).connect(nats.url) as conn:
        await asyncio.gather(*(conn.emit(REMIND, str(number), delay=0.5) for number in range(1000)))
        await until(lambda: len(heard.texts) == 1000, 20)
    assert len(set(heard.texts)) == 1000


async def test_it_survives_the_crash_of_everything(nats: EmbeddedNats) -> None:
    heard = Heard()
    async with running_actors(nats.url, heard.actors()), Events(REMIND).connect(nats.url) as conn:
        await conn.emit(REMIND, 'kept', delay=0.4)
    await nats.kill()
    await nats.start()
    async with running_actors(nats.url, heard.actors()):
        await until(lambda: heard.texts, 10)
    assert heard.texts == ['kept']


async def test_the_same_id_counts_once_and_the_later_word_wins(nats: EmbeddedNats) -> None:
    heard = Heard()
    async with running_actors(nats.url, heard.actors()), Events(REMIND).connect(nats.url) as conn:
        await conn.emit(REMIND, 'at first', delay=86400, uid='one')
        await conn.emit(REMIND, 'then', delay=0.3, uid='one')
        await until(lambda: heard.texts)
        await conn.emit(REMIND, 'again', uid='one', sync=True)
        await conn.emit(REMIND, 'end')
        await until(lambda: 'end' in heard.texts)
    assert heard.texts == ['then', 'end']
    assert (await state(nats))['messages'] == 0


async def test_a_crash_between_emitting_and_acknowledging_doubles_nothing(
    nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delays, 'ACK_WAIT', 0.3)
    heard = Heard()
    async with running_actors(nats.url, heard.actors()) as actors, Events(REMIND).connect(nats.url) as conn:
        offer, lost = actors.connection.offer, []

        def lose_the_first(frame: bytes) -> bool:
            if f'$JS.ACK.{delays.STREAM}'.encode() in frame and not lost:
                lost.append(frame)
                return True
            return offer(frame)

        monkeypatch.setattr(actors.connection, 'offer', lose_the_first)
        await conn.emit(REMIND, 'once', delay=0.1)
        await until(lambda: lost)
        connection = await connect(nats.url)
        while (await connection.api(f'STREAM.INFO.{delays.STREAM}'))['state']['messages']:
            await asyncio.sleep(0.05)
        await connection.close()
        await conn.emit(REMIND, 'end')
        await until(lambda: 'end' in heard.texts)
    assert heard.texts == ['once', 'end']


async def test_one_of_the_workers_emits_it(nats: EmbeddedNats) -> None:
    heard = Heard()
    async with (
        running_actors(nats.url, heard.actors()),
        running_actors(nats.url, heard.actors()),
        Events(REMIND).connect(nats.url) as conn,
    ):
        await asyncio.gather(*(conn.emit(REMIND, str(number), delay=0.2) for number in range(50)))
        await until(lambda: len(heard.texts) == 50)
        await conn.emit(REMIND, 'end')
        await until(lambda: 'end' in heard.texts)
    assert len(heard.texts) == 51


async def test_what_is_due_is_in_a_burst(nats: EmbeddedNats) -> None:
    heard = Heard()
    other = Actor('other', Event('never.delayed', str), Heard())
    async with Actors(other, *heard.actors()).connect(nats.url) as actors, Events(REMIND).connect(nats.url) as conn:
        await actors.register()
        await asyncio.gather(*(conn.emit(REMIND, str(number), delay=0.1) for number in range(50)))
        await conn.emit(REMIND, 'later', delay=60)
        while (await conn.connection.api(f'CONSUMER.INFO.{delays.STREAM}.remind=me'))['num_pending'] < 50:
            await asyncio.sleep(0.02)
        await actors.listen(burst=True)
    assert len(heard.texts) == 50
    assert 'later' not in heard.texts


async def test_a_burst_that_waits_for_what_is_due_can_be_cancelled(
    nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    async def always(self: Emitter, stream: str) -> int:
        looks.append(stream)
        return 1

    monkeypatch.setattr(Emitter, '_pending', always)
    async with Heard().actors().connect(nats.url) as actors:
        await actors.register()
        listening = asyncio.create_task(actors.listen(burst=True))
        await until(lambda: looks)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening


async def test_a_method_can_wait_too(nats: EmbeddedNats) -> None:
    from demo.v1 import words_pb2

    heard: list[str] = []
    count = words_service()['Count']

    async def hear(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        heard.append(request.text)
        return words_pb2.CountResponse()

    async with running_actors(nats.url, Actors(Actor('count', count, hear))), Events(count).connect(nats.url) as conn:
        await conn.emit(count, words_pb2.CountRequest(text='x'), delay=0.1)
        await until(lambda: heard)


@pytest.mark.parametrize('delay', [-1, math.nan, math.inf, 1e12])
async def test_delays_that_are_none(nats: EmbeddedNats, delay: float) -> None:
    async with Events(REMIND).connect(nats.url) as conn:
        with pytest.raises(ContractError, match='delay'):
            await conn.emit(REMIND, 'x', delay=delay)


async def test_a_full_queue_takes_it_later_and_one_that_never_could_is_given_up(
    nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delays, 'ACK_WAIT', 0.2)
    event = Event('narrow', str, limits=Limits(messages=1, message_size=500))
    go_on = asyncio.Event()
    heard: list[str] = []

    async def hear(text: str) -> None:
        heard.append(text)
        await go_on.wait()

    async with (
        running_actors(nats.url, Actors(Actor('hear', event, hear, max_jobs=1))),
        Events(event).connect(nats.url) as conn,
    ):
        await conn.emit(event, 'first', sync=True)
        await until(lambda: heard)
        await conn.emit(event, 'x' * 1000, delay=0.1)
        await until(lambda: 'is refused by its stream: RESOURCE_EXHAUSTED: too large' in caplog.text)
        await conn.emit(event, 'second', delay=0.1)
        connection = await connect(nats.url)
        while (await connection.api(f'CONSUMER.INFO.{delays.STREAM}.narrow'))['num_redelivered'] == 0:
            await asyncio.sleep(0.02)
        await connection.close()
        go_on.set()
        await until(lambda: len(heard) == 2)
    assert heard == ['first', 'second']


async def test_what_is_put_among_the_due_by_others(nats: EmbeddedNats, caplog: pytest.LogCaptureFixture) -> None:
    """An event of another subject, one without an id, one without headers: terminated, and the next one is emitted."""
    heard = Heard()
    async with running_actors(nats.url, heard.actors()), Events(REMIND).connect(nats.url) as conn:
        await conn.emit(REMIND, 'first', delay=0.05)
        await until(lambda: heard.texts)
        for event, lines in (('other', 'Natsgate-Id: x\r\n'), ('remind.me', 'Foo: x\r\n'), ('remind.me', '')):
            block = f'NATS/1.0\r\n{lines}\r\n'.encode() if lines else b''
            await conn.connection.request(f'_DELAY.due.remind=me.{event}.{len(lines)}', b'"x"', header=block)
        told: list[bytes] = []
        await conn.connection.subscribe('elsewhere', lambda subject, reply, header, payload: told.append(payload))
        conn.connection.write(b'PUB _EMIT.remind=me elsewhere 1\r\nx\r\n')
        await conn.emit(REMIND, 'second', delay=0.05)
        await until(lambda: len(heard.texts) == 2)
        assert not told
    assert caplog.text.count('is not emitted') == 3
    assert (await state(nats))['messages'] == 0


async def test_it_waits_as_the_events_are_stored(nats: EmbeddedNats) -> None:
    async with Events(REMIND).connect(nats.url) as conn:
        await conn.register(options=StreamOptions(storage='memory'))
        await conn.emit(REMIND, 'x', delay=60)
        info = await conn.connection.api(f'STREAM.INFO.{delays.STREAM}')
    assert (info['config']['storage'], info['config']['num_replicas']) == ('memory', 1)


@pytest.mark.parametrize('offset', [-30, 30])
@pytest.mark.parametrize('shared', [False, True])
async def test_a_producer_whose_clock_is_wrong(nats: EmbeddedNats, offset: int, shared: bool) -> None:
    """Neither its delays nor its deadlines are; it has declared no stream, which would have told it the time."""
    event = Event('remind', str, walnats=shared).with_response(str)
    came: list[float] = []

    async def remind(text: str) -> str:
        came.append(time.monotonic())
        return text

    clock = BrokerClock(wall=lambda: time.time() + offset)
    async with running_actors(nats.url, Actors(Actor('remind', event, remind))):
        connection = Connection(ConnectOptions(servers=(nats.url,)), clock=clock)
        await connection.open()
        async with Events(event).connect(connection) as conn:
            assert await conn.request(event, 'x', timeout=5) == 'x'
            began = time.monotonic()
            await conn.emit(event, 'x', delay=0.5)
            await until(lambda: len(came) == 2)
    assert came[1] - began >= 0.5


async def test_a_stream_that_is_gone_is_made_again(nats: EmbeddedNats) -> None:
    heard = Heard()
    async with running_actors(nats.url, heard.actors()), Events(REMIND).connect(nats.url) as conn:
        await conn.emit(REMIND, 'next year', delay=366 * 86400)
        await conn.connection.api(f'STREAM.DELETE.{delays.STREAM}')
        await conn.emit(REMIND, 'soon', delay=0.1)
        await until(lambda: heard.texts)
    assert heard.texts == ['soon']


async def test_without_nats_it_is_said_at_once(nats: EmbeddedNats) -> None:
    async with Events(REMIND).connect(nats.url) as conn:
        await nats.kill()
        await until(lambda: not conn.connection.connected)
        with pytest.raises(StatusError, match='NATS is away'):
            await conn.emit(REMIND, 'x', delay=1)


PERMISSIONS = """
authorization { users = [
  { user: producer, password: p, permissions: {
      publish: ["_DELAY.held.remind=me.>", "$JS.API.STREAM.CREATE.natsgate-delayed"
                "$JS.API.CONSUMER.CREATE.natsgate-delayed.remind=me.>", "_PRESENCE.>"]
      subscribe: ["_INBOX_producer.>", "_REPLY.producer.>", "_PRESENCE.>"]
  } }
  { user: worker, password: p, permissions: {
      publish: ["remind.me", "$JS.ACK.natsgate-delayed.>", "$JS.ACK.remind=me.>", "_PRESENCE.>"
                "$JS.API.STREAM.*.remind=me", "$JS.API.CONSUMER.*.remind=me.>", "$JS.API.CONSUMER.MSG.NEXT.remind=me.>"
                "$JS.API.STREAM.CREATE._DEAD"]
      subscribe: ["_EMIT.remind=me", "_INBOX_worker.>", "_CALL.worker.>", "_PRESENCE.>", "_CANCEL.>"
                  "$JS.EVENT.ADVISORY.>"]
  } }
] }
"""


async def test_the_permissions_that_delays_need(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    async with EmbeddedNats(config=PERMISSIONS) as nats:
        user = {'user': 'producer', 'password': 'p'}
        producer = await connect(nats.url, name='producer', auth=user)
        async with (
            running_actors(nats.url, heard.actors(), name='worker', auth=user | {'user': 'worker'}),
            Events(REMIND).connect(producer) as conn,
        ):
            await conn.emit(REMIND, 'x', delay=0.1)
            await until(lambda: heard.texts)
    assert 'ermission' not in caplog.text
