"""The worker's pure parts: whether a job is run, how it ends, how much to fetch, what the server says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.actors import Actor, Context
from natsgate.actors.consumer import (
    Broken,
    Ended,
    Heartbeat,
    consumers_of,
    pull_request,
    read_delivery,
    read_status,
)
from natsgate.actors.credit import Credit
from natsgate.actors.verdict import Abandon, Answer, Bury, Release, admit, judge, unreadable
from natsgate.events import Code, ContractError, Event, Status, StatusError
from natsgate.events.dead_letter import Cause
from natsgate.events.wire import RequestHead

EVENT = Event('e', str).with_response(str)
ACTOR = Actor('a', EVENT, print)
LISTENER = Actor('a', Event('e', str), print)


def code(verdict: Any) -> Code:
    found: Code = verdict.response.status.code
    return found


def test_admit() -> None:
    head = RequestHead()
    assert admit(ACTOR, head, attempt=1, expired=False) is None
    assert admit(ACTOR, head, attempt=3, expired=False) is None
    assert code(admit(ACTOR, head, attempt=1, expired=True)) is Code.DEADLINE_EXCEEDED
    assert code(admit(ACTOR, head, attempt=4, expired=False)) is Code.INTERNAL
    assert code(admit(ACTOR, RequestHead(kind='bidi'), attempt=1, expired=False)) is Code.UNIMPLEMENTED


def test_what_cannot_be_read_is_buried() -> None:
    verdict = unreadable('why')
    assert isinstance(verdict, Bury)
    assert code(verdict) is Code.INTERNAL


def test_judge() -> None:
    context = Context(event=EVENT, id='id')
    status = StatusError(Status.of(Code.NOT_FOUND, 'no'))
    assert code(judge(ACTOR, status, context, expired=True)) is Code.NOT_FOUND
    assert code(judge(ACTOR, ValueError(), context, expired=False)) is Code.UNKNOWN
    assert code(judge(ACTOR, ValueError(), context, expired=True)) is Code.DEADLINE_EXCEEDED
    assert code(judge(ACTOR, StatusError(Status(Code.OK)), context, expired=False)) is Code.UNKNOWN


def test_metadata_goes_with_a_failure() -> None:
    context = Context(event=EVENT)
    context.send_initial_metadata([('first', '1')])
    context.set_trailing_metadata([('last', '2')])
    for error in (ValueError(), StatusError(Status(Code.ABORTED))):
        verdict = judge(ACTOR, error, context, expired=False)
        assert isinstance(verdict, Answer)
        assert verdict.response.initial == (('first', '1'),)
        assert ('last', '2') in verdict.response.trailing


def test_a_listener_tries_again_and_then_gives_up() -> None:
    verdicts = [judge(LISTENER, ValueError('x'), Context(event=EVENT, attempt=n), expired=False) for n in (1, 2, 3)]
    assert verdicts[:2] == [Release(1.0), Release(2.0)]
    assert isinstance(verdicts[2], Bury)
    assert verdicts[2].cause is Cause.FAILED


def test_what_nobody_wants_is_no_dead_letter() -> None:
    head = RequestHead()
    in_time = admit(ACTOR, head, attempt=1, expired=True)
    begun = admit(ACTOR, head, attempt=2, expired=True)
    assert isinstance(in_time, Bury)
    assert isinstance(begun, Bury)
    assert (in_time.cause, begun.cause) == (None, Cause.LATE)


def test_what_must_not_run_twice() -> None:
    once = Actor('a', EVENT, print, at_most_once=True)
    assert admit(once, RequestHead(), attempt=1, expired=False) is None
    assert code(admit(once, RequestHead(), attempt=2, expired=False)) is Code.INTERNAL


def test_a_replay_is_for_one_actor() -> None:
    assert admit(ACTOR, RequestHead(replay='a id'), attempt=1, expired=False) is None
    assert isinstance(admit(ACTOR, RequestHead(replay='b id'), attempt=1, expired=False), Abandon)


def test_context() -> None:
    context = Context(event=EVENT, metadata=(('a', '1'), ('a', '2')), deadline=10.0, now=lambda: 7.0)
    assert context.time_remaining() == 3.0
    assert Context(event=EVENT).time_remaining() is None
    assert (context.get('a'), context.get('b')) == ('1', None)
    with pytest.raises(StatusError) as raised:
        context.abort('NOT_FOUND', 'no')
    assert raised.value.code is Code.NOT_FOUND
    with pytest.raises(ValueError, match='OK'):
        context.abort(Code.OK)
    for bad in ([('a b', 'x')], [('x', 'line\nbreak')], [('grpc-status', '0')], [('x', b'bytes')]):
        with pytest.raises(ValueError, match=r'.'):
            context.set_trailing_metadata(bad)


@given(st.lists(st.sampled_from(['pull', 'deliver', 'finish', 'return']), max_size=200), st.integers(1, 20))
def test_credit_never_promises_more_than_the_free_slots(steps: list[str], slots: int) -> None:
    credit = Credit(slots)
    for step in steps:
        if step == 'pull' and (due := credit.due()):
            credit.asked(due)
        elif step == 'deliver' and credit.promised:
            credit.delivered()
        elif step == 'finish' and credit.running:
            credit.finished()
        elif step == 'return':
            credit.returned(3)
        assert 0 <= credit.running + credit.promised <= slots
    if not credit.promised and credit.running < slots:
        assert credit.due() > 0  # it never falls asleep with free slots


@pytest.mark.parametrize(
    ('block', 'expected'),
    [
        (b'NATS/1.0 100 Idle Heartbeat\r\n\r\n', Heartbeat()),
        (b'NATS/1.0 404 No Messages\r\n\r\n', Ended(0, empty=True)),
        (b'NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 5\r\n\r\n', Ended(5, empty=True)),
        (b'NATS/1.0 409 Batch Completed\r\nNats-Pending-Messages: 2\r\n\r\n', Ended(2, empty=False)),
        (b'NATS/1.0 409 Consumer Deleted\r\n\r\n', Broken('409 Consumer Deleted', gone=True)),
        (b'NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n', Broken('409 Exceeded MaxWaiting', gone=False)),
        (b'NATS/1.0 503\r\n\r\n', Broken('503 ', gone=True)),
        (b'NATS/1.0\r\nx: y\r\n\r\n', None),
        (None, None),
    ],
)  # fmt: skip
def test_what_the_server_says_on_the_pull_inbox(block: bytes | None, expected: Any) -> None:
    assert read_status(block) == expected


STORED = b'1700000000000000000'


@pytest.mark.parametrize(
    ('reply', 'expected'),
    [
        (b'$JS.ACK.S.C.2.10.5.1700000000000000000.0', (2, 10, STORED)),
        (b'$JS.ACK._.hash.S.C.3.11.5.1700000000000000000.0', (3, 11, STORED)),
        (b'$JS.ACK._.hash.S.C.3.11.5.1700000000000000000.0.random', (3, 11, STORED)),
        (b'$JS.ACK.S.C.2.10', None),
        (b'$JS.ACK.S.C.x.y.5.1.0', None),
        (b'_INBOX.abc', None),
        (b'', None),
    ],
)
def test_the_reply_subject_of_a_delivery(reply: bytes, expected: tuple[int, int, bytes] | None) -> None:
    told = read_delivery(reply)
    assert (told and (told.attempt, told.sequence, told.stored)) == expected


def test_the_consumer() -> None:
    (consumer,) = consumers_of([Actor('a', EVENT, print, ack_wait=3, max_ack_pending=7)])
    config = consumer.config()
    assert config['durable_name'] == 'a'
    assert config['filter_subject'] == 'e'
    assert config['ack_wait'] == 3_000_000_000
    assert config['max_ack_pending'] == 7
    assert config['max_deliver'] == -1
    assert config['metadata'] == {'natsgate.answers': 'yes'}
    assert pull_request(5, no_wait=True) == b'{"batch": 5, "no_wait": true}'


async def coroutine(_: Any) -> Any: ...


class Callable_:  # noqa: N801
    async def __call__(self, message: str, context: Context) -> Any: ...


@pytest.mark.parametrize(
    ('handler', 'takes_context', 'is_async'),
    [
        (len, False, False),
        (print, False, False),
        (lambda message: message, False, False),
        (lambda message, context: message, True, False),
        (lambda message, *, option=5: message, False, False),
        (coroutine, False, True),
        (Callable_(), True, True),
    ],
)
def test_handlers(handler: Any, takes_context: bool, is_async: bool) -> None:
    actor = Actor('a', EVENT, handler)
    assert (actor.takes_context, actor.is_async) == (takes_context, is_async)


@pytest.mark.parametrize(
    ('arguments', 'options', 'part'),
    [
        (('a.b', EVENT, print), {}, 'dots'),
        (('a b', EVENT, print), {}, 'a name is'),
        (('a', 'e', print), {}, 'no event'),
        (('a', EVENT, 5), {}, 'cannot be called'),
        (('a', EVENT, lambda: 5), {}, 'must take the message'),
        (('a', EVENT, lambda a, b, c: 5), {}, 'must take the message'),
        (('a', EVENT, lambda a, *, b: 5), {}, 'must take the message'),
        (('a', EVENT, print), {'max_jobs': 0}, 'max_jobs'),
        (('a', EVENT, print), {'ack_wait': -1}, 'ack_wait'),
    ],
)
def test_actors_that_cannot_be(arguments: Any, options: Any, part: str) -> None:
    with pytest.raises(ContractError, match=part):
        Actor(*arguments, **options)
