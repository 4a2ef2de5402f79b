"""`natsgate dlq`: dead letters: list, show, replay, drop."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from natsgate.command.client import Unaskable
from natsgate.command.letters import Book, Kept, Selection, letters, row, selection, whole
from natsgate.command.loading import Overrides
from natsgate.command.nats import NatsAway, connecting, no_jetstream
from natsgate.command.options import DlqSettings
from natsgate.command.replay import Replay, Replayed, obstacle
from natsgate.command.terminal import table
from natsgate.events import dead_letter
from natsgate.events.connection import ApiError, Connection, NoResponders
from natsgate.events.dead_letter import one_line
from natsgate.events.status import Code
from natsgate.events.stored import delete_msg

ACTIONS = ('ls', 'show', 'replay', 'drop')

DLQ_HELP = """\
ls lists dead letters, show prints them with their messages, replay has them run once more, drop removes them.

LETTER is the number that ls gives. Instead, --method, --since and --reason say which; replay and drop want one of
them, or --all. Messages are decoded if their protos are given, by a flag or in natsgate.toml.

A replayed call gets a new deadline (--timeout). It is removed from the dead letters if the answer is OK; otherwise it
stays. An event that nobody answers is put back into its stream, for the actor that failed alone.

The exit code is 0, or 1 if not all that was to be replayed ended well, or if there is no such letter.
"""

_TEXT = 60  # characters of a reason in a list


async def dlq(settings: DlqSettings, overrides: Overrides, action: str, numbers: Sequence[int]) -> int:
    """Do it; returns the exit code. Raises ContractError, Unaskable, NatsAway, NoLetter."""
    book = Book.of(settings, overrides)
    selected = selection(settings, book, numbers)
    if numbers and (settings.method or settings.reason or settings.since is not None or settings.all):
        raise Unaskable(f'{action} which ones? give their numbers, or what they have in common, not both')
    if action in ('replay', 'drop') and selected.is_all and not settings.all:
        raise Unaskable(f'{action} which ones? give their numbers, --method, --since or --reason; or --all')
    async with connecting(settings) as connection:
        try:
            match action:
                case 'ls':
                    return await _list(settings, book, letters(connection, selected))
                case 'show':
                    return await _show(settings, book, letters(connection, selected))
                case 'drop':
                    return await _drop(settings, book, connection, selected)
            return await _replay(settings, book, connection, selected)
        except NoResponders as error:
            raise NatsAway(no_jetstream(settings)) from error
        except ApiError as error:
            raise NatsAway(f'stream {dead_letter.STREAM}: {error.description}') from error


async def _list(settings: DlqSettings, book: Book, found: AsyncIterator[Kept]) -> int:
    rows = [('LETTER', 'TIME', 'METHOD', 'ACTOR', 'REASON', 'ATTEMPTS', '')]
    async for kept in found:
        shown = row(kept, book)
        if settings.output == 'json':
            _print(shown)
        else:
            text = one_line(shown['text'])
            text = text if len(text) <= _TEXT else f'{text[: _TEXT - 3]}...'
            cells = (shown[name] for name in ('letter', 'time', 'method', 'actor', 'reason', 'attempts'))
            rows.append((*(one_line(str(cell)) for cell in cells), text))  # type: ignore[arg-type]
    if len(rows) > 1:
        print('\n'.join(table(rows)))
    elif settings.output != 'json':
        _say('no dead letters')
    return 0


async def _show(settings: DlqSettings, book: Book, found: AsyncIterator[Kept]) -> int:
    async for kept in found:
        shown = whole(kept, book)
        if settings.output == 'json':
            _print(shown)
            continue
        width = max(map(len, shown))
        for name, value in shown.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True)
            print(f'{name.ljust(width)}  {_escaped(text)}')
        print()
    return 0


async def _drop(settings: DlqSettings, book: Book, connection: Connection, selected: Selection) -> int:
    dropped = 0
    for kept in [kept async for kept in letters(connection, selected)]:
        if not settings.dry_run and not await delete_msg(connection, dead_letter.STREAM, kept.number):
            continue  # somebody else has
        dropped += 1
        if settings.output == 'json':
            _print(row(kept, book))
    _say(f'{dropped} would be dropped' if settings.dry_run else f'{dropped} dropped')
    return 0


async def _replay(settings: DlqSettings, book: Book, connection: Connection, selected: Selection) -> int:
    found = [kept async for kept in letters(connection, selected)]
    if settings.dry_run:
        for kept in found:
            _tell(settings, book, kept, {'obstacle': obstacle(kept)}, obstacle(kept) or 'would be replayed')
        return 0
    ends: Counter[str] = Counter()
    progress = Progress(len(found))
    replay = Replay(connection, timeout=settings.timeout, parallel=settings.parallel)
    async for ended in replay.run(found):
        ends[ended.status.code.name] += 1
        progress.clear()
        _tell(settings, book, ended.kept, _end(ended), f'{ended.status.code.name} {one_line(ended.status.message)}')
        progress.show(ends)
    progress.finish(ends)
    return 0 if set(ends) <= {Code.OK.name} else 1


def _end(ended: Replayed) -> dict[str, Any]:
    return {'code': ended.status.code.name, 'message': ended.status.message}


def _tell(settings: DlqSettings, book: Book, kept: Kept, end: dict[str, Any], text: str) -> None:
    if settings.output == 'json':
        _print(row(kept, book) | end)
    else:
        print(f'{kept.number}  {book.name(kept.letter.subject)}  {text}'.rstrip(), flush=True)


class Progress:
    """How far it is, on standard error: rewritten in place on a terminal, else told at the end alone."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._live = sys.stderr.isatty()

    def show(self, ends: Counter[str]) -> None:
        """Tell it."""
        if self._live:
            print(f'\r{self._line(ends)}', end='', file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for other words."""
        if self._live:
            print('\r\x1b[K', end='', file=sys.stderr, flush=True)

    def finish(self, ends: Counter[str]) -> None:
        """Tell how it ended."""
        self.clear()
        _say(self._line(ends))

    def _line(self, ends: Counter[str]) -> str:
        told = ', '.join(f'{count} {code}' for code, count in ends.most_common())
        return f'{ends.total()} of {self._total} replayed' + (f': {told}' if told else '')


def _print(shown: dict[str, Any]) -> None:
    print(json.dumps(shown), flush=True)


def _escaped(text: str) -> str:
    """A text whole, but without what a terminal would obey."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def _say(text: str) -> None:
    print(text, file=sys.stderr)
