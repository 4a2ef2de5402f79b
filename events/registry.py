"""Events: the events that a program emits, and the same once connected."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from natsgate.events import emitting, wire
from natsgate.events.cloud_event import CloudEvent
from natsgate.events.connection import Connection, ConnectOptions, open_connection
from natsgate.events.delays import Delays, checked_delay
from natsgate.events.event import AnyEvent, Event, EventWithResponse
from natsgate.events.failures import Failure, failed
from natsgate.events.interest import InterestWatch
from natsgate.events.kind import Kind
from natsgate.events.metadata import TRACE_ID, Metadata, is_traceparent
from natsgate.events.monitor import Feed, Seen, read
from natsgate.events.pending import Destination
from natsgate.events.presence import PresenceWatch
from natsgate.events.requester import Requester
from natsgate.events.responses import Responses, decoded
from natsgate.events.sampling import keep_sampled, sample
from natsgate.events.status import Code, ContractError, StatusError
from natsgate.events.streams import StreamOptions, check_types, declare, is_interest, limits_of
from natsgate.events.wire import Response

T = TypeVar('T')
R = TypeVar('R')

DEFAULT_SERVER = 'nats://127.0.0.1:4222'

_SAMPLED_WITHIN = 1.0
_KEYED = 1000
_KEYED_FOR = 60.0

Server = str | Sequence[str] | Connection | None
"""Where NATS is: a URL, several of one cluster, an open connection, or None for $NATS_SERVER, else $NATS_URL."""


class Events:
    """The events that a program emits or asks. Inert; connect() makes it live."""

    def __init__(self, *events: AnyEvent) -> None:
        """Raises ContractError when two events of one stream declare different limits."""
        limits_of(events)
        check_types(events)
        self._events = events

    def get(self, name: str) -> AnyEvent | None:
        """The event of this name, or None."""
        return next((event for event in self._events if event.name == name), None)

    def __iter__(self) -> Iterator[AnyEvent]:
        return iter(self._events)

    @asynccontextmanager
    async def connect(
        self, server: Server = None, close: bool = True, *, timeout: float | None = 30
    ) -> AsyncIterator[ConnectedEvents]:
        """Connect to NATS, waiting `timeout` seconds for it (None: for ever).

        A connection given as `server` is closed at the end too, unless `close` is False. Raises TimeoutError when
        NATS stays away, PermissionError when it refuses the credentials.
        """
        connection = await connected(server, timeout=timeout)
        answered = [event for event in self._events if isinstance(event, EventWithResponse)]
        presence = PresenceWatch(connection, map(destination_of, answered))
        timed = sorted({one.stream_name for one in self._events if isinstance(one, EventWithResponse) or one.walnats})
        clock: asyncio.Task[None] | None = None
        try:
            requester = Requester(connection, presence=presence)
            await requester.open()
            await presence.open()
            if not connection.clock.sampled:  # the first deadlines would be those of this computer's clock
                await sample(connection, timed, timeout=_SAMPLED_WITHIN)
            clock = asyncio.create_task(keep_sampled(connection, timed), name='events/clock')
            yield ConnectedEvents(connection, requester, self._events)
        finally:
            if clock is not None:
                clock.cancel()
            requester.close()
            presence.close()
            if close:
                await connection.close()


async def connected(server: Server, *, timeout: float | None) -> Connection:
    """The connection that `server` stands for; without one, $NATS_SERVER says it, else $NATS_URL, as for `natsgate`.

    Raises as Events.connect().
    """
    if isinstance(server, Connection):
        return server
    if server is None:
        server = os.environ.get('NATS_SERVER') or os.environ.get('NATS_URL') or DEFAULT_SERVER
    servers = (server,) if isinstance(server, str) else tuple(server)
    return await open_connection(ConnectOptions(servers=servers), timeout=timeout)


class ConnectedEvents:
    """Events with a connection: register, emit, request."""

    def __init__(self, connection: Connection, requester: Requester, events: Sequence[AnyEvent]) -> None:
        self.connection = connection
        self._requester = requester
        self._destinations = {event.subject_name: destination_of(event) for event in events}
        self._events = tuple(events)
        self._keyed: dict[str, asyncio.Task[Response]] = {}
        self._delays = Delays(connection)
        InterestWatch(connection, requester)

    async def register(self, *, create: bool = True, update: bool = True, options: StreamOptions | None = None) -> None:
        """Create the events' streams that are not there, bring the others to the declared limits.

        Raises ContractError when the server cannot do it.
        """
        self._delays.options = options or StreamOptions()
        await declare(self.connection, self._events, options=self._delays.options, create=create, update=update)

    async def emit(
        self,
        event: Event[T] | EventWithResponse[T, Any],
        message: T,
        *,
        uid: str | None = None,
        trace_id: str | None = None,
        delay: float | None = None,
        meta: CloudEvent | Mapping[str, str] | None = None,
        sync: bool = False,
    ) -> None:
        """Publish an event; nobody's response is waited for.

        `uid`: an event of the same id is stored once within the stream's window of 60 s. `trace_id`: a W3C
        traceparent, or any text. `meta`: a CloudEvent (its id is the uid unless one is given) or metadata.
        `sync`: wait until the stream has stored it; raises StatusError when it does not. `delay`: seconds for which
        the event waits before any actor gets it, in a stream of its own; it is always stored before this returns, and
        an event of the same id that waits already is replaced.
        """
        if isinstance(event, EventWithResponse) and event.kind is not Kind.UNARY:
            raise ContractError(f'event {event.name}: it streams ({event.kind}); make the call with stream()')
        destination = self._destination(event)
        uid, pairs, extra = _described(uid, trace_id, meta)
        head = wire.RequestHead(id=destination.id_of(uid) if uid else '', metadata=pairs)
        payload = event.encode(message)
        if delay:
            if not destination.walnats:
                await self._delays.hold(destination, head, extra, payload, delay=checked_delay(delay))
                return
            clock = self.connection.clock  # its actors themselves wait until then
            head = head._replace(due=clock.to_broker(clock.now() + checked_delay(delay)))
        block = emitting.encoded(destination, head, extra)
        if sync:
            await emitting.store(self.connection, destination.subject, destination.stream, block, payload)
        else:
            emitting.write(self.connection, destination.subject, block, payload)

    async def request(
        self,
        event: EventWithResponse[T, R],
        message: T,
        *,
        uid: str | None = None,
        trace_id: str | None = None,
        meta: CloudEvent | Mapping[str, str] | None = None,
        timeout: float = 4,
    ) -> R:
        """Publish an event and wait for an actor's response.

        `timeout`, in seconds, bounds all of it: publishing, waiting in the queue, the handler, the way back. A second
        request of the same `uid` on this connection waits for the first one's response. Raises StatusError with
        what the handler answered or what went wrong, and at once where that is known at once.
        """
        if event.kind is not Kind.UNARY:
            raise ContractError(f'event {event.name}: it streams ({event.kind}); ask it with stream()')
        response = await self.ask(event, event.encode(message), uid=uid, trace_id=trace_id, meta=meta, timeout=timeout)
        if response.status.code is not Code.OK:
            raise StatusError(response.status, initial=response.initial, trailing=response.trailing)
        return decoded(event, response.payload)

    async def ask(
        self,
        event: EventWithResponse[Any, Any],
        payload: bytes,
        *,
        uid: str | None = None,
        trace_id: str | None = None,
        meta: CloudEvent | Mapping[str, str] | None = None,
        timeout: float = 4,
    ) -> Response:
        """The same as request(), in bytes: with status and metadata, and nothing raised for a failure."""
        destination = self._destination(event)
        uid, pairs, extra = _described(uid, trace_id, meta)
        deadline = self.connection.clock.now() + timeout
        if uid is None:
            return await self._requester.ask(destination, payload, deadline=deadline, metadata=pairs, extra=extra)
        key = f'{destination.subject}:{uid}'
        if (task := self._keyed.get(key)) is None:
            asking = self._requester.ask(
                destination, payload, deadline=deadline, metadata=pairs, call_id=uid, extra=extra
            )
            task = self._keyed[key] = asyncio.create_task(asking, name=f'events/{key}')
            asyncio.get_running_loop().call_later(_KEYED_FOR, self._keyed.pop, key, None)
            while len(self._keyed) > _KEYED:
                self._keyed.pop(next(iter(self._keyed)))
        done, _ = await asyncio.wait({task}, timeout=timeout)
        return task.result() if done else failed(Failure.DEADLINE, 'the deadline has passed')

    def stream(
        self,
        event: EventWithResponse[Any, R],
        message: Any,
        *,
        uid: str | None = None,
        trace_id: str | None = None,
        meta: CloudEvent | Mapping[str, str] | None = None,
        timeout: float | None = None,
        take_within: float = 60,
    ) -> Responses[R]:
        """Make a streaming call. An event that takes many messages is given an iterable of them, plain or async.

        Iterate over what is returned; an event with one response gives that one. `timeout` bounds the whole call;
        None leaves it open. `take_within`: seconds that it may wait for an actor. Raises StatusError at once for what
        is known to fail.
        """
        if event.kind is Kind.UNARY:
            raise ContractError(f'event {event.name}: it does not stream; ask it with request()')
        destination = self._destination(event)
        uid, pairs, extra = _described(uid, trace_id, meta)
        many = event.kind is not Kind.SERVER_STREAMING
        call = self._requester.stream(
            destination,
            b'' if many else event.encode(message),
            event.kind,
            deadline=None if timeout is None else self.connection.clock.now() + timeout,
            take_within=take_within,
            metadata=pairs,
            call_id=uid or '',
            extra=extra,
        )
        if isinstance(call, Response):
            raise StatusError(call.status, trailing=call.trailing)
        return Responses(call, event, message if many else None)

    @asynccontextmanager
    async def monitor(self) -> AsyncIterator[Feed]:
        """A live feed of all these events, decoded: `async with conn.monitor() as feed: async for seen in feed: …`.

        What is emitted while nobody listens is not seen. Raises Disconnected, TimeoutError.
        """
        by_subject = {event.subject_name.encode(): event for event in self._events}

        def read_event(subject: bytes, header: bytes | None, payload: bytes) -> Seen:
            event = by_subject[subject]
            return read(subject, header, payload, event.decode, shared_with_walnats=event.walnats)

        feed = Feed(self.connection, (event.subject_name for event in self._events), read_event)
        await feed.open()
        try:
            yield feed
        finally:
            feed.close()

    def _destination(self, event: AnyEvent) -> Destination:
        try:
            return self._destinations[event.subject_name]
        except KeyError:
            raise ContractError(f'event {event.name}: not among the Events that were connected') from None


def destination_of(event: AnyEvent) -> Destination:
    """Where requests of this event go."""
    answered = event if isinstance(event, EventWithResponse) else None
    return Destination(
        subject=event.subject_name,
        stream=event.stream_name,
        target=answered.target if answered else event.name,
        idempotent=answered is not None and answered.idempotent,
        interest=is_interest(event),
        walnats=event.walnats,
    )


def _described(
    uid: str | None, trace_id: str | None, meta: CloudEvent | Mapping[str, str] | None
) -> tuple[str | None, Metadata, str]:
    pairs: list[tuple[str, str | bytes]] = []
    extra = ''
    if isinstance(meta, CloudEvent):
        uid = uid or meta.id
        extra = ''.join(f'{name}: {value}\r\n' for name, value in meta.headers())
    elif meta:
        pairs += meta.items()
    if trace_id is not None:
        pairs.append(('traceparent' if is_traceparent(trace_id) else TRACE_ID, trace_id))
    if uid is not None and (not uid or not uid.isascii() or not uid.isprintable()):
        raise ContractError(f'uid {uid[:80]!r}: printable ASCII, and not empty')
    return uid, tuple(pairs), extra
