"""The clock: ticks at full periods, each once, however many clocks run."""

import asyncio
from datetime import UTC, datetime

import pytest
from support import running_actors, until

from natsgate.actors import Actor, Actors, Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Clock, ContractError, Event, Events

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


@pytest.mark.parametrize('period', [0, -1, 1e12, float('nan')])
def test_periods_that_are_none(period: float) -> None:
    with pytest.raises(ContractError, match='period'):
        Clock(event=TICK, period=period)
