"""Emitting: publish an event that nobody's response is waited for, with or without the stream's word that it has it."""

from __future__ import annotations

from natsgate.events import walnats, wire
from natsgate.events.connection import Connection, Disconnected, NoResponders
from natsgate.events.failures import Failure, failed
from natsgate.events.metadata import MetadataError
from natsgate.events.pending import Destination
from natsgate.events.publishing import Again, Refused, read_ack, too_large
from natsgate.events.status import StatusError


def encoded(destination: Destination, head: wire.RequestHead, extra: str) -> bytes:
    """The header block of an event. Raises StatusError for metadata that must not travel."""
    encode = walnats.encode_request if destination.walnats else wire.encode_request
    try:
        return encode(head, extra=extra)
    except MetadataError as error:
        response = failed(Failure.BAD_METADATA, str(error))
        raise StatusError(response.status) from error


def write(connection: Connection, subject: str, block: bytes, payload: bytes) -> None:
    """Publish, and be done. Raises StatusError for what is too large, Disconnected."""
    size = _checked_size(connection, block, payload)
    connection.write(b'HPUB %b %d %d\r\n%b%b\r\n' % (subject.encode(), len(block), size, block, payload))


async def store(connection: Connection, subject: str, stream: str, block: bytes, payload: bytes) -> None:
    """Publish, and wait until the stream has it. Raises StatusError when it does not, or does not say."""
    _checked_size(connection, block, payload)
    try:
        header, data = await connection.request(subject, payload, header=block)
        ack = read_ack(header, data, stream=stream, seen=False)
    except NoResponders:
        text = f'no stream takes the event: {stream} is not there; register() makes it'
        ack = Refused(failed(Failure.NO_STREAM, text, stream=stream))
    except Disconnected as error:
        ack = Refused(failed(Failure.DISCONNECTED, f'NATS is away: {error}'))
    except TimeoutError:
        ack = Refused(failed(Failure.PUBLISH_UNCERTAIN, f'stream {stream} did not acknowledge'))
    match ack:
        case Again(refusal) | Refused(refusal):
            raise StatusError(refusal.status)


def _checked_size(connection: Connection, block: bytes, payload: bytes) -> int:
    size = len(block) + len(payload)
    if (refusal := too_large(size, connection.max_payload)) is not None:
        raise StatusError(refusal.status)
    return size
