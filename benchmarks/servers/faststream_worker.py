"""The FastStream subscriber, with its defaults."""

import sys

import uvloop
from faststream import FastStream
from faststream.nats import NatsBroker
from shared import counter

count = counter()
broker = NatsBroker(sys.argv[1])


@broker.subscriber('bench-echo')
async def echo(message: bytes) -> bytes:
    count()
    return message


uvloop.run(FastStream(broker).run())
