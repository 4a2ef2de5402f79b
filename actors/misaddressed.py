"""Misaddressed: events below a service's subjects under names that no method can have, such as bytes that are no text.

No consumer takes them, so that they would lie in the stream for ever: now and then they are looked for, and buried.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterable

from natsgate.actors.actor import Actor
from natsgate.actors.dead_letters import DeadLetters
from natsgate.events import headers
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.dead_letter import Cause, DeadLetter
from natsgate.events.event import EventWithResponse
from natsgate.events.stored import delete_msg, read_msg
from natsgate.events.subjects import SERVICE_PREFIX

log = logging.getLogger('natsgate.actors')

LOOK_EVERY = 30.0
"""Seconds between two looks; the first is at once."""

_NOBODY = '-'
_METHOD = re.compile(r'[A-Za-z_][A-Za-z0-9_]*\Z')


class Misaddressed:
    """Buries what no worker will ever be given, in the streams of these actors' services."""

    def __init__(self, connection: Connection, actors: Iterable[Actor], letters: DeadLetters) -> None:
        self._connection = connection
        self._letters = letters
        self._prefixes = {
            actor.event.stream_name: f'{SERVICE_PREFIX}{actor.event.service}.'
            for actor in actors
            if isinstance(actor.event, EventWithResponse) and actor.event.service
        }
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to look. All workers of a service do: a letter is kept once."""
        if self._prefixes:
            self._looking = asyncio.create_task(self._look(), name='actors/misaddressed')

    async def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        while True:
            for stream, prefix in self._prefixes.items():
                try:
                    if await self._has_any(stream, prefix):
                        await self._bury_all(stream, prefix)
                except (ApiError, Disconnected, NoResponders, TimeoutError) as error:
                    log.debug('stream %s cannot be searched for misaddressed events: %s', stream, error)
            await asyncio.sleep(LOOK_EVERY)

    async def _has_any(self, stream: str, prefix: str) -> bool:
        info = await self._connection.api(f'STREAM.INFO.{stream}', {'subjects_filter': f'{prefix}*'})
        subjects = info['state'].get('subjects') or {}
        return not all(_METHOD.match(subject.removeprefix(prefix)) for subject in subjects)

    async def _bury_all(self, stream: str, prefix: str) -> None:
        """One event of each subject is looked at, and again until there is none: JSON cannot name these subjects."""
        found = True
        while found:
            found, sequence = False, 0
            while (newest := await self._newest_of_a_subject(stream, prefix, from_=sequence)) is not None:
                subject, sequence = newest
                if not _is_method(subject, prefix):
                    found = await self._bury(stream, prefix, subject, sequence) or found
                sequence += 1

    async def _newest_of_a_subject(self, stream: str, prefix: str, *, from_: int) -> tuple[bytes, int] | None:
        """Subject and sequence of the first of those, from a sequence on, that are each the newest of a subject."""
        body = json.dumps({'seq': from_, 'multi_last': [f'{prefix}*'], 'batch': 1}).encode()
        block, _ = await self._connection.request(f'$JS.API.DIRECT.GET.{stream}', body)
        if (status := headers.status(block)) is not None and status[0] not in (204, 404):
            raise ApiError(status[0], 0, status[1])
        found = {}
        for line in (block or b'').split(b'\r\n'):  # the event's own lines come first, and may pretend
            name, _, value = line.partition(b': ')
            found[name] = value
        subject, sequence = found.get(b'Nats-Subject'), found.get(b'Nats-Sequence', b'')
        if subject is None or not sequence.isdigit() or int(sequence) < from_:
            return None
        return subject, int(sequence)

    async def _bury(self, stream: str, prefix: str, subject: bytes, sequence: int) -> bool:
        msg = await read_msg(self._connection, stream, seq=sequence)
        if msg is None:
            return True  # another worker was faster
        if _METHOD.match(msg.subject.removeprefix(prefix)):
            return False
        shown = subject.decode('utf-8', 'backslashreplace')
        log.warning('event %d of %s is buried: no method has its subject, %s', sequence, stream, ascii(shown)[1:-1])
        clock = self._connection.clock
        letter = DeadLetter(
            subject=shown,
            stream=stream,
            sequence=sequence,
            actor=_NOBODY,
            cause=Cause.UNREADABLE,
            reason='no method can have its subject',
            attempts=0,
            buried_at=clock.to_broker(clock.now()),
            header=msg.header,
            payload=msg.payload,
        )
        kept = await self._letters.store(letter)
        return kept and await delete_msg(self._connection, stream, sequence)


def _is_method(subject: bytes, prefix: str) -> bool:
    try:
        return _METHOD.match(subject.decode().removeprefix(prefix)) is not None
    except UnicodeDecodeError:
        return False
