"""The natsgate actors, as a user would write them: run by `natsgate work benchmarks_actors:ACTORS`."""

from collections.abc import AsyncIterator

import echo_pb2
from shared import REPEATS, Gate, counter

from natsgate.actors import Actor, Actors
from natsgate.events import Service

SERVICE = Service.of(echo_pb2, 'Echo')

count = counter()
gate = Gate()


async def unary(message: echo_pb2.Packet) -> echo_pb2.Packet:
    count()
    return echo_pb2.Packet(data=message.data)


async def repeat(message: echo_pb2.Packet) -> AsyncIterator[echo_pb2.Packet]:
    count()
    for _ in range(REPEATS):
        yield echo_pb2.Packet(data=message.data)


async def chat(messages: AsyncIterator[echo_pb2.Packet]) -> AsyncIterator[echo_pb2.Packet]:
    count()
    async for message in messages:
        yield echo_pb2.Packet(data=message.data)


async def wait(message: echo_pb2.Packet) -> echo_pb2.Packet:
    count()
    await gate.wait()
    return message


ACTORS = Actors(
    Actor('unary', SERVICE['Unary'], unary),
    Actor('repeat', SERVICE['Repeat'], repeat),
    Actor('chat', SERVICE['Chat'], chat),
    Actor('wait', SERVICE['Wait'], wait),
)
