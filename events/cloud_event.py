"""CloudEvents: what an event says about itself in the terms of CloudEvents 1.0, as `ce-*` headers (NATS binding)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from urllib.parse import quote_from_bytes

from natsgate.events.status import ContractError

_SAFE = bytes(range(0x21, 0x7F)).replace(b'"', b'').replace(b'%', b'')


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """The context attributes of a CloudEvent. Its id is the event's id on its stream, unless another one is given."""

    id: str
    """Unique within the source."""
    source: str
    """Where it happened: a URI reference."""
    type: str
    """What happened, for example `com.example.order.placed`."""
    specversion: str = '1.0'
    datacontenttype: str | None = None
    dataschema: str | None = None
    subject: str | None = None
    time: datetime | None = None
    """When it happened, with a timezone."""
    dataref: str | None = None
    partitionkey: str | None = None
    sampledrate: int | None = None
    sequence: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    def __post_init__(self) -> None:
        for name in ('id', 'source', 'type', 'specversion'):
            if not getattr(self, name):
                raise ContractError(f'CloudEvent: {name} must not be empty')
        if self.time is not None and self.time.tzinfo is None:
            raise ContractError('CloudEvent: time has no timezone; give one, for example datetime.now(UTC)')

    def headers(self) -> tuple[tuple[str, str], ...]:
        """The attributes that are set, as headers; values percent-encoded as the binding wants it."""
        found = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None:
                text = value.isoformat() if isinstance(value, datetime) else str(value)
                found.append((f'ce-{each.name}', quote_from_bytes(text.encode(), safe=_SAFE)))
        return tuple(found)
