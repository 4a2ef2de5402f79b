"""Events, services, streams, subjects, CloudEvents: what can be declared, and what that makes."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from demo.v1 import words_pb2

from natsgate.events import CloudEvent, ContractError, Event, Events, Limits, Service
from natsgate.events.streams import stream_config
from natsgate.events.subjects import checked_gateway_id, reply_pattern, reply_subject, stream_of

WORDS = Service.of(words_pb2, 'Words')


@pytest.mark.parametrize(
    'name', ['', '.', 'a..b', '.a', 'a.', 'a b', 'a*', '>', 'a.>', '$JS.x', 'a\n', 'ä', 'a=b', 'x' * 201]
)
def test_names_that_nats_could_read_as_something_else(name: str) -> None:
    with pytest.raises(ContractError, match='event'):
        Event(name, str)


def test_names_below_rpc_belong_to_services() -> None:
    with pytest.raises(ContractError, match=r'Service\.of'):
        Event('rpc.demo.v1.Words.Count', bytes)


KEPT = ['_REPLY', '_CALL', '_CANCEL', '_MISSED', '_PRESENCE', '_DELAY', '_EMIT', '_DEAD', '_INBOX']


@pytest.mark.parametrize('name', [*KEPT, *(f'{name}.x' for name in KEPT), 'natsgate-delayed', 'natsgate.delayed'])
def test_names_of_ours_are_no_events(name: str) -> None:
    with pytest.raises(ContractError, match='kept for natsgate itself'):
        Event(name, str)


def test_what_only_looks_like_a_name_of_ours() -> None:
    assert Event('a._DEAD.x', str).name == 'a._DEAD.x'
    assert Event('_DEADLINE.x', str).name == '_DEADLINE.x'
    assert Event('natsgate.delayed.x', str).stream_name == 'natsgate=delayed=x'


def test_two_names_never_share_a_stream() -> None:
    names = ['a.b', 'a-b', 'a_b', 'ab', 'A.b', 'a.b.c', 'a.b-c']
    assert len({stream_of(name) for name in names}) == len(names)


def test_an_event_with_response() -> None:
    event = Event('count-words', str, description='Counts', limits=Limits(messages=5)).with_response(int)
    assert (event.name, event.subject_name, event.stream_name) == ('count-words', 'count-words', 'count-words')
    assert (event.description, event.limits.messages) == ('Counts', 5)
    assert event == Event('count-words', str, description='Counts', limits=Limits(messages=5)).with_response(int)
    assert event != Event('count-words', str).with_response(str)
    assert hash(Event('a', str)) == hash(Event('a', str))
    assert Limits(age=3).evolve(messages=5) == Limits(age=3, messages=5)


def test_a_methods_event() -> None:
    event = WORDS['Count']
    assert event.subject_name == 'rpc.demo.v1.Words.Count'
    assert event.stream_name == 'rpc=demo=v1=Words' == WORDS.stream_name
    assert event.target == event.service == WORDS.name == 'demo.v1.Words'
    assert (event.schema, event.response_schema) == (words_pb2.CountRequest, words_pb2.CountResponse)
    assert event.idempotent
    assert not WORDS['Ponder'].idempotent
    assert 'Count' in WORDS
    assert 'Nothing' not in WORDS


def test_methods_and_services_that_are_not_there() -> None:
    with pytest.raises(ContractError, match="no method 'Nothing'; it has Count"):
        WORDS['Nothing']
    with pytest.raises(ContractError, match="no service 'Word'; it has Words"):
        Service.of(words_pb2, 'Word')


def test_the_stream_of_a_service() -> None:
    config = stream_config(WORDS['Count'])
    expected: dict[str, Any] = {
        'name': 'rpc=demo=v1=Words',
        'subjects': ['rpc.demo.v1.Words.*'],
        'retention': 'workqueue',
        'discard': 'new',
        'max_msgs_per_subject': 10_000,
        'discard_new_per_subject': True,
        'duplicate_window': 60_000_000_000,
        'allow_msg_ttl': True,
        'storage': 'file',
        'num_replicas': 1,
    }
    assert {key: config[key] for key in expected} == expected


def test_the_stream_of_an_event() -> None:
    limits = Limits(age=5, messages=10, bytes=1000, message_size=100, consumers=2)
    config = stream_config(Event('a.b', str, limits=limits, description='d'))
    expected: dict[str, Any] = {
        'name': 'a=b',
        'subjects': ['a.b'],
        'retention': 'interest',
        'discard': 'new',
        'max_age': 5_000_000_000,
        'max_msgs': 10,
        'max_bytes': 1000,
        'max_msg_size': 100,
        'max_consumers': 2,
        'duplicate_window': 5_000_000_000,
        'description': 'd',
    }
    assert {key: config[key] for key in expected} == expected


def test_events_of_one_stream_agree_on_its_limits() -> None:
    plain = Event('a', str)
    Events(plain, plain.with_response(int))
    with pytest.raises(ContractError, match='other limits'):
        Events(plain, Event('a', str, limits=Limits(messages=1)))


@pytest.mark.parametrize(
    'limit',
    [{'messages': 0}, {'messages': -1}, {'messages': 1.5}, {'bytes': -2}, {'consumers': 0}, {'message_size': '1 MiB'},
     {'age': 0}, {'age': -1}, {'age': math.nan}, {'age': math.inf}],
)  # fmt: skip
def test_limits_that_are_none(limit: dict[str, Any]) -> None:
    (name,) = limit
    with pytest.raises(ContractError, match=f'limit {name}='):
        Limits(**limit)
    with pytest.raises(ContractError, match=f'limit {name}='):
        Limits(messages=5).evolve(**limit)


@pytest.mark.parametrize('other', [Event('a-b', str), Event('a-b', str, walnats=True)])
def test_two_events_that_would_have_one_stream(other: Event[str]) -> None:
    with pytest.raises(ContractError, match=r'stream a-b is that of a\.b, and cannot be that of a-b as well'):
        Events(Event('a.b', str, walnats=True), other)
    Events(Event('a.b', str), other)


def test_a_registry() -> None:
    event = Event('a', str)
    events = Events(event)
    assert (events.get('a'), events.get('b'), list(events)) == (event, None, [event])


def test_reply_subjects() -> None:
    pattern = reply_pattern('demo.v1.Words')
    assert pattern.match(reply_subject('gw-1', 'demo.v1.Words', 'x' * 22))
    for other in ('demo.v1', 'demo.v1.Words.Count', 'demoxv1xWords'):
        assert not pattern.match(reply_subject('gw-1', other, 'x' * 22))
    assert not pattern.match(reply_subject('gw-1', 'demo.v1.Words', 'x' * 22) + '\n')


@pytest.mark.parametrize('name', ['', 'a.b', 'a b', '*', 'x' * 65, 'a\n'])
def test_gateway_ids(name: str) -> None:
    with pytest.raises(ContractError):
        checked_gateway_id(name)


def test_cloud_events() -> None:
    when = datetime(2024, 1, 2, tzinfo=UTC)
    event = CloudEvent(id='1', source='/a', type='t', subject='grüße "\r\nNats-Rollup: all', time=when, sampledrate=3)
    found = dict(event.headers())
    assert found['ce-specversion'] == '1.0'
    assert found['ce-time'] == '2024-01-02T00:00:00+00:00'
    assert found['ce-subject'] == 'gr%C3%BC%C3%9Fe%20%22%0D%0ANats-Rollup:%20all'
    assert found['ce-sampledrate'] == '3'
    assert 'ce-dataref' not in found
    with pytest.raises(ContractError, match='source must not be empty'):
        CloudEvent(id='1', source='', type='t')
    with pytest.raises(ContractError, match='timezone'):
        CloudEvent(id='1', source='/a', type='t', time=datetime(2024, 1, 2))
