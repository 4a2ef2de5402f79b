"""Targets: what travels on NATS."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from fuzz import reference
from fuzz.target import pairs, pieces, target
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from natsgate.actors import consumer
from natsgate.events import frames as frame_codec
from natsgate.events import headers as header_codec
from natsgate.events import metadata as metadata_codec
from natsgate.events import wire
from natsgate.events.leases import BadBeat, Beat
from natsgate.events.parser import BrokenProtocol, Operation, Parser
from natsgate.events.status import MAX_TRAILERS_BYTES, Code, Status, quote_message, unquote_message
from natsgate.events.wire import Unreadable

START = b'NATS/1.0\r\n'
LINES = (
    b'NATS/1.0', b'\r\n', b': ', b':', START, b'\r\n\r\n', b'Nats-Msg-Id: a:b\r\n', b'Natsgate-Reply: _REPLY.a.b.c\r\n',
    b'Natsgate-Deadline: 1', b'Natsgate-Kind: bidi\r\n', b'Natsgate-Credit: 1 2\r\n', b'Natsgate-Compressed: 1\r\n',
    b'Grpc-Metadata-', b'Grpc-Initial-', b'Grpc-Trailing-', b'x-bin: YQ', b'x: v\r\n', b'traceparent: v\r\n', b'-bin',
    b'grpc-status: 0\r\n', b'grpc-status: 13\r\n', b'grpc-message: a%20b\r\n', b'%',
    b'Natsgate-Replay: a b\r\n', b'grpc-status-details-bin: CAU\r\n', b'Natsgate-Frame: 0 data', b' 1', b'\xc3\xa9',
)  # fmt: skip


@target('codec', *LINES)
def headers(data: bytes) -> None:
    """A header block is read as the slow reader reads it, or refused where that refuses."""
    try:
        found = header_codec.parse(data)
    except header_codec.MalformedHeaders:
        assert reference.headers(data) is None
    else:
        assert found == reference.headers(data)
    header_codec.status(data)


@target('codec', *LINES)
def request(data: bytes) -> None:
    """A request's head is read or Unreadable, and what was read is written and read again."""
    try:
        head = wire.decode_request(data)
    except Unreadable:
        return
    found = dict(reference.headers(data) or ())
    assert (head.id, head.reply) == (found.get(wire.MESSAGE_ID, ''), found.get(wire.REPLY, ''))
    assert head.deadline is None or str(head.deadline) == (found[wire.DEADLINE].lstrip('0') or '0')
    if all(text.isascii() for text in (head.id, head.reply, head.kind, head.replay)):
        credit = head.credit if head.kind != wire.UNARY else (0, 0)
        assert wire.decode_request(wire.encode_request(head, ttl=1)) == head._replace(credit=credit)


@target('codec', *LINES)
def response(data: bytes) -> None:
    """A response is read, Stray or Unreadable; what was read is written and read again, and fits into trailers."""
    try:
        found = wire.decode_response(data, b'payload')
    except Unreadable:
        return
    assert wire.decode_response(wire.encode_response(found), b'payload') == found
    try:
        fitted = found.fitted()
    except DecodeError:
        with pytest.raises(DecodeError):
            status_pb2.Status.FromString(found.status.details)
        return
    assert fitted.status.code is found.status.code
    details = (len(fitted.status.details) * 4 + 2) // 3
    size = metadata_codec.size(fitted.trailing) + len(quote_message(fitted.status.message)) + details
    assert size <= MAX_TRAILERS_BYTES


@target('codec', *LINES, *(b' %b ' % kind.value for kind in frame_codec.FrameKind), b'Natsgate-Frame: 1 end 0\r\n')
def frames(data: bytes) -> None:
    """A frame's header is read or Unreadable, whatever it is asked for then."""
    for block in (data, b'NATS/1.0\r\nNatsgate-Frame: ' + data):
        if not frame_codec.is_frame(block):
            continue
        try:
            frame = frame_codec.decode(block, data)
        except Unreadable:
            continue
        again = frame_codec.decode(frame_codec.encode(frame.number, frame.kind, frame.a, frame.b), b'')
        assert (again.number, again.kind, again.a, again.b) == (frame.number, frame.kind, frame.a, frame.b)
        for read in (frame.messages, frame.initial, frame.response):
            with suppress(Unreadable):
                read()


@target('codec', b'\0\0\0\0\0', b'\1\0\0\0\1a', b'\0\0\0\0\3abc', b'\2', b'\xff\xff\xff\xff')
def messages_of_a_frame(data: bytes) -> None:
    """They are those that the slow reader finds, and make the same payload again."""
    expected = reference.messages(data)
    try:
        found = frame_codec.split(data)
    except Unreadable:
        assert expected is None
        return
    assert [(int(message.compressed), message.data) for message in found] == expected
    assert frame_codec.join(found) == data


