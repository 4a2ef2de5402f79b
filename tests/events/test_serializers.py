"""Serializers: what is declared goes through and comes back; what is not is refused, in both directions."""

import contextlib
import dataclasses
from datetime import UTC, datetime
from typing import Any

import pydantic
import pytest
from demo.v1 import words_pb2
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events import ContractError, Event, SerializerError
from natsgate.events.serializers import serializer_for


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5
    tags: list[str] = dataclasses.field(default_factory=list)


class Model(pydantic.BaseModel):
    name: str
    size: int = 1


NOW = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ('schema', 'value'),
    [
        (bytes, b'\0\xff'),
        (str, 'grüße "x"\n'),
        (int, 2**70),
        (float, 0.1),
        (bool, True),
        (type(None), None),
        (datetime, NOW),
        (dict, {'a': [1, None, {'b': 'c'}]}),
        (list, [1, 'a', None]),
        (dict[str, int], {'a': 1}),
        (list[datetime], [NOW]),
        (tuple[int, str], (1, 'a')),
        (int | None, None),
        (Point, Point(1, 2.0, ['a'])),
        (list[Point], [Point(1)]),
        (Model, Model(name='a', size=3)),
        (words_pb2.CountRequest, words_pb2.CountRequest(text='a b')),
    ],
)
def test_round_trip(schema: Any, value: Any) -> None:
    serializer = serializer_for(schema)
    back = serializer.decode(serializer.encode(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ('schema', 'value'),
    [
        (bytes, 'text'),
        (str, b'bytes'),
        (str, 5),
        (int, 'x'),
        (int, 1.5),
        (int, True),
        (float, float('nan')),
        (bool, 1),
        (type(None), 0),
        (datetime, '2024-01-01'),
        (dict, {1: 'a'}),
        (list[int], ['a']),
        (tuple[int, str], (1,)),
        (Point, {'x': 1}),
        (Point, Point('a')),  # type: ignore[arg-type]
        (Model, {'name': 'a'}),
        (words_pb2.CountRequest, words_pb2.CountResponse()),
        (words_pb2.CountRequest, None),
    ],
)
def test_what_is_not_declared_is_not_sent(schema: Any, value: Any) -> None:
    with pytest.raises(SerializerError):
        serializer_for(schema).encode(value)


@pytest.mark.parametrize(
    ('schema', 'data'),
    [
        (str, b'5'),
        (str, b'\xff'),
        (str, b'"a" "b"'),
        (int, b'1.5'),
        (int, b'"1"'),
        (int, b'true'),
        (float, b'NaN'),
        (float, b'1e999'),
        (bool, b'1'),
        (type(None), b'0'),
        (datetime, b'"yesterday"'),
        (dict, b'[]'),
        (list, b'{}'),
        (list, b'[' * 100_000),
        (Point, b'{}'),
        (Point, b'{"x": 1, "z": 2}'),
        (Point, b'{"x": "a"}'),
        (Model, b'{}'),
        (Model, b'{"name": "a", "size": "b"}'),
        (words_pb2.CountRequest, b'\xff\xff'),
    ],
)
def test_what_is_not_declared_is_not_read(schema: Any, data: bytes) -> None:
    with pytest.raises(SerializerError):
        serializer_for(schema).decode(data)


@pytest.mark.parametrize('schema', [object, set, complex, dict[int, str]])
def test_types_without_a_serializer(schema: Any) -> None:
    with pytest.raises(ContractError, match='pass serializer='):
        serializer_for(schema)


def test_ones_own_serializer() -> None:
    class Upper:
        def encode(self, value: str, /) -> bytes:
            return value.upper().encode()

        def decode(self, data: bytes, /) -> str:
            return data.decode()

    event = Event('e', str, serializer=Upper()).with_response(str, Upper())
    assert event.encode('a') == event.encode_response('a') == b'A'
    assert event.decode(b'x') == 'x'


SCHEMAS = (bytes, str, int, float, bool, type(None), datetime, dict, list, Point, Model, words_pb2.CountRequest)


@given(schema=st.sampled_from(SCHEMAS), data=st.binary(max_size=50))
def test_any_bytes_are_decoded_or_refused(schema: Any, data: bytes) -> None:
    with contextlib.suppress(SerializerError):
        serializer_for(schema).decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(value=st.dictionaries(st.text(), JSON))
def test_any_json_comes_back(value: dict[str, Any]) -> None:
    serializer = serializer_for(dict)
    assert serializer.decode(serializer.encode(value)) == value
