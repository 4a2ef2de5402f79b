"""Events that wait: emitted now, handled when they are due. And what tracing and other tools learn of them."""

import asyncio

from natsgate.actors import Actor, Actors, Context
from natsgate.events import CloudEvent, Event, Events

REMIND = Event('remind', str)
done = asyncio.Event()


async def remind(text: str, context: Context) -> None:
    print(f'{text} ({context.get("trace-id")})')
    if text == 'later':
        done.set()


ACTORS = Actors(Actor('remind', REMIND, remind))


async def main() -> None:
    async with ACTORS.connect() as actors, Events(REMIND).connect() as conn:
        await actors.register()
        listening = asyncio.create_task(actors.listen())
        about = CloudEvent(id='r-1', source='/examples', type='com.example.reminder')
        await conn.emit(REMIND, 'later', delay=0.5, trace_id='t-1', meta=about)
        await conn.emit(REMIND, 'at once', trace_id='t-2')
        await done.wait()
        actors.stop()
        await listening


if __name__ == '__main__':
    asyncio.run(main())
