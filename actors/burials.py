"""Burials: the dead letters of one worker that are on their way to their stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from natsgate.actors.actor import Actor
from natsgate.actors.dead_letters import DeadLetters
from natsgate.actors.job import Job
from natsgate.events.connection import Connection
from natsgate.events.dead_letter import Cause, DeadLetter


class Burials:
    """Events whose letters are being stored: to NATS they are still at work, for the worker they take no slot."""

    def __init__(self, connection: Connection, actor: Actor, letters: DeadLetters) -> None:
        self.jobs: dict[int, Job] = {}
        """What is being buried, by its sequence on the stream."""
        self._connection = connection
        self._actor = actor
        self._letters = letters
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, job: Job, cause: Cause, reason: str, terminate: Callable[[], None]) -> None:
        """Store the event as a dead letter, then terminate it, also when it cannot be stored."""
        event, delivery = self._actor.event, job.delivery
        header, payload = job.raw
        letter = DeadLetter(
            subject=event.subject_name,
            stream=event.stream_name,
            sequence=delivery.sequence,
            actor=self._actor.name,
            cause=cause,
            reason=reason,
            attempts=delivery.attempt,
            buried_at=self._connection.clock.to_broker(self._connection.clock.now()),
            header=header or b'',
            payload=payload,
            consumer=self._actor.consumer,
        )
        self.jobs[delivery.sequence] = job
        task = asyncio.get_running_loop().create_task(
            self._bury(letter, job, terminate), name=f'actors/{self._actor.name}/bury'
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bury(self, letter: DeadLetter, job: Job, terminate: Callable[[], None]) -> None:
        try:
            await self._letters.store(letter)
            terminate()
        except asyncio.CancelledError:
            if job.acknowledged or self._would_run_again(letter):
                self._letters.lose(letter, 'its worker stops')
                terminate()
            raise
        finally:
            if self.jobs.get(letter.sequence) is job:
                del self.jobs[letter.sequence]

    def _would_run_again(self, letter: DeadLetter) -> bool:
        """Whether another worker would run the event before it buries it, although its caller has the failure."""
        spent = letter.attempts >= self._actor.most_attempts
        return self._actor.answers and letter.cause is Cause.FAILED and not spent

    async def finish(self, timeout: float) -> None:
        """Let what is on its way arrive within `timeout` seconds. The rest is given out again, and buried elsewhere,
        unless it would be run there: then its letter is lost.
        """
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
