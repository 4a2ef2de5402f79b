"""Beats: this process says who it is, once a second, and when it starts and stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from natsgate.events import leases, subjects
from natsgate.events.connection import Connection
from natsgate.events.leases import Beat

if TYPE_CHECKING:
    from natsgate.actors.worker import Worker


log = logging.getLogger('natsgate.actors')

_BLOCKED = 1.0  # seconds; at twice as many, events go to other workers and streaming calls break


def worker_id(connection: Connection) -> str:
    """What this process is known by. A worker that is restarted under the same name is another one."""
    return f'{connection.id}-{connection.inbox.rpartition(".")[2]}'


class Beats:
    """The signs of life for all targets of this process."""

    def __init__(self, connection: Connection, workers: Iterable[Worker]) -> None:
        self._connection = connection
        self._by_target: dict[str, list[Worker]] = {}
        for worker in workers:
            if worker.actor.answers:
                self._by_target.setdefault(worker.actor.target, []).append(worker)
        self._id = worker_id(connection)
        self._state = leases.UP
        self._timer: asyncio.TimerHandle | None = None
        self._sids: list[int] = []
        self._due = asyncio.get_running_loop().time()

    async def open(self) -> None:
        """Say that we are here, and go on saying it."""
        for target in self._by_target:
            ask = subjects.presence_subject(target, subjects.ASK)
            self._sids.append(await self._connection.subscribe(ask, self._on_ask))
        self._connection.on_connected.append(self._say)
        self._beat()

    def drain(self) -> None:
        """Say that we take nothing more."""
        self._state = leases.DRAINING
        self._say()

    def close(self) -> None:
        """Say that we are gone."""
        self._state = leases.DOWN
        self._say()
        if self._timer is not None:
            self._timer.cancel()
        self._connection.on_connected.remove(self._say)
        for sid in self._sids:
            self._connection.unsubscribe(sid)
            self._connection.forget(sid)

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(leases.EVERY, self._beat)
        late = loop.time() - self._due
        self._due = loop.time() + leases.EVERY
        if late > _BLOCKED:
            log.warning(
                'the event loop was blocked for %.1f s; at work: %s', late, ', '.join(self._at_work()) or 'nothing'
            )
        self._say()

    def _at_work(self) -> list[str]:
        workers = [worker for workers in self._by_target.values() for worker in workers]
        return sorted(worker.actor.name for worker in workers if worker.jobs)

    def _on_ask(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        self._say_of(subject[len(subjects.PRESENCE_PREFIX) : subject.rfind(b'.')].decode())

    def _say(self) -> None:
        for target in self._by_target:
            self._say_of(target)

    def _say_of(self, target: str) -> None:
        workers = self._by_target[target]
        beat = Beat(
            worker=self._id,
            state=self._state,
            subjects=frozenset(worker.actor.event.subject_name for worker in workers),
            free=sum(worker.free for worker in workers),
        ).encode()
        subject = subjects.presence_subject(target, self._id).encode()
        self._connection.offer(b'PUB %b %d\r\n%b\r\n' % (subject, len(beat), beat))
