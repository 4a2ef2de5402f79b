"""The natsgate actor, as a user would write it: run by `natsgate work benchmarks_actors:ACTORS`."""

import echo_pb2
from counter import counter

from natsgate.actors import Actor, Actors
from natsgate.events import Service

SERVICE = Service.of(echo_pb2, 'Echo')

count = counter()


async def echo(message: echo_pb2.Packet) -> echo_pb2.Packet:
    count()
    return echo_pb2.Packet(data=message.data)


ACTORS = Actors(Actor('echo', SERVICE['Unary'], echo))
