"""The wire codec, against its own round trips and against the vectors that other languages are tested with."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events import wire
from natsgate.events.metadata import TRACE_KEYS
from natsgate.events.status import Code, Status
from natsgate.events.wire import RequestHead, Response, Stray, Unreadable

VECTORS = json.loads((Path(__file__).parent.parent / 'vectors' / 'protocol.json').read_text())

TEXTS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
KEYS = st.from_regex(r'x[0-9a-z_.-]{0,10}[0-9a-z]', fullmatch=True).filter(lambda key: not key.endswith('-bin'))
METADATA = st.lists(
    st.tuples(KEYS | st.sampled_from(sorted(TRACE_KEYS)), TEXTS)
    | st.tuples(KEYS.map(lambda k: k + '-bin'), st.binary(max_size=20))
).map(tuple)


def pairs(metadata: list[list[Any]]) -> Any:
    return tuple((key, bytes.fromhex(value) if key.endswith('-bin') else value) for key, value in metadata)


@pytest.mark.parametrize('vector', VECTORS['requests'], ids=lambda vector: vector['name'])
def test_request_vectors(vector: dict[str, Any]) -> None:
    credit = tuple(vector['head'].get('credit', (0, 0)))
    head = RequestHead(**{**vector['head'], 'metadata': pairs(vector['head']['metadata']), 'credit': credit})
    assert wire.encode_request(head, ttl=vector['ttl']).decode() == vector['block']
    assert wire.decode_request(vector['block'].encode()) == head


@pytest.mark.parametrize('vector', VECTORS['responses'], ids=lambda vector: vector['name'])
def test_response_vectors(vector: dict[str, Any]) -> None:
    response = Response(
        status=Status(Code(vector['code']), vector['message'], bytes.fromhex(vector['details'])),
        payload=bytes.fromhex(vector['payload']),
        initial=pairs(vector['initial']),
        trailing=pairs(vector['trailing']),
    )
    assert wire.encode_response(response).decode() == vector['block']
    assert wire.decode_response(vector['block'].encode(), response.payload) == response


@pytest.mark.parametrize('vector', VECTORS['unreadable_requests'], ids=lambda vector: vector['name'])
def test_requests_that_must_be_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        wire.decode_request(bytes.fromhex(vector['block']))


@pytest.mark.parametrize('vector', VECTORS['strays'], ids=lambda vector: vector['name'])
def test_messages_that_are_no_responses(vector: dict[str, Any]) -> None:
    with pytest.raises(Stray):
        wire.decode_response(bytes.fromhex(vector['block']), b'')


@given(
    TEXTS, TEXTS, st.none() | st.integers(0, 10**17), st.sampled_from(['unary', 'server', 'client', 'bidi']), METADATA
)
def test_a_request_survives_the_way(id: str, reply: str, deadline: int | None, kind: str, metadata: Any) -> None:
    head = RequestHead(id=id, reply=reply, deadline=deadline, kind=kind, metadata=metadata)
    assert wire.decode_request(wire.encode_request(head, ttl=1)) == head


@given(TEXTS, TEXTS, st.integers(0, 10**17), METADATA)
def test_an_unusual_request_is_read_as_a_usual_one(id: str, reply: str, deadline: int, metadata: Any) -> None:
    block = wire.encode_request(RequestHead(id=id, reply=reply, deadline=deadline, metadata=metadata), ttl=1)
    unusual = block[:-2] + b'Other: x\r\n\r\n'
    assert wire.decode_request(unusual) == wire.decode_request(block)


@given(
    st.sampled_from(Code),
    st.text(max_size=30).map(lambda t: t.encode('utf-8', 'ignore').decode()),
    st.binary(max_size=30),
    METADATA,
    METADATA,
    st.binary(max_size=20),
)
def test_a_response_survives_the_way(  # noqa: PLR0917
    code: Code, message: str, details: bytes, initial: Any, trailing: Any, payload: bytes
) -> None:
    response = Response(status=Status(code, message, details), payload=payload, initial=initial, trailing=trailing)
    assert wire.decode_response(wire.encode_response(response), payload) == response


@given(st.binary(max_size=120), st.sampled_from([b'', b'NATS/1.0\r\n', b'NATS/1.0\r\ngrpc-status: 0\r\n']))
def test_no_bytes_raise_anything_else(data: bytes, start: bytes) -> None:
    for read in (wire.decode_request, lambda block: wire.decode_response(block, b'')):
        with suppress(Unreadable):
            read(start + data)


def test_a_success_without_metadata_is_one_short_block() -> None:
    assert wire.encode_response(Response(payload=b'x')) == wire.OK_BLOCK
    assert wire.encode_response(Response(trailing=(('a', 'b'),))) != wire.OK_BLOCK


def test_an_unknown_code_is_unknown() -> None:
    assert wire.decode_response(b'NATS/1.0\r\ngrpc-status: 77\r\n\r\n', b'').status.code is Code.UNKNOWN


def test_a_response_cannot_set_what_belongs_to_grpc() -> None:
    with pytest.raises(Unreadable):
        wire.decode_response(b'NATS/1.0\r\ngrpc-status: 0\r\nGrpc-Trailing-grpc-status: 7\r\n\r\n', b'')
