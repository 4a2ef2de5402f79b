"""Prometheus: how many runs, how they ended, how long they took, how many are at work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from natsgate.actors.context import Context
from natsgate.actors.middleware import Next
from natsgate.actors.middlewares.common import code_of, optional

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds."""


class Prometheus:
    """Counts into a registry of prometheus_client; to serve it is the program's own matter.

    `natsgate_handler_runs_total{actor, code}`, `natsgate_handler_seconds{actor}`, `natsgate_handlers_running{actor}`.
    One instance serves all actors; a registry takes one.
    """

    def __init__(self, registry: Any = None, *, buckets: Sequence[float] = BUCKETS) -> None:
        """`registry`: prometheus_client's own unless given. Raises ContractError without the extra `prometheus`."""
        client = optional('prometheus_client', 'prometheus')
        where = {'registry': registry or client.REGISTRY}
        self._runs = client.Counter(
            'natsgate_handler_runs', 'Runs of handlers, by how they ended.', ['actor', 'code'], **where
        )
        self._seconds = client.Histogram(
            'natsgate_handler_seconds', 'How long handlers took.', ['actor'], buckets=buckets, **where
        )
        self._running = client.Gauge(
            'natsgate_handlers_running', 'Handlers at work.', ['actor'], multiprocess_mode='livesum', **where
        )

    async def __call__(self, message: Any, context: Context, call_next: Next) -> Any:
        """What is around the handler."""
        running, began = self._running.labels(context.actor), time.perf_counter()
        running.inc()
        try:
            result = await call_next(message, context)
        except BaseException as error:
            self._count(context, error, began)
            raise
        finally:
            running.dec()
        self._count(context, None, began)
        return result

    def _count(self, context: Context, error: BaseException | None, began: float) -> None:
        self._seconds.labels(context.actor).observe(time.perf_counter() - began)
        self._runs.labels(context.actor, code_of(error, context).name).inc()
