"""Leases: which workers live, as far as their signs of life tell. Pure: time is an argument."""

from __future__ import annotations

import json
from dataclasses import dataclass

EVERY = 1.0
"""Seconds between two signs of life of a worker."""
LEASE = 3.0
"""Seconds after which a worker that was not heard counts as dead."""

UP, DRAINING, DOWN = STATES = ('up', 'draining', 'down')

MAX_BYTES = 256 * 1024


class BadBeat(ValueError):  # noqa: N818
    """A sign of life that cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """A worker's sign of life, for one target."""

    worker: str
    """The worker's id."""
    state: str
    """`up`; `draining`: it takes nothing more and ends what runs; `down`: it is gone."""
    subjects: frozenset[str]
    """What it takes."""
    free: int = 0
    """How many more events it could begin now."""

    def encode(self) -> bytes:
        """As it travels."""
        said = {'worker': self.worker, 'state': self.state, 'free': self.free, 'subjects': sorted(self.subjects)}
        return json.dumps(said).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Beat:
        """What a message on a presence subject says. Raises BadBeat; never anything else."""
        if len(payload) > MAX_BYTES:
            raise BadBeat(f'{len(payload)} bytes')
        try:
            said = json.loads(payload)
            worker, state, subjects = said['worker'], said['state'], said['subjects']
            free = said.get('free', 0)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadBeat(str(error)) from None
        if not (
            isinstance(worker, str)
            and state in STATES
            and isinstance(subjects, list)
            and all(isinstance(subject, str) for subject in subjects)
            and isinstance(free, int)
        ):
            raise BadBeat('a field of another type')
        return cls(worker=worker, state=state, subjects=frozenset(subjects), free=free)


class Leases:
    """The workers of some targets."""

    def __init__(self, now: float) -> None:
        """`now`: the moment from which nobody was seen."""
        self.served: set[str] = set()
        """Subjects that at least one worker takes."""
        self.gone: set[str] = set()
        """Ids of workers that are gone; whoever has told others of them empties it."""
        self._ending: set[str] = set()
        self._workers: dict[tuple[str, str], tuple[float, Beat]] = {}
        self._absent_since: dict[str, float] = {}
        self._known: set[str] = set()
        self._beginning = now

    def hear(self, target: str, beat: Beat, now: float) -> bool:
        """Take a sign of life. Returns whether `served` has changed."""
        key = (target, beat.worker)
        _, before = self._workers.get(key, (0.0, None))
        if beat.state != DOWN:
            self._workers[key] = (now + LEASE, beat)
            if before is not None and (before.state, before.subjects) == (beat.state, beat.subjects):
                return False
        elif before is None:
            return False
        else:
            del self._workers[key]
            self.gone.add(beat.worker)
        return self._count(now)

    def lapse(self, now: float) -> bool:
        """Let go of the workers that were not heard in time. Returns whether `served` has changed."""
        dead = [key for key, (until, _) in self._workers.items() if until <= now]
        for key in dead:
            del self._workers[key]
            self.gone.add(key[1])
        return bool(dead) and self._count(now)

    def renew(self, now: float) -> None:
        """We could not hear for a while: give every worker and every grace its whole time again."""
        self._workers = {key: (now + LEASE, beat) for key, (_, beat) in self._workers.items()}
        self._absent_since = dict.fromkeys(self._absent_since, now)
        self._beginning = now

    def _count(self, now: float) -> bool:
        beats = [beat for _, beat in self._workers.values()]
        served = {subject for beat in beats if beat.state == UP for subject in beat.subjects}
        ending = {subject for beat in beats if beat.state == DRAINING for subject in beat.subjects} - served
        for subject in (self.served | self._ending) - served - ending:
            self._absent_since[subject] = now
        changed = served != self.served
        self._known |= served
        self._ending = ending
        self.served.clear()  # the same set: others look at it for each call
        self.served |= served
        return changed

    def lives(self, target: str) -> bool:
        """Whether any worker of this target lives."""
        return any(found == target for found, _ in self._workers)

    def was_served(self, subject: str) -> bool:
        """Whether a worker ever took this subject."""
        return subject in self._known

    def absence(self, subject: str, now: float) -> float:
        """For how many seconds there has been nobody who takes this subject or ends what it took of it."""
        if subject in self.served or subject in self._ending:
            return 0.0
        return now - self._absent_since.get(subject, self._beginning)
