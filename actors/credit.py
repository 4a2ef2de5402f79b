"""Credit: how many events to ask the server for, so that it never gives more than there are free slots. Pure."""

from __future__ import annotations


class Credit:
    """Slots of one worker: running, promised to the server, free."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.running = 0
        self.promised = 0
        """Events that the server may still send for what was asked."""
        self._worth_asking = max(1, slots // 4)

    def due(self) -> int:
        """How many events to ask for now: all the free slots, once enough of them are free to be worth a message."""
        free = self.slots - self.running - self.promised
        return free if free >= self._worth_asking or (free > 0 and self.promised == 0) else 0

    def asked(self, count: int) -> None:
        """A pull request went out."""
        self.promised += count

    def delivered(self) -> None:
        """An event came."""
        self.promised = max(0, self.promised - 1)
        self.running += 1

    def finished(self) -> None:
        """An event's slot is free again."""
        self.running -= 1

    def returned(self, count: int) -> None:
        """The server will not send this many of what was asked."""
        self.promised = max(0, self.promised - count)
