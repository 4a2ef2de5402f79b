"""Events: what may be asked over NATS, and asking it.

COUNT_WORDS = Event('count-words', str).with_response(int)

async with Events(COUNT_WORDS).connect() as conn:
    await conn.register()
    count = await conn.request(COUNT_WORDS, 'some random text')
"""

from natsgate.events.cloud_event import CloudEvent
from natsgate.events.connection import Connection, ConnectOptions
from natsgate.events.event import Event, EventWithResponse, Limits
from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata
from natsgate.events.monitor import Feed, Seen
from natsgate.events.registry import ConnectedEvents, Events
from natsgate.events.responses import Responses
from natsgate.events.serializers import Serializer, SerializerError
from natsgate.events.service import Service
from natsgate.events.status import Code, ContractError, Status, StatusError
from natsgate.events.ticks import Clock
from natsgate.events.wrappers import GzipSerializer, HmacSerializer

__all__ = [
    'Clock',
    'CloudEvent',
    'Code',
    'ConnectOptions',
    'ConnectedEvents',
    'Connection',
    'ContractError',
    'Event',
    'EventWithResponse',
    'Events',
    'Feed',
    'GzipSerializer',
    'HmacSerializer',
    'Kind',
    'Limits',
    'Metadata',
    'Responses',
    'Seen',
    'Serializer',
    'SerializerError',
    'Service',
    'Status',
    'StatusError',
]
