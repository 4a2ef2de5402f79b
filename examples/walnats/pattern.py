"""The pattern: an event with a response, an actor that answers it, a request that waits for the answer."""

import asyncio

from natsgate.actors import Actor, Actors
from natsgate.events import Event, Events

COUNT_WORDS = Event('count-words', str).with_response(int)


async def count_words(text: str) -> int:
    return len(text.split())


EVENTS = Events(COUNT_WORDS)
ACTORS = Actors(Actor('count-words', COUNT_WORDS, count_words))


async def main() -> None:
    async with ACTORS.connect() as actors, EVENTS.connect() as conn:
        await actors.register()
        listening = asyncio.create_task(actors.listen())
        print(await conn.request(COUNT_WORDS, 'some random text'))
        actors.stop()
        await listening


if __name__ == '__main__':
    asyncio.run(main())
