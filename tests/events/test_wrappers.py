"""Serializers around others: there and back, as walnats has it, and what is hostile."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events import Event, GzipSerializer, HmacSerializer, SerializerError
from natsgate.events.serializers import BytesSerializer, serializer_for

KEY = b'secret'


@given(st.text())
def test_there_and_back(text: str) -> None:
    for serializer in (
        GzipSerializer(serializer_for(str)),
        HmacSerializer(serializer_for(str), KEY),
        HmacSerializer(GzipSerializer(serializer_for(str)), KEY, 'sha256'),
    ):
        assert serializer.decode(serializer.encode(text)) == text


def test_an_event_takes_them() -> None:
    event = Event('e', str, GzipSerializer(serializer_for(str)))
    assert gzip.decompress(event.encode('hi')) == b'"hi"'


@pytest.mark.filterwarnings('ignore')
def test_the_bytes_are_those_of_walnats() -> None:
    from walnats import serializers as theirs

    plain = theirs.get_serializer(str)
    for ours, other in (
        (GzipSerializer(serializer_for(str)), theirs.GZipSerializer(str, plain)),
        (HmacSerializer(serializer_for(str), KEY), theirs.HMACSerializer(str, plain, KEY)),
    ):
        assert ours.decode(other.encode('hi')) == 'hi'
        assert other.decode(ours.encode('hi')) == 'hi'


@pytest.mark.parametrize('data', [b'', b'x', gzip.compress(b'"hi"', mtime=0)[:-4], gzip.compress(b'0' * 2000, mtime=0)])
def test_what_is_no_compressed_message(data: bytes) -> None:
    with pytest.raises(SerializerError):
        GzipSerializer(BytesSerializer(), limit=1000).decode(data)


@pytest.mark.parametrize('change', [lambda data: data[:-1], lambda data: data + b'x', lambda data: b'x' + data[1:]])
def test_what_is_signed_otherwise(change: object) -> None:
    signed = HmacSerializer(serializer_for(str), KEY).encode('hi')
    for key, data in ((KEY, change(signed)), (b'other', signed), (KEY, b'')):  # type: ignore[operator]
        with pytest.raises(SerializerError, match='signature'):
            HmacSerializer(serializer_for(str), key).decode(data)
    assert 'secret' not in repr(HmacSerializer(serializer_for(str), KEY))
