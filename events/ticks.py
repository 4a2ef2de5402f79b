"""Clock: an event at every full minute, or at another period. Its actors are the jobs that run by the clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from natsgate.events.clock import seconds_of
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.event import Event
from natsgate.events.sampling import keep_sampled, sample
from natsgate.events.status import ContractError, StatusError

if TYPE_CHECKING:
    from natsgate.events.registry import ConnectedEvents

log = logging.getLogger('natsgate.events')

MINUTE_PASSED = Event('minute-passed', datetime)
"""What a Clock emits unless it is told otherwise."""

_AGAIN = 1.0
_SAMPLED_WITHIN = 1.0
_LOOK = 1.0
_LATE = 500_000  # microseconds; a stream recognizes ids for longer, unless its events live for less
_EARLY = 0.1  # seconds by which another clock may have been early


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Emits the time whenever a period has passed. Run as many as you like: each tick counts once.

    Ticks are at multiples of the period since 1970 on the broker's clock, and carry that moment, in UTC.
    """

    event: Event[datetime] = MINUTE_PASSED
    """What is emitted; clocks with other periods need other events."""
    period: float = 60
    """Seconds from one tick to the next."""
    meta: Mapping[str, str] | None = None
    """Metadata of each tick."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.period <= 366 * 86400:
            raise ContractError(f'clock {self.event.name!r}: a period of {self.period} s: 0.01 s to a year')

    async def run(self, conn: ConnectedEvents, *, burst: bool = False) -> None:
        """Tick until it is cancelled; in a `burst` once. A tick that cannot be emitted is tried until the next one."""
        streams = [self.event.stream_name]
        if not conn.connection.clock.sampled:  # the ticks would be those of this computer's clock
            await sample(conn.connection, streams, timeout=_SAMPLED_WITHIN)
        sampling = asyncio.create_task(keep_sampled(conn.connection, streams), name=f'clock/{self.event.name}/time')
        try:
            await self._tick(conn, burst=burst)
        finally:
            sampling.cancel()

    async def _tick(self, conn: ConnectedEvents, *, burst: bool) -> None:
        period = round(self.period * 1e6)
        clock = conn.connection.clock
        tick = clock.to_broker(clock.now()) // period
        while True:
            current = clock.to_broker(clock.now()) // period
            coming = max(current, min(tick, current + 1) + 1)  # missed ones are over, but the latest; time may go back
            left = clock.to_local(coming * period) - clock.now()
            await asyncio.sleep(min(left, _LOOK))
            if left > _LOOK:  # the time is known better by now
                continue
            tick = coming
            await self._emit(conn, tick * period, until=(tick + 1) * period)
            if burst:
                return

    async def _emit(self, conn: ConnectedEvents, moment: int, *, until: int) -> None:
        clock, when = conn.connection.clock, datetime.fromtimestamp(moment / 1e6, UTC)
        while True:
            late = clock.to_broker(clock.now()) - moment > _LATE
            if late and await self._is_emitted(conn.connection, when):
                return
            try:
                await conn.emit(self.event, when, uid=f'{moment}', meta=self.meta, sync=True)
            except StatusError as error:
                log.warning('clock %s: the tick of %s is not emitted: %s', self.event.name, when, error)
                await asyncio.sleep(min(_AGAIN, self.period / 4))
                if clock.to_broker(clock.now()) >= until:
                    return
            else:
                return

    async def _is_emitted(self, connection: Connection, when: datetime) -> bool:
        """Whether another clock was in time, perhaps so long ago that the stream has forgotten the tick's id."""
        try:
            state = (await connection.api(f'STREAM.INFO.{self.event.stream_name}'))['state']
        except (ApiError, Disconnected, NoResponders, TimeoutError):
            return False
        return seconds_of(state['last_ts']) >= when.timestamp() - min(_EARLY, self.period / 4)
