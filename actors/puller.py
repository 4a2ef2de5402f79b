"""Puller: fetches a consumer's events, no more than there are free slots, and again whenever that fails.

A pull request that waits can only be called off by unsubscribing, and what the server gives to it at that moment
reaches nobody: it counts as delivered, and comes again as a second attempt, in a cluster not before `ack_wait`. So pull
requests are brief where events keep coming, and a puller that stops waits until they have ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from natsgate.actors import consumer
from natsgate.actors.consumer import Consumer, Delivery
from natsgate.actors.credit import Budget, Credit, SharedCredit
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.status import ContractError

log = logging.getLogger('natsgate.actors')

_SILENCE = 2.5 * consumer.HEARTBEAT
_REPAIR_AFTER, _REPAIR_AT_MOST = 0.5, 5.0
_LATER = b'-NAK {"delay":1000000000}'

OnEvent = Callable[[bytes, Delivery, 'bytes | None', bytes], None]
"""Called with the subject for acknowledgements, what it tells, header block and payload."""


Declare = Callable[[Consumer], Awaitable[None]]
"""Makes a consumer and its stream where they are not there. Raises as consumer.declare()."""

_LOOK_EVERY = 0.5

_FEW = 16  # events: who was given more, without a break, is given many; who was not, has asked for no more
_LATE = 0.25  # seconds after its end within which a pull request has been answered


class Puller:
    """The pull requests to one consumer in one process."""

    def __init__(
        self, connection: Connection, source: Consumer, *, declare: Declare, burst: bool, budget: Budget | None = None
    ) -> None:
        """`burst`: ask only for what is in the queue now; `empty` is set when there is nothing more. `budget`: the
        slots that it shares with others.
        """
        slots = source.actors[0].max_jobs
        self.credit = Credit(slots) if budget is None else SharedCredit(slots, budget)
        self.empty = asyncio.Event()
        self.takers: dict[bytes, OnEvent] = {}
        """Who takes the events of a subject."""
        self._connection = connection
        self.source = source
        self._declare = declare
        self._burst = burst
        self._budget = budget
        self._next = f'$JS.API.CONSUMER.MSG.NEXT.{source.stream}.{source.name}'.encode()
        self._generation = 0
        self._sid = 0
        self._heard = 0.0
        self._given = 0.0
        self._in_a_row = 0
        self._stopped = False
        self._ends = 0.0
        self._ended = asyncio.Event()
        self._failures = 0
        self._repair: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._looked = self._loop.time()
        self._looking: asyncio.TimerHandle | None = None

    @property
    def free(self) -> int:
        """How many more events could be begun now."""
        return 0 if self._stopped else self.credit.free

    async def open(self) -> None:
        """Begin to fetch. The consumer must be there (consumer.declare)."""
        self._connection.on_connected.append(self._restart)
        await self._subscribe()
        self._look()

    def stop(self) -> None:
        """Ask for nothing more; what was asked for still arrives, until forget()."""
        self._stopped = True
        self._connection.on_connected.remove(self._restart)
        if self._repair is not None:
            self._repair.cancel()
        if self._looking is not None:
            self._looking.cancel()

    async def drain(self, timeout: float) -> None:
        """Wait until all that was asked for has ended, at most `timeout` seconds, then have nothing more sent.

        For a pull request that may wait longer it does not wait: few events come, if any.
        """
        seconds = min(timeout, self._ends - self._loop.time())
        if self.credit.promised and seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), seconds)
        self._connection.unsubscribe(self._sid)

    def forget(self) -> None:
        """Take nothing more."""
        self._connection.forget(self._sid)

    def finished(self) -> None:
        """A slot is free again."""
        self.credit.finished()
        self.ask()

    def ask(self) -> None:
        """Ask for more, when it is this one's turn."""
        if self._stopped:
            if not self.credit.promised:
                self._ended.set()
            return
        if self._budget is None or not (self.credit.running or self.credit.promised):
            self.pull()
        else:
            self._budget.wait(self.pull)
        self._serve_others()

    def _serve_others(self) -> None:
        if self._budget is not None:
            self._budget.serve()

    def pull(self) -> None:
        """Ask for as many events as there are free slots, and for a few at most where few come."""
        count = self.credit.due()
        if not count or self._stopped:
            return
        now = self._loop.time()
        if now - self._given > consumer.BRIEFLY:
            self._in_a_row = 0
        briefly = self._in_a_row >= _FEW or (self._budget is not None and count > 1)
        if not briefly and not self._burst:
            count = min(count, _FEW - self.credit.promised)
        if count > 0:
            self._request(count, briefly=briefly)

    def _request(self, count: int, *, briefly: bool) -> None:
        body = consumer.pull_request(count, no_wait=self._burst, briefly=briefly)
        if self._connection.offer(
            b'PUB %b %b %d\r\n%b\r\n' % (self._next, self._inbox.encode(), len(body), body)
        ):  # otherwise it is asked again after the reconnect
            self.credit.asked(count)
            self._ends = self._loop.time() + consumer.BRIEFLY + _LATE if briefly or self._burst else 0.0

    def _look(self) -> None:
        """Ask anew if the server should have been heard and was not."""
        self._looking = self._loop.call_later(_LOOK_EVERY, self._look)
        now = self._loop.time()
        if now - self._looked > 2 * _LOOK_EVERY:  # this process stood still: what came meanwhile is not read yet
            self._heard = now
        self._looked = now
        silent = now - self._heard
        if self.credit.promised and silent > _SILENCE and self._connection.connected and not self._stopped:
            log.warning('consumer %s: nothing heard for %.0f s, asking again', self.source.name, silent)
            self._heard = now
            self._restart()

    async def _subscribe(self) -> None:
        self._generation += 1
        self._inbox = f'{self._connection.inbox}.{self.source.stream}.{self.source.name}.pull.{self._generation}'
        self.credit.lost()
        self._heard = self._loop.time()
        self._sid = await self._connection.subscribe(self._inbox, self._on_msg)
        self.pull()

    def _restart(self) -> None:
        """What was asked of the old connection, or under the old inbox, is lost: ask again under a new one."""
        if self._repair is None or self._repair.done():
            self._connection.unsubscribe(self._sid)
            self._connection.forget(self._sid)
            self._repair = asyncio.create_task(self._subscribe(), name=f'actors/{self.source.name}/pull')

    def _on_msg(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        self._heard = self._loop.time()
        delivery = consumer.read_delivery(reply)
        if delivery is None:
            self._on_status(header)
            return
        self._failures = 0
        self._given = self._heard
        self._in_a_row += 1
        self.credit.delivered()
        taker = self.takers.get(subject)
        if taker is None:
            self._give_back(subject, reply)
        else:
            taker(reply, delivery, header, payload)
        if not self.credit.promised:
            self.ask()
        else:
            self._serve_others()

    def _give_back(self, subject: bytes, reply: bytes) -> None:
        """Another worker's actor shares the consumer, and is none of ours."""
        log.warning('consumer %s: no actor here takes %r, it is given back', self.source.name, subject)
        self.credit.finished()
        self._connection.offer(b'PUB %b %d\r\n%b\r\n' % (reply, len(_LATER), _LATER))

    def _on_status(self, block: bytes | None) -> None:
        match consumer.read_status(block):
            case consumer.Heartbeat():
                self._failures = 0
            case consumer.Ended(missing, empty):
                self.credit.returned(missing if not self._burst else self.credit.promised)
                if self._burst and empty and not self._stopped:
                    if not self.credit.running:  # otherwise whoever ends last asks again
                        self.empty.set()
                else:
                    self.ask()
            case consumer.Broken(reason, gone) if not self._stopped:
                if self._repair is None or self._repair.done():
                    log.warning('consumer %s: fetching failed (%s), trying again', self.source.name, reason)
                    self._repair = asyncio.create_task(self._mend(gone), name=f'actors/{self.source.name}/repair')

    async def _mend(self, gone: bool) -> None:
        self._connection.unsubscribe(self._sid)
        self._connection.forget(self._sid)
        self._failures += 1
        await asyncio.sleep(min(_REPAIR_AFTER * self._failures, _REPAIR_AT_MOST))
        if gone:
            try:
                await self._declare(self.source)
            except (ApiError, ContractError, Disconnected, NoResponders, TimeoutError) as error:
                log.warning('consumer %s: it and its stream cannot be made again yet: %s', self.source.name, error)
        await self._subscribe()
