"""Calls: what passes between this process and its callers beside events: frames, cancellations, what they missed."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from natsgate.actors.outbox import Outbox
from natsgate.events import subjects
from natsgate.events.connection import Connection
from natsgate.events.link import Links
from natsgate.events.tokens import Tokens

if TYPE_CHECKING:
    from natsgate.actors.exchange import Exchange
    from natsgate.actors.job import Job

Canceller = Callable[['Job', str], None]
"""Cancels a job, for a reason."""

Tell = Callable[[float], None]
"""Tells the server what is at work at this moment of the connection's clock."""

Repeat = Callable[[bytes], None]
"""Says again who runs the call that waits on a reply subject."""

REMEMBERED_FOR = 10.0
"""Seconds for which a cancellation is remembered that came before its event."""
_REMEMBERED = 10_000
_LONGEST = 512  # bytes of a reply subject


class Calls:
    """One subscription for the frames of all streaming calls, two per target for cancellations and what was missed."""

    def __init__(self, connection: Connection) -> None:
        self.links = Links(connection)
        self.outbox = Outbox(connection)
        self._connection = connection
        self._process = connection.inbox.rpartition('.')[2]
        self._tokens = Tokens()
        self._exchanges: dict[bytes, Exchange] = {}
        self._jobs: dict[bytes, dict[Job, Canceller]] = {}  # several actors may answer one event
        self._tells: dict[float, set[Tell]] = {}
        self._timers: dict[float, asyncio.TimerHandle] = {}
        self._young: list[tuple[Job, Callable[[Job], None]]] = []
        self._repeats: dict[bytes, list[Repeat]] = {}
        self._cancelled: OrderedDict[bytes, float] = OrderedDict()
        self._sids: list[int] = []
        self._loop = asyncio.get_running_loop()

    async def open(self, targets: Iterable[str]) -> None:
        """Subscribe."""
        await self.outbox.open()
        self._sids.append(
            await self._connection.subscribe(
                f'{subjects.CALL_PREFIX}{self._connection.id}.{self._process}.>', self._on_frame
            )
        )
        for target in sorted(set(targets)):
            self._sids.append(await self._connection.subscribe(subjects.cancel_subject(target), self._on_cancel))
            self._sids.append(await self._connection.subscribe(subjects.missed_subject(target), self._on_missed))

    def close(self) -> None:
        """Hear nothing more."""
        self.links.close()
        self.outbox.close()
        for timer in self._timers.values():
            timer.cancel()
        for sid in self._sids:
            self._connection.unsubscribe(sid)
            self._connection.forget(sid)

    # Streaming calls

    def inbox(self, target: str) -> bytes:
        """An inbox for one more streaming call."""
        return subjects.call_inbox(self._connection.id, self._process, target, self._tokens.next()).encode()

    def add(self, exchange: Exchange) -> None:
        """Hand the exchange its frames."""
        self._exchanges[exchange.link.own] = exchange
        self.links.add(exchange)

    def discard(self, exchange: Exchange) -> None:
        """Hand it nothing more."""
        self._exchanges.pop(exchange.link.own, None)
        self.links.discard(exchange)

    def __len__(self) -> int:
        return len(self._exchanges)

    def _on_frame(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        exchange = self._exchanges.get(subject)
        if exchange is not None:
            exchange.on_message(reply, header, payload)

    # What is at work: one timer and one callback for all workers, where each would have its own

    def tell_every(self, period: float, tell: Tell) -> None:
        """Call this every so many seconds, until tell_no_more()."""
        self._tells.setdefault(period, set()).add(tell)
        if period not in self._timers:
            self._tick(period)

    def tell_no_more(self, period: float, tell: Tell) -> None:
        """Call this no more."""
        self._tells.get(period, set()).discard(tell)

    def _tick(self, period: float) -> None:
        self._timers[period] = self._loop.call_later(period, self._tick, period)
        now = self._connection.clock.now()
        for tell in self._tells[period]:
            tell(now)

    def look_later(self, job: Job, look: Callable[[Job], None]) -> None:
        """Have `look` called unless the job ends with its first step. Its task is made already."""
        self._young.append((job, look))
        if len(self._young) == 1:
            self._loop.call_soon(self._loop.call_soon, self._look)

    def _look(self) -> None:
        young, self._young = self._young, []
        for job, look in young:
            if not job.ended:
                look(job)

    # Cancellations

    def begin(self, job: Job, canceller: Canceller) -> None:
        """The job may be cancelled from here on."""
        self._jobs.setdefault(job.head.reply.encode(), {})[job] = canceller

    def finish(self, job: Job) -> None:
        """The job has ended."""
        reply = job.head.reply.encode()
        jobs = self._jobs.get(reply)
        if jobs is not None and jobs.pop(job, None) is not None and not jobs:
            del self._jobs[reply]

    def was_cancelled(self, reply: str) -> bool:
        """Whether the caller went away before its event came."""
        return bool(self._cancelled) and reply.encode() in self._cancelled

    def _on_cancel(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        found = self._jobs.get(payload)
        if found is not None:
            for job, canceller in list(found.items()):
                canceller(job, 'cancelled by its caller')
            return
        if not 0 < len(payload) <= _LONGEST:  # an empty one would be that of every event that wants no answer
            return
        now = self._loop.time()
        self._cancelled[payload] = now  # its event may be on the way
        oldest = next(iter(self._cancelled))
        while len(self._cancelled) > _REMEMBERED or self._cancelled[oldest] < now - REMEMBERED_FOR:
            del self._cancelled[oldest]
            oldest = next(iter(self._cancelled))

    # Responses that were lost

    def repeated_by(self, subject: bytes, repeat: Repeat) -> None:
        """Hand `repeat` the reply subjects of calls on `subject` whose callers may have missed something."""
        self._repeats.setdefault(subject, []).append(repeat)

    def _on_missed(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        called, _, asked = payload.partition(b' ')
        self.outbox.repeat(asked)
        for repeat in self._repeats.get(called, ()):
            repeat(asked)
