"""Verdict: how a job ends. Pure: the worker asks here, then acts.

`admit` decides before the handler is run, `judge` after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from natsgate.actors.actor import Actor
from natsgate.actors.context import Context
from natsgate.actors.execute_in import ProcessDied
from natsgate.events.dead_letter import Cause
from natsgate.events.failures import Failure, failed
from natsgate.events.metadata import checked
from natsgate.events.status import Code, StatusError
from natsgate.events.wire import RequestHead, Response


@dataclass(frozen=True, slots=True)
class Answer:
    """The event is done: respond to whoever waits, then acknowledge."""

    response: Response


@dataclass(frozen=True, slots=True)
class Bury:
    """The event will never be handled: respond to whoever waits, keep it as a dead letter, then terminate it."""

    response: Response
    reason: str
    """For operators: it may say what the caller must not read."""
    cause: Cause | None
    """Why it becomes a dead letter; None: nobody would want it."""


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
    if head.replay and head.replay.partition(' ')[0] != actor.name:
        return Abandon('a replay for another actor')
    if expired:
        late = failed(
            Failure.DEADLINE, 'the deadline passed in the queue; the handler was not run', attempts=attempt - 1
        )
        return Bury(late, 'expired in the queue', Cause.LATE if attempt > 1 else None)
    if attempt > 1 and (attempt > actor.most_attempts or actor.at_most_once):
        return _given_up(actor, attempt - 1)
    if actor.answers and head.kind != actor.kind:
        text = f'this actor answers {actor.kind} calls, not {head.kind[:20]!r}'
        return Bury(failed(Failure.UNKNOWN_METHOD, text), f'another kind of call: {head.kind[:20]!r}', Cause.UNREADABLE)
    return None


def _given_up(actor: Actor, attempts: int) -> Bury:
    if actor.at_most_once:
        text = 'a worker was given the call and did not end it; it is not run again, because it must not run twice'
    else:
        text = f'given up after {attempts} attempts: the last worker that ran it died'
    crashed = failed(Failure.WORKER_CRASHED, text, idempotent=actor.idempotent, attempts=attempts)
    return Bury(crashed, f'{attempts} attempts without an end', Cause.CRASHED)


def unreadable(why: str) -> Bury:
    """The verdict on an event that cannot be decoded."""
    response = failed(Failure.EVENT_UNREADABLE, f'the event cannot be read: {why}')
    return Bury(response, f'unreadable: {why}', Cause.UNREADABLE)


def judge(
    actor: Actor, error: BaseException, context: Context, *, expired: bool, movable: bool = True, draw: float = 0.5
) -> Verdict:
    """What a handler's exception means for its event. Metadata that the handler had set goes with the status.

    `expired`: the deadline has passed. `movable`: another attempt may take the event over. `draw`: chance, 0 to 1.
    Raises ValueError or DecodeError when the exception's own metadata or details cannot travel.
    """
    if isinstance(error, ProcessDied):  # as if the worker had died: the next delivery may be one too many
        return Release() if movable else _given_up(actor, context.attempt)
    covered = actor.policy.covers(error)
    if covered and movable and not expired and context.attempt < actor.policy.attempts:
        delay, remaining = actor.policy.delay(context.attempt, draw), context.time_remaining()
        if remaining is None or delay < remaining:
            return Release(delay)
    response = _response(actor, error, context, expired=expired) if actor.answers else Response()
    cause = _cause(actor, error, context, covered=covered, expired=expired)
    return Answer(response) if cause is None else Bury(response, f'attempt {context.attempt}: {error!r}', cause)


def _cause(actor: Actor, error: BaseException, context: Context, *, covered: bool, expired: bool) -> Cause | None:
    """Why a failed event becomes a dead letter; None if it does not."""
    if actor.answers and isinstance(error, StatusError) and not covered:
        return None  # that is the answer
    if expired:
        return Cause.LATE if context.attempt > 1 and actor.bury_failures is not False else None
    return Cause.FAILED if actor.buries_failures else None


def _response(actor: Actor, error: BaseException, context: Context, *, expired: bool) -> Response:
    if isinstance(error, StatusError) and error.status.code is not Code.OK:
        trailing = (*context.trailing, *checked(error.trailing))
        initial = checked(error.initial) or context.initial
        return Response(status=error.status.fitted(), initial=initial, trailing=trailing)
    if expired:
        return failed(Failure.DEADLINE, 'the deadline passed while the handler ran', attempts=context.attempt)
    text = 'the handler failed; its log says why, under the id in the details'
    response = failed(Failure.HANDLER_FAILED, text, id=context.id, attempts=context.attempt)
    return response._replace(initial=context.initial, trailing=(*context.trailing, *response.trailing))
