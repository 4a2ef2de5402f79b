"""`natsgate monitor`: the events that go by, decoded by their descriptors, for people and for machines."""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf import json_format

from natsgate.actors.consumer import covers
from natsgate.command.loading import Overrides, descriptors_of, has_protos, routes_of
from natsgate.command.nats import connecting
from natsgate.command.options import MonitorSettings
from natsgate.command.settings import did_you_mean
from natsgate.command.signals import Stop
from natsgate.events import monitor as events
from natsgate.events import subjects
from natsgate.events.monitor import Feed, Seen
from natsgate.events.status import ContractError
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Route

log = logging.getLogger('natsgate.command')


async def monitor(settings: MonitorSettings, overrides: Overrides) -> None:
    """Print events until a signal says stop, or `settings.count` were seen. Raises ContractError, NatsAway."""
    descriptors = descriptors_of(settings) if has_protos(settings) else None
    routes = {route.subject: route for route in routes_of(descriptors, overrides).values()} if descriptors else {}
    watched = watched_subjects(settings.what, routes)
    stop = Stop()
    async with connecting(settings) as connection:
        feed = Feed(connection, watched, Reader(routes, descriptors).read)
        await feed.open()
        log.info('watching %s', ', '.join(watched))
        printing = asyncio.create_task(_print(feed, routes, settings), name='monitor/print')
        stopping = asyncio.create_task(stop.serving(), name='monitor/stop')
        try:
            await asyncio.wait({printing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            feed.close()
            stopping.cancel()
            printing.cancel()
            await asyncio.gather(printing, return_exceptions=True)
        if printing.done() and not printing.cancelled():
            printing.result()
    if feed.missed:
        log.warning('%d events were not shown: they came faster than they could be', feed.missed)


def watched_subjects(what: tuple[str, ...], routes: Mapping[str, Route]) -> list[str]:
    """The subjects of what is named: methods, services, events, patterns; all routes if nothing is.

    Raises ContractError for a name that is none of them.
    """
    if not what and not routes:
        raise ContractError("nothing to watch: give --proto FILE, or an event's name")
    found: set[str] = set()
    for name in what:
        named = {route.subject for route in routes.values() if name in (route.method[1:], route.service)}
        if not named and not _is_pattern(name):
            known = {route.method[1:] for route in routes.values()} | {route.service for route in routes.values()}
            raise ContractError(f'{name!r} is neither a method nor an event{did_you_mean(name, known)}')
        found |= named or {name}
    chosen = found or set(routes)
    return sorted(one for one in chosen if not any(one != other and covers(other, one) for other in chosen))


def _is_pattern(name: str) -> bool:
    return subjects.NAME.match(name.removesuffix('.>').replace('*', 'x') or '?') is not None


class Reader:
    """Reads what goes by: by its route's descriptor, or else as JSON, text or bytes."""

    def __init__(self, routes: Mapping[str, Route], descriptors: Descriptors | None) -> None:
        self._routes = routes
        self._descriptors = descriptors

    def read(self, subject: bytes, header: bytes | None, payload: bytes) -> Seen:
        """What a message on this subject says."""
        route = self._routes.get(subject.decode('utf-8', 'replace'))
        if route is None or self._descriptors is None:
            return events.read(subject, header, payload, _guessed)
        pool, kind = self._descriptors.pool, self._descriptors.message_class(route.request_type)

        def decode(data: bytes) -> Any:
            return json_format.MessageToDict(kind.FromString(data), descriptor_pool=pool)

        return events.read(subject, header, payload, decode, shared_with_walnats=route.walnats)


def _guessed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        pass
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return b64encode(payload).decode()


async def _print(feed: Feed, routes: Mapping[str, Route], settings: MonitorSettings) -> None:
    shown = as_json if settings.output == 'json' else as_text
    left = settings.count
    async for seen in feed:
        route = routes.get(seen.subject)
        print(shown(seen, route.method[1:] if route else '', datetime.now().astimezone()), flush=True)
        left -= 1
        if left == 0:
            return


def as_json(seen: Seen, method: str, at: datetime) -> str:
    """An event as a line of JSON."""
    said: dict[str, Any] = {'time': at.isoformat(timespec='milliseconds'), 'subject': seen.subject}
    said |= {'method': method} if method else {}
    said |= {'kind': seen.kind, 'id': seen.id, 'metadata': [[key, _text(value)] for key, value in seen.metadata]}
    if seen.problem:
        return json.dumps(said | {'problem': seen.problem, 'payload': b64encode(seen.payload).decode()})
    return json.dumps(said | {'message': seen.message})


def as_text(seen: Seen, method: str, at: datetime) -> str:
    """An event as a line for people."""
    name = method or seen.subject
    said = json.dumps(seen.message, ensure_ascii=False)
    if seen.problem:
        said = f'{len(seen.payload)} bytes that cannot be read: {seen.problem}'
    elif seen.message is None and seen.kind != 'unary':
        said = f'({seen.kind} streaming)'
    metadata = ''.join(f'  {key}: {_text(value)}' for key, value in seen.metadata)
    return f'{at:%H:%M:%S.%f}'[:-3] + _harmless(f'  {name}  {said}{metadata}')


def _harmless(text: str) -> str:
    """Without what a terminal would obey: anybody may emit anything."""
    return text if text.isprintable() else ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else b64encode(value).decode()
