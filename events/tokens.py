"""Tokens: 128 random bits and more that tell calls apart, and that nobody guesses."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode

_AT_ONCE = 256
_DRAWN = 18  # bytes for each: base64 makes 24 characters of them
_LENGTH = 22  # of which these are taken: 132 bits


class Tokens:
    """A source of tokens. The system's random numbers are fetched for many at once: a call each would be noticed."""

    __slots__ = ('_pool',)

    def __init__(self) -> None:
        self._pool: list[str] = []

    def next(self) -> str:
        """22 characters of URL-safe base64."""
        if not self._pool:
            drawn = urlsafe_b64encode(secrets.token_bytes(_DRAWN * _AT_ONCE)).decode()
            self._pool = [drawn[start : start + _LENGTH] for start in range(0, len(drawn), _DRAWN * 4 // 3)]
        return self._pool.pop()
