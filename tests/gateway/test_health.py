"""Health: what is told of the server and its services, at once and whenever it changes."""

import asyncio
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeCall, settle

from natsgate.events.kind import Kind
from natsgate.events.status import Code
from natsgate.events.wire import Response
from natsgate.gateway.health import LIVENESS, WHOLE_SERVER, Health, Serving
from natsgate.gateway.infrastructure import Infrastructure
from natsgate.gateway.protos import Descriptors, load

ROOT = Path(__file__).parent.parent.parent
WORDS = 'demo.v1.Words'
PROBLEM = b'\xff\xff\xff'
"""Bytes that are no message at all."""


@pytest.fixture(scope='module')
def infrastructure(words: Descriptors) -> Infrastructure:
    return Infrastructure(words, [WORDS], False)


@cache
def kind(name: str) -> Any:
    """A message class of grpc.health.v1."""
    return _descriptors().message_class(f'grpc.health.v1.{name}')


@cache
def _descriptors() -> Descriptors:
    return load([ROOT / 'protos' / 'grpc' / 'health' / 'v1' / 'health.proto'])


def asking(service: str) -> FakeCall:
    return FakeCall(kind('HealthCheckRequest')(service=service))


@pytest.fixture
def health() -> Health:
    """Health of each test's own; the words serve."""
    found = Health([WORDS], message_class=_descriptors().message_class)
    found.set(WHOLE_SERVER, True)
    found.set(WORDS, True)
    return found


async def checked(health: Health, service: str) -> Serving | Code:
    """The status that Check tells, or the code that it fails with."""
    response = await health.check(asking(service))
    if response.status.code is not Code.OK:
        return response.status.code
    return Serving(kind('HealthCheckResponse').FromString(response.payload).status)


