"""Emitter: emits the delayed events of this process's actors when they are due, under their own ids."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial

from google.rpc.error_details_pb2 import RetryInfo

from natsgate.actors.consumer import covers
from natsgate.events import delays, subjects
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.delays import Due
from natsgate.events.event import AnyEvent, EventWithResponse
from natsgate.events.publishing import Ack, Refused, Stored, read_ack
from natsgate.events.wire import Unreadable

log = logging.getLogger('natsgate.actors')

_ACK = b'$JS.ACK.'
_LOOK_AGAIN = 0.02


class Emitter:
    """One of the workers to which the server gives what is due. It costs nothing while nothing is."""

    def __init__(self, connection: Connection, events: Iterable[AnyEvent]) -> None:
        self._connection = connection
        self._patterns = {event.stream_name: _pattern(event) for event in events}
        self._sids: list[int] = []
        self._running: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take what is due."""
        for stream in self._patterns:
            subject, on_due = subjects.emitter_subject(stream), partial(self._on_due, stream)
            self._sids.append(await self._connection.subscribe(subject, on_due, queue=delays.EMITTERS))

    async def caught_up(self) -> None:
        """Wait until what was due before open() is given out, to this worker or to another."""
        loop = asyncio.get_running_loop()
        until = loop.time() + delays.ACK_WAIT
        for stream in self._patterns:
            while loop.time() < until:
                if not await self._pending(stream):
                    break
                await asyncio.sleep(_LOOK_AGAIN)

    async def close(self) -> None:
        """Take nothing more. What is not acknowledged by then is given to another."""
        for sid in self._sids:
            self._connection.unsubscribe(sid)
            self._connection.forget(sid)
        if self._running:
            await asyncio.wait(self._running)

    async def _pending(self, stream: str) -> int:
        try:
            info = await self._connection.api(f'CONSUMER.INFO.{delays.STREAM}.{stream}', timeout=1)
        except (ApiError, Disconnected, NoResponders, TimeoutError):
            return 0  # most often because nothing was ever delayed
        return int(info['num_pending'])

    def _on_due(self, stream: str, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        if not reply.startswith(_ACK):  # no delivery: whoever sent it wants us to write somewhere
            return
        try:
            due = delays.read_due(stream, subject, header)
            if not covers(self._patterns[stream], due.subject):
                raise Unreadable(f'{due.subject} is none of {self._patterns[stream]}')
        except Unreadable as error:
            log.warning('a delayed event on %s is not emitted: %s', stream, error)
            self._settle(reply, b'+TERM')
            return
        task = asyncio.create_task(self._emit(stream, due, reply, payload), name=f'actors/{stream}/due')
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _emit(self, stream: str, due: Due, reply: bytes, payload: bytes) -> None:
        try:
            answer = await self._connection.request(due.subject, payload, header=due.block)
        except (Disconnected, NoResponders, TimeoutError):
            return  # it is given out again, and under its id it counts once
        self._settle(reply, _settlement(read_ack(*answer, stream=stream, seen=True), due))

    def _settle(self, reply: bytes, body: bytes | None) -> None:
        if body is not None:
            self._connection.offer(b'PUB %b %d\r\n%b\r\n' % (reply, len(body), body))


async def emit_what_is_due(connection: Connection, events: Iterable[AnyEvent]) -> None:
    """Emit what is due by now, as far as no other worker does, and be done."""
    emitter = Emitter(connection, events)
    try:
        await emitter.open()
        await emitter.caught_up()
    finally:
        await emitter.close()


def _pattern(event: AnyEvent) -> str:
    service = event.service if isinstance(event, EventWithResponse) else None
    return f'{subjects.SERVICE_PREFIX}{service}.*' if service else event.subject_name


def _settlement(ack: Ack | None, due: Due) -> bytes | None:
    """What to say of a due event when its stream has said this; None: it is to be given out again."""
    match ack:
        case Stored():
            return b''
        case Refused(response) if response.status.detail(RetryInfo) is None:
            log.error('a delayed event for %s is refused by its stream: %s', due.subject, response.status)
            return b'+TERM'
    return None
