"""Flow: how many messages and bytes may be on the way in each direction of a streaming call. Pure.

Credit is a total since the beginning of the call, so a credit frame that is repeated does no harm. The last message may
go beyond the bytes that are left: a message larger than the window could never travel otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """What a receiver is ready to hold for a reader that does not read."""

    messages: int = 512
    bytes: int = 256 * 1024


class Outgoing:
    """The sender's side: what was sent, and what may be."""

    __slots__ = ('bytes', 'granted_bytes', 'granted_messages', 'messages')

    def __init__(self, window: Window | None = None) -> None:
        """`window`: credit that is given in advance."""
        self.messages = self.bytes = 0
        self.granted_messages = window.messages if window else 0
        self.granted_bytes = window.bytes if window else 0

    @property
    def may_send(self) -> bool:
        """Whether one more message may go."""
        return self.messages < self.granted_messages and self.bytes < self.granted_bytes

    def sent(self, size: int) -> None:
        """A message of `size` bytes went."""
        self.messages += 1
        self.bytes += size

    def grant(self, messages: int, bytes: int) -> None:
        """The receiver gives credit up to these totals; it cannot take any back."""
        self.granted_messages = max(self.granted_messages, messages)
        self.granted_bytes = max(self.granted_bytes, bytes)


class Incoming:
    """The receiver's side: what arrived, what was read, what was granted."""

    __slots__ = ('_taken_bytes', '_taken_messages', '_window', 'bytes', 'granted_bytes', 'granted_messages', 'messages')

    def __init__(self, window: Window) -> None:
        self._window = window
        self.messages = self.bytes = 0
        self._taken_messages = self._taken_bytes = 0
        self.granted_messages, self.granted_bytes = window.messages, window.bytes

    def arrived(self, size: int) -> bool:
        """Count a message of `size` bytes; False when the sender had no credit for it."""
        within = self.messages < self.granted_messages and self.bytes < self.granted_bytes
        self.messages += 1
        self.bytes += size
        return within

    def taken(self, size: int) -> tuple[int, int] | None:
        """A message was read. Returns the new totals to grant, once half of the window is free to be granted again."""
        self._taken_messages += 1
        self._taken_bytes += size
        messages, size = self._taken_messages + self._window.messages, self._taken_bytes + self._window.bytes
        if (
            2 * (messages - self.granted_messages) < self._window.messages
            and 2 * (size - self.granted_bytes) < self._window.bytes
        ):
            return None
        self.granted_messages, self.granted_bytes = messages, size
        return messages, size