class Watcher:
    """A Watch call at work."""

    def __init__(self, health: Health, service: str) -> None:
        self.call = asking(service)
        self.task: asyncio.Task[Response] = asyncio.create_task(health.watch(self.call))

    async def next(self) -> Serving:
        return Serving((await self.call.next(kind('HealthCheckResponse'))).status)

    async def more(self) -> list[Serving]:
        """What was told meanwhile."""
        await settle()
        return [Serving(message.status) for message in self.call.written(kind('HealthCheckResponse'))]

    async def leave(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


def test_the_calls_and_their_kinds(infrastructure: Infrastructure) -> None:
    assert {method: kind for method, (kind, _) in infrastructure.answers.items()} == {
        '/grpc.health.v1.Health/Check': Kind.UNARY,
        '/grpc.health.v1.Health/List': Kind.UNARY,
        '/grpc.health.v1.Health/Watch': Kind.SERVER_STREAMING,
    }


def test_the_numbers_are_those_of_the_proto() -> None:
    values = kind('HealthCheckResponse').DESCRIPTOR.enum_types_by_name['ServingStatus'].values_by_name
    assert {name: values[name].number for name in Serving.__members__} == {s.name: s.value for s in Serving}


async def test_nothing_serves_before_somebody_says_so(infrastructure: Infrastructure) -> None:
    assert await checked(infrastructure.health, WHOLE_SERVER) is Serving.NOT_SERVING
    assert await checked(infrastructure.health, WORDS) is Serving.NOT_SERVING
    assert await checked(infrastructure.health, LIVENESS) is Serving.SERVING


async def test_check(health: Health) -> None:
    assert await checked(health, WHOLE_SERVER) is Serving.SERVING
    assert await checked(health, WORDS) is Serving.SERVING
    health.set(WORDS, False)
    assert await checked(health, WORDS) is Serving.NOT_SERVING
    assert await checked(health, WHOLE_SERVER) is Serving.SERVING
    assert await checked(health, 'demo.v1.Nobody') is Code.NOT_FOUND
    health.set('demo.v1.Nobody', True)
    assert await checked(health, 'demo.v1.Nobody') is Serving.SERVING


async def test_an_unknown_name_is_told_but_never_at_length(health: Health) -> None:
    response = await health.check(asking('x' * 5000))
    assert 'unknown service' in response.status.message
    assert len(response.status.message) < 300


@pytest.mark.parametrize('method', ['check', 'list', 'watch'])
@pytest.mark.parametrize(('messages', 'code'), [((), Code.UNIMPLEMENTED), ((PROBLEM,), Code.INTERNAL)])
async def test_requests_that_are_none(health: Health, method: str, messages: tuple[bytes, ...], code: Code) -> None:
    response = await getattr(health, method)(FakeCall(*messages))
    assert response.status.code is code
    assert response.status.message
    assert response.payload == b''


async def test_list(health: Health) -> None:
    health.set(WORDS, False)
    response = await health.list(FakeCall(kind('HealthListRequest')()))
    statuses = kind('HealthListResponse').FromString(response.payload).statuses
    assert {name: Serving(told.status) for name, told in statuses.items()} == {
        WHOLE_SERVER: Serving.SERVING,
        WORDS: Serving.NOT_SERVING,
        LIVENESS: Serving.SERVING,
    }


async def test_a_hundred_can_be_listed_and_no_more(health: Health) -> None:
    for number in range(97):
        health.set(f'demo.v1.Service{number}', True)
    response = await health.list(FakeCall(kind('HealthListRequest')()))
    assert len(kind('HealthListResponse').FromString(response.payload).statuses) == 100
    health.set('demo.v1.Last', True)
    response = await health.list(FakeCall(kind('HealthListRequest')()))
    assert response.status.code is Code.RESOURCE_EXHAUSTED
    assert '101' in response.status.message


async def test_watch_tells_at_once_and_then_changes_only(health: Health) -> None:
    watcher = Watcher(health, WORDS)
    assert await watcher.next() is Serving.SERVING
    health.set(WORDS, True)
    health.set(WHOLE_SERVER, False)
    assert await watcher.more() == []
    health.set(WORDS, False)
    assert await watcher.next() is Serving.NOT_SERVING
    health.set(WORDS, True)
    assert await watcher.more() == [Serving.SERVING]
    await watcher.leave()


async def test_watch_of_an_unknown_service_goes_on_until_it_is_known(health: Health) -> None:
    watcher = Watcher(health, 'demo.v1.Later')
    assert await watcher.next() is Serving.SERVICE_UNKNOWN
    health.set(WORDS, False)
    assert await watcher.more() == []
    health.set('demo.v1.Later', True)
    assert await watcher.next() is Serving.SERVING
    await watcher.leave()


async def test_a_watcher_that_does_not_read_misses_changes_but_not_the_latest(health: Health) -> None:
    slow, quick = Watcher(health, WORDS), Watcher(health, WORDS)
    assert await slow.next() is Serving.SERVING
    assert await quick.next() is Serving.SERVING
    slow.call.ready.clear()
    for serving in (False, True, False, True, False):
        health.set(WORDS, serving)
        await settle()
    assert await quick.more() == [
        Serving.NOT_SERVING, Serving.SERVING, Serving.NOT_SERVING, Serving.SERVING, Serving.NOT_SERVING
    ]  # fmt: skip
    health.set(WORDS, True)
    slow.call.ready.set()
    assert await slow.more() == [Serving.NOT_SERVING, Serving.SERVING]
    await slow.leave()
    await quick.leave()


async def test_what_changes_back_before_it_is_seen_is_not_told(health: Health) -> None:
    watcher = Watcher(health, WORDS)
    assert await watcher.next() is Serving.SERVING
    health.set(WORDS, False)
    health.set(WORDS, True)
    assert await watcher.more() == []
    await watcher.leave()


async def test_many_watchers_and_one_that_leaves(health: Health) -> None:
    watchers = [Watcher(health, WORDS) for _ in range(200)]
    for watcher in watchers:
        assert await watcher.next() is Serving.SERVING
    await watchers.pop().leave()
    health.set(WORDS, False)
    for watcher in watchers:
        assert await watcher.next() is Serving.NOT_SERVING
        assert watcher.call.writing == 2
    health.end_watches()
    for watcher in watchers:
        assert (await watcher.task).status.code is Code.UNAVAILABLE


async def test_a_client_that_leaves_while_it_is_written_to(health: Health) -> None:
    watcher = Watcher(health, WORDS)
    watcher.call.ready.clear()
    await settle()
    assert watcher.call.writing == 1
    await watcher.leave()


async def test_drain(health: Health) -> None:
    served, unknown, alive = (Watcher(health, name) for name in (WORDS, 'demo.v1.Nobody', LIVENESS))
    for watcher in (served, unknown, alive):
        await watcher.next()
    health.drain()
    assert await served.more() == [Serving.NOT_SERVING]
    assert await unknown.more() == []
    assert await alive.more() == []
    health.set(WORDS, True)
    health.set(WHOLE_SERVER, True)
    health.set('demo.v1.New', True)
    for name in (WORDS, WHOLE_SERVER, 'demo.v1.New'):
        assert await checked(health, name) is Serving.NOT_SERVING
    assert await checked(health, LIVENESS) is Serving.SERVING
    assert not served.task.done()
    for watcher in (served, unknown, alive):
        await watcher.leave()


async def test_watches_end_after_the_latest_was_told(health: Health) -> None:
    watcher = Watcher(health, WORDS)
    assert await watcher.next() is Serving.SERVING
    health.drain()
    health.end_watches()
    response = await watcher.task
    assert (response.status.code, response.status.message) == (Code.UNAVAILABLE, 'the server is shutting down')
    assert await watcher.more() == [Serving.NOT_SERVING]


async def test_a_watch_that_comes_after_the_end(health: Health) -> None:
    health.end_watches()
    watcher = Watcher(health, WORDS)
    assert (await watcher.task).status.code is Code.UNAVAILABLE
    assert await watcher.more() == [Serving.SERVING]


@pytest.mark.parametrize('serving', [True, False])
async def test_liveness_cannot_be_set(health: Health, serving: bool) -> None:
    health.set(LIVENESS, serving)
    assert await checked(health, LIVENESS) is Serving.SERVING


def test_it_can_be_made_and_set_without_a_loop(health: Health) -> None:
    health.set(WORDS, False)
    health.drain()

    assert asyncio.run(checked(health, WORDS)) is Serving.NOT_SERVING
