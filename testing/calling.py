"""call(): what an actor answers, without NATS: by the code that answers over NATS, on a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from google.rpc import error_details_pb2

from natsgate.actors.actor import Actor
from natsgate.actors.registry import ConnectedActors
from natsgate.events import wire
from natsgate.events.event import EventWithResponse
from natsgate.events.kind import Kind
from natsgate.events.metadata import Metadata, checked
from natsgate.events.registry import destination_of
from natsgate.events.requester import Requester
from natsgate.events.responses import Responses
from natsgate.events.status import Code, Status, StatusError
from natsgate.events.wire import Response
from natsgate.testing.broker import Broker
from natsgate.testing.memory import MemoryConnection
from natsgate.testing.running import listening

_ENDS_WITHIN = 1.0  # seconds for a handler that goes on although its call has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """How a call has ended."""

    responses: tuple[Any, ...] = ()
    """What was answered, in order; a streaming call may have answered before it failed."""
    status: Status = Status(Code.OK)
    metadata: Metadata = ()
    """Initial metadata."""
    trailing: Metadata = ()
    """Trailing metadata."""
    attempts: int = 0
    """How often the event was given out, until it was done; 0 while it is not."""
    buried: str = ''
    """Why the event was given up, if it was."""

    @property
    def code(self) -> Code:
        """The status code."""
        return self.status.code

    @property
    def reason(self) -> str:
        """The reason in the status' ErrorInfo; empty without one."""
        info = self.status.detail(error_details_pb2.ErrorInfo)
        return info.reason if info else ''

    @property
    def response(self) -> Any:
        """The one response. Raises StatusError when the call has failed, ValueError when it has not just one."""
        if self.status.code is not Code.OK:
            raise StatusError(self.status, initial=self.metadata, trailing=self.trailing)
        if len(self.responses) != 1:
            raise ValueError(f'{len(self.responses)} responses; see .responses')
        return self.responses[0]


async def call(
    actor: Actor,
    message: Any,
    *,
    metadata: Iterable[tuple[str, str | bytes]] = (),
    timeout: float = 10,
) -> Called:
    """Have an actor answer one call, without NATS. `message`: an iterable, plain or async, where the caller streams.

    What the worker does, it does here: the message is encoded and decoded, a plain handler runs in a thread, failures
    become statuses, attempts are counted. Only what a server would wait for is not waited for: an event that is given
    back comes again at once. After `timeout` seconds, the call's deadline, the handler is cancelled; so it is when this
    is cancelled. A listener's call ends when its event is done: OK, or UNKNOWN when it was given up.
    Raises SerializerError for a message that is not the event's, MetadataError for what gRPC forbids.
    """
    pairs = checked(metadata)
    async with _listening(actor) as (connection, broker):
        if isinstance(actor.event, EventWithResponse):
            ended = await _ask(connection, actor.event, message, pairs, timeout)
        else:
            ended = await _emit(connection, actor, message, pairs)
        return await _settled(broker, actor, ended, timeout)


@asynccontextmanager
async def _listening(actor: Actor) -> AsyncIterator[tuple[MemoryConnection, Broker]]:
    broker = Broker()
    connection = MemoryConnection(broker)
    await connection.open()
    actors = ConnectedActors(connection, (actor,))
    try:
        async with listening(actors, drain_timeout=_ENDS_WITHIN, discovery=False):
            yield connection, broker
    finally:
        await connection.close()
        broker.close()


async def _ask(
    connection: MemoryConnection, event: EventWithResponse[Any, Any], message: Any, metadata: Metadata, timeout: float
) -> Called:
    requester = Requester(connection)
    await requester.open()
    deadline = connection.clock.now() + timeout
    try:
        if event.kind is Kind.UNARY:
            asked = requester.ask(destination_of(event), event.encode(message), deadline=deadline, metadata=metadata)
            return _called(event, await asked)
        many = event.kind.client_streams
        stream = requester.stream(
            destination_of(event),
            b'' if many else event.encode(message),
            event.kind,
            deadline=deadline,
            take_within=timeout,
            metadata=metadata,
        )
        if isinstance(stream, Response):
            return _called(event, stream)
        return await _read(Responses(stream, event, message if many else None))
    finally:
        requester.close()


def _called(event: EventWithResponse[Any, Any], response: Response) -> Called:
    ok = response.status.code is Code.OK
    return Called(
        responses=(event.decode_response(response.payload),) if ok else (),
        status=response.status,
        metadata=response.initial,
        trailing=response.trailing,
    )


async def _read(responses: Responses[Any]) -> Called:
    found, status = [], Status(Code.OK)
    try:
        async for response in responses:
            found.append(response)  # noqa: PERF401  what came before a failure is kept
    except StatusError as error:
        status = error.status
    finally:
        await responses.aclose()
    initial = await responses.initial()
    return Called(responses=tuple(found), status=status, metadata=initial, trailing=responses.trailing)


async def _emit(connection: MemoryConnection, actor: Actor, message: Any, metadata: Metadata) -> Called:
    event = actor.event
    block = wire.encode_request(wire.RequestHead(metadata=metadata))
    await connection.request(event.subject_name, event.encode(message), header=block)
    return Called()


async def _settled(broker: Broker, actor: Actor, called: Called, timeout: float) -> Called:
    within = _ENDS_WITHIN if actor.answers else timeout
    try:
        settled = await asyncio.wait_for(broker.settled.get(), within)
    except TimeoutError:  # a handler that does not end when it is cancelled; or a listener's
        late = Status(Code.DEADLINE_EXCEEDED, f'the handler has not ended within {timeout:g} s')
        return called if actor.answers else replace(called, status=late)
    status = called.status
    if settled.reason and not actor.answers:
        status = Status(Code.UNKNOWN, settled.reason)
    return replace(called, status=status, attempts=settled.attempts, buried=settled.reason)
