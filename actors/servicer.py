"""Actors made of a gRPC servicer, unchanged: of the object, and of the function that adds it to a server."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from natsgate.actors.actor import Actor
from natsgate.actors.execute_in import JOBS
from natsgate.actors.servicer_handlers import handler_of
from natsgate.actors.servicer_methods import AddToServer, methods_of
from natsgate.events.event import Limits
from natsgate.events.service import SERVICE_LIMITS, Service
from natsgate.events.status import ContractError

Methods = Mapping[str, Mapping[str, Any]]
"""Options of Actor by the methods' names."""

# Where a method runs follows from what it is: a process would have another servicer than the one that was given.
_OPTIONS = {field.name for field in fields(Actor) if field.init and field.kw_only} - {'execute_in'}


def actors_of(
    servicer: object, add_to_server: AddToServer, *,
    methods: Methods | None = None, limits: Limits = SERVICE_LIMITS, **options: Any,
) -> tuple[Actor, ...]:  # fmt: skip
    """One actor for each method that the servicer has written: see Actors.of()."""
    where, methods = f'servicer {type(servicer).__name__}', methods or {}
    _check_options(where, options, _OPTIONS)
    actors = {
        method.name: _actor(
            Service(method.containing_service, limits=limits), method.name, behaviour,
            {**options, **methods.get(method.name, {})},
        )
        for method, behaviour in methods_of(servicer, add_to_server)
    }  # fmt: skip
    if not actors:
        raise ContractError(f'{where}: it has written none of its methods')
    if unknown := sorted(set(methods) - set(actors)):
        known = ', '.join(sorted(actors))
        raise ContractError(f'{where}: options for method {unknown[0]!r}, which it has not written; it has {known}')
    return tuple(actors.values())


def _actor(service: Service, method: str, behaviour: Any, options: dict[str, Any]) -> Actor:
    full_name = f'{service.name}.{method}'
    _check_options(f'servicer method {full_name}', options, {*_OPTIONS, 'name'})
    name = options.pop('name', full_name.replace('.', '-'))
    event = service[method]
    threads = options.get('max_jobs', JOBS)
    return Actor(name, event, handler_of(behaviour, event.kind, threads=threads), **options)


def _check_options(where: str, options: Mapping[str, Any], known: set[str]) -> None:
    for option in sorted(set(options) - known):
        near = difflib.get_close_matches(option, known, n=1)
        hint = f', did you mean {near[0]!r}?' if near else f'; there are {", ".join(sorted(known))}'
        raise ContractError(f'{where}: no option {option!r}{hint}')
