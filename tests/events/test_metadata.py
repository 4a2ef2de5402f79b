import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events import headers
from natsgate.events.metadata import Metadata, MetadataError, checked, decode, encode, size

KEYS = st.from_regex(r'[0-9a-z_.-]{1,20}', fullmatch=True).filter(lambda key: not key.endswith('-bin'))
TEXTS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)
ENTRIES = st.one_of(st.tuples(KEYS, TEXTS), st.tuples(KEYS.map(lambda key: key + '-bin'), st.binary(max_size=40)))


@given(st.lists(ENTRIES).map(tuple))
def test_metadata_survives_the_way(metadata: Metadata) -> None:
    block = f'NATS/1.0\r\n{encode(metadata, "P-")}\r\n'.encode()
    assert decode(headers.parse(block), 'P-') == metadata


def test_a_client_cannot_set_headers_of_nats_or_ours() -> None:
    lines = encode((('nats-msg-id', 'x'), ('natsgate-reply', 'y'), ('nats-ttl', '1')), 'Grpc-Metadata-')
    assert all(line.startswith('Grpc-Metadata-') for line in lines.splitlines())


def test_trace_headers_keep_their_names_in_a_request_only() -> None:
    assert encode((('traceparent', 'x'),), 'P-') == 'traceparent: x\r\n'
    assert encode((('traceparent', 'x'),), 'P-', own_names=False) == 'P-traceparent: x\r\n'
    assert decode([('traceparent', 'x')], 'P-') == (('traceparent', 'x'),)
    assert decode([('traceparent', 'x')], 'P-', own_names=False) == ()


@pytest.mark.parametrize(
    ('key', 'value'),
    [('k', 'a\r\nNats-TTL: 1'), ('k', 'a\nb'), ('k', '\x00'), ('k', 'é'), ('k', '\x7f'), ('K', 'v'), ('a b', 'v'),
     ('', 'v'), ('k\r\nx', 'v'), ('k:', 'v'), ('k', b'bytes'), ('é-bin', b'')],
)  # fmt: skip
def test_what_http2_forbids_is_refused(key: str, value: str | bytes) -> None:
    with pytest.raises(MetadataError) as raised:
        encode(((key, value),), 'P-')
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize(
    'pair',
    [
        ('P-a-bin', '!!'), ('P-a-bin', 'abcde'), ('P-a-bin', 'AP8=='), ('P-a-bin', 'AA='), ('P-a-bin', 'é'),
        ('P-', 'x'), ('P-A', 'x'), ('P-a', '\x01'),
    ],
)  # fmt: skip
def test_what_cannot_be_metadata_is_refused_when_read(pair: tuple[str, str]) -> None:
    with pytest.raises(MetadataError):
        decode([pair], 'P-')


@pytest.mark.parametrize('text', ['AP8', 'AP8='])
def test_base64_is_read_with_and_without_padding(text: str) -> None:
    assert decode([('P-a-bin', text)], 'P-') == (('a-bin', b'\x00\xff'),)


@pytest.mark.parametrize('key', ['grpc-status', 'Content-Type', ':path', 'te', 'user-agent'])
def test_a_handler_cannot_send_what_belongs_to_grpc(key: str) -> None:
    with pytest.raises(MetadataError):
        checked(((key, 'x'),))


def test_keys_of_a_handler_become_lower_case_and_bin_values_bytes() -> None:
    assert checked((('X-Trace', 'v'), ('a-bin', 'text'))) == (('x-trace', 'v'), ('a-bin', b'text'))


def test_size_is_counted_as_http2_does() -> None:
    assert size((('key', 'value'), ('k-bin', b'12'))) == 3 + 5 + 32 + 5 + 2 + 32
