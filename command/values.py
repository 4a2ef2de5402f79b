"""Readers of single values: each takes a text, and raises ValueError with what it wants instead. Pure."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from natsgate.gateway.cors import ANY, is_origin

_DURATION = re.compile(r'(\d+(?:\.\d+)?)(ms|s|m|h|d)?\Z')
_SIZE = re.compile(r'(\d+)\s*(B|KiB|MiB|GiB)?\Z')
_SECONDS = {None: 1.0, 'ms': 0.001, 's': 1.0, 'm': 60.0, 'h': 3600.0, 'd': 86_400.0}
_BYTES = {None: 1, 'B': 1, 'KiB': 1 << 10, 'MiB': 1 << 20, 'GiB': 1 << 30}
_ADDRESS = re.compile(r'(\[[^\s/\[\]]+\]|[^\s:/\[\]]+):(\d{1,5})\Z')
_MAX_PORT = 65535


def duration(text: str) -> float:
    """Seconds of `5`, `250ms`, `5s`, `2m`, `1h`, `3d`."""
    found = _DURATION.match(text.strip())
    if not found:
        raise ValueError('a duration: 5, 250ms, 5s, 2m, 1h or 3d')
    return float(found[1]) * _SECONDS[found[2]]


def size(text: str) -> int:
    """Bytes of `1048576`, `512KiB`, `4MiB`."""
    found = _SIZE.match(text.strip())
    if not found:
        raise ValueError('a size: 1048576, 512KiB or 4MiB')
    return int(found[1]) * _BYTES[found[2]]


def count(text: str) -> int:
    """A whole number, at least 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError('a whole number, at least 1')
    return int(text)


def port(text: str) -> int:
    """The number of a port."""
    if not text.strip().isdecimal() or not 0 < int(text) <= _MAX_PORT:
        raise ValueError(f'a port, 1 to {_MAX_PORT}')
    return int(text)


def boolean(text: str) -> bool:
    """Yes or no, in the usual spellings."""
    known = {'1': True, 'true': True, 'yes': True, 'on': True, '0': False, 'false': False, 'no': False, 'off': False}
    if text.strip().lower() not in known:
        raise ValueError('true or false')
    return known[text.strip().lower()]


def address(text: str) -> str:
    """Where to listen or to call: `host:50051`, `[::1]:50051` or `unix:/run/natsgate.sock`."""
    found = _ADDRESS.match(text)
    if found and int(found[2]) <= _MAX_PORT and (found[1][0] != '[' or _is_ipv6(found[1][1:-1])):
        return text
    if text.startswith('unix:') and text != 'unix:':
        return text
    raise ValueError(f'HOST:PORT with a port up to {_MAX_PORT}, [IPV6]:PORT or unix:PATH')


address.metavar = 'HOST:PORT'  # type: ignore[attr-defined]


def split_address(text: str) -> tuple[str, int] | None:
    """Host (without brackets) and port of an address; None for a Unix socket."""
    found = _ADDRESS.match(text)
    return (found[1].strip('[]'), int(found[2])) if found else None


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def header(text: str) -> tuple[str, str | bytes]:
    """One pair of metadata of `key:value`; the value of a `-bin` key is base64."""
    key, colon, value = text.partition(':')
    key, value = key.strip().lower(), value.strip()
    if not colon or not key:
        raise ValueError('key:value')
    if not key.endswith('-bin'):
        return key, value
    try:
        return key, b64decode(value, validate=True)
    except ValueError:
        raise ValueError('key:value with base64, as the value of a -bin key is') from None


def origin(text: str) -> str:
    """An origin of web pages: `https://shop.example`, with the port if it is not the usual one, or `*`."""
    if text != ANY and not is_origin(text):
        raise ValueError('an origin as browsers write it, https://shop.example without a slash behind it, or *')
    return text


origin.metavar = 'ORIGIN'  # type: ignore[attr-defined]


def path(text: str) -> Path:
    """A file or a folder."""
    return Path(text)


def one_of(*choices: str) -> Callable[[str], str]:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f'one of {", ".join(choices)}')
        return text

    parse.metavar = '|'.join(choices)  # type: ignore[attr-defined]
    return parse


def told(parse: Callable[[str], Any], value: Any) -> str:
    """A value as it would be written in a setting that `parse` reads; empty for none worth telling."""
    if value is None or isinstance(value, bool) or value in ('', ()):
        return ''
    if isinstance(value, tuple):
        return ','.join(told(parse, one) for one in value)
    units: dict[Any, dict[Any, Any]] = {duration: _SECONDS, size: _BYTES}
    for unit, factor in reversed(units.get(parse, {}).items()):
        if unit and value and value % factor == 0:
            return f'{value // factor:g}{unit}'
    return f'{value:g}' if isinstance(value, float) else str(value)
