"""Serializers around others: compressed, or signed. Both ends must wrap alike; the bytes are those of walnats."""

from __future__ import annotations

import gzip
import hmac
import zlib
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from natsgate.events.serializers import Serializer, SerializerError

T = TypeVar('T')


@dataclass(frozen=True, slots=True)
class GzipSerializer(Generic[T]):
    """Compresses what another serializer makes."""

    serializer: Serializer[T]
    level: int = 9
    """1 is fast, 9 is small."""
    limit: int = field(default=64 << 20, kw_only=True)
    """Bytes of the largest message that is decompressed: a few bytes may stand for gigabytes."""

    def encode(self, value: T, /) -> bytes:
        """The message, compressed."""
        return gzip.compress(self.serializer.encode(value), compresslevel=self.level, mtime=0)

    def decode(self, data: bytes, /) -> T:
        """The message in this compressed data."""
        reader = zlib.decompressobj(wbits=31)
        try:
            plain = reader.decompress(data, self.limit)
        except zlib.error as error:
            raise SerializerError(f'the data is not gzip: {error}') from error
        if not reader.eof:
            why = f'is more than {self.limit} bytes' if reader.unconsumed_tail else 'breaks off'
            raise SerializerError(f'the compressed data {why}')
        return self.serializer.decode(plain)


@dataclass(frozen=True, slots=True)
class HmacSerializer(Generic[T]):
    """Signs what another serializer makes: the digest, then the data. It hides nothing, and forbids no repetition."""

    serializer: Serializer[T]
    key: bytes = field(repr=False)
    hash_algorithm: str = 'sha512'
    """Any that hashlib knows."""

    def encode(self, value: T, /) -> bytes:
        """The message, signed."""
        data = self.serializer.encode(value)
        return hmac.digest(self.key, data, self.hash_algorithm) + data

    def decode(self, data: bytes, /) -> T:
        """The message in this data, if its signature is right."""
        size = hmac.new(self.key, digestmod=self.hash_algorithm).digest_size
        digest, signed = data[:size], data[size:]
        if not hmac.compare_digest(digest, hmac.digest(self.key, signed, self.hash_algorithm)):
            raise SerializerError('the signature of the data is not right')
        return self.serializer.decode(signed)
