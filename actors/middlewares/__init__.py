"""Middlewares that are ready to be used; see docs/middlewares.md.

ACTORS = Actors(…, middlewares=[Logging(), Prometheus()])

Those of other libraries want the extra of their name, `pip install 'natsgate[sentry]'`.
"""

from natsgate.actors.middlewares.logs import Logging
from natsgate.actors.middlewares.metrics import Prometheus
from natsgate.actors.middlewares.rate import RateLimit
from natsgate.actors.middlewares.sentry import Sentry
from natsgate.actors.middlewares.tracing import OpenTelemetry

__all__ = ['Logging', 'OpenTelemetry', 'Prometheus', 'RateLimit', 'Sentry']
