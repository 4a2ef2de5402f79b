"""Server reflection: what is served, told to clients that have no protos (grpc.reflection.v1 and v1alpha).

It answers from the descriptors as they were read, so that comments survive: a pool forgets them. What each request must
be answered with is told in grpc/reflection/v1/reflection.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from natsgate.events.frames import Message
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway.call import Call
from natsgate.gateway.protos import Descriptors

_PACKAGE = 'grpc.reflection.v1'
_SHOWN = 200


class NotFound(Exception):  # noqa: N818  a state of the question, named as such
    """Nothing of that name is served; the text says what was looked for."""


class Index:
    """Where everything is declared: files by name, by symbol and by extension. Built once. Pure."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        """Where two files declare the same, the first one counts."""
        self._files: dict[str, tuple[bytes, tuple[str, ...]]] = {}
        self._symbols: dict[str, str] = {}
        self._extensions: dict[str, dict[int, str]] = {}
        for file in files:
            self._add(file)

    def add_beside(self, file: FileDescriptorProto) -> None:
        """Add a file of our own without a clash: not at all where its services are declared already, and under another
        name where its name alone is taken.
        """
        if all(f'{_scope(file)}{service.name}' in self._symbols for service in file.service):
            return
        name = file.name
        while name in self._files:
            name = f'natsgate/{name}'
        renamed = FileDescriptorProto()
        renamed.CopyFrom(file)
        renamed.name = name
        self._add(renamed)

    def by_name(self, name: str) -> list[bytes]:
        """This file and all that it depends on, serialized, each once. Raises NotFound."""
        if name not in self._files:
            raise NotFound(f'no file {name[:_SHOWN]!r}')
        found: dict[str, bytes] = {}
        wanted = [name]
        while wanted:
            next_one = wanted.pop()
            if next_one in self._files and next_one not in found:
                found[next_one], dependencies = self._files[next_one]
                wanted.extend(reversed(dependencies))
        return list(found.values())

    def by_symbol(self, symbol: str) -> list[bytes]:
        """The file that declares this full name, as by_name(). Raises NotFound."""
        file = self._symbols.get(symbol.lstrip('.'))
        if file is None:
            raise NotFound(f'no symbol {symbol[:_SHOWN]!r}')
        return self.by_name(file)

    def by_extension(self, extendee: str, number: int) -> list[bytes]:
        """The file that extends this message with this number, as by_name(). Raises NotFound."""
        file = self._extensions.get(extendee.lstrip('.'), {}).get(number)
        if file is None:
            raise NotFound(f'no extension {number} of {extendee[:_SHOWN]!r}')
        return self.by_name(file)

    def extension_numbers(self, extendee: str) -> list[int]:
        """The numbers of a message's extensions, in order. Raises NotFound for what is no message."""
        numbers = self._extensions.get(extendee.lstrip('.'))
        if numbers is None:
            raise NotFound(f'no message {extendee[:_SHOWN]!r}')
        return sorted(numbers)

    def _add(self, file: FileDescriptorProto) -> None:
        self._files[file.name] = (file.SerializeToString(), tuple(file.dependency))
        scope = _scope(file)
        messages = list(_messages(scope, file.message_type))
        for symbol in _symbols(scope, file, messages):
            self._symbols.setdefault(symbol, file.name)
        for name, _ in messages:
            self._extensions.setdefault(name, {})
        for extension in (*file.extension, *(inner for _, message in messages for inner in message.extension)):
            known = self._extensions.setdefault(extension.extendee.lstrip('.'), {})
            known.setdefault(extension.number, file.name)


class Reflection:
    """Answers reflection calls of both versions: their messages are the same on the wire."""

    def __init__(self, descriptors: Descriptors, infrastructure: Descriptors) -> None:
        """`infrastructure`: the gateway's own services, reflection among them; they are listed beside those served."""
        self._index = Index(descriptors.file_set.file)
        for file in infrastructure.file_set.file:
            self._index.add_beside(file)
        listed = (*descriptors.services(), *infrastructure.services())
        self._services = sorted({service.full_name for service in listed})
        self._request: Any = infrastructure.message_class(f'{_PACKAGE}.ServerReflectionRequest')
        self._response: Any = infrastructure.message_class(f'{_PACKAGE}.ServerReflectionResponse')

    async def answer(self, call: Call) -> Response:
        """Serve one call, an Answer: a response for each request until the client has no more."""
        while (message := await call.read()) is not None:
            try:
                request = self._request.FromString(message.data)
            except DecodeError:
                text = f'the request is not a {_PACKAGE}.ServerReflectionRequest'
                return Response(status=Status(Code.INVALID_ARGUMENT, text))
            await call.write(Message(self.reply(request).SerializeToString()))
        return Response()

    def reply(self, request: Any) -> Any:
        """The ServerReflectionResponse to a ServerReflectionRequest; what cannot be answered is told in it."""
        response = self._response(valid_host=request.host, original_request=request)
        try:
            self._fill(response, request)
        except NotFound as missing:
            response.error_response.error_code = Code.NOT_FOUND
            response.error_response.error_message = str(missing)
        return response

    def _fill(self, response: Any, request: Any) -> None:
        files = response.file_descriptor_response.file_descriptor_proto
        match request.WhichOneof('message_request'):
            case 'list_services':
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            case 'file_by_filename':
                files.extend(self._index.by_name(request.file_by_filename))
            case 'file_containing_symbol':
                files.extend(self._index.by_symbol(request.file_containing_symbol))
            case 'file_containing_extension':
                asked = request.file_containing_extension
                files.extend(self._index.by_extension(asked.containing_type, asked.extension_number))
            case 'all_extension_numbers_of_type':
                name = request.all_extension_numbers_of_type.lstrip('.')
                found = response.all_extension_numbers_response
                found.extension_number.extend(self._index.extension_numbers(name))
                found.base_type_name = name
            case _:
                response.error_response.error_code = Code.INVALID_ARGUMENT
                response.error_response.error_message = 'the request asks for nothing that is known here'


def _scope(file: FileDescriptorProto) -> str:
    return f'{file.package}.' if file.package else ''


def _messages(scope: str, messages: Iterable[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
    """These messages and those within them, by their full names."""
    for message in messages:
        name = f'{scope}{message.name}'
        yield name, message
        yield from _messages(f'{name}.', message.nested_type)


def _symbols(scope: str, file: FileDescriptorProto, messages: Iterable[tuple[str, DescriptorProto]]) -> Iterator[str]:
    """Every full name that a file declares."""
    for service in file.service:
        yield f'{scope}{service.name}'
        yield from (f'{scope}{service.name}.{method.name}' for method in service.method)
    yield from (f'{scope}{extension.name}' for extension in file.extension)
    yield from _enum_symbols(scope, file.enum_type)
    for name, message in messages:
        yield name
        for fields in (message.field, message.extension):
            yield from (f'{name}.{field.name}' for field in fields)
        yield from (f'{name}.{oneof.name}' for oneof in message.oneof_decl)
        yield from _enum_symbols(f'{name}.', message.enum_type)


def _enum_symbols(scope: str, enums: Iterable[EnumDescriptorProto]) -> Iterator[str]:
    for enum in enums:
        yield f'{scope}{enum.name}'
        yield from (f'{scope}{value.name}' for value in enum.value)  # protobuf's rule: a value is its enum's sibling
