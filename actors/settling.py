"""Settling: does what a verdict says: respond, keep a dead letter, acknowledge, terminate, give back."""

from __future__ import annotations

import asyncio
import logging
import random

from natsgate.actors.actor import Actor
from natsgate.actors.beats import worker_id
from natsgate.actors.burials import Burials
from natsgate.actors.execute_in import ProcessDied
from natsgate.actors.job import Job
from natsgate.actors.outbox import Outbox, name_of
from natsgate.actors.tally import Tally
from natsgate.actors.verdict import Abandon, Answer, Bury, Release, Verdict, judge
from natsgate.events import walnats, wire
from natsgate.events.connection import Connection, Disconnected, NoResponders
from natsgate.events.failures import Failure, failed
from natsgate.events.publishing import too_large
from natsgate.events.status import Code, StatusError
from natsgate.events.streams import is_interest
from natsgate.events.wire import Response

log = logging.getLogger('natsgate.actors')

IN_PROGRESS = b'+WPI'

_ACK = b''
_FOREVER = 60.0  # how long a response is worth sending again when its event has no deadline
_ONE_LINE = bytes.maketrans(b'\r\n', b'  ')


class Settling:
    """The ends of one worker's jobs."""

    def __init__(self, connection: Connection, actor: Actor, outbox: Outbox, burials: Burials, tally: Tally) -> None:
        self._connection = connection
        self._actor = actor
        self._answers = actor.answers
        self._tells = actor.answers and not is_interest(actor.event)  # otherwise another actor may answer as well
        self._outbox = outbox
        self._name = name_of(actor)
        self._burials = burials
        self._tally = tally
        self._clock = connection.clock

    def settle(self, job: Job, verdict: Verdict) -> None:
        """Respond, then acknowledge: a crash between the two repeats the work, never loses the answer."""
        match verdict:
            case Answer(response):
                self._answer(job, response, self._clock.now())
            case Bury(response, reason, cause):
                self._respond(job, response, self._clock.now())
                if cause is None or (job.head.replay and job.head.reply):  # who replays hears it, and has the letter
                    self._terminate(job, reason)
                else:
                    self._burials.begin(job, cause, reason, lambda: self._terminate(job, reason))
            case Abandon(reason):
                if job.exchange is not None:
                    job.exchange.close()
                self._terminate(job, reason)
            case Release(delay):
                self._release(job, delay)

    def answer(self, job: Job, response: Response) -> None:
        """The handler has returned."""
        now = self._clock.now()
        if job.is_late(now):
            response = failed(Failure.DEADLINE, 'the deadline passed while the handler ran')
        try:
            self._answer(job, response, now)
        except Exception as reason:
            self.settle(job, self._cannot_send(reason))

    def _answer(self, job: Job, response: Response, now: float) -> None:
        self._respond(job, response, now)
        self.acknowledge(job)

    def fail(self, job: Job, error: BaseException) -> None:
        """The handler has raised, or was cancelled. Raises KeyboardInterrupt again."""
        if job.released:
            self.settle(job, Release())
        elif job.abandoned:
            self.settle(job, Abandon(job.abandoned))
        elif isinstance(error, KeyboardInterrupt):
            raise error
        else:
            verdict = self._judge(job, error)
            self._log_failure(job, error, verdict)
            self._tally.fail(error, expired=job.expired)
            try:
                self.settle(job, verdict)
            except Exception as reason:
                self.settle(job, self._cannot_send(reason))

    def _judge(self, job: Job, error: BaseException) -> Verdict:
        expired = job.expired or job.is_late(self._clock.now())
        # Where the caller streams, messages may be on the way to this attempt, and are nobody else's.
        movable = not job.acknowledged and not self._actor.kind.client_streams
        try:
            draw = random.random()  # noqa: S311  jitter is no secret
            return judge(self._actor, error, job.context, expired=expired, movable=movable, draw=draw)
        except Exception as reason:  # details or metadata of the handler's own
            return self._cannot_send(reason)

    def _cannot_send(self, reason: Exception) -> Answer:
        log.error('actor %s: what the handler ended with cannot be sent', self._actor.name, exc_info=reason)
        text = 'the status that the handler raised cannot be sent; its log says why'
        return Answer(failed(Failure.RESPONSE_UNREADABLE, text))

    def _log_failure(self, job: Job, error: BaseException, verdict: Verdict) -> None:
        if isinstance(error, ProcessDied):
            return  # it was told, by who knows how it died
        if isinstance(verdict, Release):
            log.warning(
                'actor %s: handler failed on %s in attempt %d, the next one is in %.2g s',
                self._actor.name, job.head.id, job.delivery.attempt, verdict.delay, exc_info=error,
            )  # fmt: skip
            return
        expected = self._actor.answers and isinstance(error, StatusError)
        if not expected and not job.expired:
            log.error('actor %s: handler failed on %s', self._actor.name, job.head.id, exc_info=error)

    async def claim(self, job: Job) -> None:
        """Have the event acknowledged before it is run, so that nobody else is given it, and tell its caller so.

        Raises Disconnected, NoResponders, TimeoutError: the job is released then, and must not be run.
        """
        try:
            await self._connection.request(job.ack.decode(), timeout=self._actor.ack_wait)
        except (Disconnected, NoResponders, TimeoutError):
            job.released = True
            raise
        job.acknowledged = True
        if self.tell_taken(job):
            await asyncio.sleep(0)  # it is to be on its way before a handler does whatever it does

    def tell_taken(self, job: Job) -> bool:
        """Tell the caller of an event that is run at most once who runs it, if it wants to know."""
        if not (job.acknowledged and job.head.reply and self._tells) or job.exchange is not None:
            return False  # frames say by themselves who speaks
        block, reply = wire.encode_taken(worker_id(self._connection)), job.head.reply.encode()
        return self._connection.offer(b'HPUB %b %d %d\r\n%b\r\n' % (reply, len(block), len(block), block))

    def acknowledge(self, job: Job) -> None:
        """The event is done, or belongs to this attempt for good."""
        if not job.acknowledged:
            job.acknowledged = True
            self.write(job.ack, _ACK)

    def acknowledge_again(self, ack: bytes) -> None:
        """An event that was settled before was delivered once more."""
        self.write(ack, _ACK)

    def give_back(self, ack: bytes, delay: float) -> None:
        """Have the event delivered again, `delay` seconds from now."""
        self.write(ack, b'-NAK {"delay":%d}' % int(delay * 1e9) if delay else b'-NAK')

    def write(self, ack: bytes, body: bytes) -> None:
        """Say this of an event. When it is lost, the event comes again, and is known."""
        self._connection.offer(b'PUB %b %d\r\n%b\r\n' % (ack, len(body), body))

    def _respond(self, job: Job, response: Response, now: float) -> None:
        if job.started:
            self._tally.busy += now - job.started
        if not job.head.reply or not self._answers:
            return
        response = response.fitted()
        if job.exchange is not None:
            job.exchange.end(response)
            return
        head = wire.encode_response(response)
        oversized = too_large(len(head) + len(response.payload), self._connection.max_payload)
        if oversized is not None:
            response, head = oversized, wire.encode_response(oversized)
        wanted = _FOREVER
        if self._actor.event.walnats and walnats.takes_only_data(job.head.reply):
            if response.status.code is not Code.OK:  # nobody could tell it from a result
                event, status = job.head.id or job.delivery, response.status
                log.warning('actor %s: %s is left without an answer: %s', self._actor.name, event, status)
                return
            wanted = walnats.RESPONSE_WANTED
        deadline = now + wanted if job.deadline is None else job.deadline
        self._outbox.send(
            job.head.reply.encode(), head, response.payload,
            name=self._name, delivery=job.delivery, now=now, deadline=deadline,
        )  # fmt: skip

    def _release(self, job: Job, delay: float) -> None:
        if job.acknowledged:  # nobody else will get it
            self._respond(job, self._broken_off(job), self._clock.now())
            return
        if job.exchange is not None:
            job.exchange.close()
        self.give_back(job.ack, delay)

    def _broken_off(self, job: Job) -> Response:
        what = Failure.STREAM_BROKEN if job.exchange is not None else Failure.WORKER_CRASHED
        return failed(what, 'the call broke off: its worker stops', idempotent=self._actor.idempotent)

    def _terminate(self, job: Job, reason: str) -> None:
        if not job.acknowledged:
            job.acknowledged = True
            self.write(job.ack, b'+TERM ' + reason.encode('ascii', 'replace')[:200].translate(_ONE_LINE))
