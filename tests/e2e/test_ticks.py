"""The clock: ticks at full periods, each once, however many clocks run."""

import asyncio
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from support import running_actors, until

from natsgate.actors import Actor, Actors, Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Clock, Code, ContractError, Event, Events, Limits, Status, StatusError
from natsgate.events.clock import BrokerClock
from natsgate.events.connection import Connection, ConnectOptions

TICK = Event('tick', datetime)


async def test_each_tick_counts_once(nats: EmbeddedNats) -> None:
    heard: list[datetime] = []
    clock = Clock(event=TICK, period=0.2, meta={'of': 'test'})
    contexts: list[Context] = []

    async def hear(moment: datetime, context: Context) -> None:
        heard.append(moment)
        contexts.append(context)

    async with (
        running_actors(nats.url, Actors(Actor('hear', TICK, hear))),
        Events(TICK).connect(nats.url) as one,
        Events(TICK).connect(nats.url) as other,
    ):
        await one.register()
        await other.register()
        running = [asyncio.create_task(clock.run(conn)) for conn in (one, other)]
        await until(lambda: len(heard) >= 5)
        for task in running:
            task.cancel()
    assert len(set(heard)) == len(heard)
    assert all(round(moment.timestamp() * 1e6) % 200_000 == 0 for moment in heard)
    assert heard[0].tzinfo is UTC or heard[0].utcoffset() == UTC.utcoffset(None)
    assert contexts[0].metadata == (('of', 'test'),)


async def test_a_tick_waits_for_nats(nats: EmbeddedNats, caplog: pytest.LogCaptureFixture) -> None:
    async with Events(TICK).connect(nats.url) as conn:
        ticking = asyncio.create_task(Clock(event=TICK, period=0.5).run(conn, burst=True))
        await until(lambda: 'is not emitted' in caplog.text)  # there is no stream yet
        await conn.register()
        async with conn.monitor() as feed, asyncio.timeout(5):
            ticking.cancel()
            burst = asyncio.create_task(Clock(event=TICK, period=0.5).run(conn, burst=True))
            assert isinstance((await anext(feed)).message, datetime)
            await burst


async def test_no_tick_is_left_out_while_others_fail(nats: EmbeddedNats, caplog: pytest.LogCaptureFixture) -> None:
    async with Events(TICK).connect(nats.url) as conn:  # there is no stream
        ticking = asyncio.create_task(Clock(event=TICK, period=0.5).run(conn))
        await until(lambda: len(_refused(caplog)) >= 3)
        ticking.cancel()
    moments = sorted(_refused(caplog))
    assert all((later - earlier).total_seconds() == 0.5 for earlier, later in pairwise(moments))


def _refused(caplog: pytest.LogCaptureFixture) -> set[datetime]:
    return {record.args[1] for record in caplog.records if record.name == 'natsgate.events'}


async def test_a_clock_that_is_late_repeats_no_tick(nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even after the stream has forgotten the tick's id, here after 0.2 s."""
    event = Event('tock', datetime, limits=Limits(age=0.2))
    heard: list[datetime] = []

    async def hear(moment: datetime) -> None:
        heard.append(moment)

    async with (
        running_actors(nats.url, Actors(Actor('hear', event, hear))),
        Events(event).connect(nats.url) as one,
        Events(event).connect(nats.url) as other,
    ):
        clock, emit = Clock(event=event, period=4), other.emit
        tried: list[str] = []

        async def fail_once(*arguments: Any, uid: str, **options: Any) -> None:
            tried.append(uid)
            if len(tried) == 1:
                raise StatusError(Status(Code.UNAVAILABLE, 'NATS is away'))
            await emit(*arguments, uid=uid, **options)

        monkeypatch.setattr(other, 'emit', fail_once)
        await asyncio.gather(*(clock.run(conn, burst=True) for conn in (one, other)))
        await one.emit(event, datetime.now(UTC), sync=True)
        await until(lambda: len(heard) >= 2)
    assert len(set(heard)) == len(heard) == 2


async def test_after_a_standstill_the_latest_tick_stands_for_all(nats: EmbeddedNats) -> None:
    async with Events(TICK).connect(nats.url) as conn:
        await conn.register()
        async with conn.monitor() as feed:
            ticking = asyncio.create_task(Clock(event=TICK, period=0.1).run(conn))
            before = (await anext(feed)).message
            time.sleep(1.2)  # noqa: ASYNC251  the whole process stands still
            after = [(await anext(feed)).message for _ in range(3)]
            ticking.cancel()
    assert (after[-1] - before).total_seconds() > 1


@pytest.mark.parametrize('offset', [-30, 30])
@pytest.mark.parametrize('known', [True, False])
async def test_a_clock_on_a_computer_whose_own_is_wrong(nats: EmbeddedNats, offset: int, known: bool) -> None:
    connection = Connection(
        ConnectOptions(servers=(nats.url,)), clock=BrokerClock(wall=lambda: time.time() + offset)
    )  # fmt: skip
    await connection.open()
    async with Events(TICK).connect(nats.url) as other, Events(TICK).connect(connection) as conn:
        if known:
            await other.register()
        ticking = asyncio.create_task(Clock(event=TICK, period=0.5).run(conn))
        if not known:  # it cannot be learnt before there is a stream
            await asyncio.sleep(0.1)
            await other.register()
        async with other.monitor() as feed, asyncio.timeout(8):
            while abs(time.time() - (await anext(feed)).message.timestamp()) > 10:
                assert not known
            ticking.cancel()


@pytest.mark.parametrize('period', [0, -1, 1e12, float('nan')])
def test_periods_that_are_none(period: float) -> None:
    with pytest.raises(ContractError, match='period'):
        Clock(event=TICK, period=period)
