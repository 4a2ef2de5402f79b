"""Workers that come and go: health, calls that nobody would take, and reflection of it all to a stock client."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from demo.v1 import words_pb2
from google.protobuf.message import Message
from support import Client, Ended, program, running_actors, running_gateway, until, word_actors

from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors, load
from natsgate.gateway.routes import Override

ROOT = Path(__file__).parents[2]
HEALTH = load([ROOT / 'protos' / 'grpc' / 'health' / 'v1' / 'health.proto'])
ENV = {'PYTHONPATH': str(Path(words_pb2.__file__).parent.parent.parent)}
WORK = ('work', 'natsgate.command.demo.actors:ACTORS')
SERVICE = 'demo.v1.Words'
SERVING, NOT_SERVING = 1, 2
COUNT = words_pb2.CountRequest(text='a b')


def health_message(name: str, **fields: Any) -> Message:
    return HEALTH.message_class(f'grpc.health.v1.{name}')(**fields)


async def check(client: Client, service: str = SERVICE) -> int:
    ended = await client.call('/grpc.health.v1.Health/Check', health_message('HealthCheckRequest', service=service))
    assert ended.code is Code.OK, ended
    status: int = health_message('HealthCheckResponse').FromString(ended.data).status  # type: ignore[attr-defined]
    return status


async def becomes(client: Client, wanted: int, *, within: float, service: str = SERVICE) -> None:
    started = time.monotonic()
    async with asyncio.timeout(within + 5):
        while await check(client, service) != wanted:
            await asyncio.sleep(0.02)
    assert time.monotonic() - started < within


async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


async def test_health_follows_the_workers(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """NOT_SERVING within 1 s of a clean stop and 5 s of a kill, SERVING within 1 s of a start; the server as a whole
    does not care.
    """
    async with running_gateway(nats.url, words, edge=edge) as (_, client):
        assert await check(client, '') == SERVING
        assert await check(client) == NOT_SERVING
        async with program(*WORK, '--nats', nats.url, env=ENV) as first:
            await first.says('working')
            await becomes(client, SERVING, within=1)
            async with program(*WORK, '--nats', nats.url, env=ENV) as second:
                await second.says('working')
                first.stop()
                assert await first.end() == 0
                assert await check(client) == SERVING  # one of two has stopped
                second.stop()
                assert await second.end() == 0
                await becomes(client, NOT_SERVING, within=1)
        async with program(*WORK, '--nats', nats.url, env=ENV) as third:
            await third.says('working')
            await becomes(client, SERVING, within=1)
            third.process.kill()
            await becomes(client, NOT_SERVING, within=5)
        assert await check(client, '') == SERVING


async def test_health_without_nats(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """Readiness depends on NATS, liveness does not."""
    async with (
        running_actors(nats.url, word_actors(Count=count)),
        running_gateway(nats.url, words, edge=edge) as (_, client),
    ):
        await becomes(client, SERVING, within=1)
        await nats.kill()
        await becomes(client, NOT_SERVING, within=1, service='')
        assert await check(client) == NOT_SERVING
        assert await check(client, 'liveness') == SERVING
        await nats.start()
        await becomes(client, SERVING, within=3, service='')
        await becomes(client, SERVING, within=3)


async def test_watching(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with running_gateway(nats.url, words, edge=edge) as (_, client):
        request = health_message('HealthCheckRequest', service=SERVICE).SerializeToString()
        watch: Any = client.channel.unary_stream('/grpc.health.v1.Health/Watch')(request)
        told = health_message('HealthCheckResponse')
        assert told.FromString(await watch.read()).status == NOT_SERVING  # type: ignore[attr-defined]
        async with running_actors(nats.url, word_actors(Count=count)):
            assert told.FromString(await watch.read()).status == SERVING  # type: ignore[attr-defined]
        assert told.FromString(await watch.read()).status == NOT_SERVING  # type: ignore[attr-defined]
        watch.cancel()


def grace(seconds: float) -> dict[str, Override]:
    return {SERVICE: Override(grace=seconds)}


async def declared(nats: EmbeddedNats) -> None:
    """The stream is there, its workers are not."""
    async with running_actors(nats.url, word_actors(Count=count)):
        pass


def no_worker(ended: Ended) -> bool:
    return (ended.code, ended.reason) == (Code.UNAVAILABLE, 'NO_WORKER')


async def test_a_call_waits_for_a_worker_within_the_grace(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    await declared(nats)
    async with running_gateway(nats.url, words, edge=edge) as (gateway, client):
        call = asyncio.create_task(client.call('Count', COUNT))
        await gateway.becomes(lambda inside: inside.waiting and not inside.unacknowledged)
        async with running_actors(nats.url, word_actors(Count=count)):
            assert (await call).code is Code.OK


@pytest.mark.parametrize('method', ['Count', 'Split'])
async def test_a_call_fails_when_the_grace_is_over(
    nats: EmbeddedNats, words: Descriptors, method: str, edge: str
) -> None:
    """Those that wait, and those that come later at once; nothing is left in the queue."""
    await declared(nats)
    async with running_gateway(nats.url, words, overrides=grace(2), edge=edge) as (gateway, client):
        ended = await client.call(method, COUNT)
        assert no_worker(ended)
        assert 0.5 < ended.seconds < 4
        assert ended.retry_info is not None
        ended = await client.call(method, COUNT)
        assert no_worker(ended)
        assert ended.seconds < 0.5
        await gateway.becomes(lambda inside: not inside.waiting)
        async with running_actors(nats.url, word_actors(Count=count)) as actors:
            state = (await actors.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']
            assert state['messages'] == 0
            await becomes(client, SERVING, within=1)
            assert (await client.call('Count', COUNT)).code is Code.OK


async def test_a_declared_method_that_no_worker_takes(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with (
        running_actors(nats.url, word_actors(Count=count)),
        running_gateway(nats.url, words, edge=edge) as (_, client),
    ):
        await becomes(client, SERVING, within=1)
        await asyncio.sleep(1.6)  # a gateway that has just begun judges nobody
        for method in ('Lookup', 'Split'):
            ended = await client.call(method)
            assert (ended.code, ended.reason) == (Code.UNIMPLEMENTED, 'UNSERVED_METHOD')
            assert ended.seconds < 1
        assert (await client.call('Count', COUNT)).code is Code.OK


async def test_a_method_whose_worker_restarts_is_not_unimplemented(
    nats: EmbeddedNats, words: Descriptors, edge: str
) -> None:
    """Another worker of the same service lives on."""

    async def lookup(request: words_pb2.LookupRequest) -> words_pb2.LookupResponse:
        return words_pb2.LookupResponse()

    async with (
        running_actors(nats.url, word_actors(Count=count)),
        running_gateway(nats.url, words, edge=edge) as (gateway, client),
    ):
        async with running_actors(nats.url, word_actors(Lookup=lookup)):
            assert (await client.call('Lookup')).code is Code.OK
        await asyncio.sleep(1.6)
        call = asyncio.create_task(client.call('Lookup'))
        await gateway.becomes(lambda inside: inside.waiting)
        async with running_actors(nats.url, word_actors(Lookup=lookup)):
            assert (await call).code is Code.OK


async def test_what_a_draining_worker_still_runs_is_not_given_up(
    nats: EmbeddedNats, words: Descriptors, edge: str
) -> None:
    let_go = asyncio.Event()

    async def slow(_: Any) -> words_pb2.CountResponse:
        await let_go.wait()
        return words_pb2.CountResponse(words=1)

    async with running_gateway(nats.url, words, overrides=grace(0.5), edge=edge) as (_, client):
        actors = word_actors(Count=slow)
        async with running_actors(nats.url, actors, drain_timeout=10) as connected:
            await becomes(client, SERVING, within=1)
            call = asyncio.create_task(client.call('Count', COUNT))
            await until(lambda: connected.workers[0].runs)
            connected.stop()
            await becomes(client, NOT_SERVING, within=1)
            await asyncio.sleep(1.5)
            let_go.set()
            assert (await call).code is Code.OK
