"""Puts messages into the queue of a method that no worker takes."""

import asyncio
import sys

import nats
import uvloop
from nats.js.errors import NoStreamResponseError

WINDOW = 1000


async def main(url: str, subject: str, count: str) -> None:
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    while True:  # the worker declares the stream
        try:
            await jetstream.publish(subject, b'')
            break
        except NoStreamResponseError:
            await asyncio.sleep(0.1)
    for start in range(1, int(count), WINDOW):
        batch = range(start, min(start + WINDOW, int(count)))
        await asyncio.gather(*(jetstream.publish(subject, b'') for _ in batch))
    await connection.close()


uvloop.run(main(*sys.argv[1:]))
