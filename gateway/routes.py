"""Routes: where each method's calls go. Made of descriptors and overrides, before the first call. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from natsgate.events import subjects, walnats
from natsgate.events.kind import Kind
from natsgate.events.status import ContractError
from natsgate.gateway.protos import Descriptors

_IDEMPOTENT = frozenset({descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS, descriptor_pb2.MethodOptions.IDEMPOTENT})


OWN_SERVICES = frozenset(
    {'grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'}
)
"""Services that the gateway answers by itself, also where a set of protos has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method, and where its calls go."""

    method: str
    """As gRPC names it: `/demo.v1.Words/Count`."""
    service: str
    """The service's full name."""
    kind: Kind
    """Who streams."""
    subject: str
    """Where its requests are published."""
    stream: str
    """The stream that takes them."""
    target: str
    """Who may answer: the part of a reply subject that actors check."""
    timeout: float | None
    """Seconds that a call may take; for a streaming call: that may pass between two messages. None: the gateway's."""
    grace: float | None
    """Seconds for which calls wait although no worker lives; None: the default of 10 s."""
    walnats: bool
    """Whether its event is shared with actors of walnats."""
    idempotent: bool
    """Whether the method is declared NO_SIDE_EFFECTS or IDEMPOTENT: running it twice does no harm."""
    request_type: str
    """The request's message, by its full name."""
    response_type: str
    """The response's message, by its full name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What a config file says about a method or a service, for protos that one cannot touch."""

    event: str | None = None
    """Publish to the plain event of this name."""
    walnats: bool | None = None
    """Whether that event is shared with actors of walnats."""
    timeout: float | None = None
    """Seconds that a call may take; for a streaming call: that may pass between two messages."""
    grace: float | None = None
    """Seconds for which calls wait although no worker lives."""


def routes(descriptors: Descriptors, overrides: Mapping[str, Override] | None = None) -> dict[str, Route]:
    """The routes of all services, by gRPC's name of the method.

    `overrides` are keyed by `pkg.Service/Method` or `pkg.Service`. A method's word beats its service's, and an override
    beats an option in the proto. Raises ContractError for what cannot work: it names the place and the cure.
    """
    overrides = overrides or {}
    found = {
        route.method: route
        for service in descriptors.services()
        if service.full_name not in OWN_SERVICES
        for route in _routes(descriptors, service, overrides)
    }
    if not found:
        raise ContractError(
            'no services: give protos that declare some, with --proto, or `proto = [...]` in the config file'
        )
    _check_overrides(overrides, found)
    _check_subjects(found)
    return found


def _routes(descriptors: Descriptors, service: ServiceDescriptor, overrides: Mapping[str, Override]) -> Iterator[Route]:
    for method in service.methods:
        name = f'{service.full_name}/{method.name}'
        option, for_service = descriptors.options(method), descriptors.options(service)
        override, override_service = overrides.get(name, Override()), overrides.get(service.full_name, Override())
        event = _event(name, override.event or (option.event if option is not None else ''))  # type: ignore[attr-defined]
        timeout = _first(
            override.timeout, override_service.timeout, _seconds(option, 'timeout'), _seconds(for_service, 'timeout')
        )
        if timeout is not None and timeout <= 0:
            raise ContractError(f'{name}: a timeout of {timeout:g} s; it must be more than 0')
        grace = _first(
            override.grace, override_service.grace, _seconds(option, 'grace'), _seconds(for_service, 'grace')
        )
        if grace is not None and grace < 0:
            raise ContractError(f'{name}: a grace of {grace:g} s; it must not be negative')
        shared = override.walnats if override.walnats is not None else bool(option and option.walnats)  # type: ignore[attr-defined]
        yield _route(method, event, timeout, grace, shared)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _route(method: MethodDescriptor, event: str, timeout: float | None, grace: float | None, shared: bool) -> Route:
    service = method.containing_service.full_name
    kind = Kind.of(client_streaming=method.client_streaming, server_streaming=method.server_streaming)
    if shared and not event:
        raise ContractError(f'{service}/{method.name}: walnats: say which event of its it is, with `event`')
    if shared and kind is not Kind.UNARY:
        raise ContractError(f'{service}/{method.name}: walnats knows no {kind} calls')
    stream_of = walnats.stream_of if shared else subjects.stream_of
    return Route(
        method=f'/{service}/{method.name}',
        service=service,
        kind=kind,
        subject=event or subjects.service_subject(service, method.name),
        stream=stream_of(event) if event else subjects.service_stream(service),
        target=event or service,
        timeout=timeout,
        grace=grace,
        walnats=shared,
        idempotent=method.GetOptions().idempotency_level in _IDEMPOTENT,
        request_type=method.input_type.full_name,
        response_type=method.output_type.full_name,
    )


def _event(method: str, name: str) -> str:
    if name:
        subjects.checked_event_name(name, f'{method}: event')
        if name.startswith(subjects.SERVICE_PREFIX):
            raise ContractError(
                f'{method}: event {name!r}: names beginning with {subjects.SERVICE_PREFIX!r} belong to services'
            )
    return name


def _seconds(option: Message | None, field: str) -> float | None:
    if option is None or not option.HasField(field):
        return None
    duration = getattr(option, field)
    return float(duration.seconds + duration.nanos / 1e9)


def _check_overrides(overrides: Mapping[str, Override], found: Mapping[str, Route]) -> None:
    known = {route.method[1:] for route in found.values()} | {route.service for route in found.values()}
    for name, override in overrides.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f', did you mean {near[0]!r}?' if near else f'; there are {", ".join(sorted(known))}'
            raise ContractError(f'override for {name!r}: the protos have no such method or service{hint}')
        if override.event and '/' not in name:
            raise ContractError(f'override for {name!r}: an event is set per method, not for a whole service')


def _check_subjects(found: Mapping[str, Route]) -> None:
    taken: dict[str, Route] = {}
    for route in found.values():
        other = taken.setdefault(route.subject, route)
        if other is not route:
            raise ContractError(
                f'{other.method[1:]} and {route.method[1:]} both go to {route.subject}; give one another event'
            )
