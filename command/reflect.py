"""What a server tells of its services by reflection (grpc.reflection.v1, or v1alpha where that is all it has)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from natsgate.command.client import Unaskable
from natsgate.gateway.protos import Descriptors, load

_PROTO = Path(__file__).resolve().parent.parent / 'protos' / 'grpc' / 'reflection' / 'v1' / 'reflection.proto'
_REFLECTION = 'grpc.reflection.'
_VERSIONS = ('v1', 'v1alpha')  # the same messages on the wire


async def reflected(channel: grpc.aio.Channel, timeout: float | None) -> Descriptors:
    """The descriptors of all services. Raises AioRpcError, and Unaskable when the server has no reflection."""
    messages = load([_PROTO]).message_class
    for version in _VERSIONS:
        try:
            return await _Reflection(channel, version, messages, timeout).descriptors()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
    raise Unaskable('the server does not tell its services (it has no reflection): give --proto FILE')


class _Reflection:
    """Questions, each a call of its own.

    In one that goes on, grpc.aio may make INTERNAL of the UNIMPLEMENTED that comes while the first question is written.
    """

    def __init__(
        self, channel: grpc.aio.Channel, version: str, messages: Callable[[str], Any], timeout: float | None
    ) -> None:
        self._request = messages('grpc.reflection.v1.ServerReflectionRequest')
        self._call: Any = channel.unary_stream(
            f'/{_REFLECTION}{version}.ServerReflection/ServerReflectionInfo',
            request_serializer=self._request.SerializeToString,
            response_deserializer=messages('grpc.reflection.v1.ServerReflectionResponse').FromString,
        )
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._files: dict[str, FileDescriptorProto] = {}

    async def descriptors(self) -> Descriptors:
        """All that the server tells."""
        listed = (await self._ask(list_services='*')).list_services_response.service
        services = {service.name for service in listed if not service.name.startswith(_REFLECTION)}
        for service in sorted(services):
            await self._add(file_containing_symbol=service)
        asked: set[str] = set()
        while missing := {name for file in self._files.values() for name in file.dependency} - set(self._files) - asked:
            asked |= missing
            for name in sorted(missing):
                await self._add(file_by_filename=name)
        return _descriptors(self._files, services)

    async def _add(self, **question: str) -> None:
        for data in (await self._ask(**question)).file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(data)
            self._files.setdefault(file.name, file)

    async def _ask(self, **question: str) -> Any:
        left = None if self._deadline is None else max(0, self._deadline - time.monotonic())
        running = self._call(self._request(**question), timeout=left)
        answer = await running.read()
        running.cancel()
        if answer is grpc.aio.EOF:
            raise Unaskable('the server ended its reflection without an answer: give --proto FILE')
        return answer


def _descriptors(files: Mapping[str, FileDescriptorProto], services: Collection[str]) -> Descriptors:
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in files and name not in added:
            added.add(name)
            for dependency in files[name].dependency:
                add(dependency)
            pool.Add(files[name])

    own = {
        name
        for name, file in files.items()
        if any(f'{file.package}.{service.name}'.lstrip('.') in services for service in file.service)
    }
    try:
        for name in files:
            add(name)
    except TypeError as error:
        raise Unaskable(
            f"the server's reflection does not fit together: {' '.join(str(error).split())[:200]}"
        ) from error
    return Descriptors(file_set=FileDescriptorSet(file=files.values()), own=frozenset(own), pool=pool)
