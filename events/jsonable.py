"""Converters between typed values and what JSON can say. Strict: 3.5 is no int, "3" is none either. Pure."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints


class Mismatch(Exception):  # noqa: N818
    """A value that is not of its type; the text names the place within the value."""


class Converter(NamedTuple):
    """Both directions for one type. They raise Mismatch."""

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


def converter_for(schema: Any) -> Converter:
    """The converter of a type. Raises TypeError for one that JSON cannot carry."""
    if schema in _PLAIN:
        return _PLAIN[schema]
    origin, arguments = get_origin(schema), get_args(schema)
    if origin in (Union, types.UnionType):
        return _union([converter_for(argument) for argument in arguments])
    if schema is list or origin is list:
        return _sequence(converter_for(arguments[0]) if arguments else _ANYTHING)
    if schema is dict or origin is dict:
        if arguments and arguments[0] is not str:
            raise TypeError('the keys of a JSON object are str')
        return _mapping(converter_for(arguments[1]) if arguments else _ANYTHING)
    if origin is tuple and arguments and Ellipsis not in arguments:
        return _tuple([converter_for(argument) for argument in arguments])
    if isinstance(schema, type) and dataclasses.is_dataclass(schema):
        return _dataclass(schema)
    raise TypeError('JSON cannot carry it')


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) not in kinds:
            raise Mismatch(f'{kinds[0].__name__} wanted, not {type(value).__name__}')
        return value

    return check


def _to_float(value: Any) -> float:
    found = float(_exactly(float, int)(value))
    if not math.isfinite(found):
        raise Mismatch('a finite number wanted')
    return found


def _from_datetime(value: Any) -> str:
    found: datetime = _exactly(datetime)(value)
    if found.tzinfo is None:
        raise Mismatch('a datetime without a timezone; give one, for example datetime.now(UTC)')
    return found.isoformat()


def _to_datetime(value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(_exactly(str)(value))
    except ValueError:
        raise Mismatch('a time like 2030-01-31T12:00:00Z wanted') from None
    if found.tzinfo is None:
        raise Mismatch('a time without a timezone')
    return found.astimezone(UTC) if found.utcoffset() is None else found


def _from_date(value: Any) -> str:
    found: date = _exactly(date)(value)
    return found.isoformat()


def _to_date(value: Any) -> date:
    try:
        return date.fromisoformat(_exactly(str)(value))
    except ValueError:
        raise Mismatch('a date like 2030-01-31 wanted') from None


def _sequence(item: Converter) -> Converter:
    def each(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda value: [_at(i, convert, one) for i, one in enumerate(_exactly(list)(value))]

    return Converter(each(item.dump), each(item.load))


def _mapping(item: Converter) -> Converter:
    def each(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda value: {_exactly(str)(k): _at(k, convert, one) for k, one in _exactly(dict)(value).items()}

    return Converter(each(item.dump), each(item.load))


def _tuple(items: list[Converter]) -> Converter:
    def dump(value: Any) -> list[Any]:
        return [
            _at(i, item.dump, one)
            for i, (item, one) in enumerate(zip(items, _sized(_exactly(tuple)(value)), strict=True))
        ]

    def load(value: Any) -> tuple[Any, ...]:
        return tuple(
            _at(i, item.load, one)
            for i, (item, one) in enumerate(zip(items, _sized(_exactly(list)(value)), strict=True))
        )

    def _sized(value: Any) -> Any:
        if len(value) != len(items):
            raise Mismatch(f'{len(items)} items wanted, not {len(value)}')
        return value

    return Converter(dump, load)


def _union(members: list[Converter]) -> Converter:
    def first(direction: int) -> Callable[[Any], Any]:
        def convert(value: Any) -> Any:
            for member in members:
                try:
                    return member[direction](value)
                except Mismatch:
                    continue
            raise Mismatch(f'{type(value).__name__} is none of the types that may stand here')

        return convert

    return Converter(first(0), first(1))


def _dataclass(schema: type[Any]) -> Converter:
    """Its hints are looked up at the first use, so that a class may contain itself."""
    converters: dict[str, Converter] = {}

    def fields() -> dict[str, Converter]:
        if not converters:
            hints = get_type_hints(schema)
            converters.update({f.name: converter_for(hints[f.name]) for f in dataclasses.fields(schema) if f.init})
        return converters

    def dump(value: Any) -> dict[str, Any]:
        _exactly(schema)(value)
        return {name: _at(name, converter.dump, getattr(value, name)) for name, converter in fields().items()}

    def load(value: Any) -> Any:
        found = _exactly(dict)(value)
        if unknown := found.keys() - fields().keys():
            raise Mismatch(f'{schema.__name__} has no field {min(unknown)!r}')
        try:
            return schema(**{name: _at(name, fields()[name].load, one) for name, one in found.items()})
        except (TypeError, ValueError) as error:
            raise Mismatch(f'{schema.__name__}: {error}') from error

    hints = get_type_hints(schema) if '<locals>' not in schema.__qualname__ else {}
    for name, hint in hints.items():  # found now, not at the first message
        if hint is not schema and schema not in get_args(hint):
            try:
                converter_for(hint)
            except TypeError as error:
                raise TypeError(f'{schema.__name__}.{name}: {error}') from error
    return Converter(dump, load)


def _at(place: object, convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except Mismatch as error:
        raise Mismatch(f'[{place}] {error}') from None


def _anything(value: Any) -> Any:
    return value


_ANYTHING = Converter(_anything, _anything)
_PLAIN: dict[Any, Converter] = {
    str: Converter(_exactly(str), _exactly(str)),
    int: Converter(_exactly(int), _exactly(int)),
    float: Converter(_to_float, _to_float),
    bool: Converter(_exactly(bool), _exactly(bool)),
    None: Converter(_exactly(types.NoneType), _exactly(types.NoneType)),
    types.NoneType: Converter(_exactly(types.NoneType), _exactly(types.NoneType)),
    datetime: Converter(_from_datetime, _to_datetime),
    date: Converter(_from_date, _to_date),
    Any: _ANYTHING,
}
