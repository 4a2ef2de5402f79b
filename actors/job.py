"""Job: one delivery at work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from natsgate.actors.actor import Actor
from natsgate.actors.consumer import Delivery
from natsgate.actors.context import Context
from natsgate.actors.exchange import Exchange
from natsgate.actors.middleware import send_all
from natsgate.events.event import EventWithResponse
from natsgate.events.wire import OK_STATUS, RequestHead, Response


class Job:
    """What is known about one delivery, and its handler's run."""

    __slots__ = (
        '_context', '_make_context', 'abandoned', 'ack', 'acknowledged', 'begun', 'deadline', 'delivery', 'ended',
        'exchange', 'expired', 'head', 'known', 'raw', 'released', 'started', 'task', 'timer',
    )  # fmt: skip

    def __init__(
        self,
        ack: bytes,
        delivery: Delivery,
        head: RequestHead,
        deadline: float | None,
        make_context: Callable[[Job], Context],
        *,
        raw: tuple[bytes | None, bytes],
    ) -> None:
        self.ack = ack
        """Where acknowledgements go; a redelivery while the handler runs brings a new one."""
        self.acknowledged = False
        """The event is settled already: a streaming call that is committed, one that was abandoned, or one that is run
        at most once.
        """
        self.delivery = delivery
        self.raw = raw
        """Header block and payload as they came, for a dead letter."""
        self.head = head
        self.deadline = deadline
        self._context: Context | None = None
        self._make_context = make_context
        self.exchange: Exchange | None = None
        """The frames of a streaming call."""
        self.started = 0.0
        self.begun = False
        """Its task has made its first step."""
        self.known = False
        """Its caller can cancel it."""
        self.expired = False
        """The deadline passed while the handler ran."""
        self.released = False
        """The event is given back: the worker stops, or could not reach the caller."""
        self.ended = False
        """Its slot is free again."""
        self.abandoned = ''
        """Why nobody waits for the result any more."""
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def attempt(self) -> int:
        """Which delivery this is, without those of one that came before it was due."""
        return self.delivery.attempt if self.head.due is None else max(1, self.delivery.attempt - 1)

    @property
    def context(self) -> Context:
        """What its handler may know and say; made when somebody wants it, as not every handler does."""
        if self._context is None:
            self._context = self._make_context(self)
        return self._context

    @property
    def thread(self) -> Future[Any] | None:
        """The thread that its handler runs in."""
        return None if self._context is None else self._context.thread

    def is_late(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and self.deadline <= now


async def converse(actor: Actor, message: Any, context: Context, exchange: Exchange) -> None:
    """Run the handler of a streaming call: its messages come from the exchange, its responses go there."""
    assert isinstance(actor.event, EventWithResponse)
    first = exchange.messages() if actor.event.kind.client_streams else message
    result = actor.handler(first, context) if actor.takes_context else actor.handler(first)
    if actor.event.kind.server_streams:
        await send_all(result, exchange.send)
    else:
        await exchange.send(await result)


def answered(actor: Actor, result: Any, job: Job) -> Response:
    """The response that a handler's result is. Raises SerializerError when it is not what the event declares."""
    event: Any = actor.event
    payload = event.response_serializer.encode(result) if actor.answers else b''
    if (context := job._context) is None:
        return Response(OK_STATUS, payload)
    return Response(OK_STATUS, payload, context.initial, context.trailing, context.compress)
