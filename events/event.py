"""Event: a declared message on NATS, and the same with a response."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, TypeVar

from natsgate.events import subjects, walnats
from natsgate.events.kind import Kind
from natsgate.events.serializers import Serializer, serializer_for
from natsgate.events.status import ContractError

T = TypeVar('T')
R = TypeVar('R')


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much an event's stream holds. What is None is not limited. A full stream refuses: nothing is dropped.

    Raises ContractError for a number that is no limit: to NATS, 0 would be none at all.
    """

    age: float | None = None
    """Seconds after which an event that nobody took is removed."""
    consumers: int | None = None
    """How many actors may take the event."""
    messages: int | None = None
    """How many events may wait; the next one is refused with RESOURCE_EXHAUSTED."""
    bytes: int | None = None
    """How many bytes may wait, headers included."""
    message_size: int | None = None
    """Bytes of the largest event, headers included."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            kinds = int | float if each.name == 'age' else int
            if value is not None and not (isinstance(value, kinds) and 0 < value < math.inf):
                what = 'a number' if each.name == 'age' else 'a whole number'
                raise ContractError(f'limit {each.name}={value!r}: {what} above 0, or None for no limit')

    def evolve(self, **changes: Any) -> Limits:
        """A copy with some limits changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Event(Generic[T]):
    """A message of one type under one name. Declare it once, share it between those who emit and those who listen."""

    name: str
    """The subject on NATS, and (with `=` for `.`) the stream. Choose carefully: it cannot be changed later."""
    schema: type[T]
    """The type of the message; it chooses the serializer."""
    serializer: Serializer[T] | None = field(default=None, compare=False)
    """How a message becomes bytes; None chooses by the schema."""
    description: str = field(default='', kw_only=True)
    """Shown in the stream's configuration."""
    limits: Limits = field(default=Limits(), kw_only=True)
    """What the event's stream holds."""
    walnats: bool = field(default=False, kw_only=True)
    """Shared with programs that use walnats: its stream and its headers. A full stream then drops the oldest."""

    def __post_init__(self) -> None:
        subjects.checked_event_name(self.name, 'event')
        if self.name.startswith(subjects.SERVICE_PREFIX):
            raise ContractError(
                f'event {self.name!r}: subjects below {subjects.SERVICE_PREFIX!r} belong to gRPC services; '
                f"take the event from its service, for example Service.of(words_pb2, 'Words')['Count']"
            )
        if self.serializer is None:
            object.__setattr__(self, 'serializer', _serializer(self.name, self.schema, self.walnats))

    @property
    def subject_name(self) -> str:
        """Where the event is published."""
        return self.name

    @property
    def stream_name(self) -> str:
        """The stream that holds the event until its actors have taken it."""
        return walnats.stream_of(self.name) if self.walnats else subjects.stream_of(self.name)

    def encode(self, message: T) -> bytes:
        """The message as bytes. Raises SerializerError."""
        assert self.serializer is not None
        return self.serializer.encode(message)

    def decode(self, data: bytes) -> T:
        """The message in these bytes. Raises SerializerError."""
        assert self.serializer is not None
        return self.serializer.decode(data)

    def with_response(
        self, schema: type[R], serializer: Serializer[R] | None = None, *, kind: Kind = Kind.UNARY
    ) -> EventWithResponse[T, R]:
        """The same event, for actors that answer it and callers that wait for the answer.

        `kind` says who sends more than one message; such an event is asked with stream(). Raises ContractError for an
        event that walnats shares and that streams, which it cannot.
        """
        if self.walnats and kind is not Kind.UNARY:
            raise ContractError(f'event {self.name!r}: walnats knows no streaming calls; leave walnats=True out')
        return EventWithResponse(
            subject_name=self.subject_name,
            stream_name=self.stream_name,
            target=self.name,
            schema=self.schema,
            serializer=self.serializer or serializer_for(self.schema),
            response_schema=schema,
            response_serializer=serializer or _serializer(self.name, schema, self.walnats),
            description=self.description,
            limits=self.limits,
            kind=kind,
            walnats=self.walnats,
        )


def _serializer(name: str, schema: type[T], walnats: bool) -> Serializer[T]:
    try:
        return serializer_for(schema, walnats=walnats)
    except ContractError as error:
        raise ContractError(f'event {name!r}: {error}') from error


@dataclass(frozen=True, slots=True, kw_only=True)
class EventWithResponse(Generic[T, R]):
    """An event whose actors answer. Made by Event.with_response() and by Service, not by hand."""

    subject_name: str
    """Where the request is published."""
    stream_name: str
    """The stream that holds the request."""
    target: str
    """Who may answer: the part of the reply subject that an actor checks before it publishes there."""
    schema: type[T]
    """The type of the request."""
    response_schema: type[R]
    """The type of the response."""
    serializer: Serializer[T] = field(compare=False)
    """How a request becomes bytes."""
    response_serializer: Serializer[R] = field(compare=False)
    """How a response becomes bytes."""
    description: str = ''
    """Shown in the stream's configuration."""
    limits: Limits = Limits()
    """What the stream holds."""
    service: str | None = None
    """The gRPC service that the event is a method of: it shares the service's work-queue stream."""
    kind: Kind = Kind.UNARY
    """Who streams."""
    walnats: bool = False
    """Shared with programs that use walnats."""
    idempotent: bool = False
    """Running it twice does no harm: what may have run is then reported as UNAVAILABLE, which invites a retry."""

    @property
    def name(self) -> str:
        """What the event is called in logs and ids: its subject."""
        return self.subject_name

    def encode(self, message: T) -> bytes:
        """The request as bytes. Raises SerializerError."""
        return self.serializer.encode(message)

    def decode(self, data: bytes) -> T:
        """The request in these bytes. Raises SerializerError."""
        return self.serializer.decode(data)

    def encode_response(self, message: R) -> bytes:
        """The response as bytes. Raises SerializerError."""
        return self.response_serializer.encode(message)

    def decode_response(self, data: bytes) -> R:
        """The response in these bytes. Raises SerializerError."""
        return self.response_serializer.decode(data)


AnyEvent = Event[Any] | EventWithResponse[Any, Any]
"""Either declaration."""
