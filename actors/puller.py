"""Puller: fetches one actor's events, exactly as many as there are free slots, and again whenever that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from natsgate.actors import consumer
from natsgate.actors.actor import Actor
from natsgate.actors.consumer import Delivery
from natsgate.actors.credit import Credit
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.status import ContractError

log = logging.getLogger('natsgate.actors')

_SILENCE = 2.5 * consumer.HEARTBEAT
_REPAIR_AFTER, _REPAIR_AT_MOST = 0.5, 5.0

OnEvent = Callable[[bytes, Delivery, 'bytes | None', bytes], None]
"""Called with the subject for acknowledgements, what it tells, header block and payload."""


Declare = Callable[[Actor], Awaitable[None]]
"""Makes an actor's stream and consumer where they are not there. Raises as consumer.declare()."""


class Puller:
    """The pull requests of one actor in one process."""

    def __init__(
        self, connection: Connection, actor: Actor, on_event: OnEvent, *, declare: Declare, burst: bool
    ) -> None:
        """`burst`: ask only for what is in the queue now; `empty` is set when there is nothing more."""
        self.credit = Credit(actor.max_jobs)
        self.empty = asyncio.Event()
        self._connection = connection
        self._actor = actor
        self._on_event = on_event
        self._declare = declare
        self._burst = burst
        self._next = f'$JS.API.CONSUMER.MSG.NEXT.{actor.event.stream_name}.{actor.consumer_name}'.encode()
        self._generation = 0
        self._sid = 0
        self._heard = 0.0
        self._stopped = False
        self._failures = 0
        self._repair: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._looked = self._loop.time()

    async def open(self) -> None:
        """Begin to fetch. The consumer must be there (consumer.declare)."""
        self._connection.on_connected.append(self._restart)
        await self._subscribe()

    def stop(self) -> None:
        """Fetch nothing more; what is on the way still arrives, until forget()."""
        self._stopped = True
        self._connection.on_connected.remove(self._restart)
        if self._repair is not None:
            self._repair.cancel()
        self._connection.unsubscribe(self._sid)

    def forget(self) -> None:
        """Take nothing more."""
        self._connection.forget(self._sid)

    def finished(self) -> None:
        """A slot is free again."""
        self.credit.finished()
        self.pull()

    def pull(self) -> None:
        """Ask for as many events as there are free slots."""
        count = self.credit.due()
        if count and not self._stopped:
            body = consumer.pull_request(count, no_wait=self._burst)
            if self._connection.offer(
                b'PUB %b %b %d\r\n%b\r\n' % (self._next, self._inbox.encode(), len(body), body)
            ):  # otherwise it is asked again after the reconnect
                self.credit.asked(count)

    def look(self, every: float) -> None:
        """Ask anew if the server should have been heard and was not. Called every `every` seconds."""
        now = self._loop.time()
        if now - self._looked > 2 * every:  # this process stood still: what came meanwhile is not read yet
            self._heard = now
        self._looked = now
        silent = now - self._heard
        if self.credit.promised and silent > _SILENCE and self._connection.connected and not self._stopped:
            log.warning('actor %s: nothing heard for %.0f s, asking again', self._actor.name, silent)
            self._heard = now
            self._restart()

    async def _subscribe(self) -> None:
        self._generation += 1
        self._inbox = f'{self._connection.inbox}.{self._actor.name}.pull.{self._generation}'
        self.credit.promised = 0
        self._heard = self._loop.time()
        self._sid = await self._connection.subscribe(self._inbox, self._on_msg)
        self.pull()

    def _restart(self) -> None:
        """What was asked of the old connection, or under the old inbox, is lost: ask again under a new one."""
        if self._repair is None or self._repair.done():
            self._connection.unsubscribe(self._sid)
            self._connection.forget(self._sid)
            self._repair = asyncio.create_task(self._subscribe(), name=f'actors/{self._actor.name}/pull')

    def _on_msg(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        self._heard = self._loop.time()
        delivery = consumer.read_delivery(reply)
        if delivery is None:
            self._on_status(header)
            return
        self._failures = 0
        self.credit.delivered()
        self._on_event(reply, delivery, header, payload)
        if not self.credit.promised:
            self.pull()

    def _on_status(self, block: bytes | None) -> None:
        match consumer.read_status(block):
            case consumer.Heartbeat():
                self._failures = 0
            case consumer.Ended(missing, empty):
                self.credit.returned(missing if not self._burst else self.credit.promised)
                if self._burst and empty:
                    if not self.credit.running:  # otherwise whoever ends last asks again
                        self.empty.set()
                else:
                    self.pull()
            case consumer.Broken(reason, gone) if not self._stopped:
                if self._repair is None or self._repair.done():
                    log.warning('actor %s: fetching failed (%s), trying again', self._actor.name, reason)
                    self._repair = asyncio.create_task(self._mend(gone), name=f'actors/{self._actor.name}/repair')

    async def _mend(self, gone: bool) -> None:
        self._connection.unsubscribe(self._sid)
        self._connection.forget(self._sid)
        self._failures += 1
        await asyncio.sleep(min(_REPAIR_AFTER * self._failures, _REPAIR_AT_MOST))
        if gone:
            try:
                await self._declare(self._actor)
            except (ApiError, ContractError, Disconnected, NoResponders, TimeoutError) as error:
                log.warning('actor %s: its stream and consumer cannot be made again yet: %s', self._actor.name, error)
        await self._subscribe()
