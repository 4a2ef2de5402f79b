"""Delayed events as they are written and read: the vectors, and what is hostile."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT

from natsgate.events import delays
from natsgate.events.wire import Unreadable

VECTORS = json.loads((ROOT / 'tests' / 'vectors' / 'protocol.json').read_text())['delayed']


@pytest.mark.parametrize('vector', VECTORS, ids=lambda vector: vector['name'])
def test_vectors(vector: dict[str, Any]) -> None:
    held = delays.held(vector['stream'], vector['event'], vector['id'], vector['due'])
    assert held == (vector['held_subject'], vector['lines'])
    due = delays.read_due(vector['stream'], vector['due_subject'].encode(), vector['moved_block'].encode())
    assert due == (vector['event'], vector['emitted_block'].encode())


def test_one_id_is_one_subject() -> None:
    one, same, other = (delays.held('e', 'e', name, 1).subject for name in ('a', 'a', 'b'))
    assert one == same != other


@pytest.mark.parametrize(
    'subject',
    [
        b'', b'e', b'_DELAY.due.e.', b'_DELAY.due.e.e', b'_DELAY.held.e.e.t', b'_DELAY.due.other.e.t',
        b'_DELAY.due.e.\xff.t', b'_DELAY.due.e.>.t', b'_DELAY.due.e.a b.t',
    ],
)  # fmt: skip
def test_subjects_that_are_none(subject: bytes) -> None:
    with pytest.raises(Unreadable):
        delays.read_due('e', subject, b'NATS/1.0\r\nNatsgate-Id: x\r\n\r\n')


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_anything_is_read_or_refused(subject: bytes, block: bytes) -> None:
    for where, header in ((subject, block), (b'_DELAY.due.e.e.t', b'NATS/1.0\r\nNatsgate-Id: x\r\n' + block)):
        with contextlib.suppress(Unreadable):
            assert b'Nats-Schedule' not in delays.read_due('e', where, header).block
