"""Logging: one record for each run of a handler."""

from __future__ import annotations

import logging
import time
from typing import Any

from natsgate.actors.context import Context
from natsgate.actors.middleware import Next
from natsgate.actors.middlewares.common import FAULTS, code_of

log = logging.getLogger('natsgate.calls')


class Logging:
    """Tells of each run when it has ended: a line for people, and the same as attributes of the record for machines.

    The attributes are `actor`, `event`, `call` (its id), `attempt`, `code` and `seconds`. What is the server's fault is
    a warning. The traceback of an exception is told by the worker, whether there is this middleware or not.
    """

    def __init__(self, logger: logging.Logger = log, level: int = logging.INFO) -> None:
        """`level` is that of the runs that end well, and of those that end with a status that is no fault."""
        self._log = logger
        self._level = level

    async def __call__(self, message: Any, context: Context, call_next: Next) -> Any:
        """What is around the handler."""
        began = time.perf_counter()
        try:
            result = await call_next(message, context)
        except BaseException as error:
            self._tell(context, error, time.perf_counter() - began)
            raise
        self._tell(context, None, time.perf_counter() - began)
        return result

    def _tell(self, context: Context, error: BaseException | None, seconds: float) -> None:
        code = code_of(error, context)
        self._log.log(
            max(logging.WARNING, self._level) if code in FAULTS else self._level,
            '%s: %s in %.3f s (%s)', context.actor, code.name, seconds, context.id,
            extra={
                'actor': context.actor, 'event': context.event.name, 'call': context.id, 'attempt': context.attempt,
                'code': code.name, 'seconds': round(seconds, 6),
            },
        )  # fmt: skip
