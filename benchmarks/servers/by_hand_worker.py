"""The other end of by_hand.py: answers each message of core NATS with itself."""

import asyncio
import sys

import nats
import uvloop
from nats.aio.msg import Msg
from shared import counter

count = counter()


async def main(url: str) -> None:
    connection = await nats.connect(url)

    async def echo(message: Msg) -> None:
        count()
        await connection.publish(message.reply, message.data)

    await connection.subscribe('echo', cb=echo)
    await asyncio.Event().wait()


uvloop.run(main(*sys.argv[1:]))
