"""Tally: what came of one actor's events in this process so far."""

from __future__ import annotations

from natsgate.events.status import StatusError


class Tally:
    """What is counted beside the handlers that were run; a call that succeeds costs it one addition."""

    __slots__ = ('busy', 'errors', 'last_error', 'refused')

    def __init__(self) -> None:
        self.refused = 0
        """Events that were not run: too late, unreadable, too many attempts."""
        self.errors = 0
        """Handlers that failed, and events that were not run."""
        self.last_error = ''
        """A status code or the type of an exception; never its text, which is for the log alone."""
        self.busy = 0.0
        """Seconds from the beginnings of calls to their answers, added up."""

    def refuse(self, why: str) -> None:
        """An event was not run."""
        self.refused += 1
        self.errors += 1
        self.last_error = why

    def fail(self, error: BaseException, *, expired: bool) -> None:
        """A handler has failed."""
        self.errors += 1
        if isinstance(error, StatusError):
            self.last_error = error.status.code.name
        else:
            self.last_error = 'DEADLINE_EXCEEDED' if expired else type(error).__name__
