"""Credit: how many events to ask the server for, so that it never gives more than there are free slots. Pure.

Where there is one limit for several consumers, each has a slot of its own, and the others are for whoever comes first:
what is promised or running beyond each one's first counts against them.
"""

from __future__ import annotations

from collections.abc import Callable

from natsgate.events.status import ContractError


class Budget:
    """The slots that several consumers share."""

    def __init__(self, slots: int, consumers: int) -> None:
        """Raises ContractError if there is not one for each."""
        if slots < consumers:
            raise ContractError(
                f'max_jobs {slots}: {consumers} consumers need a slot each; raise it, or have actors share a consumer'
            )
        self.left = slots - consumers
        """How many more may be promised."""
        self._waiting: dict[Callable[[], None], None] = {}

    def wait(self, ask: Callable[[], None]) -> None:
        """Call this when there is something left; those who wait longer come first."""
        self._waiting[ask] = None

    def serve(self) -> None:
        """Let those ask who wait, as long as something is left."""
        while self.left > 0 and self._waiting:
            ask = next(iter(self._waiting))
            del self._waiting[ask]
            ask()


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

    @property
    def free(self) -> int:
        """How many more events could be begun now."""
        return max(0, self.slots - self.running)

    def lost(self) -> None:
        """Nothing of what was asked will come."""
        self.returned(self.promised)

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


class SharedCredit(Credit):
    """The slots of one consumer among several that share a budget."""

    def __init__(self, slots: int, budget: Budget) -> None:
        super().__init__(slots)
        self._budget = budget

    @property
    def free(self) -> int:
        """How many more events could be begun now."""
        return min(super().free, self._budget.left + (not self.running))

    def due(self) -> int:
        """No more than are left, and never many more than run: what one is promised and does not get, others lack."""
        used = self.running + self.promised
        allowed = self._budget.left + (not used)
        return max(0, min(super().due(), allowed, max(1, self.running) - self.promised))

    def asked(self, count: int) -> None:
        """A pull request went out."""
        self._change(self.promised + count, self.running)

    def delivered(self) -> None:
        """An event came."""
        self._change(max(0, self.promised - 1), self.running + 1)

    def finished(self) -> None:
        """An event's slot is free again."""
        self._change(self.promised, self.running - 1)

    def returned(self, count: int) -> None:
        """The server will not send this many of what was asked."""
        self._change(max(0, self.promised - count), self.running)

    def _change(self, promised: int, running: int) -> None:
        before = max(1, self.promised + self.running)
        self.promised, self.running = promised, running
        self._budget.left += before - max(1, promised + running)
