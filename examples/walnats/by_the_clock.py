"""Jobs by the clock: a clock emits the time, actors choose which times are theirs. Run as many clocks as you like."""

import asyncio
from datetime import datetime

from natsgate.actors import Actor, Actors
from natsgate.actors.decorators import filter_time
from natsgate.events import Clock, Event, Events

CLOCK = Clock(event=Event('tick', datetime), period=0.5)  # the default is a minute
ticks: asyncio.Queue[datetime] = asyncio.Queue()


async def tick(moment: datetime) -> None:
    ticks.put_nowait(moment)


@filter_time(year=range(2000, 2010))
async def never(moment: datetime) -> None:
    print('these years are over')


ACTORS = Actors(Actor('tick', CLOCK.event, tick), Actor('never', CLOCK.event, never))


async def main() -> None:
    async with ACTORS.connect() as actors, Events(CLOCK.event).connect() as conn:
        await actors.register()
        listening = asyncio.create_task(actors.listen())
        running = [asyncio.create_task(CLOCK.run(conn)) for _ in range(2)]  # each tick counts once all the same
        first, second = await ticks.get(), await ticks.get()
        print(f'one tick, and {(second - first).total_seconds()} s later the next')
        for clock in running:
            clock.cancel()
        actors.stop()
        await listening


if __name__ == '__main__':
    asyncio.run(main())
