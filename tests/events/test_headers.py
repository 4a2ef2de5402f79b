from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events.headers import MalformedHeaders, parse, status


def test_headers_are_read_in_order_with_their_case() -> None:
    assert parse(b'NATS/1.0\r\nA: 1\r\na:2\r\nA:  3 \r\nB:\r\n\r\n') == [('A', '1'), ('a', '2'), ('A', '3'), ('B', '')]


def test_a_value_may_have_colons() -> None:
    assert parse(b'NATS/1.0\r\nA: b:c\r\n\r\n') == [('A', 'b:c')]


@pytest.mark.parametrize('block', [None, b''])
def test_no_headers(block: bytes | None) -> None:
    assert parse(block) == []
    assert status(block) is None


@pytest.mark.parametrize(
    'block',
    [
        b'x',
        b'NATS',
        b'NATS/2.0\r\n\r\n',
        b'NATS/1.0\r\nno colon\r\n\r\n',
        b'NATS/1.0\r\n: v\r\n\r\n',
        b'NATS/1.0\r\nA: \xff\r\n\r\n',
    ],
)
def test_malformed_blocks_are_told(block: bytes) -> None:
    with pytest.raises(MalformedHeaders):
        parse(block)


@given(st.binary(max_size=100), st.booleans())
def test_no_bytes_raise_anything_else(data: bytes, prefixed: bool) -> None:
    block = b'NATS/1.0' * prefixed + data
    with suppress(MalformedHeaders):
        parse(block)
    status(block)


@pytest.mark.parametrize(
    ('block', 'found'),
    [(b'NATS/1.0 503\r\n\r\n', (503, '')), (b'NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n', (100, 'Idle Heartbeat')),
     (b'NATS/1.0\r\nA: 503\r\n\r\n', None), (b'NATS/1.0 abc\r\n\r\n', None), (b'NATS/1.0 50\r\n\r\n', None)],
)  # fmt: skip
def test_the_status_line_of_the_server(block: bytes, found: tuple[int, str] | None) -> None:
    assert status(block) == found
