"""RateLimit: how many runs may begin in a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from google.rpc import error_details_pb2

from natsgate.actors.context import Context
from natsgate.actors.middleware import Next
from natsgate.events.event import EventWithResponse
from natsgate.events.failures import DOMAIN
from natsgate.events.status import Code, ContractError, Status, StatusError


class RateLimit:
    """A bucket of tokens: each run takes one. A call that finds none is refused with RESOURCE_EXHAUSTED, and told when
    to come again; a plain event, which has no caller to tell, waits for its token.

    All actors with the same instance share a bucket. Each process has its own.
    """

    def __init__(self, per_second: float, *, burst: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        """`burst`: how many tokens the bucket holds, and has at the start. Raises ContractError."""
        if per_second <= 0 or burst < 1:
            raise ContractError('RateLimit: per_second must be more than 0, burst at least 1')
        self._every = 1 / per_second
        self._burst = burst
        self._now = now
        self._full_at = now()

    async def __call__(self, message: Any, context: Context, call_next: Next) -> Any:
        """What is around the handler."""
        wait = self._take(or_wait=not isinstance(context.event, EventWithResponse))
        if wait > 0:
            await asyncio.sleep(wait)
        return await call_next(message, context)

    def _take(self, *, or_wait: bool) -> float:
        """Take a token; the seconds until it is there. Raises StatusError if it is not, and nobody waits for it."""
        now = self._now()
        full_at = max(now, self._full_at) + self._every
        wait = full_at - now - self._burst * self._every
        if wait > _ROUNDING and not or_wait:
            raise _refused(wait)
        self._full_at = full_at
        return wait


_ROUNDING = 1e-9


def _refused(wait: float) -> StatusError:
    info = error_details_pb2.ErrorInfo(reason='RATE_LIMITED', domain=DOMAIN)
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromNanoseconds(int(wait * 1e9))
    return StatusError(Status.of(Code.RESOURCE_EXHAUSTED, 'too many calls in too short a time', info, retry))
