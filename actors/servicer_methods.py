"""The methods of a servicer: what its generated function adds to a server, held against the descriptors."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from natsgate.actors.signature import place_of
from natsgate.events.kind import Kind
from natsgate.events.status import ContractError

AddToServer = Callable[[Any, Any], None]
"""What generated code calls `add_…Servicer_to_server`."""

Behaviour = Callable[..., Any]
"""A method of a servicer: `method(request or requests, context)`."""


class _Call(NamedTuple):
    """What a generic handler is asked with."""

    method: str
    invocation_metadata: tuple[()] = ()


class _Recorder:
    """Stands in for a server: remembers what is added to it, by service and method."""

    def __init__(self) -> None:
        self.generic: list[Any] = []
        self.registered: list[tuple[str, Mapping[str, Any]]] = []

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        """As of a server."""
        self.generic.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service: str, method_handlers: Mapping[str, Any]) -> None:
        """As of a server. Code generated before grpcio 1.65 does not call it."""
        self.registered.append((service, method_handlers))


def methods_of(servicer: object, add_to_server: AddToServer) -> Iterator[tuple[MethodDescriptor, Behaviour]]:
    """The methods that the servicer has written itself, checked. Raises ContractError, which names the place.

    Those that it inherits from generated code say only that they are not there. They are left out, so that another
    worker may have them, and a call that nobody serves fails without one.
    """
    added = _added(servicer, add_to_server)
    unwritten: list[str] = []
    for name in dict.fromkeys([name for name, _ in added.registered] + [one.service_name() for one in added.generic]):
        service = _descriptor(name, add_to_server)
        for method, handler in _handlers(service, added).items():
            behaviour = _behaviour(handler)
            _check(service, method, handler, behaviour)
            if _is_generated(behaviour, service):
                unwritten.append(method)
            else:
                yield service.methods_by_name[method], behaviour
    _check_spelling(servicer, unwritten)


def _check_spelling(servicer: object, unwritten: Sequence[str]) -> None:
    """A method of the servicer's own that is called nearly like one that it has not written."""
    for name, method in inspect.getmembers(type(servicer), callable):
        near = difflib.get_close_matches(name, unwritten, n=1, cutoff=0.8)
        if near and name != near[0] and not name.startswith('_'):
            raise ContractError(
                f'servicer {type(servicer).__name__}: its method {name}{place_of(method)} is none of the service, '
                f'did you mean {near[0]}?'
            )


def _added(servicer: object, add_to_server: AddToServer) -> _Recorder:
    if isinstance(servicer, type):
        raise ContractError(f'servicer {servicer.__name__}: this is a class; give an instance, {servicer.__name__}()')
    where = f'servicer {type(servicer).__name__}'
    if not inspect.isroutine(add_to_server):
        raise ContractError(f'{where}: after it, give the function add_…Servicer_to_server of its generated module')
    recorder = _Recorder()
    try:
        add_to_server(servicer, recorder)
    except (AttributeError, TypeError) as error:
        raise ContractError(
            f'{where}: {add_to_server.__name__}{place_of(add_to_server)} does not fit it: {error}'
        ) from error
    names = [name for name, _ in recorder.registered]
    if len(set(names)) < len(names):
        raise ContractError(f'{where}: {add_to_server.__name__}{place_of(add_to_server)} adds one service twice')
    if not all(isinstance(handler, grpc.ServiceRpcHandler) for handler in recorder.generic):
        raise ContractError(f'{where}: a generic handler does not say which service it is')
    return recorder


def _descriptor(name: str, add_to_server: AddToServer) -> ServiceDescriptor:
    try:
        return descriptor_pool.Default().FindServiceByName(name)
    except KeyError:  # generated into a pool of its own
        pass
    for module in vars(sys.modules[add_to_server.__module__]).values():
        for service in getattr(getattr(module, 'DESCRIPTOR', None), 'services_by_name', {}).values():
            if service.full_name == name:
                found: ServiceDescriptor = service
                return found
    raise ContractError(
        f'{add_to_server.__name__}{place_of(add_to_server)}: no descriptor of service {name}; '
        f'import the module that protoc made of its proto (…_pb2)'
    )


def _handlers(service: ServiceDescriptor, added: _Recorder) -> Mapping[str, Any]:
    registered = dict(added.registered)
    if service.full_name in registered:
        return registered[service.full_name]
    generic = next(one for one in added.generic if one.service_name() == service.full_name)
    asked = {method.name: generic.service(_Call(f'/{service.full_name}/{method.name}')) for method in service.methods}
    return {name: handler for name, handler in asked.items() if handler is not None}


def _behaviour(handler: Any) -> Behaviour:
    kinds = ('unary_unary', 'unary_stream', 'stream_unary', 'stream_stream')
    behaviour: Behaviour = next(found for kind in kinds if (found := getattr(handler, kind)) is not None)
    return behaviour


def _is_generated(behaviour: Behaviour, service: ServiceDescriptor) -> bool:
    base = f'{service.name}Servicer'
    if not getattr(behaviour, '__qualname__', '').startswith(f'{base}.'):
        return False
    home = sys.modules.get(behaviour.__module__)
    add_to_server = getattr(home, f'add_{base}_to_server', None)
    return getattr(add_to_server, '__module__', None) == behaviour.__module__  # written there, not imported


# What would fail at the first call


def _check(service: ServiceDescriptor, name: str, handler: Any, behaviour: Behaviour) -> None:
    where = f'servicer method {service.full_name}/{name}{place_of(behaviour)}'
    method = service.methods_by_name.get(name)
    if method is None:
        known = ', '.join(sorted(service.methods_by_name)) or 'none'
        raise ContractError(f'{where}: the service has no such method; it has {known}: make both modules of one proto')
    kind = Kind.of(client_streaming=method.client_streaming, server_streaming=method.server_streaming)
    added = Kind.of(client_streaming=handler.request_streaming, server_streaming=handler.response_streaming)
    if kind is not added:
        raise ContractError(f'{where}: added as {added}, but the proto says {kind}: make both modules of one proto')
    if handler.request_deserializer is None or handler.response_serializer is None:
        raise ContractError(f'{where}: added without its types; messages are wanted here, not bytes')
    _check_signature(where, behaviour, kind)


def _check_signature(where: str, behaviour: Behaviour, kind: Kind) -> None:
    if not callable(behaviour):
        raise ContractError(f'{where}: {behaviour!r} cannot be called')
    try:
        signature = inspect.signature(behaviour)
    except (TypeError, ValueError):  # what is not written in Python does not always tell
        return
    try:
        signature.bind(object(), object())
    except TypeError:
        raise ContractError(f'{where}: it is called with a request and a context, and takes {signature}') from None
    yields = inspect.isasyncgenfunction(behaviour) or inspect.isgeneratorfunction(behaviour)
    if yields and not kind.server_streams:
        raise ContractError(f'{where}: it yields, but has one response: return it')
