"""Dead letters: has buried events kept by a stream of their own. Whatever becomes of it, the worker goes on."""

from __future__ import annotations

import asyncio
import logging

from natsgate.events import dead_letter
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.dead_letter import DeadLetter, DeadLetterLimits
from natsgate.events.publishing import Refused, Stored, read_ack, retry_delay
from natsgate.events.streams import StreamOptions

log = logging.getLogger('natsgate.actors')

PATIENCE = 10.0
"""Seconds after which a letter that is not stored is given up."""
MOST_WAITING = 64 << 20
"""Bytes of letters that may wait to be stored; further ones are given up at once."""

_ACK_WAIT = 1.0
_API_WAIT = 2.0
_IN_USE = 10058


async def declare(connection: Connection, *, limits: DeadLetterLimits, options: StreamOptions) -> None:
    """Create the stream if it is not there; what an operator has made of it stays. Never fails: that is logged."""
    config = dead_letter.stream_config(limits, storage=options.storage, replicas=options.replicas)
    try:
        await connection.api(f'STREAM.CREATE.{dead_letter.STREAM}', config, timeout=_API_WAIT)
    except ApiError as error:
        if error.err_code != _IN_USE and not await _is_there(connection):
            log.warning('dead letters are not kept: stream %s: %s', dead_letter.STREAM, error.description)
    except (Disconnected, NoResponders, TimeoutError) as error:
        log.warning('dead letters are not kept: stream %s cannot be made: %s', dead_letter.STREAM, error)


async def _is_there(connection: Connection) -> bool:
    """What it cannot be made with now (replicas, say), it may have been made without."""
    try:
        await connection.api(f'STREAM.INFO.{dead_letter.STREAM}', timeout=_API_WAIT)
    except (ApiError, Disconnected, NoResponders, TimeoutError):
        return False
    return True


class DeadLetters:
    """Stores the letters of one process."""

    def __init__(
        self,
        connection: Connection,
        *,
        limits: DeadLetterLimits = DeadLetterLimits(),  # noqa: B008  frozen
        options: StreamOptions = StreamOptions(),  # noqa: B008  frozen
        patience: float = PATIENCE,
    ) -> None:
        self.stored = 0
        """Letters that the stream has."""
        self.lost = 0
        """Letters that it could not be given."""
        self._connection = connection
        self._limits, self._options = limits, options
        self._patience = patience
        self._waiting = 0

    async def store(self, letter: DeadLetter) -> bool:
        """Have the stream keep it, trying again for a while. False: it is lost, which is logged and counted."""
        size = len(letter.header) + len(letter.payload)
        self._waiting += size
        try:
            why = 'too many wait already' if self._waiting > MOST_WAITING else await self._stored(letter)
        finally:
            self._waiting -= size
        if why:
            self.lose(letter, why)
            return False
        self.stored += 1
        return True

    def lose(self, letter: DeadLetter, why: str) -> None:
        """Say that it is lost."""
        self.lost += 1
        log.error(
            'a dead letter is lost (%s): event %d of %s, actor %s, %s: %s',
            why, letter.sequence, letter.stream, letter.actor, letter.cause.value, letter.reason,
        )  # fmt: skip

    async def _stored(self, letter: DeadLetter) -> str:
        """Why it could not be stored; empty when it was."""
        block, payload = letter.encode(max_payload=self._connection.max_payload)
        subject, attempt = dead_letter.subject_of(letter.subject), 0
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience
        while True:
            attempt += 1
            try:
                header, data = await self._connection.request(subject, payload, header=block, timeout=_ACK_WAIT)
                match read_ack(header, data, stream=dead_letter.STREAM, seen=True):
                    case Stored():
                        return ''
                    case Refused(response):
                        return response.status.message
                why = 'its stream cannot store now'
            except NoResponders:
                why = f'there is no stream {dead_letter.STREAM}'
                await declare(self._connection, limits=self._limits, options=self._options)
            except (Disconnected, TimeoutError) as error:
                why = str(error) or 'the stream did not answer'
            if loop.time() >= give_up:
                return why
            await asyncio.sleep(retry_delay(attempt))
