"""CORS: which pages of other origins may call, and what they may see. Pure.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from natsgate.gateway.http_grpc import Pairs

ANY = '*'
"""Pages of all origins."""

_NAMES = re.compile(rb'[!#$%&\'*+.^_`|~0-9A-Za-z-]+(?: *, *[!#$%&\'*+.^_`|~0-9A-Za-z-]+)*\Z')
_MOST_NAMES = 4096
_VARIES = (b'vary', b'Origin')
_METHODS = (b'access-control-allow-methods', b'GET, POST')
_MAX_AGE = (b'access-control-max-age', b'7200')  # the most that browsers heed
_ORIGIN = re.compile(r'[a-z][a-z0-9+.-]*://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?\Z')


def is_origin(text: str) -> bool:
    """Whether it is an origin as browsers write it: scheme, host and perhaps port, in small letters."""
    return _ORIGIN.match(text) is not None


class Cors:
    """The rules of one gateway. Cookies are never allowed: credentials are metadata, which a page sends knowingly."""

    def __init__(self, origins: Sequence[str]) -> None:
        """`origins`: those that may call, or ANY among them."""
        self._any = ANY in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def allows(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the page that asks may call."""
        return bool(self._origins) and (self._any or _value(headers, b'origin') in self._origins)

    def allowed(self, headers: Iterable[tuple[bytes, bytes]]) -> Pairs:
        """The headers that let the page see an answer; empty where it may not, or where no page asks."""
        origin = _value(headers, b'origin')
        if not origin or not self._origins:
            return []
        if self._any:
            return [(b'access-control-allow-origin', b'*')]
        if origin in self._origins:
            return [(b'access-control-allow-origin', origin), _VARIES]
        return [_VARIES]

    def preflight(self, headers: Sequence[tuple[bytes, bytes]]) -> Pairs:
        """The answer to a page that asks what it may send: every header, since metadata may have any name."""
        wanted = _value(headers, b'access-control-request-headers')
        names = [(b'access-control-allow-headers', wanted)] if _are_names(wanted) else []
        varies = [] if self._any else [(b'vary', b'Access-Control-Request-Headers')]
        return [*self.allowed(headers), _METHODS, *names, *varies, _MAX_AGE]


def is_preflight(method: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a browser asks what a page may send."""
    return method == 'OPTIONS' and bool(_value(headers, b'access-control-request-method'))


def may_see(allowed: Pairs, headers: Sequence[tuple[bytes, bytes]]) -> Pairs:
    """The headers of an answer, with those of CORS: the page may read all that is sent."""
    names = b', '.join(sorted({name for name, _ in headers}))
    return [*headers, *allowed, (b'access-control-expose-headers', names)]


def _value(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return next((value for name, value in headers if name == wanted), b'')


def _are_names(value: bytes) -> bool:
    return len(value) <= _MOST_NAMES and _NAMES.match(value) is not None
