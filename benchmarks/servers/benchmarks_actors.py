"""The natsgate actors, as a user would write them: run by `natsgate work benchmarks_actors:ACTORS`."""

from collections.abc import AsyncIterator

import echo_pb2
from shared import REPEATS, Gate, counter

from natsgate.actors import Actor, Actors
from natsgate.events import Limits, Service

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


def actors(service: Service) -> Actors:
    return Actors(
        Actor('unary', service['Unary'], unary),
        Actor('repeat', service['Repeat'], repeat),
        Actor('chat', service['Chat'], chat),
        Actor('wait', service['Wait'], wait),
    )


ACTORS = actors(Service.of(echo_pb2, 'Echo'))
WIDE = actors(Service.of(echo_pb2, 'Echo', limits=Limits(messages=100_000)))
