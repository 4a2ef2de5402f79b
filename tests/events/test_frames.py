"""Frames: the codec against its round trips, the vectors, and garbage; credit as a table and as a property."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_wire import METADATA

from natsgate.events import frames
from natsgate.events.flow import Incoming, Outgoing, Window
from natsgate.events.frames import FrameKind, Message
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response, Unreadable

VECTORS = json.loads((Path(__file__).parent.parent / 'vectors' / 'protocol.json').read_text())
NUMBERS = st.integers(0, 1 << 40)
MESSAGES = st.lists(st.builds(Message, st.binary(max_size=40), st.booleans()))


@pytest.mark.parametrize('vector', VECTORS['frames'], ids=lambda vector: vector['name'])
def test_frame_vectors(vector: dict[str, Any]) -> None:
    block, payload = vector['block'].encode(), bytes.fromhex(vector.get('payload', ''))
    frame = frames.decode(block, payload)
    assert (frame.number, frame.kind.value.decode(), frame.a, frame.b) == tuple(vector['frame'])
    if 'messages' in vector:
        messages = [Message(bytes.fromhex(data), compressed) for data, compressed in vector['messages']]
        assert frame.messages() == messages
        assert frames.join(messages) == payload
    if frame.kind is FrameKind.END:
        assert frames.encode_end(frame.number, frame.a, frame.response()) == block
    elif frame.kind is FrameKind.HEADERS:
        assert frames.encode_headers(frame.number, frame.initial()) == block
    else:
        numbers = vector['numbers']
        assert frames.encode(frame.number, frame.kind, *numbers) == block


@pytest.mark.parametrize('vector', VECTORS['unreadable_frames'], ids=lambda vector: vector['name'])
def test_frames_that_must_be_refused(vector: dict[str, Any]) -> None:
    block = bytes.fromhex(vector['block'])
    assert frames.is_frame(block)
    with pytest.raises(Unreadable):
        frames.decode(block, bytes.fromhex(vector.get('payload', ''))).messages()


@given(NUMBERS, st.sampled_from(FrameKind), st.none() | NUMBERS, st.none() | NUMBERS)
def test_frames_come_back(number: int, kind: FrameKind, a: int | None, b: int | None) -> None:
    frame = frames.decode(frames.encode(number, kind, a, b if a is not None else None), b'')
    assert (frame.number, frame.kind, frame.a) == (number, kind, a or 0)
    assert frame.b == (0 if a is None else b or 0)


@given(NUMBERS, NUMBERS, st.sampled_from(Code), st.text(max_size=30), METADATA)
def test_ends_come_back(number: int, count: int, code: Code, message: str, trailing: Any) -> None:
    response = Response(status=Status(code, message), trailing=trailing)
    frame = frames.decode(frames.encode_end(number, count, response), b'')
    assert (frame.number, frame.kind, frame.a, frame.response()) == (number, FrameKind.END, count, response)


@given(NUMBERS, METADATA)
def test_initial_metadata_comes_back(number: int, initial: Any) -> None:
    frame = frames.decode(frames.encode_headers(number, initial), b'')
    assert (frame.number, frame.kind, frame.initial()) == (number, FrameKind.HEADERS, initial)


@given(MESSAGES)
def test_messages_come_back(messages: list[Message]) -> None:
    assert frames.split(frames.join(messages)) == messages


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_garbage_is_unreadable_and_nothing_else(head: bytes, payload: bytes) -> None:
    for block in (
        head,
        b'NATS/1.0\r\nNatsgate-Frame: ' + head,
        b'NATS/1.0\r\n' + head + b'\r\nNatsgate-Frame: 1 data\r\n\r\n',
    ):
        if frames.is_frame(block):
            with suppress(Unreadable):
                frames.decode(block, payload)
    with suppress(Unreadable):
        frames.split(payload)


def test_headers_in_another_order() -> None:
    """Libraries of other languages keep headers in maps."""
    frame = frames.decode(b'NATS/1.0\r\ngrpc-status: 5\r\nNatsgate-Frame: 7 end 3\r\n\r\n', b'')
    assert (frame.number, frame.kind, frame.a) == (7, FrameKind.END, 3)
    assert frame.response().status.code is Code.NOT_FOUND


def test_what_is_no_frame() -> None:
    assert not frames.is_frame(None)
    assert not frames.is_frame(b'NATS/1.0\r\ngrpc-status: 0\r\n\r\n')


# Credit


def test_the_last_message_may_be_larger_than_the_window() -> None:
    out = Outgoing(Window(messages=10, bytes=100))
    assert out.may_send
    out.sent(99)
    assert out.may_send
    out.sent(1000)
    assert not out.may_send
    out.grant(10, 1099)
    assert not out.may_send
    out.grant(10, 1100)
    assert out.may_send
    out.grant(1, 1)  # what was given cannot be taken back
    assert out.may_send


def test_who_sends_more_than_it_may_is_found_out() -> None:
    incoming = Incoming(Window(messages=2, bytes=100))
    assert incoming.arrived(1)
    assert incoming.arrived(1)
    assert not incoming.arrived(1)
    incoming = Incoming(Window(messages=2, bytes=100))
    assert incoming.arrived(100)
    assert not incoming.arrived(1)


@given(st.lists(st.integers(0, 300)), st.integers(1, 8), st.integers(1, 500), st.randoms(use_true_random=False))
def test_never_more_than_a_window_is_unread_and_nobody_is_stuck(
    sizes: list[int], messages: int, size: int, chance: Any
) -> None:
    window = Window(messages=messages, bytes=size)
    out, incoming = Outgoing(window), Incoming(window)
    to_send, unread, read = list(sizes), [], 0
    while to_send or unread:
        may_send = bool(to_send) and out.may_send
        assert may_send or unread, 'both wait for each other'
        if may_send and (not unread or chance.random() < 0.5):
            out.sent(to_send[0])
            assert incoming.arrived(to_send[0])
            unread.append(to_send.pop(0))
        else:
            read += 1
            more = incoming.taken(unread.pop(0))
            if more:
                out.grant(*more)
        assert len(unread) <= messages
        assert sum(unread[:-1]) < size or len(unread) <= 1
    assert read == len(sizes)
