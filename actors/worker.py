"""Worker: takes one actor's events, runs its handler, responds, acknowledges.

While a handler runs, the server is told that the event is at work; when the worker dies, that falls silent, and the
event goes to another one. A streaming call is acknowledged when it is committed: from then on its frames say that it
lives.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from natsgate.actors.actor import Actor
from natsgate.actors.burials import Burials
from natsgate.actors.calls import Calls
from natsgate.actors.consumer import Delivery
from natsgate.actors.context import Context
from natsgate.actors.dead_letters import DeadLetters
from natsgate.actors.exchange import Exchange
from natsgate.actors.executors import Executor, as_run
from natsgate.actors.job import Job, answered, converse
from natsgate.actors.outbox import name_of
from natsgate.actors.puller import Puller
from natsgate.actors.retry import UNHURRIED
from natsgate.actors.settling import IN_PROGRESS, Settling
from natsgate.actors.tally import Tally
from natsgate.actors.verdict import Abandon, Bury, Release, Verdict, admit, unreadable
from natsgate.events import walnats, wire
from natsgate.events.connection import Connection
from natsgate.events.event import EventWithResponse
from natsgate.events.failures import Failure, failed
from natsgate.events.kind import Kind
from natsgate.events.subjects import reply_pattern
from natsgate.events.wire import Response

log = logging.getLogger('natsgate.actors')

_NO_REPLY = re.compile(r'(?!)')
_BURIED_WITHIN = 2.0  # seconds for which a worker that stops waits for its dead letters to be stored

_NEARLY_DUE = 0.25  # who gave the event back until it is due may have known the time a little better

CANCELLED_WITHIN = 5.0
"""Seconds after which a handler that goes on although it was cancelled is reported, and its slot given to others."""


class Worker:
    """The work on one actor in one process."""

    def __init__(
        self,
        connection: Connection,
        actor: Actor,
        calls: Calls,
        puller: Puller,
        *,
        letters: DeadLetters,
        executor: Executor | None,
    ) -> None:
        """`puller` fetches the actor's events, and perhaps those of others; `executor` runs its handler."""
        self.actor = actor
        self.runs = 0
        """Handlers run since the start."""
        self.tally = Tally()
        """What came of them."""
        self.jobs: dict[int, Job] = {}
        """What runs, by its sequence on the stream."""
        self.puller = puller
        self._connection = connection
        self._calls = calls
        self._outbox = calls.outbox
        self._name = name_of(actor)
        self._burials = Burials(connection, actor, letters)
        self._settling = Settling(connection, actor, self._outbox, self._burials, self.tally)
        self._settle = self._settling.settle
        self._as_run = as_run(actor, executor)
        self._can_stop = executor is None or executor.stops
        self._answers = actor.answers
        self._kind = actor.kind
        self._client_streams = actor.kind.client_streams
        self._is_plain = actor.kind is Kind.UNARY and not actor.at_most_once
        assert actor.event.serializer is not None
        self._read = actor.event.serializer.decode
        self._decode = walnats.decode_request if actor.event.walnats else wire.decode_request
        may_reply = walnats.reply_pattern if actor.event.walnats else reply_pattern
        self._may_reply = may_reply(actor.target).match if actor.answers else _NO_REPLY.match
        self._loop = asyncio.get_running_loop()

    # Life

    async def open(self) -> None:
        """Be ready to take what the puller fetches."""
        subject = self.actor.event.subject_name.encode()
        self.puller.takers[subject] = self._on_event
        if self.actor.at_most_once:
            self._calls.repeated_by(subject, self._repeat)
        self._calls.tell_every(self.actor.ack_wait / 4, self._tell)

    @property
    def free(self) -> int:
        """How many more events could be begun now."""
        return self.puller.free

    async def drain(self, timeout: float) -> None:
        """Let what runs end within `timeout` seconds, give the rest back. The puller has stopped."""
        running = [job.task for job in self.jobs.values() if job.task is not None]
        if running:
            await asyncio.wait(running, timeout=timeout)
        await self._release_running()
        await self._burials.finish(_BURIED_WITHIN)
        self._calls.tell_no_more(self.actor.ack_wait / 4, self._tell)

    async def _release_running(self) -> None:
        tasks = []
        for job in list(self.jobs.values()):
            log.warning('actor %s: %s is given back, its handler has not ended', self.actor.name, job.head.id)
            job.released = True
            self._cancel(job)
            if job.task is not None:
                tasks.append(job.task)
        if tasks:
            await asyncio.wait(tasks, timeout=1)  # a handler may refuse to be cancelled: it is not waited for

    # One event: whether it is run

    def _on_event(self, reply: bytes, delivery: Delivery, header: bytes | None, payload: bytes) -> None:
        if delivery.attempt == 1 or not self._known(reply, delivery):
            self._take(reply, delivery, header, payload)

    def _known(self, reply: bytes, delivery: Delivery) -> bool:
        """A redelivery of what runs here, or was answered here, is not run again."""
        job = self.jobs.get(delivery.sequence) or self._burials.jobs.get(delivery.sequence)
        if job is not None and job.delivery.is_same(delivery):
            job.ack = reply
            if job.acknowledged and job.released:
                self._settling.give_back(reply, self.actor.ack_wait)
            elif job.acknowledged:
                self._settling.acknowledge_again(reply)
        elif self._outbox.answer_again(self._name, delivery):
            self._settling.acknowledge_again(reply)
        else:
            return False
        self.puller.credit.finished()
        return True

    def _repeat(self, reply: bytes) -> None:
        """Say again who runs what nobody else ever will: its caller may have missed it."""
        for job in self.jobs.values():
            if job.head.reply.encode() == reply:
                self._settling.tell_taken(job)

    def _take(self, reply: bytes, delivery: Delivery, header: bytes | None, payload: bytes) -> None:
        """Decide whether the event is run, then run it or refuse it."""
        actor, clock = self.actor, self._connection.clock
        try:
            head = self._decode(header)
            if head.reply and self._answers and not self._may_reply(head.reply):
                raise wire.Unreadable('its reply subject is not one of this target')
        except wire.Unreadable as error:
            # Nobody is answered: the reply subject may be anybody's.
            job = Job(reply, delivery, wire.RequestHead(), None, self._context_of, raw=(header, payload))
            self._refuse(job, unreadable(str(error)))
            return
        deadline = None if head.deadline is None else clock.to_local(head.deadline)
        job = Job(reply, delivery, head, deadline, self._context_of, raw=(header, payload))
        cancelled = self._answers and self._calls.was_cancelled(head.reply)
        refusal = admit(actor, head, attempt=job.attempt, expired=job.is_late(clock.now()), cancelled=cancelled)
        if head.due is not None:
            wait = clock.to_local(head.due) - clock.now()
            if wait > (0 if delivery.attempt == 1 else _NEARLY_DUE):
                refusal = Release(wait)
        message = None
        if refusal is None and not self._client_streams:
            try:
                message = self._read(payload)
            except Exception as error:  # a serializer of the user's own may raise anything
                refusal = unreadable(str(error) or type(error).__name__)
        if refusal is not None:
            self._refuse(job, refusal)
        else:
            self._start(job, message)

    def _context_of(self, job: Job) -> Context:
        head = job.head
        context = Context(
            event=self.actor.event,
            actor=self.actor.name,
            id=head.id,
            metadata=head.metadata,
            attempt=job.attempt,
            deadline=job.deadline,
            now=self._connection.clock.now,
            compressed=head.compressed,
        )
        if head.replay:
            context.replayed, context.id = True, head.replay.partition(' ')[2]
        return context

    def _refuse(self, job: Job, verdict: Verdict) -> None:
        if isinstance(verdict, Bury):
            log.warning('actor %s: %s is not run: %s', self.actor.name, job.head.id or job.delivery, verdict.reason)
            self.tally.refuse(verdict.response.status.code.name)
        try:
            self._settle(job, verdict)
        finally:
            self.puller.credit.finished()

    # One event: running it

    def _start(self, job: Job, message: object) -> None:
        job.started = self._connection.clock.now()
        self.jobs[job.delivery.sequence] = job
        if self._kind is not Kind.UNARY:
            self._open_exchange(job)
        job.task = self._loop.create_task(self._run(job, message))
        self._calls.look_later(job, self._watch)

    def _watch(self, job: Job) -> None:
        """Watch over a job that did not end with its first step, as most do: deadline, cancellation."""
        if job.deadline is not None and self._can_stop:
            job.timer = self._loop.call_later(job.deadline - self._connection.clock.now(), self._expire, job)
        if job.head.reply and self._answers:  # a listener does not care who waits for the answer
            job.known = True
            self._calls.begin(job, self.abandon)
            if self._calls.was_cancelled(job.head.reply):
                self.abandon(job, 'cancelled by its caller')

    def _open_exchange(self, job: Job) -> None:
        event = self.actor.event
        assert isinstance(event, EventWithResponse)
        job.exchange = Exchange(
            self._connection, self._calls, event, job.head, job.context,
            on_commit=lambda: self._settling.acknowledge(job), on_over=lambda reason: self._on_over(job, reason),
        )  # fmt: skip
        job.exchange.open()

    async def _run(self, job: Job, message: object) -> None:
        job.begun = True
        try:
            if self._is_plain:  # most are, and need no more coroutines than the handler's
                response = self._answered(job, await self._begin(job, message))
            else:
                response = await self._response(job, message)
        except BaseException as error:
            self._settling.fail(job, error)
        else:
            self._settling.answer(job, response)
        finally:
            self._end(job)

    def _begin(self, job: Job, message: object) -> Awaitable[object]:
        self.runs += 1
        actor = self._as_run
        return actor.handler(message, job.context) if actor.takes_context else actor.handler(message)  # type: ignore[no-any-return]

    async def _response(self, job: Job, message: object) -> Response:
        exchange = job.exchange
        if self.actor.at_most_once:
            await self._settling.claim(job)
        if exchange is None:
            return self._answered(job, await self._begin(job, message))
        if job.delivery.attempt > 1:  # the first attempt may have been committed and have died after that
            await exchange.chosen()
        self.runs += 1
        await converse(self._as_run, message, job.context, exchange)
        return Response(trailing=job.context.trailing)

    def _answered(self, job: Job, result: object) -> Response:
        try:
            return answered(self.actor, result, job)
        except Exception as error:
            log.error('actor %s: what the handler returned cannot be sent: %s', self.actor.name, error)
            text = 'the handler returned something else than the event declares; its log says what'
            return failed(Failure.RESPONSE_UNREADABLE, text)

    def _end(self, job: Job) -> None:
        if job.timer is not None:
            job.timer.cancel()
        if job.ended:
            return
        job.ended = True
        if self.jobs.get(job.delivery.sequence) is job:  # a stream that is made anew counts from 1 again
            del self.jobs[job.delivery.sequence]
        if job.known:
            self._calls.finish(job)
        if (thread := job.thread) is None or thread.done():
            self.puller.finished()
        else:  # it keeps its slot: another event would wait for it here, and might be run elsewhere
            thread.add_done_callback(self._on_thread_ended)

    def _on_thread_ended(self, _: Future[Any]) -> None:
        with suppress(RuntimeError):  # the loop may have ended before
            self._loop.call_soon_threadsafe(self.puller.finished)

    # Nobody waits any more

    def abandon(self, job: Job, reason: str) -> None:
        """Cancel the job's handler and be done with its event; a handler that goes on all the same is reported."""
        if job.abandoned:
            return
        job.abandoned = reason
        self._settle(job, Abandon(reason))
        self._cancel(job)
        self._loop.call_later(CANCELLED_WITHIN, self._report, job)

    def _on_over(self, job: Job, reason: str) -> None:
        """The caller of a streaming call is gone; if the call is not committed, another attempt may find it."""
        assert job.exchange is not None
        if job.exchange.gone or job.acknowledged:
            self.abandon(job, reason)
        else:
            self._settling.give_back(job.ack, UNHURRIED.delay(job.delivery.attempt))
            job.acknowledged = job.released = True
            self.abandon(job, reason)

    def _expire(self, job: Job) -> None:
        job.expired = True
        self._cancel(job)
        self._loop.call_later(CANCELLED_WITHIN, self._report, job)

    def _cancel(self, job: Job) -> None:
        if job.task is not None:
            job.task.cancel()
            if not job.begun:  # then it never will
                job.task.add_done_callback(lambda _: self._end(job))

    def _report(self, job: Job) -> None:
        if job.task is not None and not job.task.done():
            log.warning(
                'actor %s: %s was cancelled %g s ago (%s), but its handler goes on; its slot is given to others',
                self.actor.name, job.head.id, CANCELLED_WITHIN, job.abandoned or 'its deadline passed',
            )  # fmt: skip
            self._end(job)
        elif job.thread is not None and not job.thread.done():
            log.warning(
                'actor %s: %s was cancelled %g s ago, but its thread goes on, and keeps its slot',
                self.actor.name, job.head.id, CANCELLED_WITHIN,
            )  # fmt: skip

    # Time

    def _tell(self, now: float) -> None:
        """Tell the server which events are still at work."""
        if self.jobs or self._burials.jobs:
            for job in (*self.jobs.values(), *self._burials.jobs.values()):
                if now - job.started >= self.actor.ack_wait / 8 and not job.acknowledged:
                    self._settling.write(job.ack, IN_PROGRESS)
