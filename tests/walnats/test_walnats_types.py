"""What messages of each type are as bytes: for a shared event, the same as in the installed library, both ways."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
import walnats
from demo.v1 import words_pb2

from natsgate.events import Event, SerializerError

MOMENT = datetime(2030, 1, 31, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))


@dataclass
class Point:
    x: int
    name: str = 'ü'


@pytest.mark.parametrize(
    ('schema', 'value'),
    [
        (str, 'grüße "x"'),
        (int, 2**70),
        (float, 2.5),
        (float, 3.0),
        (bool, True),
        (type(None), None),
        (dict, {'a': [1, None]}),
        (list, [1, 'a']),
        (bytes, b'\0\xff'),
        (Point, Point(1)),
        (datetime, MOMENT),
        (datetime, datetime(2030, 1, 31, tzinfo=UTC)),
        (date, date(2030, 1, 31)),
        (words_pb2.CountRequest, words_pb2.CountRequest(text='a b')),
    ],
)
def test_the_bytes_are_those_of_walnats(schema: Any, value: Any) -> None:
    theirs = walnats.Event('e', schema).with_response(schema)
    ours = Event('e', schema, walnats=True).with_response(schema)
    assert ours.encode(value) == theirs.encode(value)
    assert ours.decode(theirs.encode(value)) == value
    assert ours.encode_response(value) == theirs.encode_response(value)
    assert ours.decode_response(theirs.encode_response(value)) == value


def test_a_moment_without_a_timezone() -> None:
    """The clock of walnats emits local time, and does not say so."""
    event, naive = Event('e', datetime, walnats=True), datetime(2030, 1, 31, 12)
    found = event.decode(walnats.Event('e', datetime).encode(naive))
    assert found.tzinfo is not None
    assert found == naive.astimezone()
    with pytest.raises(SerializerError, match='without a timezone'):
        event.encode(naive)


@pytest.mark.parametrize('data', [b'', b'"2030-01-31"', b'soon', b'\xff', b'9999-99-99', b'0001-01-01T00:00:00+25:00'])
@pytest.mark.parametrize('schema', [datetime, date])
def test_moments_that_are_none(schema: Any, data: bytes) -> None:
    with pytest.raises(SerializerError, match='the data is not a date'):
        Event('e', schema, walnats=True).decode(data)
    with pytest.raises(SerializerError, match='not a date'):
        Event('e', schema, walnats=True).encode('2030-01-31')
