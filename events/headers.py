"""NATS header blocks (ADR-4): `NATS/1.0[ status[ description]]`, lines of `name: value`, an empty line. Pure."""

from __future__ import annotations

VERSION = b'NATS/1.0'
_END = b'\r\n'


class MalformedHeaders(ValueError):  # noqa: N818  a state of the input, named as such
    """A header block that does not follow ADR-4."""


def parse(block: bytes | None) -> list[tuple[str, str]]:
    """Names and values in order, names as they were sent. Raises MalformedHeaders; never anything else."""
    if not block:
        return []
    if not block.startswith(VERSION):
        raise MalformedHeaders('a header block does not begin with NATS/1.0')
    try:
        text = block.decode('utf-8')
    except UnicodeDecodeError:
        raise MalformedHeaders('a header block is not UTF-8') from None
    return parse_lines(text.partition('\r\n')[2])


def parse_lines(text: str) -> list[tuple[str, str]]:
    """As parse(), of what follows the first line of a block."""
    pairs = []
    for line in text.split('\r\n'):
        if line:
            name, colon, value = line.partition(':')
            if not colon or not name:
                raise MalformedHeaders('a header line has no name or no colon')
            pairs.append((name, value.strip(' \t')))
    return pairs


def status(block: bytes | None) -> tuple[int, str] | None:
    """The status line of a block that the server itself made (`NATS/1.0 503 No Responders`), or None."""
    if not block or not block.startswith(VERSION) or block[8:10] == _END:
        return None
    line = block[9:].partition(_END)[0]
    code, _, description = line.partition(b' ')
    if not code.isdigit() or len(code) != 3:
        return None
    return int(code), description.decode('utf-8', 'replace')
