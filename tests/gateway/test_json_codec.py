"""Messages as JSON: protobuf's mapping, both ways, and what is refused of what may come."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events.status import Code, StatusError
from natsgate.gateway.json_codec import JsonCodec, Schema
from natsgate.gateway.protos import load

PROTO = """
syntax = "proto3";
package all.v1;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
service Things {
  rpc Turn(Thing) returns (Thing);
  rpc Raw(google.protobuf.Value) returns (google.protobuf.Value);
}
enum Colour { COLOUR_UNSPECIFIED = 0; RED = 1; }
message Thing {
  int32 small = 1;
  int64 large = 2;
  uint64 larger = 3;
  double real = 4;
  bool yes = 5;
  bytes data = 6;
  string some_text = 7;
  Colour colour = 8;
  repeated int32 numbers = 9;
  map<string, Thing> things = 10;
  optional string maybe = 11;
  oneof either { string left = 12; int32 right = 13; }
  Thing inner = 14;
  google.protobuf.Timestamp time = 15;
  google.protobuf.Duration span = 16;
  google.protobuf.FieldMask mask = 17;
  google.protobuf.Struct loose = 18;
  google.protobuf.Any any = 19;
  google.protobuf.Int64Value wrapped = 20;
}
"""

MAPPED = [
    {},
    {'small': -1},
    {'large': '-9223372036854775808', 'larger': '18446744073709551615'},
    {'real': 1.5},
    *({'real': value} for value in ('NaN', 'Infinity', '-Infinity')),
    {'yes': True},
    {'data': '+/8='},
    {'someText': 'ü ☺ \x00 "'},
    {'colour': 'RED'},
    {'numbers': [1, 2]},
    {'things': {'a': {'small': 1}, '': {}}},
    {'maybe': ''},
    {'left': ''},
    {'inner': {'inner': {}}},
    {'time': '2024-02-29T12:00:00.500Z', 'span': '-1.500s', 'mask': 'small,someText'},
    {'loose': {'a': [None, True, 1.5, 'x', {'b': {}}]}},
    {'any': {'@type': 'type.googleapis.com/all.v1.Thing', 'small': 1}},
    {'any': {'@type': 'type.googleapis.com/google.protobuf.Duration', 'value': '1s'}},
    {'wrapped': '5'},
]

ALSO_READ: list[tuple[str, dict[str, Any]]] = [
    ('{"some_text": "x"}', {'someText': 'x'}),  # the name in the proto
    ('{"large": 5, "larger": "6"}', {'large': '5', 'larger': '6'}),
    ('{"large": 1e3}', {'large': '1000'}),
    ('{"data": "-_8"}', {'data': '+/8='}),  # base64 for URLs, without padding
    ('{"colour": 1}', {'colour': 'RED'}),
    ('{"colour": "NOT_KNOWN"}', {}),  # as a field that is not known
    ('{"small": null}', {}),
    ('{"unknown": {"x": [1]}, "small": 1}', {'small': 1}),
    (' \n{"small": 1}\t', {'small': 1}),
]

REFUSED = [
    (b'', 'it is empty; a message without fields is {}'),
    (b' \n', 'it is empty'),
    (b'[]', 'it does not begin with {'),
    (b'"x"', 'it does not begin with {'),
    (b'null', 'it does not begin with {'),
    (b'\xef\xbb\xbf{}', 'it does not begin with {'),
    (b'{"some_text": "\xff"}', 'it is not UTF-8 at byte 15'),
    (b'{"small": 1', "Expecting ',' delimiter: line 1 column 12"),
    (b'{} {}', 'Extra data'),
    (b'{"small": 1, "small": 2}', 'duplicate key small'),
    (b'{"left": "a", "right": 1}', 'should not have multiple "either" oneof fields'),
    (b'{"small": "x"}', 'small'),
    (b'{"small": 1.5}', 'small'),
    (b'{"small": 2147483648}', 'small'),
    (b'{"small": NaN}', 'small'),
    (b'{"large": "9223372036854775808"}', 'large'),
    (b'{"large": %b}' % (b'1' * 5000), 'limit'),
    *(
        (b'{"%b": %b}' % (field, value), '')
        for field in (b'small', b'large', b'colour')
        for value in (b'1e999', b'-Infinity')
    ),
    (b'{"span": "99999999999999999999s"}', 'span'),
    (b'{"time": "9999-99-99T00:00:00Z"}', 'time'),
    (b'{"yes": 1}', 'yes'),
    (b'{"someText": 1}', 'someText'),
    (b'{"someText": "\\ud800"}', 'surrogate'),
    (b'{"numbers": 1}', 'numbers'),
    (b'{"numbers": [null]}', 'null'),
    (b'{"things": []}', 'things'),
    (b'{"inner": 1}', ''),
    (b'{"inner": [1]}', ''),
    (b'{"time": "yesterday"}', 'time'),
    (b'{"span": "1 h"}', 'span'),
    (b'{"any": {"@type": "type.googleapis.com/not.There"}}', 'not.There'),
    (b'{"any": {"small": 1}}', '@type'),
    (b'{"any": {"@type": 1}}', ''),
    (b'[' * 2_000_000, 'does not begin'),
    (b'{"a":' * 500_000, 'recursion depth exceeded'),
    (b'{"inner":' * 150 + b'{}' + b'}' * 150, 'Message too deep'),
    (b'{"loose":' + b'{"a":' * 150 + b'1' + b'}' * 151, 'Message too deep'),
]


@pytest.fixture(scope='module')
def schema(tmp_path_factory: pytest.TempPathFactory) -> Schema:
    path: Path = tmp_path_factory.mktemp('protos') / 'all.proto'
    path.write_text(PROTO)
    return Schema([load([path]).pool])


@pytest.fixture(scope='module')
def codec(schema: Schema) -> JsonCodec:
    found = schema.codec('/all.v1.Things/Turn')
    assert found is not None
    return found


@pytest.mark.parametrize('value', MAPPED, ids=str)
def test_the_standard_mapping(codec: JsonCodec, value: Any) -> None:
    assert json.loads(codec.write(codec.read(json.dumps(value).encode()))) == value


@pytest.mark.parametrize(('text', 'value'), ALSO_READ)
def test_other_spellings_are_read(codec: JsonCodec, text: str, value: Any) -> None:
    assert json.loads(codec.write(codec.read(text.encode()))) == value


@pytest.mark.parametrize(('data', 'says'), REFUSED, ids=lambda value: repr(value[:40]))
def test_what_is_refused(codec: JsonCodec, data: bytes, says: str) -> None:
    with pytest.raises(StatusError, match=r'^INVALID_ARGUMENT: the request is no JSON of a all\.v1\.Thing: ') as raised:
        codec.read(data)
    status = raised.value.status
    assert says in status.message
    assert status.code is Code.INVALID_ARGUMENT
    assert len(status.message) < 400
    info = status.detail(error_details_pb2.ErrorInfo)
    assert info is not None
    assert info.reason == 'UNREADABLE_REQUEST'


def test_json_is_compact_and_utf8(codec: JsonCodec) -> None:
    assert codec.write(codec.read(b'{"small":1,"someText":"\\u263a"}')) == '{"small":1,"someText":"☺"}'.encode()


def test_a_message_that_is_any_json(schema: Schema) -> None:
    codec = schema.codec('/all.v1.Things/Raw')
    assert codec is not None
    for text in (b'[1.5,"x",null]', b'"x"', b'true', b'null', b'{"a":{}}'):
        assert codec.write(codec.read(text)) == text


@pytest.mark.parametrize(
    ('data', 'says'),
    [
        (b'\xff', 'the response is not a all.v1.Thing'),
        (b'\x7a\x0a\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f', 'cannot be written as JSON'),  # a time without a year
        (b'\x9a\x01\x03\x0a\x01x', 'cannot be written as JSON'),  # an Any of no type
    ],
)
def test_a_response_that_cannot_be_written(codec: JsonCodec, data: bytes, says: str) -> None:
    with pytest.raises(StatusError, match=says) as raised:
        codec.write(data)
    assert raised.value.code is Code.INTERNAL


@given(
    st.binary(max_size=200) | st.text(alphabet='{}[]":,0123456789eE.-+truefalsn ulai\\', max_size=60).map(str.encode)
)
def test_any_bytes_are_read_or_refused(codec: JsonCodec, data: bytes) -> None:
    with suppress(StatusError):
        codec.write(codec.read(data))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ['small', 'large', 'real', 'data', 'colour', 'numbers', 'things', 'inner', 'time', 'loose', 'any', '@type']
    ) | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_json_is_read_or_refused(codec: JsonCodec, value: Any) -> None:
    with suppress(StatusError):
        codec.write(codec.read(json.dumps(value).encode()))


@given(st.binary(max_size=200))
def test_any_response_is_written_or_refused(codec: JsonCodec, data: bytes) -> None:
    with suppress(StatusError):
        json.loads(codec.write(data))


def test_methods(schema: Schema) -> None:
    assert schema.method('/all.v1.Things/Turn') is not None
    for name in (
        '/all.v1.Things/Nope',
        '/all.v1.Things',
        '/',
        '',
        '//',
        '/all.v1.Things.Turn\0',
        '/☺/x',
        '/\udcff',
        '/a' * 10_000,
    ):
        assert schema.method(name) is None
        assert schema.codec(name) is None


def test_details_are_described_where_they_are_known(schema: Schema) -> None:
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ResourceInfo(resource_name='x'))
    assert schema.described(packed) == {'resourceName': 'x'}
    assert schema.described(any_pb2.Any(type_url='type.googleapis.com/all.v1.Thing', value=b'\x08\x01')) == {'small': 1}
    for unknown in (
        any_pb2.Any(),
        any_pb2.Any(type_url='x/not.There'),
        any_pb2.Any(type_url=packed.type_url, value=b'\xff'),
    ):
        assert schema.described(unknown) is None
