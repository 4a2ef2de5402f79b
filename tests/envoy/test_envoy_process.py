"""`natsgate serve --edge envoy` as a process: how it starts, stops and fails, and what it says."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from h2client import message, raw_client
from hyperframe.frame import GoAwayFrame
from support import NO_LIMITS, ROOT, Client, Program, certify, program, running_actors, until, word_actors
from test_presence import NOT_SERVING, SERVING, check, health_message

from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code

pytestmark = pytest.mark.envoy

WORDS = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
COUNT = words_pb2.CountRequest(text='a b')
Word = words_pb2.Word
ENVOY = ('serve', '--edge', 'envoy', '--proto', WORDS)
LOCAL = ('--listen', '127.0.0.1:0')
IPV6 = Path('/proc/net/if_inet6').exists()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


async def address_of(gateway: Program) -> str:
    return (await gateway.says('serving ')).rpartition(' on ')[2]


@asynccontextmanager
async def client_of(
    address: str, credentials: grpc.ChannelCredentials | None = None, name: str = ''
) -> AsyncIterator[Client]:
    """A client with a connection of its own."""
    options: list[Any] = [*NO_LIMITS, ('grpc.use_local_subchannel_pool', 1)]
    if credentials is None:
        made = grpc.aio.insecure_channel(address, options=options)
    else:
        made = grpc.aio.secure_channel(address, credentials, [*options, ('grpc.ssl_target_name_override', name)])
    async with made as channel:
        yield Client(channel)


@asynccontextmanager
async def gateway(nats: EmbeddedNats, *arguments: str) -> AsyncIterator[tuple[Program, str, Client]]:
    async with program(*ENVOY, '--nats', nats.url, *LOCAL, *arguments) as running:
        address = await address_of(running)
        async with client_of(address) as client:
            yield running, address, client


class Slow:
    """Actors: Lookup waits until it may go on, the others answer at once."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.began = self.cancelled = 0

    async def lookup(self, request: Any) -> Any:
        self.began += 1
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return words_pb2.LookupResponse()

    async def count(self, request: Any) -> Any:
        return words_pb2.CountResponse(words=2)

    async def echo(self, words: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for word in words:
            yield word

    def running(self, nats: EmbeddedNats) -> Any:
        return running_actors(nats.url, word_actors(Lookup=self.lookup, Echo=self.echo, Count=self.count))


def only_said(running: Program, *beginnings: str) -> None:
    """Nothing but lines of ours that begin so."""
    assert [line[: len(begin)] for line, begin in zip(running.lines, beginnings, strict=True)] == list(beginnings), (
        running.lines
    )


# Stopping


async def test_a_drain(nats: EmbeddedNats) -> None:
    """Told to all who ask, while calls are still served; then what runs may end, and watchers are sent away."""
    slow = Slow()
    async with slow.running(nats), gateway(nats, '--drain-delay', '1s') as (running, address, client):
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


def listens(address: str) -> bool:
    host, _, port = address.rpartition(':')
    try:
        socket.create_connection((host, int(port)), 1).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_who_is_connected_is_told_to_go_elsewhere(nats: EmbeddedNats) -> None:
    """With the next answer: Envoy says GOAWAY only where something happens."""
    slow = Slow()
    async with slow.running(nats), gateway(nats, '--drain-delay', '0') as (running, address, _):
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


async def test_what_does_not_end_in_time_is_told_so(nats: EmbeddedNats) -> None:
    slow = Slow()
    stop = ('--drain-delay', '0', '--drain-timeout', '0.5s')
    async with slow.running(nats), gateway(nats, *stop) as (running, _, client):
        lookup = asyncio.create_task(client.call('Lookup'))
        await until(lambda: slow.began == 1)
        began = time.monotonic()
        running.stop()
        ended = await lookup
        assert (ended.code, ended.reason) == (Code.UNAVAILABLE, 'GATEWAY_STOPPED')
        assert await running.end() == 0
        assert time.monotonic() - began < 5
        await until(lambda: slow.cancelled == 1)


async def test_an_idle_gateway_stops_at_once(nats: EmbeddedNats) -> None:
    async with gateway(nats, '--drain-delay', '0') as (running, address, client), raw_client(address):
        await client.call('/nobody/knows')
        began = time.monotonic()
        running.stop()
        assert await running.end() == 0
        assert time.monotonic() - began < 2
    only_said(running, 'serving', 'stopping', 'stopped')


async def test_ctrl_c_waits_for_no_delay(nats: EmbeddedNats) -> None:
    async with gateway(nats, '--drain-delay', '60s') as (running, _, _):
        running.process.send_signal(signal.SIGINT)
        assert await running.end(5) == 0


@pytest.mark.parametrize('second', [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_insists(nats: EmbeddedNats, second: signal.Signals) -> None:
    async with gateway(nats, '--drain-delay', '60s') as (running, _, _):
        (envoy,) = children_of(running.pid)
        running.stop()
        await running.says('stopping')
        running.process.send_signal(second)
        assert await running.end(3) == 128 + signal.SIGTERM
        assert not alive(envoy)
    only_said(running, 'serving', 'stopping: ', 'stopping at once')


async def test_a_parent_that_is_killed_takes_envoy_with_it(nats: EmbeddedNats) -> None:
    """Its calls are broken off, which their handlers are told."""
    slow = Slow()
    async with slow.running(nats), gateway(nats, '--drain-delay', '60s') as (running, address, client):
        (envoy,) = children_of(running.pid)
        lookup = asyncio.create_task(client.call('Lookup'))
        await until(lambda: slow.began == 1)
        running.process.kill()
        await until(lambda: not alive(envoy), 3)
        assert (await lookup).code is Code.UNAVAILABLE
        await until(lambda: slow.cancelled == 1, 2)
        assert not listens(address)
        await running.end()


async def test_envoy_that_is_killed_ends_the_gateway(nats: EmbeddedNats) -> None:
    async with gateway(nats) as (running, _, _):
        (envoy,) = children_of(running.pid)
        os.kill(envoy, signal.SIGKILL)
        assert await running.end() == 128 + signal.SIGKILL


@pytest.mark.parametrize('when', [0.3, 0.8, 1.2])
async def test_stopped_while_it_starts(nats: EmbeddedNats, when: float) -> None:
    """In the middle of whatever it does then."""
    async with program(*ENVOY, '--nats', 'nats://127.0.0.1:1', *LOCAL) as running:
        await asyncio.sleep(when)
        running.stop()
        assert await running.end(3) in (0, -signal.SIGTERM)


# Connections


async def test_a_connection_that_is_old(nats: EmbeddedNats) -> None:
    """It is told to go; what runs on it may end."""
    slow = Slow()
    async with slow.running(nats), gateway(nats, '--max-connection-age', '1s') as (_, address, client):
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


async def test_a_connection_that_is_idle(nats: EmbeddedNats) -> None:
    async with gateway(nats, '--max-connection-idle', '0.5s') as (_, address, _), raw_client(address) as idle:
        await asyncio.sleep(0.2)
        assert not idle.closed
        await idle.gone()


async def test_too_many_connections(nats: EmbeddedNats) -> None:
    async with gateway(nats, '--max-connections', '2') as (_, address, _):
        async with raw_client(address), raw_client(address):
            host, _, port = address.rpartition(':')
            reader, writer = await asyncio.open_connection(host, int(port))
            assert await reader.read() == b'', 'it is closed at once'
            writer.close()
        async with client_of(address) as later:
            assert (await later.call('/nobody/knows')).code is Code.UNIMPLEMENTED


async def test_health_and_reflection(nats: EmbeddedNats) -> None:
    slow = Slow()
    async with gateway(nats) as (_, address, client):
        told = health_message('HealthCheckResponse')
        service = health_message('HealthCheckRequest', service='demo.v1.Words').SerializeToString()
        watch: Any = client.channel.unary_stream('/grpc.health.v1.Health/Watch')(service)
        assert told.FromString(await watch.read()).status == NOT_SERVING  # type: ignore[attr-defined]
        async with slow.running(nats):
            assert told.FromString(await watch.read()).status == SERVING  # type: ignore[attr-defined]
            assert await check(client, 'demo.v1.Words') == SERVING
        assert told.FromString(await watch.read()).status == NOT_SERVING  # type: ignore[attr-defined]
        watch.cancel()
        async with program('call', address) as listing:
            assert await listing.end() == 0
        async with program('healthcheck', address) as healthy:
            assert await healthy.end() == 0


# What is wrong at the start


async def fails(*arguments: str, **env: str) -> tuple[int, list[str]]:
    async with program(*arguments, env=env) as running:
        return await running.end(), running.lines


async def test_a_port_that_is_in_use(nats: EmbeddedNats) -> None:
    """Said before anything else is tried: NATS is away here."""
    async with gateway(nats) as (_, address, _):
        nowhere = ('--nats', 'nats://127.0.0.1:1')
        code, lines = await fails(*ENVOY, *nowhere, '--listen', address)
        assert (code, lines) == (1, [f'natsgate: cannot listen on {address}: the port is in use'])


async def test_a_host_that_is_not_there(nats: EmbeddedNats) -> None:
    code, (line,) = await fails(*ENVOY, '--nats', nats.url, '--listen', 'nobody.invalid:0')
    assert code == 1
    assert line.startswith("natsgate: cannot listen on nobody.invalid:0: host 'nobody.invalid': ")


async def test_nats_is_away() -> None:
    """It waits, says so, and gives up."""
    began = time.monotonic()
    code, lines = await fails(*ENVOY, *LOCAL, '--nats', 'nats://127.0.0.1:1', '--nats-timeout', '2s')
    assert code == 1
    assert 2 < time.monotonic() - began < 6
    *waiting, last = lines
    assert last.startswith('natsgate: NATS at nats://127.0.0.1:1 did not answer within 2 s: ')
    assert len(waiting) == 1, waiting
    assert waiting[0].startswith('waiting for NATS')


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (('--timeout', 'soon'), 'timeout'),
        (('--proto', 'not-there.proto'), 'not-there.proto'),
        (('--tls-cert', WORDS), 'tls-cert and tls-key: one needs the other'),
        (('--tls-cert', 'not-there.pem', '--tls-key', WORDS), 'not-there.pem: '),
        (('--tls-cert', WORDS, '--tls-key', WORDS), 'tls: '),
    ],
)
async def test_bad_settings(arguments: tuple[str, ...], says: str) -> None:
    code, lines = await fails(*ENVOY, *LOCAL, *arguments)
    assert code in (2, 78)
    assert says in lines[-1]
    assert len(lines) == 1 or code == 2


async def test_bad_settings_in_the_environment() -> None:
    code, (line,) = await fails(*ENVOY, NATSGATE_TIMEOUT='soon')
    assert code == 78
    assert 'NATSGATE_TIMEOUT' in line


# Ways to be started


async def test_two_processes(nats: EmbeddedNats) -> None:
    """One dies and is replaced; both stop."""
    slow = Slow()
    serve = (*ENVOY, '--nats', nats.url, *LOCAL, '--workers', '2', '--drain-delay', '0')
    async with slow.running(nats), program(*serve) as running:
        await running.says('process 2 of 2 is ready')
        address = await address_of(running)
        (first, second) = children_of(running.pid)
        (envoy,) = children_of(first)
        for _ in range(8):
            async with client_of(address) as client:
                assert (await client.call('Count', COUNT)).code is Code.OK
        os.kill(envoy, signal.SIGKILL)
        await running.says('it is started again')
        await until(lambda: sum('process 1 of 2 is ready' in line for line in running.lines) == 2, 15)
        (envoy,), (other,) = (children_of(child) for child in children_of(running.pid))
        async with client_of(address) as client:
            assert (await client.call('Count', COUNT)).code is Code.OK
        running.stop()
        assert await running.end() == 0
        assert not any(map(alive, (first, second, envoy, other)))
    assert not running.find('critical')


async def test_embedded() -> None:
    async with program(*ENVOY, *LOCAL, '--embedded', '--drain-delay', '0') as running:
        async with client_of(await address_of(running)) as client:
            assert await check(client, '') == SERVING
        running.stop()
        assert await running.end() == 0
    only_said(running, *(line[:4] for line in running.lines[:-3]), 'serving', 'stopping', 'stopped')


@pytest.mark.parametrize('host', ['localhost', '0.0.0.0', '[::1]', '[::]'])
async def test_hosts(nats: EmbeddedNats, host: str) -> None:
    if '[' in host and not IPV6:
        pytest.skip('this machine has no IPv6')
    async with program(*ENVOY, '--nats', nats.url, '--listen', f'{host}:0') as running:
        name, _, port = (await address_of(running)).rpartition(':')
        assert name == host
        for reached in {'0.0.0.0': ['127.0.0.1'], '[::]': ['127.0.0.1', '[::1]']}.get(host, [host]):
            async with client_of(f'{reached}:{port}') as client:
                assert await check(client, '') == SERVING


async def test_several_addresses(nats: EmbeddedNats, tmp_path: Path) -> None:
    listen = ('--listen', f'unix:{tmp_path}/socket', *LOCAL)
    async with program(*ENVOY, '--nats', nats.url, *listen, '--drain-delay', '0') as running:
        addresses = (await address_of(running)).split(', ')
        assert addresses[0] == f'unix:{tmp_path}/socket'
        for address in addresses:
            async with client_of(address) as client:
                assert await check(client, '') == SERVING
        running.stop()
        assert await running.end() == 0


@pytest.fixture
async def certificates(tmp_path: Path) -> Path:
    """A folder with key and certificate of gateway.test, which is its own authority, and of a client."""
    await certify(tmp_path, 'gateway', 'client')
    return tmp_path


async def test_tls(nats: EmbeddedNats, certificates: Path) -> None:
    tls = ('--tls-cert', f'{certificates}/gateway.pem', '--tls-key', f'{certificates}/gateway.key')
    trusted = (certificates / 'gateway.pem').read_bytes()
    async with Slow().running(nats), gateway(nats, *tls) as (_, address, plain):
        async with client_of(address, grpc.ssl_channel_credentials(trusted), 'gateway.test') as client:
            assert (await client.call('Count', COUNT)).code is Code.OK
        assert (await plain.call('Count', COUNT, timeout=2)).code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


async def test_tls_of_clients(nats: EmbeddedNats, certificates: Path) -> None:
    tls = ('--tls-cert', f'{certificates}/gateway.pem', '--tls-key', f'{certificates}/gateway.key')
    trusted, key, chain = ((certificates / name).read_bytes() for name in ('gateway.pem', 'client.key', 'client.pem'))
    async with (
        Slow().running(nats),
        gateway(nats, *tls, '--tls-client-ca', f'{certificates}/client.pem') as (_, address, _),
    ):
        known = grpc.ssl_channel_credentials(trusted, key, chain)
        async with client_of(address, known, 'gateway.test') as client:
            assert (await client.call('Count', COUNT)).code is Code.OK
        async with client_of(address, grpc.ssl_channel_credentials(trusted), 'gateway.test') as client:
            assert (await client.call('Count', COUNT, timeout=2)).code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
