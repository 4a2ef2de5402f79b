"""JSON Schemas of the types that events may have, as far as a type tells. Pure."""

from __future__ import annotations

import dataclasses
import types
from datetime import date, datetime
from typing import Any, Union, get_args, get_origin, get_type_hints

from google.protobuf.message import Message

from natsgate.events.serializers import (
    IsoSerializer,
    JsonSerializer,
    ProtobufSerializer,
    PydanticSerializer,
    Serializer,
)

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {'type': 'string'},
    bool: {'type': 'boolean'},
    int: {'type': 'integer'},
    float: {'type': 'number'},
    None: {'type': 'null'},
    types.NoneType: {'type': 'null'},
    datetime: {'type': 'string', 'format': 'date-time'},
    date: {'type': 'string', 'format': 'date'},
    bytes: {'type': 'string', 'contentEncoding': 'binary'},
}


_CONTENT_TYPES: dict[type[Any], str] = {
    ProtobufSerializer: 'application/protobuf',
    JsonSerializer: 'application/json',
    PydanticSerializer: 'application/json',
    IsoSerializer: 'text/plain',
}


def content_type(serializer: Serializer[Any] | None) -> str:
    """How the messages that it makes travel; what a serializer of the user's own makes is bytes."""
    return _CONTENT_TYPES.get(type(serializer), 'application/octet-stream')


def json_schema(schema: Any, within: tuple[Any, ...] = ()) -> dict[str, Any]:
    """The schema of a type; an empty one, which all JSON fits, where there is nothing to say.

    `within` are the dataclasses around it: one that contains itself is described once.
    """
    origin, arguments = get_origin(schema) or schema, get_args(schema)
    found: dict[str, Any] = {}
    if schema in _PLAIN:
        found = dict(_PLAIN[schema])
    elif origin in (Union, types.UnionType):
        found = {'anyOf': [json_schema(one, within) for one in arguments]}
    elif origin is list:
        found = {'type': 'array'} | ({'items': json_schema(arguments[0], within)} if arguments else {})
    elif origin is tuple:
        items = [json_schema(one, within) for one in arguments]
        found = {'type': 'array', 'prefixItems': items, 'minItems': len(items), 'maxItems': len(items)}
    elif origin is dict:
        more = {'additionalProperties': json_schema(arguments[1], within)} if arguments else {}
        found = {'type': 'object'} | more
    elif isinstance(schema, type):
        found = _of_class(schema, within)
    return found


def _of_class(schema: type[Any], within: tuple[Any, ...]) -> dict[str, Any]:
    if issubclass(schema, Message):
        return {'type': 'object', 'title': schema.DESCRIPTOR.full_name}
    if hasattr(schema, 'model_json_schema'):
        found: dict[str, Any] = schema.model_json_schema()
        return found
    if not dataclasses.is_dataclass(schema) or schema in within:
        return {'title': schema.__name__} if schema in within else {}
    hints = get_type_hints(schema) if '<locals>' not in schema.__qualname__ else {}
    fields = [field for field in dataclasses.fields(schema) if field.init]
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    properties = {f.name: json_schema(hints.get(f.name, Any), (*within, schema)) for f in fields}
    return {'type': 'object', 'title': schema.__name__, 'properties': properties, 'required': required}
