"""The actors of a thousand methods, one consumer for each service: run by `natsgate work many_actors:ACTORS`."""

import many_pb2
from shared import counter

from natsgate.actors import Actor, Actors
from natsgate.events import Limits, Service

LIMITS = Limits(messages=200_000)  # of each method: one has 100,000 waiting

count = counter()


async def unary(message: many_pb2.Packet) -> many_pb2.Packet:
    count()
    return many_pb2.Packet(data=message.data)


SERVICES = [Service(found, limits=LIMITS) for found in many_pb2.DESCRIPTOR.services_by_name.values()]
ACTORS = Actors(
    *(
        Actor(f'{service.name}-{method}'.replace('.', '-'), event, unary, consumer=service.name.replace('.', '-'))
        for service in SERVICES
        for method, event in service.items()
        if method != 'Queued'
    )
)
