"""Dead letters as `natsgate dlq` sees them: which ones, and what is in them."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from natsgate.command.client import find_method, to_json
from natsgate.command.loading import Overrides, descriptors_of, has_protos, routes_of
from natsgate.command.options import DlqSettings
from natsgate.events import dead_letter
from natsgate.events.connection import ApiError, Connection
from natsgate.events.dead_letter import Cause, DeadLetter, one_line
from natsgate.events.metadata import Metadata
from natsgate.events.stored import StoredMsg, read_msg
from natsgate.events.subjects import SERVICE_PREFIX
from natsgate.events.wire import Unreadable
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Route

_NO_STREAM = 10059


class NoLetter(Exception):  # noqa: N818
    """There is no such dead letter, or no stream of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A dead letter, and where it is."""

    number: int
    """Its sequence on the stream of dead letters: what operators know it by."""
    time: float
    """When it was stored, seconds since 1970."""
    letter: DeadLetter

    @property
    def when(self) -> str:
        """The time for people and machines: UTC, RFC 3339."""
        return datetime.fromtimestamp(self.time, UTC).isoformat(timespec='seconds').replace('+00:00', 'Z')


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which letters are meant."""

    numbers: tuple[int, ...] = ()
    """These; none: all that the rest leaves."""
    subjects: tuple[str, ...] = ()
    """Those of events with these subjects; `*` stands for a part of one."""
    causes: frozenset[Cause] = frozenset()
    """Those buried for one of these reasons; empty: for any."""
    after: float = 0.0
    """Those stored after this moment, seconds since 1970."""

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows it down."""
        return not (self.numbers or self.subjects or self.causes or self.after)

    def has(self, kept: Kept) -> bool:
        """Whether a letter on one of the subjects is meant."""
        return kept.time >= self.after and (not self.causes or kept.letter.cause in self.causes)


@dataclass(frozen=True, slots=True)
class Book:
    """What is known of methods, so that letters can be read."""

    descriptors: Descriptors | None = None
    by_subject: dict[str, Route] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: DlqSettings, overrides: Overrides) -> Book:
        """What the settings name. Raises ContractError."""
        if not has_protos(settings):
            return cls()
        descriptors = descriptors_of(settings)
        return cls(descriptors, {route.subject: route for route in routes_of(descriptors, overrides).values()})

    def subjects(self, name: str) -> tuple[str, ...]:
        """Those that a method, a service or an event has. Raises Unaskable for a method that is not there.

        Without protos nobody knows which of them a name without `/` is: it may be any.
        """
        routes = self.by_subject.values()
        if '/' not in name:
            named = (route.subject for route in routes if name in (route.service, route.method[1:].replace('/', '.')))
            return (name, f'{SERVICE_PREFIX}{name}', f'{SERVICE_PREFIX}{name}.*', *named)
        if self.descriptors is not None:
            method = find_method(self.descriptors, name)
            name = f'{method.containing_service.full_name}/{method.name}'
        known = (route.subject for route in routes if route.method == f'/{name}')
        return (next(known, SERVICE_PREFIX + name.strip('/').replace('/', '.')),)

    def name(self, subject: str) -> str:
        """A subject as people know it: the method's name, or the event's."""
        if subject in self.by_subject:
            return self.by_subject[subject].method[1:]
        if subject.startswith(SERVICE_PREFIX):
            service, _, method = subject[len(SERVICE_PREFIX) :].rpartition('.')
            return one_line(f'{service}/{method}')
        return one_line(subject)

    def message(self, letter: DeadLetter) -> dict[str, Any]:
        """The event's message: as JSON if its type is known and fits, or it is JSON itself; else as base64."""
        if letter.size:
            return {'cut': letter.size}
        route = self.by_subject.get(letter.subject)
        if route is not None and self.descriptors is not None:
            try:
                found = self.descriptors.message_class(route.request_type).FromString(letter.payload)
                return {'request': to_json(self.descriptors, found)}
            except (DecodeError, json_format.Error, ValueError, TypeError):
                return {'unreadable': b64encode(letter.payload).decode()}
        try:
            return {'request': json.loads(letter.payload)}
        except (ValueError, RecursionError):
            return {'payload': b64encode(letter.payload).decode()}


def selection(settings: DlqSettings, book: Book, numbers: Iterable[int]) -> Selection:
    """What the command line means. Raises Unaskable."""
    return Selection(
        numbers=tuple(numbers),
        subjects=tuple(subject for name in settings.method for subject in book.subjects(name)),
        causes=frozenset(map(Cause, settings.reason)),
        after=0.0 if settings.since is None else time.time() - settings.since,
    )


async def letters(connection: Connection, selected: Selection) -> AsyncIterator[Kept]:
    """The letters that are meant, each once; none that come meanwhile. Raises NoLetter, and as Connection.api()."""
    last = await _last(connection)
    if selected.numbers:
        for number in dict.fromkeys(selected.numbers):
            known = 0 < number <= last
            msg = await read_msg(connection, dead_letter.STREAM, seq=number) if known else None
            kept = _kept(msg) if msg is not None else None
            if kept is None:
                raise NoLetter(f'there is no dead letter {number}')
            yield kept
        return
    told: set[int] = set()  # a method may be named twice, or beside its service
    for subject in selected.subjects or ('>',):
        number = 1
        while number <= last and (msg := await _next(connection, number, subject)) and msg.sequence <= last:
            number = msg.sequence + 1
            kept = _kept(msg)
            if kept is not None and selected.has(kept) and kept.number not in told:
                told.add(kept.number)
                yield kept


async def _next(connection: Connection, number: int, subject: str) -> StoredMsg | None:
    where = dead_letter.subject_of(subject)
    return await read_msg(connection, dead_letter.STREAM, seq=number, next_by_subj=where)


async def _last(connection: Connection) -> int:
    try:
        return int((await connection.api(f'STREAM.INFO.{dead_letter.STREAM}'))['state']['last_seq'])
    except ApiError as error:
        if error.err_code != _NO_STREAM:
            raise
        raise NoLetter(
            f'there are no dead letters: this NATS has no stream {dead_letter.STREAM}; workers make it when they start'
        ) from error


def _kept(msg: StoredMsg) -> Kept | None:
    """The letter in a message; None for what is none."""
    try:
        return Kept(number=msg.sequence, time=msg.time, letter=DeadLetter.decode(msg.subject, msg.header, msg.payload))
    except Unreadable:
        return None


def row(kept: Kept, book: Book) -> dict[str, Any]:
    """A letter as a line for machines."""
    letter = kept.letter
    return {
        'letter': kept.number,
        'time': kept.when,
        'method': book.name(letter.subject),
        'actor': letter.actor,
        'reason': letter.cause.value,
        'text': letter.reason,
        'attempts': letter.attempts,
        'subject': letter.subject,
    }


def whole(kept: Kept, book: Book) -> dict[str, Any]:
    """All that is known of a letter."""
    letter = kept.letter
    shown = row(kept, book) | {'stream': letter.stream, 'sequence': letter.sequence}
    try:
        head = letter.head()
    except Unreadable as error:
        return shown | {'headers': b64encode(letter.header).decode(), 'why': str(error)} | book.message(letter)
    waited = {'id': head.id, 'kind': head.kind, 'answered': bool(head.reply), 'metadata': _texts(head.metadata)}
    return shown | waited | book.message(letter)


def _texts(metadata: Metadata) -> list[list[str]]:
    return [[key, value if isinstance(value, str) else b64encode(value).decode()] for key, value in metadata]
