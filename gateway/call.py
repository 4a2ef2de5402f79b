"""Call: one RPC as the core sees it, whichever edge it came from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from natsgate.events.frames import Message
from natsgate.events.metadata import Metadata
from natsgate.events.wire import Response

__all__ = ['Answer', 'Call', 'Message']


class Call(Protocol):
    """What an edge gives the core: reading, writing, and what the client said at the beginning."""

    @property
    def metadata(self) -> Metadata:
        """What the client sent."""

    @property
    def remaining(self) -> float | None:
        """Seconds until the client's deadline; None when it set none."""

    async def read(self) -> Message | None:
        """The client's next message; None after its last one. Raises CancelledError when the client goes away."""

    async def send_initial(self, metadata: Metadata) -> None:
        """Send initial metadata now. At most once, and before the first write."""

    async def write(self, *messages: Message) -> None:
        """Send messages; returns when the transport can take another. Raises CancelledError as read()."""


Answer = Callable[[Call], Awaitable[Response]]
"""Serves one call. What it returns ends the call: status and trailing metadata. The payload of a unary response is the
response's own; a server-streaming call's messages were written before."""
