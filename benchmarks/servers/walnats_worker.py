"""The walnats actor: with its defaults, or with `tuned` with the two options that make it three times faster."""

import sys

import uvloop
from shared import counter
from walnats import Actor, Actors, Events
from walnats_event import ECHO

JOBS = 256  # twice the calls in flight: no call waits for a slot
BATCH = 64

count = counter()


async def echo(message: bytes) -> bytes:
    count()
    return message


async def main(nats: str, options: str = 'defaults') -> None:
    tuned = options == 'tuned'
    actor = Actor('bench-echo', ECHO, echo, **({'max_jobs': JOBS} if tuned else {}))
    async with Events(ECHO).connect(nats) as connection, Actors(actor).connect(nats) as actors:
        await connection.register()
        await actors.register()
        await actors.listen(**({'max_jobs': JOBS, 'batch': BATCH} if tuned else {}))


uvloop.run(main(*sys.argv[1:]))
