"""Presence: listens to the workers' signs of life, and knows what to say to a call that nobody would take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from natsgate.events import subjects
from natsgate.events.connection import Connection, Disconnected
from natsgate.events.failures import Failure, failed
from natsgate.events.leases import EVERY, BadBeat, Beat, Leases
from natsgate.events.pending import Destination
from natsgate.events.wire import Response

log = logging.getLogger('natsgate.events')

GRACE = 10.0
"""Seconds for which a call waits in the queue although no worker lives."""

_LOOK = 0.25


class PresenceWatch:
    """Which subjects are served, for the targets of one connection."""

    def __init__(self, connection: Connection, destinations: Iterable[Destination]) -> None:
        self._connection = connection
        # The actors of walnats give no signs of life: such calls wait for their deadline.
        self._destinations = {each.subject: each for each in destinations if not each.walnats}
        self._subjects: dict[str, set[str]] = {}
        for destination in self._destinations.values():
            self._subjects.setdefault(destination.target, set()).add(destination.subject)
        self._targets = sorted(self._subjects)
        self._sids: list[int] = []
        self._leases = Leases(connection.clock.now())
        self._settled_at = float('inf')
        self._timer: asyncio.TimerHandle | None = None
        self._told: set[str] = set()
        self._looked = connection.clock.now()
        self.served = self._leases.served
        """Subjects that a living worker takes."""
        self.on_change: list[Callable[[], None]] = []
        """Called when `served` has changed."""
        self.on_absent: Callable[[str, Response, float], None] | None = None
        """Called when nobody has taken a subject for longer than its grace: with the subject, the answer to its calls,
        and for how many seconds nobody has.
        """

        self.on_gone: Callable[[frozenset[str]], None] | None = None
        """Called with the ids of workers that have stopped or died."""

    async def open(self) -> None:
        """Listen, and ask who is there."""
        for target in self._targets:
            self._sids.append(await self._connection.subscribe(subjects.presence_subject(target, '*'), self._on_beat))
        self._connection.on_connected.append(self._begin)
        self._begin()
        self._look()

    def close(self) -> None:
        """Look no more."""
        self._connection.on_connected.remove(self._begin)
        for sid in self._sids:
            self._connection.unsubscribe(sid)
            self._connection.forget(sid)
        if self._timer is not None:
            self._timer.cancel()

    def lives(self, target: str) -> bool:
        """Whether any worker of this target lives."""
        return self._leases.lives(target)

    def refusal(self, destination: Destination) -> Response | None:
        """The answer to a call that no worker would take in time; None: it is worth waiting."""
        now = self._connection.clock.now()
        if now < self._settled_at or destination.subject in self.served or destination.walnats:
            return None
        subject, leases = destination.subject, self._leases
        if not leases.was_served(subject) and leases.lives(destination.target):
            text = f'{destination.target} is served, but no worker takes {subject}'
            return failed(Failure.UNSERVED_METHOD, text)
        grace = GRACE if destination.grace is None else destination.grace
        if leases.absence(subject, now) >= grace:
            return failed(Failure.NO_WORKER, f'no worker has taken {subject} for {grace:g} s', grace=f'{grace:g}s')
        return None

    def _begin(self) -> None:
        """Ask, and judge nobody until those who live have had the time to say so."""
        now = self._connection.clock.now()
        self._leases.renew(now)
        self._settled_at = now + 1.5 * EVERY
        self._told.clear()
        for target in self._targets:
            try:
                self._connection.write(b'PUB %b 0\r\n\r\n' % subjects.presence_subject(target, subjects.ASK).encode())
            except Disconnected:
                return  # asked again after the reconnect

    def _on_beat(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        target, _, worker = subject[len(subjects.PRESENCE_PREFIX) :].decode('utf-8', 'replace').rpartition('.')
        if worker == subjects.ASK:
            return
        try:
            beat = Beat.decode(payload)
        except BadBeat as error:
            log.warning('a sign of life for %s cannot be read: %s', target, error)
            return
        # What nobody asks for is not kept, and nobody speaks for another target.
        beat = replace(beat, subjects=beat.subjects & self._subjects.get(target, set()))
        if self._leases.hear(target, beat, self._connection.clock.now()):
            self._changed()
        self._tell_gone()

    def _changed(self) -> None:
        self._told -= self.served
        for listener in self.on_change:
            listener()

    def _tell_gone(self) -> None:
        if self._leases.gone:
            gone = frozenset(self._leases.gone)
            self._leases.gone.clear()
            if self.on_gone is not None:
                self.on_gone(gone)

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK, self._look)
        if not self._connection.connected:
            return
        now = self._connection.clock.now()
        if now - self._looked > 4 * _LOOK:  # this process stood still: what came meanwhile is not read yet
            self._leases.renew(now)
        self._looked = now
        if self._leases.lapse(now):
            self._changed()
        self._tell_gone()
        for subject, destination in self._destinations.items():
            if subject not in self.served and subject not in self._told:
                refusal = self.refusal(destination)
                if refusal is not None:
                    self._told.add(subject)
                    if self.on_absent is not None:
                        self.on_absent(subject, refusal, self._leases.absence(subject, now))
