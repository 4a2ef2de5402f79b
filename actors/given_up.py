"""What NATS itself gives up: events that were delivered as often as their consumer allows (max_deliver).

The consumers that actors declare have no such limit. An operator or another program may set one; NATS then says once,
on core NATS, that it is reached, and leaves the event in its stream, where nobody is given it any more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable

from natsgate.actors.actor import Actor
from natsgate.actors.dead_letters import DeadLetters
from natsgate.events import wire
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.dead_letter import Cause, DeadLetter
from natsgate.events.failures import Failure, failed
from natsgate.events.stored import StoredMsg, delete_msg, read_msg
from natsgate.events.streams import is_interest
from natsgate.events.subjects import reply_pattern

log = logging.getLogger('natsgate.actors')

_ADVISORY = '$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.'
_SHARED_BY = 'natsgate'
_BURIED_WITHIN = 2.0


class GivenUp:
    """Hears what NATS gives up of these actors' events, and has it answered and buried."""

    def __init__(self, connection: Connection, actors: Iterable[Actor], letters: DeadLetters) -> None:
        self._connection = connection
        self._actors = tuple(actors)
        self._letters = letters
        self._sids: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen; of all the processes that do, one hears each."""
        for name in sorted({f'{actor.event.stream_name}.{actor.consumer_name}' for actor in self._actors}):
            sid = await self._connection.subscribe(_ADVISORY + name, self._on_advisory, queue=_SHARED_BY)
            self._sids.append(sid)

    async def close(self) -> None:
        """Hear nothing more; what is being buried is waited for a while, because NATS does not say it again."""
        for sid in self._sids:
            self._connection.unsubscribe(sid)
            self._connection.forget(sid)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_BURIED_WITHIN)
            for task in late:
                task.cancel()

    def _on_advisory(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        try:
            told = json.loads(payload)
            name, sequence, attempts = f'{told["stream"]}.{told["consumer"]}', told['stream_seq'], told['deliveries']
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning('an advisory of NATS cannot be read: %r', error)
            return
        if subject != f'{_ADVISORY}{name}'.encode() or not (isinstance(sequence, int) and isinstance(attempts, int)):
            return
        task = asyncio.get_running_loop().create_task(self._bury(name, sequence, attempts), name='actors/given-up')
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, name: str, sequence: int, attempts: int) -> None:
        try:
            msg = await read_msg(self._connection, name.partition('.')[0], seq=sequence)
            actor = self._actor_of(name, msg) if msg is not None else None
            if msg is None or actor is None:
                return  # it was taken out meanwhile
            log.warning('actor %s: NATS has given up event %d after %d deliveries', actor.name, sequence, attempts)
            head = _head_of(msg)
            self._respond(actor, head.reply, attempts)
            if not (head.replay and head.reply):  # who replays hears it, and has the letter
                await self._letters.store(self._letter(actor, msg, attempts))
            if not is_interest(actor.event):  # the other actors of an event may still want it
                await delete_msg(self._connection, actor.event.stream_name, sequence)
        except (ApiError, Disconnected, NoResponders, TimeoutError) as error:
            log.error('event %d, which NATS has given up (%s), cannot be buried: %s', sequence, name, error)

    def _actor_of(self, name: str, msg: StoredMsg) -> Actor | None:
        return next(
            (
                actor
                for actor in self._actors
                if f'{actor.event.stream_name}.{actor.consumer_name}' == name
                and actor.event.subject_name == msg.subject
            ),
            None,
        )

    def _letter(self, actor: Actor, msg: StoredMsg, attempts: int) -> DeadLetter:
        clock = self._connection.clock
        return DeadLetter(
            subject=msg.subject,
            stream=actor.event.stream_name,
            sequence=msg.sequence,
            actor=actor.name,
            cause=Cause.GIVEN_UP,
            reason=f'NATS has given it up after {attempts} deliveries (max_deliver of consumer {actor.consumer_name})',
            attempts=attempts,
            buried_at=clock.to_broker(clock.now()),
            header=msg.header,
            payload=msg.payload,
            consumer=actor.consumer,
        )

    def _respond(self, actor: Actor, reply: str, attempts: int) -> None:
        if not actor.answers or not reply_pattern(actor.target).match(reply):
            return
        text = f'given up by NATS after {attempts} attempts'
        response = failed(Failure.WORKER_CRASHED, text, idempotent=actor.idempotent, attempts=attempts)
        block = wire.encode_response(response)
        self._connection.offer(b'HPUB %b %d %d\r\n%b\r\n' % (reply.encode(), len(block), len(block), block))


def _head_of(msg: StoredMsg) -> wire.RequestHead:
    """What its headers say; nothing, if they cannot be read."""
    try:
        return wire.decode_request(msg.header)
    except wire.Unreadable:
        return wire.RequestHead()
