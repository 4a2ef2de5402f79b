from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events.parser import BrokenProtocol, Control, Msg, Operation, Parser
from natsgate.testing.faults import written

SUBJECTS = st.binary(min_size=1, max_size=12).filter(lambda s: not set(s) & set(b' \t\r\n\x0b\x0c'))
MSGS = st.builds(
    Msg,
    st.integers(1, 99),
    SUBJECTS,
    SUBJECTS | st.just(b''),
    st.none() | st.binary(min_size=1, max_size=30),
    st.binary(max_size=60),
)
CONTROLS = st.sampled_from(
    [
        Control(b'PING', b''),
        Control(b'PONG', b''),
        Control(b'+OK', b''),
        Control(b'INFO', b'{"a":1}'),
        Control(b'-ERR', b"'x y'"),
    ]
)


@given(st.lists(MSGS | CONTROLS, max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_operations_are_the_same_however_the_bytes_arrive(operations: list[Operation], cuts: list[int]) -> None:
    data = b''.join(map(written, operations))
    parser, found, position, turn = Parser(), [], 0, 0
    while position < len(data):
        step = cuts[turn % len(cuts)]
        found += parser.feed(data[position : position + step])
        position, turn = position + step, turn + 1
    assert found == operations


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_broken_protocol(data: bytes) -> None:
    with suppress(BrokenProtocol):
        Parser().feed(data)


@pytest.mark.parametrize(
    'line',
    [
        b'MSG a\r\n', b'MSG a 1 x\r\n', b'MSG a 1 -9\r\n', b'HMSG a 1 9 3\r\nabc\r\n', b'MSG a b 3\r\nabc\r\n',
        b'MSG a 1 b c 0\r\n\r\n', b'MSG a 1 0_1\r\nx\r\n', b'MSG a +1 1\r\nx\r\n', b'MSG a 1 3\r\nabcde',
        b'HMSG a 1 -1 3\r\nabc\r\n', b'HMSGS a 1 0 0\r\n\r\n',
    ],
)  # fmt: skip
def test_malformed_messages_are_told(line: bytes) -> None:
    with pytest.raises(BrokenProtocol):
        Parser().feed(line)


@pytest.mark.parametrize('end', [b'', b'\r\n'])
def test_a_line_that_is_too_long_is_told(end: bytes) -> None:
    """Whether its end is there or not: that depends on how it arrives."""
    with pytest.raises(BrokenProtocol):
        Parser().feed(b'INFO ' + b'x' * 70_000 + end)


def test_a_large_payload_is_joined_once() -> None:
    payload = bytes(4 << 20)
    data = b'MSG a 1 %d\r\n%b\r\nPING\r\n' % (len(payload), payload)
    parser, found = Parser(), []
    for start in range(0, len(data), 32768):
        found += parser.feed(data[start : start + 32768])
    assert found == [Msg(1, b'a', b'', None, payload), Control(b'PING', b'')]
