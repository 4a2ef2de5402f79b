"""`natsgate check`: whether config, protos and actors fit together, and what the routes are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from natsgate.command.loading import check_answers, descriptors_of, import_actors
from natsgate.command.options import CheckSettings
from natsgate.gateway.routes import Override, Route, routes


def check(settings: CheckSettings, overrides: Mapping[str, Override]) -> str:
    """The routes, as a table or as JSON. Raises ContractError for what cannot work."""
    table = routes(descriptors_of(settings), overrides)
    unanswered = check_answers(table, import_actors(settings.actors, settings)) if settings.actors else []
    if settings.output == 'json':
        return json.dumps({'routes': [_row(route) for route in table.values()], 'unanswered': unanswered}, indent=2)
    lines = _table([('METHOD', 'KIND', 'SUBJECT', 'STREAM', 'TIMEOUT'), *(_cells(route) for route in table.values())])
    lines += [f'{method}: none of the actors takes it' for method in unanswered]
    return '\n'.join(lines)


def _row(route: Route) -> dict[str, object]:
    return dataclasses.asdict(route) | {'kind': route.kind.value}


def _cells(route: Route) -> tuple[str, ...]:
    timeout = '-' if route.timeout is None else f'{route.timeout:g}s'
    return route.method[1:], route.kind.value, route.subject, route.stream, timeout


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ['  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
