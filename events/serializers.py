"""Serializers: how a message becomes bytes. Chosen by the type that an event declares; one's own go in as an argument.

Everything but bytes and protobuf travels as JSON, as walnats has it, so a str is a JSON string with its quotes. walnats
alone has datetimes without them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import date, datetime
from typing import Any, Generic, Protocol, TypeVar, get_origin

from google.protobuf.message import DecodeError, EncodeError, Message

from natsgate.events.jsonable import Converter, Mismatch, converter_for
from natsgate.events.status import ContractError

T = TypeVar('T')


class SerializerError(ValueError):
    """A message that cannot be encoded, or bytes that cannot be decoded, as the type that was declared."""


class Serializer(Protocol[T]):
    """What an event needs to send and read its messages. Both methods raise SerializerError."""

    def encode(self, value: T, /) -> bytes:
        """The message as bytes."""

    def decode(self, data: bytes, /) -> T:
        """The message in these bytes."""


class BytesSerializer:
    """Bytes, untouched."""

    def encode(self, value: bytes, /) -> bytes:
        """The bytes themselves."""
        if not isinstance(value, bytes | bytearray | memoryview):
            raise SerializerError(f'bytes are declared, this is {type(value).__name__}')
        return bytes(value)

    def decode(self, data: bytes, /) -> bytes:
        """The bytes themselves."""
        return data


class ProtobufSerializer(Generic[T]):
    """One class of protobuf messages."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._name: str = self._schema.DESCRIPTOR.full_name

    def encode(self, value: T, /) -> bytes:
        """The message serialized."""
        if type(value) is not self._schema:
            raise SerializerError(f'{self._name} is declared, this is {type(value).__name__}')
        try:
            data: bytes = value.SerializeToString()  # type: ignore[attr-defined]
        except EncodeError as error:
            raise SerializerError(f'{self._name}: {error}') from error
        return data

    def decode(self, data: bytes, /) -> T:
        """The message parsed."""
        try:
            message: T = self._schema.FromString(data)
        except DecodeError as error:
            raise SerializerError(f'the data is not a {self._name}') from error
        return message


class JsonSerializer(Generic[T]):
    """Plain types, collections, datetimes and dataclasses as JSON; checked both ways."""

    def __init__(self, schema: Any) -> None:
        """Raises TypeError for a type that JSON cannot carry."""
        self._schema = schema
        self._name = getattr(schema, '__name__', None) or str(schema)
        self._converter: Converter = converter_for(schema)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._schema,)  # a converter is made of functions without names

    def encode(self, value: T, /) -> bytes:
        """The message as compact JSON."""
        try:
            plain = self._converter.dump(value)
            return json.dumps(plain, separators=(',', ':'), allow_nan=False).encode()
        except (Mismatch, ValueError, TypeError, RecursionError) as error:
            raise SerializerError(f'not a {self._name}: {error or type(error).__name__}') from error

    def decode(self, data: bytes, /) -> T:
        """The message in this JSON."""
        try:
            loaded = json.loads(data or b'null', parse_constant=_refuse_constant)
            value: T = self._converter.load(loaded)
        except (Mismatch, ValueError, RecursionError, MemoryError) as error:
            raise SerializerError(f'the data is not a {self._name}: {error or type(error).__name__}') from error
        return value


class IsoSerializer(Generic[T]):
    """A datetime or a date as walnats has it: bare ISO 8601 text, for events shared with its programs."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._dump = converter_for(schema).dump

    def encode(self, value: T, /) -> bytes:
        """The moment as text, with its timezone."""
        try:
            text: str = self._dump(value)
        except Mismatch as error:
            raise SerializerError(f'not a {self._schema.__name__}: {error}') from error
        return text.encode()

    def decode(self, data: bytes, /) -> T:
        """The moment in this text. One without a timezone, as walnats' clock emits it, is taken for local time."""
        try:
            found: Any = self._schema.fromisoformat(data.decode())
            if isinstance(found, datetime) and found.tzinfo is None:
                found = found.astimezone()
        except (ValueError, OverflowError) as error:
            raise SerializerError(f'the data is not a {self._schema.__name__}: {error}') from error
        return found  # type: ignore[no-any-return]


class PydanticSerializer(Generic[T]):
    """A pydantic 2 model as JSON, validated by it."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema

    def encode(self, value: T, /) -> bytes:
        """The model as JSON."""
        if not isinstance(value, self._schema):
            raise SerializerError(f'{self._schema.__name__} is declared, this is {type(value).__name__}')
        try:
            text: str = value.model_dump_json()
        except ValueError as error:
            raise SerializerError(f'{self._schema.__name__}: {_one_line(error)}') from error
        return text.encode()

    def decode(self, data: bytes, /) -> T:
        """The model that validates this JSON."""
        try:
            value: T = self._schema.model_validate_json(data)
        except ValueError as error:
            raise SerializerError(f'the data is not a {self._schema.__name__}: {_one_line(error)}') from error
        return value


def serializer_for(schema: type[T], *, walnats: bool = False) -> Serializer[T]:
    """The serializer of a type; the one that `walnats` has for it. Raises ContractError for one that has none."""
    chosen: Any
    if walnats and schema in (datetime, date):
        return IsoSerializer(schema)
    if isinstance(schema, type) and get_origin(schema) is None:
        if issubclass(schema, bytes):
            return BytesSerializer()  # type: ignore[return-value]
        if issubclass(schema, Message):
            return ProtobufSerializer(schema)
        if _is_pydantic(schema):
            return PydanticSerializer(schema)
    try:
        chosen = JsonSerializer(schema)
    except TypeError as error:
        raise ContractError(
            f'no serializer for {schema!r}: {error}; pass serializer= with encode() and decode()'
        ) from error
    return chosen  # type: ignore[no-any-return]


def _is_pydantic(schema: type[Any]) -> bool:
    pydantic = sys.modules.get('pydantic')  # whoever has a model has imported it
    return pydantic is not None and issubclass(schema, pydantic.BaseModel) and not dataclasses.is_dataclass(schema)


def _refuse_constant(name: str) -> None:
    raise ValueError(f'{name} is no JSON')


def _one_line(error: ValueError) -> str:
    return ' '.join(str(error).split())[:300]
