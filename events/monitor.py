"""Monitor: a live feed of events as they are emitted. It sees, and changes nothing: no stream, no consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from natsgate.events import walnats, wire
from natsgate.events.connection import Connection
from natsgate.events.metadata import Metadata

MOST = 10_000
"""How many events are kept for a reader that does not read; further ones are counted and passed over."""

MOST_BYTES = 64 << 20
"""How many bytes of payload, beyond which no further event is kept."""

Decode = Callable[[bytes], Any]
"""Makes a message of a payload; what it raises becomes the event's problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event that went by."""

    subject: str
    """Where it was published."""
    message: Any = None
    """What it says; None if that cannot be read."""
    payload: bytes = b''
    """The same as bytes."""
    id: str = ''
    """Its id on its stream; a publisher that is not sure repeats an event under the same id."""
    kind: str = wire.UNARY
    """The kind of call; what a caller streams is no event, and not seen here."""
    metadata: Metadata = ()
    """What was sent beside the message."""
    problem: str = ''
    """Why headers or payload cannot be read."""


def read(
    subject: bytes, header: bytes | None, payload: bytes, decode: Decode, *, shared_with_walnats: bool = False
) -> Seen:
    """What a message on the subject of an event says. Pure, and it never raises."""
    head, message, problem = wire.RequestHead(), None, ''
    try:
        head = (walnats if shared_with_walnats else wire).decode_request(header)
        message = None if head.kind in ('client', 'bidi') else decode(payload)
    except Exception as error:  # a serializer of the user's own may raise anything
        problem = str(error) or type(error).__name__
    return Seen(
        subject=subject.decode('utf-8', 'replace'), message=message, payload=payload, id=head.id, kind=head.kind,
        metadata=head.metadata, problem=problem,
    )  # fmt: skip


class Feed:
    """The events that go by, in the order of their arrival: `async for seen in feed`."""

    def __init__(self, connection: Connection, subjects: Iterable[str], read: Callable[..., Seen]) -> None:
        """`read(subject, header, payload)` makes what is seen."""
        self._connection = connection
        self._subjects = sorted(set(subjects))
        self._read = read
        self._waiting: asyncio.Queue[Seen] = asyncio.Queue(MOST)
        self._bytes = 0
        self._sids: list[int] = []
        self.missed = 0
        """How many were passed over because they were not read."""

    async def open(self) -> None:
        """From here on, all that is emitted is seen. Raises Disconnected, TimeoutError."""
        for subject in self._subjects:
            self._sids.append(await self._connection.subscribe(subject, self._on_event))
        await self._connection.synced()

    def close(self) -> None:
        """See nothing more."""
        for sid in self._sids:
            self._connection.unsubscribe(sid)
            self._connection.forget(sid)

    def __aiter__(self) -> AsyncIterator[Seen]:
        return self

    async def __anext__(self) -> Seen:
        """The next event."""
        seen = await self._waiting.get()
        self._bytes -= len(seen.payload)
        return seen

    def _on_event(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        if self._waiting.full() or self._bytes > MOST_BYTES:
            self.missed += 1
        else:
            self._bytes += len(payload)
            self._waiting.put_nowait(self._read(subject, header, payload))
