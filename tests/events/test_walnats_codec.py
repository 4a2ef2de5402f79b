"""The headers of walnats: what is written, what is read, what is hostile."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events import walnats
from natsgate.events.wire import RequestHead, Unreadable

TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
KEYS = st.from_regex(r'\A[0-9a-z_.-]{1,20}\Z').filter(lambda key: not key.endswith('-bin') and key != 'trace-id')
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=30)


def block(*lines: str) -> bytes:
    return ''.join(f'{line}\r\n' for line in ('NATS/1.0', *lines, '')).encode()


def test_a_request_as_it_is_written() -> None:
    pairs = (('tenant', 'a'), ('nats-ttl', '1'), ('grpc-status', '5'), ('traceparent', TRACE), ('k-bin', b'\0'))
    head = RequestHead(id='u', reply='_REPLY.g.e.t', deadline=7, metadata=pairs)
    assert walnats.encode_request(head, ttl=3, extra='ce-id: 1\r\n') == block(
        'Nats-Msg-Id: u', 'Walnats-Reply: _REPLY.g.e.t', 'Natsgate-Deadline: 7', 'tenant: a',
        'Grpc-Metadata-nats-ttl: 1', 'Grpc-Metadata-grpc-status: 5', f'Walnats-Trace: {TRACE}',
        f'traceparent: {TRACE}', 'k-bin: AA==', 'ce-id: 1',
    )  # fmt: skip
    assert walnats.decode_request(walnats.encode_request(head)) == head


def test_a_trace_id_of_another_form() -> None:
    head = RequestHead(metadata=(('trace-id', 'abc'),))
    assert walnats.encode_request(head) == block('Walnats-Trace: abc')
    assert walnats.decode_request(block('Walnats-Trace: abc')) == head


@pytest.mark.parametrize(
    ('lines', 'expected'),
    [
        ((), RequestHead()),
        (('Walnats-Reply: _INBOX.x', 'Nats-Msg-Id: u'), RequestHead(id='u', reply='_INBOX.x')),
        (('X-Tenant: a', 'sp ace: b', 'tab: \x01', 'ce-id: 1'), RequestHead(metadata=(('x-tenant', 'a'),))),
        (('Walnats-Delay: 1700000000.5',), RequestHead(due=1_700_000_000_500_000)),
        (('Natsgate-Reply: _REPLY.g.e.t',), RequestHead()),
        ((f'Walnats-Trace: {TRACE}',), RequestHead(metadata=(('traceparent', TRACE),))),
    ],
)
def test_a_request_as_it_is_read(lines: tuple[str, ...], expected: RequestHead) -> None:
    assert walnats.decode_request(block(*lines)) == expected


@pytest.mark.parametrize('delay', ['', 'soon', 'nan', 'inf', '-1', '1e300'])
def test_a_delay_that_is_no_time(delay: str) -> None:
    with pytest.raises(Unreadable, match='Walnats-Delay'):
        walnats.decode_request(block(f'Walnats-Delay: {delay}'))


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6), st.booleans())
def test_metadata_comes_back(pairs: list[tuple[str, str]], reply: bool) -> None:
    head = RequestHead(metadata=tuple(pairs), reply='_REPLY.g.e.t' if reply else '')
    found = walnats.decode_request(walnats.encode_request(head))
    assert sorted(found.metadata) == sorted(head.metadata)
    assert found.reply == head.reply


@given(st.binary(max_size=80))
def test_anything_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(Unreadable):
        walnats.decode_request(b'NATS/1.0\r\n' + data)


@pytest.mark.parametrize(
    ('reply', 'ours'),
    [
        ('_INBOX.0123456789abcdefABCDEF', True),
        ('_INBOX.prefix.0123', True),
        ('_REPLY.gw.a.b.' + 'x' * 22, True),
        ('_REPLY.gw.other.' + 'x' * 22, False),
        ('a.b', False),
        ('$JS.API.STREAM.DELETE.a-b', False),
        ('_INBOX.>', False),
        ('_INBOX.*', False),
        ('_INBOX.', False),
        ('_INBOX.a b', False),
    ],
)
def test_where_an_actor_may_respond(reply: str, ours: bool) -> None:
    assert (walnats.reply_pattern('a.b').match(reply) is not None) is ours
