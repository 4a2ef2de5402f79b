"""Whether a failed event is run again, how long after, and what becomes of it otherwise."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.actors import Actor, Context, Retry
from natsgate.actors.verdict import Answer, Bury, Release, Verdict, judge
from natsgate.events import Code, ContractError, Event, Status, StatusError
from natsgate.events.dead_letter import Cause

CALL = Event('e', str).with_response(str)
SAFE = replace(CALL, idempotent=True)
BUSY = StatusError(Status(Code.RESOURCE_EXHAUSTED))
FAILURE = ValueError('x')
STEADY = Retry(attempts=3, backoff=1, jitter=0)


def verdict(
    error: Exception = FAILURE, *, event: Any = CALL, attempt: int = 1, left: float | None = None,
    expired: bool = False, movable: bool = True, **options: Any,
) -> Verdict:  # fmt: skip
    context = Context(event=event, attempt=attempt, deadline=left)
    return judge(Actor('a', event, print, **options), error, context, expired=expired, movable=movable)


def test_calls_are_answered_at_once() -> None:
    assert isinstance(verdict(), Answer)
    assert isinstance(verdict(BUSY), Answer)


def test_what_may_run_twice_without_harm_is_run_again() -> None:
    verdicts = [verdict(event=SAFE, attempt=attempt) for attempt in (1, 2, 3)]
    assert [type(each) for each in verdicts] == [Release, Release, Bury]
    assert isinstance(verdict(BUSY, event=SAFE), Answer)
    assert isinstance(verdict(event=SAFE, max_attempts=1), Answer)


def test_a_policy_says_how_often_and_when() -> None:
    verdicts = [verdict(attempt=attempt, retry=STEADY) for attempt in (1, 2, 3)]
    assert verdicts[:2] == [Release(1.0), Release(2.0)]
    last = verdicts[2]
    assert isinstance(last, Bury)
    assert (last.cause, last.response.status.code) == (Cause.FAILED, Code.UNKNOWN)
    assert 'ValueError' in last.reason
    assert 'ValueError' not in last.response.status.message


@pytest.mark.parametrize(
    ('error', 'policy', 'again'),
    [
        (ValueError(), Retry(on=(ValueError,)), True),
        (KeyError(), Retry(on=(ValueError,)), False),
        (UnicodeError(), Retry(on=(ValueError,)), True),
        (BUSY, Retry(), False),
        (BUSY, Retry(codes=[Code.RESOURCE_EXHAUSTED]), True),
        (BUSY, Retry(codes=[Code.UNAVAILABLE]), False),
        (StatusError(Status(Code.OK)), Retry(), True),
        (KeyError(), Retry(on=(), codes=[Code.UNKNOWN]), False),
    ],
)
def test_which_failures(error: Exception, policy: Retry, again: bool) -> None:
    assert isinstance(verdict(error, retry=policy), Release) == again


def test_a_status_that_is_retried_in_vain_is_the_answer() -> None:
    last = verdict(BUSY, attempt=3, retry=Retry(codes=[Code.RESOURCE_EXHAUSTED]))
    assert isinstance(last, Bury)
    assert last.response.status.code is Code.RESOURCE_EXHAUSTED


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    assert verdict(retry=STEADY, left=1.1) == Release(1.0)
    ended = verdict(retry=STEADY, left=1.0)
    assert isinstance(ended, Bury)
    assert (ended.cause, ended.response.status.code) == (Cause.FAILED, Code.UNKNOWN)


def test_nothing_is_run_again_after_the_deadline() -> None:
    first, second = verdict(retry=STEADY, expired=True), verdict(retry=STEADY, expired=True, attempt=2)
    assert isinstance(first, Answer)
    assert isinstance(second, Bury)
    assert (second.cause, second.response.status.code) == (Cause.LATE, Code.DEADLINE_EXCEEDED)


def test_what_belongs_to_this_attempt_is_not_run_again() -> None:
    assert isinstance(verdict(retry=STEADY, movable=False), Bury)


def test_which_failures_become_dead_letters() -> None:
    assert isinstance(verdict(bury_failures=True), Bury)
    assert isinstance(verdict(BUSY, bury_failures=True), Answer)  # that is an answer
    assert isinstance(verdict(retry=STEADY, attempt=3, bury_failures=False), Answer)
    assert isinstance(verdict(retry=STEADY, attempt=2, expired=True, bury_failures=False), Answer)
    assert isinstance(verdict(event=Event('e', str), attempt=3, bury_failures=False), Answer)
    assert isinstance(verdict(BUSY, event=Event('e', str), attempt=3), Bury)


@given(
    st.builds(
        Retry,
        backoff=st.floats(0, 1000),
        factor=st.floats(1, 10),
        max_backoff=st.floats(0, 1000),
        jitter=st.floats(0, 1),
    ),
    st.integers(1, 10**9),
    st.floats(0, 1),
)
def test_waits_stay_within_their_bounds(policy: Retry, attempt: int, draw: float) -> None:
    longest = policy.max_backoff * (1 + policy.jitter)
    assert 0 <= policy.delay(attempt, draw) <= longest
    assert policy.delay(attempt, 0.5) <= policy.delay(attempt + 1, 0.5)


@pytest.mark.parametrize(
    ('options', 'part'),
    [
        ({'attempts': 0}, 'attempts'),
        ({'backoff': -1}, 'backoff'),
        ({'factor': 0.5}, 'factor'),
        ({'factor': 11}, 'factor'),
        ({'jitter': 2}, 'jitter'),
        ({'on': (KeyboardInterrupt,)}, 'on='),
        ({'on': (5,)}, 'on='),
        ({'codes': ['NOT_FOUND']}, 'codes='),
        ({'codes': [Code.OK]}, 'codes='),
    ],
)
def test_policies_that_cannot_be(options: Any, part: str) -> None:
    with pytest.raises(ContractError, match=part):
        Retry(**options)


def test_at_most_once_and_a_retry_do_not_go_together() -> None:
    with pytest.raises(ContractError, match='at_most_once'):
        Actor('a', CALL, print, at_most_once=True, retry=STEADY)
    assert Actor('a', SAFE, print, at_most_once=True).policy.attempts == 1


def test_there_is_one_count_of_attempts() -> None:
    assert Actor('a', CALL, print, retry=Retry(attempts=7)).most_attempts == 7
    assert Actor('a', CALL, print, max_attempts=5, retry=Retry(attempts=2)).most_attempts == 5
