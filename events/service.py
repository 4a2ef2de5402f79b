"""Service: a gRPC service as events. Each method, as published on NATS, is an event with response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from natsgate.events import subjects
from natsgate.events.event import Event, EventWithResponse, Limits
from natsgate.events.kind import Kind
from natsgate.events.serializers import serializer_for
from natsgate.events.status import ContractError

SERVICE_LIMITS = Limits(messages=10_000)
"""How many calls of one method may wait before the next is refused with RESOURCE_EXHAUSTED."""

_SAFE_TO_REPEAT = frozenset(
    {descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS, descriptor_pb2.MethodOptions.IDEMPOTENT},
)


class Service(Mapping[str, EventWithResponse[Any, Any]]):
    """The methods of one gRPC service by their names: `WORDS = Service.of(words_pb2, 'Words')`, then `WORDS['Count']`.

    The types are those of the generated code, so a handler takes and returns its messages. A method that the option
    `event` maps to a plain event is that event.
    """

    def __init__(self, descriptor: ServiceDescriptor, *, limits: Limits = SERVICE_LIMITS) -> None:
        """`limits.messages` is per method; the other limits are the whole service's."""
        self.name: str = descriptor.full_name
        self.limits = limits
        self._events = {method.name: _event(method, limits) for method in descriptor.methods}

    @classmethod
    def of(cls, module: ModuleType, name: str, *, limits: Limits = SERVICE_LIMITS) -> Service:
        """The service of this name in a generated module. Raises ContractError if there is none."""
        services = module.DESCRIPTOR.services_by_name
        if name not in services:
            raise ContractError(
                f'{module.__name__}: no service {name!r}; it has {", ".join(sorted(services)) or "none"}'
            )
        return cls(services[name], limits=limits)

    @property
    def stream_name(self) -> str:
        """The work-queue stream that holds the service's calls."""
        return subjects.service_stream(self.name)

    def __getitem__(self, method: str) -> EventWithResponse[Any, Any]:
        try:
            return self._events[method]
        except KeyError:
            known = ', '.join(sorted(self._events)) or 'none'
            raise ContractError(f'service {self.name}: no method {method!r}; it has {known}') from None

    def __contains__(self, method: object) -> bool:
        return method in self._events

    def __iter__(self) -> Iterator[str]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def __repr__(self) -> str:
        return f'Service({self.name!r}: {", ".join(self._events)})'


def _event(method: MethodDescriptor, limits: Limits) -> EventWithResponse[Any, Any]:
    service = method.containing_service.full_name
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    kind = Kind.of(client_streaming=method.client_streaming, server_streaming=method.server_streaming)
    idempotent = method.GetOptions().idempotency_level in _SAFE_TO_REPEAT
    if name := _mapped(method):
        return replace(Event(name, request).with_response(response, kind=kind), idempotent=idempotent)
    return EventWithResponse(
        subject_name=subjects.service_subject(service, method.name),
        stream_name=subjects.service_stream(service),
        target=service,
        schema=request,
        response_schema=response,
        serializer=serializer_for(request),
        response_serializer=serializer_for(response),
        limits=limits,
        service=service,
        kind=kind,
        idempotent=idempotent,
    )


def _mapped(method: MethodDescriptor) -> str:
    """The plain event that natsgate's own option puts the method's calls on; empty without one."""
    try:
        extension: Any = method.containing_service.file.pool.FindExtensionByName('natsgate.v1.method')
    except KeyError:  # whoever uses the option has imported its proto
        return ''
    # Read anew: the options that the pool hands out may have been made without knowing the extension.
    options = GetMessageClass(extension.containing_type).FromString(method.GetOptions().SerializeToString())
    return str(options.Extensions[extension].event)
