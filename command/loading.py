"""From settings to what is run: descriptors, routes, actors."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from natsgate.actors import Actor, Actors
from natsgate.command.modules import Modules
from natsgate.command.options import ProtoSettings
from natsgate.command.settings import did_you_mean
from natsgate.command.values import duration
from natsgate.events.event import AnyEvent, EventWithResponse
from natsgate.events.status import ContractError
from natsgate.gateway.protos import Descriptors, load
from natsgate.gateway.routes import Override, Route, routes

_KEYS = {'methods': {'event', 'walnats', 'timeout', 'grace'}, 'services': {'timeout', 'grace'}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What a config file says about methods and services."""

    place: Path = Path()
    """The file, for errors."""
    by_name: Mapping[str, Override] = field(default_factory=dict)


def has_protos(settings: ProtoSettings) -> bool:
    """Whether the settings name any services."""
    return bool(settings.proto or settings.proto_package)


def descriptors_of(settings: ProtoSettings) -> Descriptors:
    """The descriptors that the settings name. Raises ContractError."""
    if not has_protos(settings):
        raise ContractError('no services: give --proto FILE, or `proto = [...]` in the config file')
    return load(settings.proto, include=settings.proto_path, packages=settings.proto_package)


def routes_of(descriptors: Descriptors, overrides: Overrides) -> dict[str, Route]:
    """The routes. Raises ContractError, which names the config file if that has a say in them."""
    try:
        return routes(descriptors, overrides.by_name)
    except ContractError as error:
        if not overrides.by_name:
            raise
        raise ContractError(f'{overrides.place}: {error}') from error


def overrides_of(file: Mapping[str, Any], place: Path) -> Overrides:
    """What the tables `methods` and `services` of the config file say. Raises ContractError with the place."""
    found: dict[str, Override] = {}
    for table, allowed in _KEYS.items():
        entries = file.get(table, {})
        if not isinstance(entries, dict):
            raise ContractError(f'{place}: {table}: a table is wanted, [{table}."name"], not {entries!r}')
        for name, keys in entries.items():
            where = f'{place}: [{table}."{name}"]'
            if not isinstance(keys, dict):
                raise ContractError(f'{where}: a table is wanted, with {", ".join(sorted(allowed))}')
            if unknown := sorted(set(keys) - allowed):
                raise ContractError(f'{where}: key {unknown[0]!r} is not known; there are {", ".join(sorted(allowed))}')
            if (table == 'methods') != ('/' in name):
                raise ContractError(f'{where}: methods are written pkg.Service/Method, services pkg.Service')
            found[name] = _override(keys, where)
    return Overrides(place=place, by_name=found)


def _override(keys: Mapping[str, Any], where: str) -> Override:
    event = keys.get('event')
    if event is not None and not isinstance(event, str):
        raise ContractError(f"{where}: event: {event!r} is not an event's name")
    shared = keys.get('walnats')
    if shared is not None and not isinstance(shared, bool):
        raise ContractError(f'{where}: walnats: {shared!r} is not true or false')
    times = {}
    for name in ('timeout', 'grace'):
        try:
            times[name] = duration(str(keys[name])) if name in keys else None
        except ValueError as error:
            raise ContractError(f'{where}: {name}: {keys[name]!r} is not {error}') from None
    return Override(event=event, walnats=shared, **times)


def import_actors(names: Iterable[str], descriptors: Descriptors | None = None) -> Actors:
    """The actors of `module:NAME`s. The Python modules of the protos are there without a build step; modules that are
    there anyway win. Raises ContractError with the place.
    """
    if not names:
        raise ContractError('no actors: give MODULE:NAME, or `actors = [...]` in the config file')
    if descriptors:
        Modules(descriptors.file_set.file).install()
    sys.path.insert(0, '')
    found = Actors()
    for name in names:
        found += _import_one(name)
    return found


