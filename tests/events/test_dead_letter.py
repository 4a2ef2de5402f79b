"""Dead letters: round trips, the vector, hostile ones, and what reasons become."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events import headers
from natsgate.events.dead_letter import Cause, DeadLetter, DeadLetterLimits, one_line, stream_config
from natsgate.events.wire import Unreadable

VECTORS = json.loads((Path(__file__).parent.parent / 'vectors' / 'protocol.json').read_text())
NAMES = st.from_regex(r'[A-Za-z0-9_-]{1,20}', fullmatch=True)
NUMBERS = st.integers(0, 10**17)


@st.composite
def letters(draw: st.DrawFn) -> DeadLetter:
    return DeadLetter(
        subject=draw(NAMES), stream=draw(NAMES), sequence=draw(NUMBERS), actor=draw(NAMES),
        cause=draw(st.sampled_from(Cause)), reason=draw(st.from_regex(r'[!-~]{1,40}', fullmatch=True)),
        attempts=draw(NUMBERS), buried_at=draw(NUMBERS), header=draw(st.binary(max_size=60)),
        payload=draw(st.binary(max_size=60)),
    )  # fmt: skip


@given(letters())
def test_a_round_trip(letter: DeadLetter) -> None:
    block, payload = letter.encode(max_payload=1 << 20)
    assert DeadLetter.decode(f'_DEAD.{letter.subject}', block, payload) == letter


@given(letters())
def test_what_is_too_large_is_left_out(letter: DeadLetter) -> None:
    block, payload = letter.encode(max_payload=10)
    found = DeadLetter.decode(f'_DEAD.{letter.subject}', block, payload)
    assert (found.header, found.payload, found.size) == (letter.header, b'', len(letter.payload))


@given(st.text())
def test_any_reason_is_one_line_of_a_header(text: str) -> None:
    shown = one_line(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert headers.parse(f'NATS/1.0\r\nA: {shown}\r\n\r\n'.encode()) == [('A', shown.strip(' '))]


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_no_bytes_raise_anything_but_unreadable(block: bytes, payload: bytes) -> None:
    with pytest.raises(Unreadable):
        DeadLetter.decode('_DEAD.x', b'NATS/1.0\r\n' + block, payload)


@pytest.mark.parametrize('vector', VECTORS['dead_letters'], ids=lambda vector: vector['name'])
def test_vectors(vector: dict[str, Any]) -> None:
    known = vector['letter'] | {name: bytes.fromhex(vector['letter'][name]) for name in ('header', 'payload')}
    letter = DeadLetter(**known | {'cause': Cause(known['cause'])})
    block, payload = vector['block'].encode(), bytes.fromhex(vector['message'])
    assert letter.encode(max_payload=1 << 20) == (block, payload)
    assert DeadLetter.decode(vector['subject'], block, payload) == letter


def test_the_stream() -> None:
    config = stream_config(DeadLetterLimits(age=60, bytes=5, letters=4, letters_per_subject=3))
    assert (config['name'], config['subjects'], config['discard']) == ('_DEAD', ['_DEAD.>'], 'old')
    assert (config['max_age'], config['max_bytes'], config['max_msgs']) == (60_000_000_000, 5, 4)
    assert config['max_msgs_per_subject'] == 3
