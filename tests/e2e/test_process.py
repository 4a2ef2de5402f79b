"""`natsgate serve` as a process: how it starts, stops and fails, and what it says. The same on both edges."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from edges import ENVOY_ONLY
from gateways import COUNT, IPV6, LOCAL, WORDS, Slow, address_of, client_of, gateway, only_said, serve
from processes import alive, children_of
from support import program, until
from test_presence import NOT_SERVING, SERVING, check, health_message

from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code


async def test_health_and_reflection(nats: EmbeddedNats, edge: str) -> None:
    slow = Slow()
    async with gateway(edge, nats) as (_, address, client):
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


async def test_a_port_that_is_in_use(nats: EmbeddedNats, edge: str) -> None:
    async with gateway(edge, nats) as (_, address, _):
        code, lines = await fails(*serve(edge), '--nats', nats.url, '--listen', address)
        assert code == 1
        assert lines[-1].startswith(f'natsgate: cannot listen on {address}: the port is in use')


async def test_a_host_that_is_not_there(nats: EmbeddedNats, edge: str) -> None:
    code, (line,) = await fails(*serve(edge), '--nats', nats.url, '--listen', 'nobody.invalid:0')
    assert code == 1
    assert line.startswith("natsgate: cannot listen on nobody.invalid:0: host 'nobody.invalid': ")


async def test_a_socket_that_cannot_be(nats: EmbeddedNats, edge: str, tmp_path: Path) -> None:
    code, (line,) = await fails(*serve(edge), '--nats', nats.url, '--listen', 'unix:/no/folder/socket')
    assert code == 1
    assert line.startswith('natsgate: cannot listen on unix:/no/folder/socket: /no/folder: no such folder')
    code, lines = await fails(*serve(edge), '--nats', nats.url, '--listen', f'unix:{tmp_path}')
    assert code == 1
    assert str(tmp_path) in lines[-1]


async def test_nats_is_away(edge: str) -> None:
    """It waits, says so, and gives up."""
    began = time.monotonic()
    code, lines = await fails(*serve(edge), *LOCAL, '--nats', 'nats://127.0.0.1:1', '--nats-timeout', '2s')
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
        (('--tls-cert', WORDS, '--tls-key', WORDS), 'natsgate: tls: certificate, key or authority cannot be read: '),
    ],
)
async def test_bad_settings(arguments: tuple[str, ...], says: str, edge: str) -> None:
    code, lines = await fails(*serve(edge), *LOCAL, *arguments)
    assert code in (2, 78)
    assert says in lines[-1]
    assert len(lines) == 1 or code == 2


@ENVOY_ONLY
async def test_what_is_wrong_is_said_before_anything_is_tried(nats: EmbeddedNats, edge: str) -> None:
    """NATS is away here. Envoy would say it late, and in many words."""
    nowhere = (*serve(edge), '--nats', 'nats://127.0.0.1:1')
    code, (line,) = await fails(*nowhere, *LOCAL, '--tls-cert', WORDS, '--tls-key', WORDS)
    assert code == 78
    assert line.startswith('natsgate: tls: ')
    async with gateway(edge, nats) as (_, address, _):
        code, lines = await fails(*nowhere, '--listen', address)
        assert (code, lines) == (1, [f'natsgate: cannot listen on {address}: the port is in use'])


async def test_bad_settings_in_the_environment(edge: str) -> None:
    code, (line,) = await fails(*serve(edge), NATSGATE_TIMEOUT='soon')
    assert code == 78
    assert 'NATSGATE_TIMEOUT' in line


# Ways to be started


@ENVOY_ONLY
async def test_two_processes(nats: EmbeddedNats, edge: str) -> None:
    """One dies and is replaced; both stop."""
    slow = Slow()
    command = (*serve(edge), '--nats', nats.url, *LOCAL, '--workers', '2', '--drain-delay', '0')
    async with slow.running(nats), program(*command) as running:
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


async def test_embedded(edge: str) -> None:
    async with program(*serve(edge), *LOCAL, '--embedded', '--drain-delay', '0') as running:
        async with client_of(await address_of(running)) as client:
            assert await check(client, '') == SERVING
        running.stop()
        assert await running.end() == 0
    only_said(running, *(line[:4] for line in running.lines[:-3]), 'serving', 'stopping', 'stopped')


@pytest.mark.parametrize('host', ['localhost', '0.0.0.0', '[::1]', '[::]'])
async def test_hosts(nats: EmbeddedNats, host: str, edge: str) -> None:
    if '[' in host and not IPV6:
        pytest.skip('this machine has no IPv6')
    async with program(*serve(edge), '--nats', nats.url, '--listen', f'{host}:0') as running:
        name, _, port = (await address_of(running)).rpartition(':')
        assert name == host
        for reached in {'0.0.0.0': ['127.0.0.1'], '[::]': ['127.0.0.1', '[::1]']}.get(host, [host]):
            async with client_of(f'{reached}:{port}') as client:
                assert await check(client, '') == SERVING


async def test_several_addresses(nats: EmbeddedNats, tmp_path: Path, edge: str) -> None:
    listen = ('--listen', f'unix:{tmp_path}/socket', *LOCAL)
    async with program(*serve(edge), '--nats', nats.url, *listen, '--drain-delay', '0') as running:
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
    for name in ('gateway', 'client'):
        process = await asyncio.create_subprocess_exec(
            'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
            '-subj', f'/CN={name}.test', '-addext', f'subjectAltName=DNS:{name}.test',
            '-keyout', str(tmp_path / f'{name}.key'), '-out', str(tmp_path / f'{name}.pem'),
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() == 0
    return tmp_path


async def test_tls(nats: EmbeddedNats, certificates: Path, edge: str) -> None:
    tls = ('--tls-cert', f'{certificates}/gateway.pem', '--tls-key', f'{certificates}/gateway.key')
    trusted = (certificates / 'gateway.pem').read_bytes()
    async with Slow().running(nats), gateway(edge, nats, *tls) as (_, address, plain):
        async with client_of(address, grpc.ssl_channel_credentials(trusted), 'gateway.test') as client:
            assert (await client.call('Count', COUNT)).code is Code.OK
        assert (await plain.call('Count', COUNT, timeout=2)).code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


async def test_tls_of_clients(nats: EmbeddedNats, certificates: Path, edge: str) -> None:
    tls = ('--tls-cert', f'{certificates}/gateway.pem', '--tls-key', f'{certificates}/gateway.key')
    trusted, key, chain = ((certificates / name).read_bytes() for name in ('gateway.pem', 'client.key', 'client.pem'))
    async with (
        Slow().running(nats),
        gateway(edge, nats, *tls, '--tls-client-ca', f'{certificates}/client.pem') as (_, address, _),
    ):
        known = grpc.ssl_channel_credentials(trusted, key, chain)
        async with client_of(address, known, 'gateway.test') as client:
            assert (await client.call('Count', COUNT)).code is Code.OK
        async with client_of(address, grpc.ssl_channel_credentials(trusted), 'gateway.test') as client:
            assert (await client.call('Count', COUNT, timeout=2)).code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)
