"""Misaddressed: events below a service's subjects under names that no method can have, such as bytes that are no text.

No consumer takes them, so that they would lie in the stream for ever: now and then they are looked for, and buried.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable

from natsgate.actors.actor import Actor
from natsgate.actors.dead_letters import DeadLetters
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.dead_letter import Cause, DeadLetter
from natsgate.events.event import EventWithResponse
from natsgate.events.stored import StoredMsg, delete_msg, read_msg
from natsgate.events.subjects import SERVICE_PREFIX

log = logging.getLogger('natsgate.actors')

LOOK_EVERY = 30.0
"""Seconds between two looks; the first is at once."""

_AT_ONCE = 1000  # events of a queue that are looked at, of which most may be well
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
        self._next = dict.fromkeys(self._prefixes, 1)
        """From where on the streams are to be looked through."""
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
                        await self._bury(stream, prefix)
                except (ApiError, Disconnected, NoResponders, TimeoutError) as error:
                    log.debug('stream %s cannot be searched for misaddressed events: %s', stream, error)
            await asyncio.sleep(LOOK_EVERY)

    async def _has_any(self, stream: str, prefix: str) -> bool:
        info = await self._connection.api(f'STREAM.INFO.{stream}', {'subjects_filter': f'{prefix}*'})
        return not all(_is_method(subject, prefix) for subject in info['state'].get('subjects') or {})

    async def _bury(self, stream: str, prefix: str) -> None:
        """Go through the queue, a part at each look: JSON cannot say these subjects, so none can be asked for."""
        for _ in range(_AT_ONCE):
            msg = await read_msg(self._connection, stream, seq=self._next[stream], next_by_subj=f'{prefix}*')
            if msg is None:
                self._next[stream] = 1  # for the next time; also if the stream is made anew, which counts from 1 again
                return
            if not _is_method(msg.subject, prefix) and await self._letters.store(self._letter(stream, msg)):
                await delete_msg(self._connection, stream, msg.sequence)
            self._next[stream] = msg.sequence + 1

    def _letter(self, stream: str, msg: StoredMsg) -> DeadLetter:
        log.warning('event %d of %s is buried: no method has its subject, %a', msg.sequence, stream, msg.subject)
        clock = self._connection.clock
        return DeadLetter(
            subject=msg.subject,
            stream=stream,
            sequence=msg.sequence,
            actor=_NOBODY,
            cause=Cause.UNREADABLE,
            reason='no method can have its subject',
            attempts=0,
            buried_at=clock.to_broker(clock.now()),
            header=msg.header,
            payload=msg.payload,
        )


def _is_method(subject: str, prefix: str) -> bool:
    return _METHOD.match(subject.removeprefix(prefix)) is not None
