"""Verdict: how a job ends. Pure: the worker asks here, then acts.

`admit` decides before the handler is run, `judge` after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from natsgate.actors.actor import Actor
from natsgate.actors.context import Context
from natsgate.events.failures import Failure, failed
from natsgate.events.metadata import checked
from natsgate.events.status import Code, StatusError
from natsgate.events.wire import RequestHead, Response

RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before an event is given out again: a plain one whose handler failed, or a streaming call whose caller could
not be reached; the last repeats.
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """The event is done: respond to whoever waits, then acknowledge."""

    response: Response


@dataclass(frozen=True, slots=True)
class Bury:
    """The event will never be handled: respond to whoever waits, then terminate it with the reason."""

    response: Response
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Not handled here: give the event back, for another worker or a later time."""

    delay: float = 0.0
    """Seconds before it is given out again."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Nobody waits for the response any more: the event is done without one."""

    reason: str


Verdict = Answer | Bury | Release | Abandon


def admit(actor: Actor, head: RequestHead, *, attempt: int, expired: bool, cancelled: bool = False) -> Verdict | None:
    """Why this event must not be run, or None if it may."""
    if cancelled:
        return Abandon('cancelled in the queue')
    if expired:
        late = failed(
            Failure.DEADLINE, 'the deadline passed in the queue; the handler was not run', attempts=attempt - 1
        )
        return Bury(late, 'expired in the queue')
    if attempt > actor.max_attempts:
        crashed = failed(
            Failure.WORKER_CRASHED,
            f'given up after {attempt - 1} attempts: each worker that ran it died',
            idempotent=actor.idempotent,
            attempts=attempt - 1,
        )
        return Bury(crashed, f'{attempt - 1} attempts without an end')
    if actor.answers and head.kind != actor.kind.value:
        text = f'this actor answers {actor.kind.value} calls, not {head.kind[:20]!r}'
        return Bury(failed(Failure.UNKNOWN_METHOD, text), f'another kind of call: {head.kind[:20]!r}')
    return None


def unreadable(why: str) -> Bury:
    """The verdict on an event that cannot be decoded."""
    return Bury(failed(Failure.EVENT_UNREADABLE, f'the event cannot be read: {why}'), f'unreadable: {why}')


def judge(actor: Actor, error: BaseException, context: Context, *, expired: bool) -> Verdict:
    """What a handler's exception means for its event. Metadata that the handler had set goes with the status.

    Raises ValueError or DecodeError when the exception's own metadata or details cannot travel.
    """
    if not actor.answers:
        if context.attempt >= actor.max_attempts:
            return Bury(Response(), f'failed in {context.attempt} attempts: {error!r}'[:200])
        return Release(RETRY_DELAYS[min(context.attempt, len(RETRY_DELAYS)) - 1])
    if isinstance(error, StatusError) and error.status.code is not Code.OK:
        trailing = (*context.trailing, *checked(error.trailing))
        initial = checked(error.initial) or context.initial
        return Answer(Response(status=error.status.fitted(), initial=initial, trailing=trailing))
    if expired:
        return Answer(failed(Failure.DEADLINE, 'the deadline passed while the handler ran', attempts=context.attempt))
    text = 'the handler failed; its log says why, under the id in the details'
    response = failed(Failure.HANDLER_FAILED, text, id=context.id, attempts=context.attempt)
    return Answer(response._replace(initial=context.initial, trailing=(*context.trailing, *response.trailing)))
