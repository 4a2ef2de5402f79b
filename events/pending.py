"""Pending: one request that waits, and where it goes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from natsgate.events.wire import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a request goes, and what is known about the event."""

    subject: str
    """Where it is published."""
    stream: str
    """The stream that takes it; named in errors."""
    target: str
    """Who may answer: a part of the reply subject."""
    idempotent: bool = False
    """Running it twice does no harm."""
    interest: bool = False
    """An event stream: it keeps nothing when no actor is registered."""
    grace: float | None = None
    """Seconds for which a call waits although no worker lives; None leaves it to the requester."""
    walnats: bool = False
    """It is shared with programs of walnats: their wire, and no signs of life."""

    def id_of(self, call_id: str) -> str:
        """The id on the stream of a call that is known by this id: no other event's there."""
        return call_id if self.walnats else f'{self.subject}:{call_id}'


class OnMessage(Protocol):
    """What a streaming call does with a message on its reply subject."""

    def __call__(self, reply: bytes, header: bytes | None, payload: bytes) -> None: ...


class Pending:
    """One request that waits for its acknowledgement, its response or its frames."""

    __slots__ = (
        'ack', 'ack_due', 'answer', 'attempts', 'began', 'deadline', 'destination', 'frame', 'give_up', 'on_message',
        'refusals', 'reply', 'taken_by', 'timer', 'token',
    )  # fmt: skip

    def __init__(
        self, destination: Destination, token: bytes, reply: bytes, frame: bytes, answer: asyncio.Future[Response]
    ) -> None:
        self.destination = destination
        self.token = token
        """The last part of its reply subject, and what it is known by."""
        self.reply = reply
        self.frame = frame
        self.answer = answer
        self.deadline = 0.0
        """When nobody waits any more, on the connection's clock."""
        self.began = 0.0
        """When it was published first, on the loop's clock."""
        self.attempts = 0
        self.refusals = 0
        self.ack_due = 0.0
        self.give_up = 0.0
        self.ack = b''
        """The stream's acknowledgement, once it is there."""
        self.taken_by = ''
        """The worker that runs it, where no other may."""
        self.timer: asyncio.TimerHandle | None = None
        self.on_message: OnMessage | None = None
        """Takes what arrives on the reply subject, for streaming calls."""
