"""Tokens: 128 random bits that tell calls apart, and that nobody guesses."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode

_AT_ONCE = 256
_BYTES = 16


class Tokens:
    """A source of tokens. The system's random numbers are fetched for many at once: a call each would be noticed."""

    __slots__ = ('_pool',)

    def __init__(self) -> None:
        self._pool: list[str] = []

    def next(self) -> str:
        """22 characters of URL-safe base64."""
        if not self._pool:
            drawn = secrets.token_bytes(_BYTES * _AT_ONCE)
            self._pool = [
                urlsafe_b64encode(drawn[start : start + _BYTES])[:-2].decode() for start in range(0, len(drawn), _BYTES)
            ]
        return self._pool.pop()