def _import_one(name: str) -> Actors:
    module_name, colon, attribute = name.partition(':')
    if not colon or not module_name or not attribute:
        raise ContractError(f'actors {name!r}: write module:NAME, for example actors:ACTORS')
    try:
        module = importlib.import_module(module_name)
    except ContractError as error:
        raise ContractError(f'{error}{_whose(error)}') from error
    except (Exception, SystemExit) as error:
        raise ContractError(f'actors {name!r}: {_why(error, module_name)}') from error
    found = getattr(module, attribute, None)
    if isinstance(found, Actor):
        return Actors(found)
    if not isinstance(found, Actors):
        there = [name for name, it in vars(module).items() if isinstance(it, Actor | Actors)]
        hint = did_you_mean(attribute, there)
        raise ContractError(f'actors {name!r}: {module_name} has no Actors called {attribute}{hint}')
    return found


def _why(error: BaseException, module: str) -> str:
    """Why importing a module failed, with the line that is to blame."""
    text, place = ' '.join(str(error).split()), _place(error)
    match error:
        case ModuleNotFoundError(name=str(missing)) if missing.endswith('_pb2_grpc'):
            return f'{text} ({place}); is it on the path? protoc makes it, told --grpc_python_out'
        case ModuleNotFoundError(name=str(missing)) if f'{module}.'.startswith(f'{missing}.'):
            return f'{text}; is it on the path?'
        case ModuleNotFoundError():
            return f'{text} ({place}); is it on the path, and its protos given with --proto?'
        case SyntaxError(filename=str(file), lineno=int(line)):
            return f'{type(error).__name__}: {error.msg} ({file}:{line})'
        case SystemExit():
            return f'importing {module} ended the program: sys.exit({error.code!r}) ({place})'
    return f'importing {module} failed: {type(error).__name__}: {text} ({place})'


def _whose(error: ContractError) -> str:
    """Where it was declared, for an error that does not say so itself."""
    place = ''
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not frame.f_globals.get('__name__', '').startswith(('natsgate.', 'importlib')):
            place = f'{frame.f_code.co_filename}:{line}'
    known = place.rpartition(':')[0]
    return '' if not place or known.startswith('<') or known in str(error) else f' ({place})'


def _place(error: BaseException) -> str:
    """Where it was raised, passing over the machinery of `import`."""
    place, trace = 'somewhere', error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith('<frozen '):
            place = f'{file}:{trace.tb_lineno}'
        trace = trace.tb_next
    return place


def check_answers(routes: Mapping[str, Route], actors: Actors) -> list[str]:
    """Routes that none of the actors takes. Raises ContractError where one listens that ought to answer otherwise."""
    by_subject = {actor.event.subject_name: actor for actor in actors}
    for route in routes.values():
        if (actor := by_subject.get(route.subject)) is not None:
            _check_answer(route, actor)
    return [route.method[1:] for route in routes.values() if route.subject not in by_subject]


def _check_answer(route: Route, actor: Actor) -> None:
    method = route.method[1:]
    if not actor.answers:
        raise ContractError(
            f'actor {actor.name!r} listens to the plain event {route.subject!r}, but {method} wants a '
            f'response: bind it to the event .with_response(...)'
        )
    if actor.event.walnats is not route.walnats:
        one, other = ('its event', method) if actor.event.walnats else (method, 'its event')
        raise ContractError(f'actor {actor.name!r}: {one} is declared as shared with walnats, {other} is not')
    if actor.kind is not route.kind:
        raise ContractError(
            f'actor {actor.name!r} answers {actor.kind.value} calls, but {method} makes {route.kind.value} calls'
        )
    for what, mine, its in zip(('takes', 'answers'), _types(actor.event), _types(route), strict=True):
        if mine and mine != its:
            raise ContractError(f'actor {actor.name!r} {what} {mine}, but {method} wants {its}: give that to its event')


def _types(of: AnyEvent | Route) -> tuple[str, str]:
    """Request and response by the full names of their messages; empty for what is no message."""
    if isinstance(of, Route):
        return of.request_type, of.response_type
    return _full_name(of.schema), _full_name(of.response_schema) if isinstance(of, EventWithResponse) else ''


def _full_name(schema: object) -> str:
    return getattr(getattr(schema, 'DESCRIPTOR', None), 'full_name', '')
