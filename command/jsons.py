"""JSON values one after the other, out of text that comes bit by bit. Pure but for stdin()."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator

STDIN = '-'
"""Stands for standard input."""

_CHUNK = 1 << 16


class NoJson(Exception):  # noqa: N818
    """What came is no JSON; the text says where it ceases to be."""


class Splitter:
    """Cuts text into JSON values. Between two of them there is white space, or nothing where that is clear."""

    def __init__(self) -> None:
        self._rest = ''
        self._decoder = json.JSONDecoder()

    def feed(self, text: str) -> Iterator[str]:
        """The values that are complete now, as they were written. Raises NoJson."""
        self._rest += text
        # A value may go on in what comes next, except behind the end of a line.
        end = self._rest.rfind('\n') + 1
        yield from self._cut(end)

    def finish(self) -> Iterator[str]:
        """The values in what is left. Raises NoJson."""
        yield from self._cut(len(self._rest))
        if self._rest:
            raise NoJson(f'it breaks off after {self._rest.strip()[-60:]!r}')

    def _cut(self, end: int) -> Iterator[str]:
        while (start := len(self._rest) - len(self._rest.lstrip())) < end:
            lines = self._rest[:end]
            try:
                _, stop = self._decoder.raw_decode(lines, start)
            except json.JSONDecodeError as error:
                if error.pos < len(lines.rstrip()):
                    raise NoJson(f'{error.msg.removesuffix(" at")} at {lines[error.pos :][:60].rstrip()!r}') from None
                return  # there is more to come
            yield self._rest[start:stop]
            self._rest, end = self._rest[stop:], end - stop
        self._rest = self._rest.lstrip()


async def stdin() -> AsyncIterator[str]:
    """What comes on standard input, as soon as it does."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(4)

    def read() -> None:
        chunk = b'?'
        with contextlib.suppress(RuntimeError):  # the loop has ended
            while chunk:
                room.acquire()
                chunk = _read()
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)

    # A thread that nobody waits for: reading a terminal ends when somebody presses a key.
    threading.Thread(target=read, name='stdin', daemon=True).start()
    decoder = codecs.getincrementaldecoder('utf-8')('replace')
    while chunk := await chunks.get():
        room.release()
        yield decoder.decode(chunk)


def _read() -> bytes:
    try:
        return os.read(0, _CHUNK)
    except OSError:  # it is closed
        return b''


async def values(text: str) -> AsyncIterator[str]:
    """The JSON values of a text, or of STDIN. Raises NoJson."""
    splitter = Splitter()
    async for chunk in _chunks(text):
        for value in splitter.feed(chunk):
            yield value
    for value in splitter.finish():
        yield value


async def _chunks(text: str) -> AsyncIterator[str]:
    if text != STDIN:
        yield text
        return
    async for chunk in stdin():
        yield chunk
