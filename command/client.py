"""A small gRPC client that knows its messages from descriptors: JSON in, JSON out, all four kinds of call."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor

from natsgate.command import jsons
from natsgate.command.settings import did_you_mean
from natsgate.events.status import Code, Status
from natsgate.gateway.protos import Descriptors

_DETAILS = 'grpc-status-details-bin'


class Unaskable(Exception):  # noqa: N818
    """There is no such method, or the data is not its request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended, as JSON can say it."""

    code: Code
    message: str = ''
    response: Any = None
    """The last response message as JSON; None when there was none."""
    details: list[Any] = field(default_factory=list)
    """The details of an error, as JSON."""
    initial: tuple[tuple[str, str | bytes], ...] = ()
    trailing: tuple[tuple[str, str | bytes], ...] = ()
    seconds: float = 0.0
    """How long it took."""


def find_method(descriptors: Descriptors, name: str, place: str = 'the protos given') -> MethodDescriptor:
    """The method that `pkg.Service/Method` (or with a dot) names. Raises Unaskable with what there is."""
    service_name, _, method_name = name.strip('/').replace('/', '.').rpartition('.')
    methods = {f'{m.containing_service.full_name}/{m.name}': m for s in descriptors.services() for m in s.methods}
    found = methods.get(f'{service_name}/{method_name}')
    if found is None:
        hint = did_you_mean(name, methods) or f'; there are {", ".join(methods) or "none at all"}'
        raise Unaskable(f'method {name!r} is not in {place}{hint}')
    return found


async def call(
    channel: grpc.aio.Channel,
    descriptors: Descriptors,
    method: MethodDescriptor,
    data: str,
    *,
    metadata: Iterable[tuple[str, str | bytes]] = (),
    timeout: float | None = None,
    on_response: Callable[[Any], None] = lambda _: None,
) -> Outcome:
    """Make a call with requests in JSON, or those on STDIN; each response is told as it comes.

    Raises Unaskable for wrong requests: before the call is begun, but for a stream of them on STDIN.
    """
    messages = _messages(descriptors, method, jsons.values(data))
    if data != jsons.STDIN or not method.client_streaming:
        messages = _again(_right_number(method, [message async for message in messages]))
    output = descriptors.message_class(method.output_type.full_name)
    response = None

    def on_data(data: bytes) -> None:
        nonlocal response
        response = to_json(descriptors, output.FromString(data))
        on_response(response)

    started = time.perf_counter()
    # On the wire there is no difference. But grpc.aio makes INTERNAL of whatever status comes while a message is being
    # written, so a single one goes out as the call begins.
    kind = channel.stream_stream if method.client_streaming else channel.unary_stream
    begin: Any = kind(f'/{method.containing_service.full_name}/{method.name}')
    request = () if method.client_streaming else (await anext(messages),)
    running = begin(*request, metadata=tuple(metadata), timeout=timeout)
    try:
        await _converse(running, messages, on_data)
    except grpc.aio.AioRpcError as error:
        return failed(error, descriptors, time.perf_counter() - started)
    return Outcome(
        code=Code.OK,
        response=response,
        initial=tuple(await running.initial_metadata() or ()),
        trailing=tuple(await running.trailing_metadata() or ()),
        seconds=time.perf_counter() - started,
    )


async def _messages(
    descriptors: Descriptors, method: MethodDescriptor, requests: AsyncIterable[str]
) -> AsyncIterator[bytes]:
    """The requests, serialized."""
    name = method.input_type.full_name
    try:
        async for request in requests:
            message = descriptors.message_class(name)()
            if not request.lstrip().startswith('{') and not name.startswith('google.protobuf.'):
                raise jsons.NoJson('it does not begin with {')  # json_format takes [] for a message
            json_format.Parse(request, message, descriptor_pool=descriptors.pool)
            yield message.SerializeToString()
    except (jsons.NoJson, json_format.ParseError) as error:
        raise Unaskable(f'the data is not a {name}: {" ".join(str(error).split())[:300]}') from error


def _right_number(method: MethodDescriptor, messages: list[bytes]) -> list[bytes]:
    """The messages; an empty one where there is none, but ought to be."""
    if method.client_streaming:
        return messages
    if len(messages) > 1:
        raise Unaskable(f'the data is {len(messages)} messages, and {method.name} takes one')
    return messages or [b'']


async def _again(messages: list[bytes]) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def _converse(running: Any, messages: AsyncIterator[bytes], on_data: Callable[[bytes], None]) -> None:
    """Write and read at the same time, until the server has ended the call."""

    async def read() -> None:
        async for data in running:
            on_data(data)

    async def write() -> None:
        async for message in messages:
            await running.write(message)
        if isinstance(running, grpc.aio.StreamStreamCall):
            await running.done_writing()

    reading, writing = (
        asyncio.create_task(read(), name='client/read'),
        asyncio.create_task(write(), name='client/write'),
    )
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_COMPLETED)
        if writing.done() and isinstance(error := writing.exception(), Unaskable):
            raise error
        await reading  # it hears how the call ended, also where writing failed because it had
    finally:
        running.cancel()
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)


def to_json(descriptors: Descriptors, message: Any) -> Any:
    """A message as JSON; an Any of a type that is not known stays as its type and bytes."""
    return json.loads(json_format.MessageToJson(message, descriptor_pool=descriptors.pool))


def failed(error: grpc.aio.AioRpcError, descriptors: Descriptors | None = None, seconds: float = 0.0) -> Outcome:
    """How a call ended that did not end well."""
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


def _detail(descriptors: Descriptors | None, detail: Any) -> Any:
    for pool in (descriptors.pool if descriptors else None, None):
        try:
            return json.loads(json_format.MessageToJson(detail, descriptor_pool=pool))
        except (TypeError, json_format.Error):
            continue
    return {'@type': detail.type_url, 'value': detail.value.hex()}
