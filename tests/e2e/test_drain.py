"""A gateway that stops, connections that grow old, limits: what clients see of it. The same on both edges."""

import asyncio
import os
import signal
import time
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from edges import ENVOY_ONLY
from gateways import COUNT, LOCAL, Slow, Word, client_of, gateway, listens, only_said, serve
from h2client import message, raw_client
from hyperframe.frame import GoAwayFrame
from processes import alive, children_of, serving
from support import Client, program, running_actors, stack, until, word_actors
from test_presence import NOT_SERVING, SERVING, check, health_message

from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

# Stopping


async def test_a_drain(nats: EmbeddedNats, edge: str) -> None:
    """Told to all who ask, while calls are still served; then what runs may end, and watchers are sent away."""
    slow = Slow()
    async with slow.running(nats), gateway(edge, nats, '--drain-delay', '1s') as (running, address, client):
        watch: Any = client.channel.unary_stream('/grpc.health.v1.Health/Watch')(b'')
        told = health_message('HealthCheckResponse')
        assert told.FromString(await watch.read()).status == SERVING  # type: ignore[attr-defined]
        reflection: Any = client.channel.stream_stream('/grpc.reflection.v1.ServerReflection/ServerReflectionInfo')()
        lookup = asyncio.create_task(client.call('Lookup'))
        stream: Any = words_pb2_grpc.WordsStub(client.channel).Echo()
        await stream.write(Word(word='a'))
        assert (await stream.read()).word == 'a'
        await until(lambda: slow.began == 1)
        async with raw_client(address) as idle:
            running.stop()
            assert told.FromString(await watch.read()).status == NOT_SERVING  # type: ignore[attr-defined]
            assert await check(client, 'liveness') == SERVING
            assert (await client.call('Count', COUNT)).code is Code.OK  # the delay: whoever comes is served
            async with client_of(address) as late:
                assert (await late.call('Count', COUNT)).code is Code.OK
            assert not idle.goaways()
            for call in (watch, reflection):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await call.read()
                assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
            await until(lambda: not listens(address), 1)
            assert running.process.returncode is None
            await stream.write(Word(word='b'))
            assert (await stream.read()).word == 'b'
            await stream.done_writing()
            slow.let_go.set()
            assert (await lookup).code is Code.OK
            assert await stream.read() is grpc.aio.EOF
            assert await running.end() == 0
            await idle.gone()
    only_said(running, 'serving', 'stopping', 'stopped')


async def test_who_is_connected_is_told_to_go_elsewhere(nats: EmbeddedNats, edge: str) -> None:
    """With the next answer: Envoy says GOAWAY only where something happens."""
    slow = Slow()
    async with slow.running(nats), gateway(edge, nats, '--drain-delay', '0') as (running, address, _):
        async with raw_client(address) as client:
            streams = [client.call('Lookup') for _ in range(3)]
            for stream in streams:
                await stream.send(message(b''), end=True)
            await until(lambda: slow.began == 3)
            running.stop()
            await until(lambda: not listens(address), 2)
            slow.let_go.set()
            for stream in streams:
                assert (await stream.over()).outcome == 'OK'
            await client.gone()
            assert any(isinstance(one, GoAwayFrame) for one in client.frames)
        assert await running.end() == 0


@pytest.mark.parametrize(('method', 'code'), [('Lookup', Code.UNAVAILABLE), ('Ponder', Code.UNKNOWN)])
async def test_what_does_not_end_in_time_is_cancelled(nats: EmbeddedNats, method: str, code: Code, edge: str) -> None:
    """It may have run: only what is idempotent may be repeated by a proxy."""

    async def never(request: Any) -> Any:
        await asyncio.sleep(60)

    arguments = ('--drain-delay', '0s', '--drain-timeout', '300ms')
    async with (
        running_actors(nats.url, word_actors(**{method: never})) as workers,
        gateway(edge, nats, *arguments) as (running, _, client),
    ):
        call = asyncio.create_task(client.call(method))
        await until(lambda: workers.workers[0].runs)
        running.stop()
        ended = await call
        assert (ended.code, ended.reason) == (code, 'GATEWAY_STOPPED')
        assert (('grpc-retry-pushback-ms', '-1') in ended.trailing) == (method == 'Ponder')
        assert await running.end(5) == 0
        await until(lambda: not workers.workers[0].jobs)  # the handler was told


async def test_an_idle_gateway_stops_at_once(nats: EmbeddedNats, edge: str) -> None:
    async with gateway(edge, nats, '--drain-delay', '0') as (running, address, client), raw_client(address):
        await client.call('/nobody/knows')
        began = time.monotonic()
        running.stop()
        assert await running.end() == 0
        assert time.monotonic() - began < 2
    only_said(running, 'serving', 'stopping', 'stopped')


async def test_ctrl_c_waits_for_no_delay(nats: EmbeddedNats, edge: str) -> None:
    async with gateway(edge, nats, '--drain-delay', '60s') as (running, _, _):
        running.process.send_signal(signal.SIGINT)
        assert await running.end(5) == 0


