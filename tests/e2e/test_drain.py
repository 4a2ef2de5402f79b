"""A gateway that stops, connections that grow old, limits: what clients see of it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import NO_LIMITS, Client, Program, program, running_actors, running_gateway, stack, until, word_actors
from test_presence import NOT_SERVING, SERVING, check, health_message

from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

PROTO = str(Path(__file__).parents[2] / 'protos' / 'demo' / 'v1' / 'words.proto')
COUNT = words_pb2.CountRequest(text='a b')
Word = words_pb2.Word


@asynccontextmanager
async def gateway(nats: EmbeddedNats, *arguments: str) -> AsyncIterator[tuple[Program, Client]]:
    serve = ('serve', '--proto', PROTO, '--nats', nats.url, '--listen', '127.0.0.1:0', *arguments)
    async with program(*serve) as running:
        address = (await running.says('serving')).rpartition(' on ')[2]
        async with grpc.aio.insecure_channel(address, options=NO_LIMITS) as channel:
            yield running, Client(channel)


async def test_a_drain(nats: EmbeddedNats) -> None:
    """Told to all who ask, while calls are still served; then what runs may end, and watchers are sent away."""
    let_go = asyncio.Event()

    async def slow(request: Any) -> Any:
        await let_go.wait()
        return words_pb2.LookupResponse()

    async def echo(words: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for word in words:
            yield word

    async def count(request: Any) -> Any:
        return words_pb2.CountResponse(words=2)

    actors = word_actors(Lookup=slow, Echo=echo, Count=count)
    async with running_actors(nats.url, actors) as workers, gateway(nats, '--drain-delay', '1s') as (running, client):
        watch: Any = client.channel.unary_stream('/grpc.health.v1.Health/Watch')(b'')
        told = health_message('HealthCheckResponse')
        assert told.FromString(await watch.read()).status == SERVING  # type: ignore[attr-defined]
        reflection: Any = client.channel.stream_stream('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo')()
        lookup = asyncio.create_task(client.call('Lookup'))
        stream: Any = words_pb2_grpc.WordsStub(client.channel).Echo()
        await stream.write(Word(word='a'))
        assert (await stream.read()).word == 'a'
        await until(lambda: sum(worker.runs for worker in workers.workers) == 2)
        running.stop()
        assert told.FromString(await watch.read()).status == NOT_SERVING  # type: ignore[attr-defined]
        assert await check(client, 'liveness') == SERVING
        assert (await client.call('Count', COUNT)).code is Code.OK  # the delay: whoever comes is served
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await watch.read()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await reflection.read()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert running.process.returncode is None
        await stream.write(Word(word='b'))
        assert (await stream.read()).word == 'b'
        await stream.done_writing()
        let_go.set()
        assert (await lookup).code is Code.OK
        assert await running.end() == 0


@pytest.mark.parametrize(('method', 'code'), [('Lookup', Code.UNAVAILABLE), ('Ponder', Code.UNKNOWN)])
async def test_what_does_not_end_in_time_is_cancelled(nats: EmbeddedNats, method: str, code: Code) -> None:
    """It may have run: only what is idempotent may be repeated by a proxy."""

    async def never(request: Any) -> Any:
        await asyncio.sleep(60)

    arguments = ('--drain-delay', '0s', '--drain-timeout', '300ms')
    async with (
        running_actors(nats.url, word_actors(**{method: never})) as workers,
        gateway(nats, *arguments) as (running, client),
    ):
        call = asyncio.create_task(client.call(method))
        await until(lambda: workers.workers[0].runs)
        running.stop()
        ended = await call
        assert (ended.code, ended.reason) == (code, 'GATEWAY_STOPPED')
        assert (('grpc-retry-pushback-ms', '-1') in ended.trailing) == (method == 'Ponder')
        assert await running.end(5) == 0
        await until(lambda: not workers.workers[0].jobs)  # the handler was told


async def test_a_second_signal(nats: EmbeddedNats) -> None:
    async def never(request: Any) -> Any:
        await asyncio.sleep(60)

    async with running_actors(nats.url, word_actors(Lookup=never)) as workers, gateway(nats) as (running, client):
        call = asyncio.create_task(client.call('Lookup'))
        await until(lambda: workers.workers[0].runs)
        running.stop()
        await running.says('stopping')
        running.stop()
        stopped = time.monotonic()
        assert await running.end() == 128 + 15
        assert time.monotonic() - stopped < 1
        assert (await call).code is Code.UNAVAILABLE


async def test_a_connection_that_grows_old(nats: EmbeddedNats, words: Descriptors) -> None:
    """It is asked to end, its call goes on, and the client's next call takes another one without noticing."""
    options = {'max_connection_age': 1.0, 'max_connection_age_grace': 30.0}
    async with stack(nats, words, ACTORS, **options) as running:
        request = words_pb2.PonderRequest()
        request.time.FromSeconds(2)
        old = asyncio.create_task(running.client.call('Ponder', request))
        for _ in range(15):
            assert (await running.client.call('Count', COUNT)).code is Code.OK
            await asyncio.sleep(0.1)
        assert (await old).code is Code.OK


async def test_connections_are_limited(nats: EmbeddedNats, words: Descriptors) -> None:
    async with running_actors(nats.url, ACTORS), running_gateway(nats.url, words, max_connections=3) as (running, _):
        address = running.addresses[0].rpartition(':')
        opened = [await asyncio.open_connection(address[0], int(address[2])) for _ in range(8)]

        async def refused(reader: asyncio.StreamReader) -> bool:
            try:
                async with asyncio.timeout(1):
                    while await reader.read(1000):
                        pass
            except TimeoutError:
                return False
            except ConnectionError:
                return True
            return True

        found = await asyncio.gather(*(refused(reader) for reader, _ in opened))
        for _, writer in opened:
            writer.close()
        assert sum(found) >= 5


async def test_calls_of_one_connection_are_limited(nats: EmbeddedNats, words: Descriptors) -> None:
    """The client waits with the next; none fails."""
    let_go = asyncio.Event()

    async def slow(request: Any) -> Any:
        await let_go.wait()
        return words_pb2.CountResponse()

    async with (
        stack(nats, words, word_actors(Count=slow), max_concurrent_streams=5) as running,
        grpc.aio.insecure_channel(running.serving.addresses[0]) as channel,  # which repeats what was refused unseen
    ):
        client = Client(channel)
        first = asyncio.create_task(client.call('Count', COUNT))
        await until(lambda: running.runs)  # the client knows the limit by now
        calls = [first, *(asyncio.create_task(client.call('Count', COUNT)) for _ in range(11))]
        await until(lambda: running.runs == 5)
        await asyncio.sleep(0.2)
        assert running.runs == 5
        let_go.set()
        ended = [await call for call in calls]
        assert {(one.code, one.message) for one in ended} == {(Code.OK, '')}
