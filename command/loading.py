"""From settings to what is run: descriptors, routes, actors."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from natsgate.actors import Actor, Actors
from natsgate.command.options import ProtoSettings
from natsgate.command.settings import duration
from natsgate.events.status import ContractError
from natsgate.gateway.protos import Descriptors, generate, load
from natsgate.gateway.routes import Override, Route

_KEYS = {'methods': {'event', 'timeout', 'grace'}, 'services': {'timeout', 'grace'}}


def descriptors_of(settings: ProtoSettings) -> Descriptors:
    """The descriptors that the settings name. Raises ContractError."""
    if not settings.proto and not settings.proto_package:
        raise ContractError('no services: give --proto FILE, or `proto = [...]` in the config file')
    return load(settings.proto, include=settings.proto_path, packages=settings.proto_package)


def overrides_of(file: Mapping[str, Any], place: Path) -> dict[str, Override]:
    """What the tables `methods` and `services` of the config file say. Raises ContractError with the place."""
    found: dict[str, Override] = {}
    for table, allowed in _KEYS.items():
        for name, keys in file.get(table, {}).items():
            where = f'{place}: [{table}."{name}"]'
            if not isinstance(keys, dict):
                raise ContractError(f'{where}: a table is wanted, with {", ".join(sorted(allowed))}')
            if unknown := sorted(set(keys) - allowed):
                raise ContractError(f'{where}: key {unknown[0]!r} is not known; there are {", ".join(sorted(allowed))}')
            if (table == 'methods') != ('/' in name):
                raise ContractError(f'{where}: methods are written pkg.Service/Method, services pkg.Service')
            found[name] = _override(keys, where)
    return found


def _override(keys: Mapping[str, Any], where: str) -> Override:
    times = {}
    for name in ('timeout', 'grace'):
        try:
            times[name] = duration(str(keys[name])) if name in keys else None
        except ValueError as error:
            raise ContractError(f'{where}: {name}: {keys[name]!r} is not {error}') from None
    return Override(event=keys.get('event'), **times)


def import_actors(names: Iterable[str], settings: ProtoSettings) -> Actors:
    """The actors of `module:NAME`s. With protos given, their Python modules are made on the fly, so that a handler can
    import them without a build step; modules that are there already win. Raises ContractError with the place.
    """
    if not names:
        raise ContractError('no actors: give MODULE:NAME, or `actors = [...]` in the config file')
    if any(source.is_dir() or source.suffix == '.proto' for source in settings.proto):
        folder = tempfile.TemporaryDirectory(prefix='natsgate-gen-')
        _generated.append(folder)
        generate(settings.proto, Path(folder.name), include=settings.proto_path)
        sys.path.append(folder.name)
    sys.path.insert(0, '')
    found = Actors()
    for name in names:
        found += _import_one(name)
    return found


_generated: list[tempfile.TemporaryDirectory[str]] = []  # kept until the process ends: modules are imported lazily


def _import_one(name: str) -> Actors:
    module_name, colon, attribute = name.partition(':')
    if not colon or not module_name or not attribute:
        raise ContractError(f'actors {name!r}: write module:NAME, for example actors:ACTORS')
    try:
        module = importlib.import_module(module_name)
    except ContractError:
        raise
    except ModuleNotFoundError as error:
        raise ContractError(
            f'actors {name!r}: {error}; is it on the path, and its protos given with --proto?'
        ) from error
    except Exception as error:
        raise ContractError(f'actors {name!r}: importing {module_name} failed: {_told(error)}') from error
    found = getattr(module, attribute, None)
    if isinstance(found, Actor):
        return Actors(found)
    if not isinstance(found, Actors):
        raise ContractError(f'actors {name!r}: {module_name} has no Actors called {attribute}')
    return found


def _told(error: Exception) -> str:
    place = ''
    trace = error.__traceback__
    while trace is not None:
        place = f' ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})'
        trace = trace.tb_next
    return f'{type(error).__name__}: {" ".join(str(error).split())}{place}'


def check_answers(routes: Mapping[str, Route], actors: Actors) -> list[str]:
    """Routes that none of the actors takes. Raises ContractError where one listens that ought to answer."""
    by_subject = {actor.event.subject_name: actor for actor in actors}
    for route in routes.values():
        actor = by_subject.get(route.subject)
        if actor is not None and actor.answers and actor.kind is not route.kind:
            raise ContractError(
                f'actor {actor.name!r} answers {actor.kind.value} calls, '
                f'but {route.method[1:]} makes {route.kind.value} calls'
            )
        if actor is not None and not actor.answers:
            raise ContractError(
                f'actor {actor.name!r} listens to the plain event {route.subject!r}, but {route.method[1:]} wants a '
                f'response: bind it to the event .with_response(...)'
            )
    return [route.method[1:] for route in routes.values() if route.subject not in by_subject]
