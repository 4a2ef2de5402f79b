"""gRPC-Web as headers and bodies: frames with trailers, base64 in pieces."""

from base64 import b64decode, b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events.frames import Message
from natsgate.events.status import Code, Status
from natsgate.events.wire import Response
from natsgate.gateway import http_grpc as http
from natsgate.gateway.http_grpc_web import GrpcWeb, decode_pieces

LIMIT = 1000
TYPE = b'application/grpc-web+proto'


def opened(*headers: tuple[bytes, bytes], text: bool = False) -> GrpcWeb:
    found = GrpcWeb(TYPE, text=text)
    found.open(headers)
    return found


def messages(reader: Any) -> list[Message]:
    found = []
    while (message := reader.next()) is not None:
        found.append(message)
    return found


def test_a_head() -> None:
    head = GrpcWeb(TYPE).open(
        [
            (b'x-grpc-web', b'1'),
            (b'grpc-timeout', b'2S'),
            (b'accept', b'x'),
            (b'x-user-agent', b'u'),
            (b'a-bin', b'AAE='),
        ]
    )
    assert (head.timeout, head.metadata) == (2, (('x-user-agent', 'u'), ('a-bin', b'\0\1')))


def test_the_trailers_are_a_frame() -> None:
    response = Response(status=Status(Code.NOT_FOUND, 'no ☺\n'), trailing=(('a', '1'), ('b-bin', b'\1')))
    frame = opened().end(response)
    assert (frame[0], int.from_bytes(frame[1:5], 'big')) == (0x80, len(frame) - 5)
    assert frame[5:] == b'grpc-status: 5\r\ngrpc-message: no %E2%98%BA%0A\r\na: 1\r\nb-bin: AQ==\r\n'


def test_a_whole_answer() -> None:
    reply = opened().whole(Response(initial=(('a', '1'),)), Message(b'x'))
    assert (reply.status, reply.headers) == (200, [(b'content-type', TYPE), (b'a', b'1')])
    assert reply.body == b'\0\0\0\0\1x\x80\0\0\0\x10grpc-status: 0\r\n'
    assert opened().whole(Response(), None).body == b'\x80\0\0\0\x10grpc-status: 0\r\n'


def test_text_is_the_same_in_base64() -> None:
    said, text = opened().whole(Response(), Message(b'x')), opened(text=True).whole(Response(), Message(b'x'))
    assert decode_pieces(text.body) == said.body


def test_compression() -> None:
    found = opened((b'grpc-accept-encoding', b'gzip'), (b'grpc-encoding', b'gzip'))
    assert (b'grpc-encoding', b'gzip') in found.start(())
    reader = found.reader(LIMIT)
    reader.feed(found.message(Message(b'x', compressed=True)))
    assert messages(reader) == [Message(b'x', compressed=True)]


@given(st.lists(st.binary(max_size=30), max_size=4), st.booleans(), st.lists(st.integers(0, 200), max_size=6))
def test_text_in_any_pieces(data: list[bytes], padded_each: bool, cuts: list[int]) -> None:
    frames = [http.write_message(Message(one), 'identity') for one in data]
    sent = b''.join(map(b64encode, frames)) if padded_each else b64encode(b''.join(frames))
    reader = opened(text=True).reader(LIMIT)
    found = []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(sent)], strict=True):
        reader.feed(sent[start:end])
        found += messages(reader)
    reader.close()
    assert (found, reader.unread) == ([Message(one) for one in data], 0)


@pytest.mark.parametrize(
    'text', [b'!!!!', b'====', b'=AAA', b'A===', b'AAA=A===', b'AA=A', b'AA A', b'\xff\xff\xff\xff']
)
def test_what_is_not_base64(text: bytes) -> None:
    reader = opened(text=True).reader(LIMIT)
    reader.feed(text)
    with pytest.raises(http.BadRequest, match='the body is not base64'):
        reader.next()


def test_base64_that_breaks_off() -> None:
    reader = opened(text=True).reader(LIMIT)
    reader.feed(b64encode(http.write_message(Message(b'x'), 'identity'))[:-1])
    reader.close()
    assert reader.next() is None
    assert reader.unread


@given(st.lists(st.binary(max_size=20), max_size=4))
def test_any_text_is_read_or_refused(pieces: list[bytes]) -> None:
    reader = opened(text=True).reader(LIMIT)
    with suppress(http.BadRequest):
        for piece in pieces:
            reader.feed(piece)
            messages(reader)


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_pieces_are_what_they_were(pieces: list[bytes]) -> None:
    text = b''.join(map(b64encode, pieces))
    assert decode_pieces(text) == b''.join(b64decode(b64encode(piece)) for piece in pieces)
