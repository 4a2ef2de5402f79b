"""A small gRPC client that knows its messages from descriptors: JSON in, JSON out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor

from natsgate.events.status import Code, ContractError, Status
from natsgate.gateway.protos import Descriptors

_DETAILS = 'grpc-status-details-bin'


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended, as JSON can say it."""

    code: Code
    message: str
    response: Any = None
    """The response message as JSON; None for an error."""
    details: list[Any] = field(default_factory=list)
    """The details of an error, as JSON."""
    initial: tuple[tuple[str, str | bytes], ...] = ()
    trailing: tuple[tuple[str, str | bytes], ...] = ()
    seconds: float = 0.0
    """How long it took."""


def find_method(descriptors: Descriptors, name: str) -> MethodDescriptor:
    """The method that `pkg.Service/Method` (or with a dot) names. Raises ContractError with what there is."""
    service_name, _, method_name = name.strip('/').replace('/', '.').rpartition('.')
    methods = {f'{m.containing_service.full_name}/{m.name}': m for s in descriptors.services() for m in s.methods}
    found = methods.get(f'{service_name}/{method_name}')
    if found is None:
        raise ContractError(f'method {name!r}: not in the protos; they have {", ".join(methods) or "none"}')
    if found.client_streaming or found.server_streaming:
        raise ContractError(f'method {name!r}: streams; this client makes unary calls')
    return found


async def call(
    channel: grpc.aio.Channel,
    descriptors: Descriptors,
    method: MethodDescriptor,
    request: str,
    *,
    metadata: Iterable[tuple[str, str | bytes]] = (),
    timeout: float | None = None,
) -> Outcome:
    """Make one unary call. Raises ContractError for JSON that is not the request's message."""
    message = descriptors.message_class(method.input_type.full_name)()
    try:
        json_format.Parse(request, message, descriptor_pool=descriptors.pool)
    except json_format.ParseError as error:
        raise ContractError(f'the data is not a {method.input_type.full_name}: {_one_line(error)}') from error
    path = f'/{method.containing_service.full_name}/{method.name}'
    unary: Any = channel.unary_unary(path)
    started = time.perf_counter()
    running = unary(message.SerializeToString(), metadata=tuple(metadata), timeout=timeout)
    try:
        data = await running
    except grpc.aio.AioRpcError as error:
        seconds = time.perf_counter() - started
        return _failed(descriptors, error, seconds)
    seconds = time.perf_counter() - started
    response = descriptors.message_class(method.output_type.full_name).FromString(data)
    return Outcome(
        code=Code.OK,
        message='',
        response=to_json(descriptors, response),
        initial=tuple(await running.initial_metadata() or ()),
        trailing=tuple(await running.trailing_metadata() or ()),
        seconds=seconds,
    )


def to_json(descriptors: Descriptors, message: Any) -> Any:
    """A message as JSON; an Any of a type that is not known stays as its type and bytes."""
    return json.loads(json_format.MessageToJson(message, descriptor_pool=descriptors.pool))


def _failed(descriptors: Descriptors, error: grpc.aio.AioRpcError, seconds: float) -> Outcome:
    trailing = tuple(error.trailing_metadata() or ())
    packed = next((value for key, value in trailing if key == _DETAILS), b'')
    status = Status(Code.of(error.code()), error.details() or '', packed if isinstance(packed, bytes) else b'')
    return Outcome(
        code=status.code,
        message=status.message,
        details=[_detail(descriptors, detail) for detail in status.unpacked()],
        initial=tuple(error.initial_metadata() or ()),
        trailing=tuple(pair for pair in trailing if pair[0] != _DETAILS),
        seconds=seconds,
    )


def _detail(descriptors: Descriptors, detail: Any) -> Any:
    for pool in (descriptors.pool, None):
        try:
            return json.loads(json_format.MessageToJson(detail, descriptor_pool=pool))
        except (TypeError, json_format.Error):
            continue
    return {'@type': detail.type_url, 'value': detail.value.hex()}


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())[:300]
