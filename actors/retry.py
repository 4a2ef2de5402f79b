"""Retry: after which failures an event is run again, how often, and how long after. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from natsgate.events.status import Code, ContractError, StatusError

_MOST_FACTOR = 10.0
_GROWS_FOR = 64  # attempts: far beyond any wait that makes sense, far below what a float can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What is done about a handler that fails. Waiting for the next attempt takes no slot: the event waits on NATS."""

    attempts: int = 3
    """Deliveries in all, the first one and those after a worker's death or stop included: there is one count, NATS'."""
    backoff: float = 0.1
    """Seconds before the second attempt."""
    factor: float = 2.0
    """By how much each further wait is longer than the one before."""
    max_backoff: float = 10.0
    """Seconds that no wait exceeds, jitter aside."""
    jitter: float = 0.25
    """The share of a wait by which chance makes it longer or shorter, so that events do not come back all at once."""
    on: tuple[type[Exception], ...] = (Exception,)
    """Exceptions after which the event is run again; any other is answered at once."""
    codes: Collection[Code] = ()
    """Statuses raised by the handler after which it is run again; any other is the answer, whatever `on` says."""

    def __post_init__(self) -> None:
        object.__setattr__(self, 'on', self.on if isinstance(self.on, tuple) else (self.on,))
        object.__setattr__(self, 'codes', frozenset(self.codes))
        if self.attempts < 1:
            raise ContractError(f'Retry: attempts={self.attempts!r}; at least 1, the first one included')
        if self.backoff < 0 or self.max_backoff < 0:
            raise ContractError('Retry: backoff and max_backoff are seconds, and must not be negative')
        if not 1 <= self.factor <= _MOST_FACTOR:
            raise ContractError(f'Retry: factor={self.factor!r}; 1 to {_MOST_FACTOR:g}')
        if not 0 <= self.jitter <= 1:
            raise ContractError(f'Retry: jitter={self.jitter!r}; a share, 0 to 1')
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in self.on):
            raise ContractError('Retry: on= takes classes of exceptions')
        if not all(isinstance(code, Code) and code is not Code.OK for code in self.codes):
            raise ContractError('Retry: codes= takes natsgate.events.Code, and not OK')

    def covers(self, error: BaseException) -> bool:
        """Whether this failure is worth another attempt."""
        if isinstance(error, StatusError) and error.code is not Code.OK:
            return error.code in self.codes
        return isinstance(error, self.on)

    def delay(self, attempt: int, draw: float = 0.5) -> float:
        """Seconds to wait after the `attempt`-th delivery; `draw` is the chance in it, 0 to 1."""
        wait = min(self.backoff * self.factor ** (min(attempt, _GROWS_FOR) - 1), self.max_backoff)
        return wait * (1 + self.jitter * (2 * draw - 1))


NEVER = Retry(attempts=1)
"""What fails is answered at once: the default of calls."""

REPEATABLE = Retry()
"""The default of methods that are declared NO_SIDE_EFFECTS or IDEMPOTENT."""

UNHURRIED = Retry(backoff=1.0, max_backoff=8.0, jitter=0.0, codes=frozenset(Code) - {Code.OK})
"""The default of listeners, whose events nobody waits for; and when the caller of a streaming call is not reached."""
