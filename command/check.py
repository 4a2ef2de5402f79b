"""`natsgate check`: whether config, protos and actors fit together, and what the routes are."""

from __future__ import annotations

import dataclasses
import json

from natsgate.command.loading import Overrides, check_answers, descriptors_of, import_actors, routes_of
from natsgate.command.options import CheckSettings
from natsgate.command.terminal import table
from natsgate.gateway.routes import Route


def check(settings: CheckSettings, overrides: Overrides) -> str:
    """The routes, as a table or as JSON. Raises ContractError for what cannot work."""
    descriptors = descriptors_of(settings)
    routes = routes_of(descriptors, overrides)
    unanswered = check_answers(routes, import_actors(settings.actors, descriptors)) if settings.actors else []
    if settings.output == 'json':
        return json.dumps({'routes': [_row(route) for route in routes.values()], 'unanswered': unanswered}, indent=2)
    lines = table([('METHOD', 'KIND', 'SUBJECT', 'STREAM', 'TIMEOUT'), *(_cells(route) for route in routes.values())])
    lines += [f'{method}: none of the actors takes it' for method in unanswered]
    return '\n'.join(lines)


def _row(route: Route) -> dict[str, object]:
    return dataclasses.asdict(route) | {'kind': route.kind.value}


def _cells(route: Route) -> tuple[str, ...]:
    timeout = '-' if route.timeout is None else f'{route.timeout:g}s'
    return route.method[1:], route.kind.value, route.subject, route.stream, timeout