@pytest.mark.parametrize('second', [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_insists(nats: EmbeddedNats, second: signal.Signals, edge: str) -> None:
    async with gateway(edge, nats, '--drain-delay', '60s') as (running, _, _):
        process = serving(running.pid)
        running.stop()
        await running.says('stopping')
        running.process.send_signal(second)
        assert await running.end(3) == 128 + second
        assert not alive(process)
    only_said(running, 'serving', 'stopping: ', 'stopping at once')


@ENVOY_ONLY
async def test_a_parent_that_is_killed_takes_envoy_with_it(nats: EmbeddedNats, edge: str) -> None:
    """Its calls are broken off, which their handlers are told."""
    slow = Slow()
    async with slow.running(nats), gateway(edge, nats, '--drain-delay', '60s') as (running, address, client):
        (envoy,) = children_of(running.pid)
        lookup = asyncio.create_task(client.call('Lookup'))
        await until(lambda: slow.began == 1)
        running.process.kill()
        await until(lambda: not alive(envoy), 3)
        assert (await lookup).code is Code.UNAVAILABLE
        await until(lambda: slow.cancelled == 1, 2)
        assert not listens(address)
        await running.end()


@ENVOY_ONLY
async def test_envoy_that_is_killed_ends_the_gateway(nats: EmbeddedNats, edge: str) -> None:
    async with gateway(edge, nats) as (running, _, _):
        (envoy,) = children_of(running.pid)
        os.kill(envoy, signal.SIGKILL)
        assert await running.end() == 128 + signal.SIGKILL


@pytest.mark.parametrize('when', [0.3, 0.8, 1.2])
async def test_stopped_while_it_starts(nats: EmbeddedNats, when: float, edge: str) -> None:
    """In the middle of whatever it does then."""
    async with program(*serve(edge), '--nats', 'nats://127.0.0.1:1', *LOCAL) as running:
        await asyncio.sleep(when)
        running.stop()
        assert await running.end(3) in (0, -signal.SIGTERM)


# Connections


async def test_a_connection_that_is_old(nats: EmbeddedNats, edge: str) -> None:
    """It is told to go; what runs on it may end."""
    slow = Slow()
    async with slow.running(nats), gateway(edge, nats, '--max-connection-age', '1s') as (_, address, client):
        async with raw_client(address) as old, raw_client(address) as idle:
            stream = old.call('Lookup')
            await stream.send(message(b''), end=True)
            await until(lambda: old.goaways() and idle.closed, 4)
            assert not stream.is_over
            await asyncio.sleep(1)
            slow.let_go.set()
            assert (await stream.over()).outcome == 'OK'
        for _ in range(8):
            assert (await client.call('Count', COUNT)).code is Code.OK
            await asyncio.sleep(0.25)


async def test_a_connection_that_is_idle(nats: EmbeddedNats, edge: str) -> None:
    async with gateway(edge, nats, '--max-connection-idle', '0.5s') as (_, address, _), raw_client(address) as idle:
        await asyncio.sleep(0.2)
        assert not idle.closed
        await idle.gone()


async def test_too_many_connections(nats: EmbeddedNats, edge: str) -> None:
    async with gateway(edge, nats, '--max-connections', '2') as (_, address, _):
        async with raw_client(address), raw_client(address):
            host, _, port = address.rpartition(':')
            reader, writer = await asyncio.open_connection(host, int(port))
            assert await reader.read() == b'', 'it is closed at once'
            writer.close()
        async with asyncio.timeout(30):  # until it has noticed that the others are gone
            while (code := await _code_of_a_call(address)) is Code.UNAVAILABLE:
                await asyncio.sleep(0.05)
        assert code is Code.UNIMPLEMENTED


async def _code_of_a_call(address: str) -> Code:
    """On a connection of its own: a client that was refused once waits, longer each time, before it tries again."""
    async with client_of(address) as client:
        return (await client.call('/nobody/knows', timeout=30)).code


async def test_a_connection_that_grows_old(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """It is asked to end, its call goes on, and the client's next call takes another one without noticing."""
    options = {'max_connection_age': 1.0, 'max_connection_age_grace': 30.0}
    async with stack(nats, words, ACTORS, edge=edge, **options) as running:
        request = words_pb2.PonderRequest()
        request.time.FromSeconds(2)
        old = asyncio.create_task(running.client.call('Ponder', request))
        for _ in range(15):
            assert (await running.client.call('Count', COUNT)).code is Code.OK
            await asyncio.sleep(0.1)
        assert (await old).code is Code.OK


async def test_a_client_that_vanishes_is_noticed(nats: EmbeddedNats, edge: str) -> None:
    """It answers no pings: its connection is ended and its call cancelled. One that answers, and is as quiet, stays."""
    slow = Slow()
    keepalive = ('--keepalive-time', '1s', '--keepalive-timeout', '1s')
    async with (
        slow.running(nats),
        gateway(edge, nats, *keepalive) as (_, address, _),
        raw_client(address, within=20) as quiet,
        raw_client(address, within=20) as vanished,
    ):
        for client in (quiet, vanished):
            await client.call('Lookup').send(message(b''), end=True)
        await until(lambda: slow.began == 2)
        await until(vanished.pings)
        vanished.pongs = False
        await vanished.gone()
        await until(lambda: slow.cancelled == 1)
        assert not quiet.closed
        assert quiet.pings()
        slow.let_go.set()


async def test_calls_of_one_connection_are_limited(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """The client waits with the next; none fails."""
    let_go = asyncio.Event()

    async def slow(request: Any) -> Any:
        await let_go.wait()
        return words_pb2.CountResponse()

    async with (
        stack(nats, words, word_actors(Count=slow), max_concurrent_streams=5, edge=edge) as running,
        grpc.aio.insecure_channel(running.gateway.address) as channel,  # which repeats what was refused unseen
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