@target('codec', b'\x1e', b'\x1f', b'a', b'x-bin', b'-bin', b'grpc-status', b':path', b'traceparent', b'X', b'\xff')
def metadata(data: bytes) -> None:
    """What may travel comes back; what may not is refused."""
    for own_names in (True, False):
        sent = tuple(
            (key.decode('latin-1'), value if key.endswith(b'-bin') else value.decode('latin-1').strip(' '))
            for key, value in pairs(data)
        )
        legal = all(
            re.fullmatch(r'[0-9a-z_.-]+', key) and (isinstance(value, bytes) or re.fullmatch(r'[ -~]*', value))
            for key, value in sent
        )
        try:
            lines = metadata_codec.encode(sent, 'P-', own_names=own_names)
        except metadata_codec.MetadataError:
            assert not legal
            return
        assert legal
        parsed = header_codec.parse(START + lines.encode())
        assert metadata_codec.decode(parsed, 'P-', own_names=own_names) == sent
        with suppress(metadata_codec.MetadataError):
            assert metadata_codec.checked(sent) == sent


@target('codec', b'%', b'%41', b'%zz', b'%c3%a9', b'\xc3\xa9', b' ', b'\n', b'\xff')
def message_of_a_status(data: bytes) -> None:
    """The quoting is gRPC's: printable ASCII without `%` stays, the rest is %XX of UTF-8; reading refuses nothing."""
    text = data.decode('utf-8', 'replace')
    quoted = quote_message(text)
    assert quoted == reference.quoted(text)
    assert unquote_message(quoted) == text
    for any_text in (text, data.decode('latin-1')):
        assert unquote_message(any_text) == reference.unquoted(any_text)


@target('codec', b'\x08\x05', b'\x12\x01a', b'\x1a\x02\x0a\x00', b'\xff', b'x' * 60)
def status(data: bytes) -> None:
    """Any details, any message: never more than trailers carry, and refused only if they are no details."""
    text = data.decode('latin-1') * 40
    for message, details in ((text, data), (text, data * 60), ('', data * 60)):
        said = Status(Code.ABORTED, message, details)
        said.unpacked()
        try:
            fitted = said.fitted()
        except DecodeError:
            with pytest.raises(DecodeError):
                status_pb2.Status.FromString(details)
            continue
        assert fitted.code is Code.ABORTED
        assert len(quote_message(fitted.message)) + (len(fitted.details) * 4 + 2) // 3 <= MAX_TRAILERS_BYTES


@target('codec', b'$JS.ACK.', b'$JS', b'.', b's.c.1.2.3.4.5', b'_.h.s.c.1.2.3.4.5.t', b'-1', b'1_0', b' 1', b'+1')
def delivery(data: bytes) -> None:
    """What a reply subject tells of a delivery is numbers, or nothing."""
    found = consumer.read_delivery(data)
    assert (found and (found.attempt, found.sequence)) == reference.delivery(data)


@target(
    'codec', START, b'NATS/1.0 ', b'100 Idle Heartbeat', b'404 No Messages', b'408 Request Timeout', b'409 ', b'503',
    b'Batch Completed', b'Consumer Deleted', b'\r\n', b'Nats-Pending-Messages: 5\r\n',
)  # fmt: skip
def status_of_a_pull(data: bytes) -> None:
    """Whatever the server says is one of four things."""
    said = consumer.read_status(data)
    assert said is None or isinstance(said, consumer.Heartbeat | consumer.Ended | consumer.Broken)
    assert not isinstance(said, consumer.Ended) or said.missing >= 0


@target(
    'codec', b'MSG a 1 3\r\nabc\r\n', b'MSG a 1 b 0\r\n\r\n', b'HMSG a 1 12 15\r\nNATS/1.0\r\n\r\nabc\r\n', b'\r\n',
    b'PING\r\n', b'+OK\r\n', b"-ERR 'x'\r\n", b'INFO {}\r\n', b'MSG ', b'HMSG ', b' ', b'\t', b'1_0', b'-0', b'+1',
    b'99999999999',
)  # fmt: skip
def nats(data: bytes) -> None:
    """However a stream is cut, it is the operations that the slow reader finds, or broken."""
    parts, whole = pieces(data)
    expected = reference.operations(whole)
    for feeding in (parts, [whole]):
        parser, found = Parser(), list[Operation]()
        try:
            for part in feeding:
                found += parser.feed(part)
        except BrokenProtocol:
            assert expected is None
        else:
            assert found == expected


@target(
    'codec', b'{"worker": "w", "state": "up", "subjects": ["a"]}', b'{"worker": "w", "state": ', b'[]', b'{', b'}',
    b'[' * 50, b', "free": 1e999', b'"subjects": ', b'"\\ud800"', b'NaN', b',',
)  # fmt: skip
def beat(data: bytes) -> None:
    """A sign of life is read, and comes back, or is passed over."""
    with suppress(BadBeat):
        found = Beat.decode(data)
        assert Beat.decode(found.encode()) == found
