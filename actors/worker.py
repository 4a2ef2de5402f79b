"""Worker: fetches one actor's events, runs its handler, responds, acknowledges.

It asks the server for exactly as many events as it has free slots. While a handler runs, the server is told that the
event is at work; when the worker dies, that falls silent, and the event goes to another one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from natsgate.actors import consumer
from natsgate.actors.actor import Actor
from natsgate.actors.consumer import Delivery
from natsgate.actors.context import Context
from natsgate.actors.credit import Credit
from natsgate.actors.job import Job, answered, handle
from natsgate.actors.outbox import Outbox
from natsgate.actors.verdict import Answer, Bury, Release, Verdict, admit, judge, unreadable
from natsgate.events import wire
from natsgate.events.connection import ApiError, Connection, Disconnected, NoResponders
from natsgate.events.failures import Failure, failed
from natsgate.events.publishing import too_large
from natsgate.events.status import ContractError, StatusError
from natsgate.events.subjects import reply_pattern
from natsgate.events.wire import Response

log = logging.getLogger('natsgate.actors')

_SILENCE = 2.5 * consumer.HEARTBEAT
_REPAIR_AFTER = 0.5
_ACK, _IN_PROGRESS = b'', b'+WPI'
_NO_REPLY = re.compile(r'(?!)')
_FOREVER = 60.0  # how long a response is worth sending again when its event has no deadline


class Worker:
    """The work on one actor in one process."""

    def __init__(self, connection: Connection, actor: Actor, *, burst: bool = False) -> None:
        self.actor = actor
        self.runs = 0
        """Handlers run since the start."""
        self._connection = connection
        self._burst = burst
        self._credit = Credit(actor.max_jobs)
        self._jobs: dict[int, Job] = {}
        self._outbox = Outbox(connection, f'{actor.name}.sent')
        self._pool = None if actor.is_async else ThreadPoolExecutor(actor.max_jobs, f'actor-{actor.name}')
        self._reply_pattern = reply_pattern(actor.target) if actor.answers else _NO_REPLY
        self._next_pull = f'$JS.API.CONSUMER.MSG.NEXT.{actor.event.stream_name}.{actor.consumer_name}'.encode()
        self._generation = 0
        self._sid = 0
        self._heard = 0.0
        self._draining = False
        self._idle = asyncio.Event()
        self._repair: asyncio.Task[None] | None = None
        self._ticker: asyncio.TimerHandle | None = None

    # Life

    async def open(self) -> None:
        """Begin to take events. The consumer must be there (consumer.declare)."""
        self._loop = asyncio.get_running_loop()
        await self._outbox.open()
        self._connection.on_connected.append(self._restart_pulling)
        await self._subscribe()
        self._tick()

    async def idle(self) -> None:
        """Wait until, in a burst, the queue is empty and no handler runs."""
        await self._idle.wait()

    async def drain(self, timeout: float) -> None:
        """Take nothing more, let what runs end within `timeout` seconds, give the rest back."""
        self._draining = True
        self._connection.on_connected.remove(self._restart_pulling)
        if self._repair is not None:
            self._repair.cancel()
        self._connection.unsubscribe(self._sid)
        with suppress(Disconnected, TimeoutError):
            await self._connection.synced(timeout=2)  # what was on the way has arrived, and was given back
        self._connection.forget(self._sid)
        running = [job.task for job in self._jobs.values() if job.task is not None]
        if running:
            await asyncio.wait(running, timeout=timeout)
        await self._release_running()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._outbox.close()

    async def _release_running(self) -> None:
        tasks = []
        for job in list(self._jobs.values()):
            log.warning('actor %s: %s is given back, its handler has not ended', self.actor.name, job.head.id)
            job.released = True
            if job.task is not None:
                job.task.cancel()
                tasks.append(job.task)
        if tasks:
            await asyncio.wait(tasks, timeout=1)  # a handler may refuse to be cancelled: it is not waited for

    # Fetching

    async def _subscribe(self) -> None:
        self._generation += 1
        self._pull_inbox = f'{self._connection.inbox}.{self.actor.name}.pull.{self._generation}'
        self._credit.promised = 0
        self._heard = self._loop.time()
        self._sid = await self._connection.subscribe(self._pull_inbox, self._on_msg)
        self._pull()

    def _pull(self) -> None:
        count = self._credit.due()
        if count and not self._draining:
            body = consumer.pull_request(count, no_wait=self._burst)
            try:
                self._connection.write(
                    b'PUB %b %b %d\r\n%b\r\n' % (self._next_pull, self._pull_inbox.encode(), len(body), body)
                )
            except Disconnected:
                return  # asked again after the reconnect
            self._credit.asked(count)

    def _restart_pulling(self) -> None:
        """What was asked of the old connection, or under the old inbox, is lost: ask again under a new one."""
        if self._repair is None or self._repair.done():
            self._connection.unsubscribe(self._sid)
            self._connection.forget(self._sid)
            self._repair = asyncio.create_task(self._subscribe(), name=f'actors/{self.actor.name}/pull')

    def _on_status(self, block: bytes | None) -> None:
        self._heard = self._loop.time()
        match consumer.read_status(block):
            case consumer.Ended(missing, empty):
                self._credit.returned(missing if not self._burst else self._credit.promised)
                if self._burst and empty:
                    self._finish_burst()
                else:
                    self._pull()
            case consumer.Broken(reason, gone) if not self._draining:
                if self._repair is None or self._repair.done():
                    log.warning('actor %s: fetching failed (%s), trying again', self.actor.name, reason)
                    self._repair = asyncio.create_task(self._mend(gone), name=f'actors/{self.actor.name}/repair')

    async def _mend(self, gone: bool) -> None:
        self._connection.unsubscribe(self._sid)
        self._connection.forget(self._sid)
        await asyncio.sleep(_REPAIR_AFTER)
        if gone:
            try:
                await consumer.declare(self._connection, self.actor)
            except (ApiError, ContractError, Disconnected, NoResponders, TimeoutError) as error:
                log.warning('actor %s: its consumer cannot be made again yet: %s', self.actor.name, error)
        await self._subscribe()

    def _finish_burst(self) -> None:
        if not self._jobs:
            self._idle.set()

    # One event

    def _on_msg(self, subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
        delivery = consumer.read_delivery(reply)
        if delivery is None:
            self._on_status(header)
            return
        self._heard = self._loop.time()
        if self._draining:
            self._write_ack(reply, _nak(0))
            return
        self._credit.delivered()
        if not self._known(reply, delivery):
            self._take(reply, delivery, header, payload)
        self._pull()

    def _known(self, reply: bytes, delivery: Delivery) -> bool:
        """A redelivery of what runs here, or was answered here, is not run again."""
        if delivery.attempt == 1:
            return False
        job = self._jobs.get(delivery.sequence)
        if job is not None:
            job.ack = reply
        elif self._outbox.send_again(delivery.sequence):
            self._write_ack(reply, _ACK)
        else:
            return False
        self._credit.finished()
        return True

    def _take(self, reply: bytes, delivery: Delivery, header: bytes | None, payload: bytes) -> None:
        """Decide whether the event is run, then run it or refuse it."""
        actor, clock = self.actor, self._connection.clock
        job = Job(reply, delivery, wire.RequestHead(), None, Context(event=actor.event))
        try:
            head = wire.decode_request(header)
            if head.reply and actor.answers and not self._reply_pattern.match(head.reply):
                raise wire.Unreadable('its reply subject is not one of this target')
        except wire.Unreadable as error:
            self._refuse(job, unreadable(str(error)))  # nobody is answered: the reply subject may be anybody's
            return
        job.head = head
        job.deadline = None if head.deadline is None else clock.to_local(head.deadline)
        job.context = Context(
            event=actor.event,
            id=head.id,
            metadata=head.metadata,
            attempt=delivery.attempt,
            deadline=job.deadline,
            now=clock.now,
        )
        refusal = admit(actor, head, attempt=delivery.attempt, expired=self._is_late(job))
        if refusal is None:
            try:
                message = actor.event.decode(payload)
            except Exception as error:  # a serializer of the user's own may raise anything
                refusal = unreadable(str(error) or type(error).__name__)
        if refusal is not None:
            self._refuse(job, refusal)
        else:
            self._start(job, message)

    def _refuse(self, job: Job, verdict: Bury) -> None:
        log.warning('actor %s: %s is not run: %s', self.actor.name, job.head.id or job.delivery, verdict.reason)
        self._settle(job, verdict)
        self._credit.finished()

    def _start(self, job: Job, message: object) -> None:
        job.started = self._loop.time()
        self._jobs[job.delivery.sequence] = job
        if job.deadline is not None and self._pool is None:
            job.timer = self._loop.call_later(job.deadline - self._connection.clock.now(), job.expire)
        self.runs += 1
        job.task = self._loop.create_task(self._run(job, message))

    async def _run(self, job: Job, message: object) -> None:
        try:
            verdict = await self._verdict(job, message)
            self._settle(job, verdict)
        finally:
            if job.timer is not None:
                job.timer.cancel()
            self._jobs.pop(job.delivery.sequence, None)
            self._credit.finished()
            self._pull()

    async def _verdict(self, job: Job, message: object) -> Verdict:
        try:
            result = await handle(self.actor, message, job.context, self._pool)
        except BaseException as error:
            if job.released:
                return Release()
            if isinstance(error, KeyboardInterrupt):
                raise
            expired = job.expired or self._is_late(job)
            verdict = judge(self.actor, error, job.context, expired=expired)
            self._log_failure(job, error)
            return verdict
        if self._is_late(job):
            return Answer(failed(Failure.DEADLINE, 'the deadline passed while the handler ran'))
        try:
            return Answer(answered(self.actor, result, job.context))
        except Exception as error:
            log.error('actor %s: what the handler returned cannot be sent: %s', self.actor.name, error)
            text = 'the handler returned something else than the event declares; its log says what'
            return Answer(failed(Failure.RESPONSE_UNREADABLE, text))

    def _is_late(self, job: Job) -> bool:
        return job.deadline is not None and job.deadline <= self._connection.clock.now()

    def _log_failure(self, job: Job, error: BaseException) -> None:
        expected = self.actor.answers and isinstance(error, StatusError)
        if not expected and not job.expired:
            log.error('actor %s: handler failed on %s', self.actor.name, job.head.id, exc_info=error)

    # Settling

    def _settle(self, job: Job, verdict: Verdict) -> None:
        """Respond, then acknowledge: a crash between the two repeats the work, never loses the answer."""
        match verdict:
            case Answer(response):
                self._respond(job, response)
                self._write_ack(job.ack, _ACK)
            case Bury(response, reason):
                self._respond(job, response)
                self._write_ack(job.ack, b'+TERM ' + reason.encode('ascii', 'replace')[:200].translate(_ONE_LINE))
            case Release(delay):
                self._write_ack(job.ack, _nak(delay))

    def _respond(self, job: Job, response: Response) -> None:
        if not job.head.reply or not self.actor.answers:
            return
        head = wire.encode_response(response)
        oversized = too_large(len(head) + len(response.payload), self._connection.max_payload)
        if oversized is not None:
            response, head = oversized, wire.encode_response(oversized)
        remaining = _FOREVER if job.deadline is None else job.deadline - self._connection.clock.now()
        self._outbox.send(
            job.head.reply.encode(), head, response.payload,
            sequence=job.delivery.sequence, deadline=self._loop.time() + remaining,
        )  # fmt: skip

    def _write_ack(self, ack: bytes, body: bytes) -> None:
        with suppress(Disconnected):  # the event comes again then, and is known
            self._connection.write(b'PUB %b %d\r\n%b\r\n' % (ack, len(body), body))

    # Time

    def _tick(self) -> None:
        """Tell the server which events are still at work; look whether the server is still heard."""
        every = self.actor.ack_wait / 4
        self._ticker = self._loop.call_later(every, self._tick)
        now = self._loop.time()
        for job in self._jobs.values():
            if now - job.started >= every / 2:
                self._write_ack(job.ack, _IN_PROGRESS)
        if self._credit.promised and now - self._heard > _SILENCE and self._connection.connected and not self._draining:
            log.warning('actor %s: nothing heard for %.0f s, asking again', self.actor.name, now - self._heard)
            self._heard = now
            self._restart_pulling()


_ONE_LINE = bytes.maketrans(b'\r\n', b'  ')


def _nak(delay: float) -> bytes:
    return b'-NAK {"delay":%d}' % int(delay * 1e9) if delay else b'-NAK'
