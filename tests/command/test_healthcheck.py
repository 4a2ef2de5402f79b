"""`natsgate healthcheck`, against a server that says what the test wants."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from support import ROOT, program

from natsgate.command.embedded import EmbeddedNats
from natsgate.command.healthcheck import address_to_ask
from natsgate.events.status import ContractError

INVALID, NO_CONNECTION, NO_ANSWER, NOT_SERVING = 1, 2, 3, 4
WORDS = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')

# Made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500
# -subj /CN=gateway.test -addext subjectAltName=DNS:gateway.test`; it is used by nobody else.
CERTIFICATE = b"""\
-----BEGIN CERTIFICATE-----
MIIBnjCCAUSgAwIBAgIUcR8tirRJhp0y7ZrHdX8r7Oouot0wCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMZ2F0ZXdheS50ZXN0MCAXDTI2MTEyNDIyMDg0M1oYDzIxMjYx
MDMxMjIwODQzWjAXMRUwEwYDVQQDDAxnYXRld2F5LnRlc3QwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAASen93jvAt9ep5fD42YXbfZT+BIMNziRT/Ow0sgo8KeMtKU
W6+7djLyEAgus1K0NUr/W+vpRde1idH9OcprkQ/ao2wwajAdBgNVHQ4EFgQUVVnK
zT4wYTVOSQ8Pu7BXCfyM3yQwHwYDVR0jBBgwFoAUVVnKzT4wYTVOSQ8Pu7BXCfyM
3yQwDwYDVR0TAQH/BAUwAwEB/zAXBgNVHREEEDAOggxnYXRld2F5LnRlc3QwCgYI
KoZIzj0EAwIDSAAwRQIgZbpkmt3Ov3j390gS1wxUtsOtVWBggzKXQn/9OhiZq2AC
IQChvytxAlp/lYpH1PSU9EjuV6SctjEIpZTSU67tEhMakA==
-----END CERTIFICATE-----
"""
KEY = b"""\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgHIeuhJmjMo3NaDS9
mKuZB74norKwSzW4g12tgOqT0ruhRANCAASen93jvAt9ep5fD42YXbfZT+BIMNzi
RT/Ow0sgo8KeMtKUW6+7djLyEAgus1K0NUr/W+vpRde1idH9OcprkQ/a
-----END PRIVATE KEY-----
"""

Answer = Callable[[bytes, Any], Awaitable[bytes]]


async def run(*arguments: str, cwd: Path, **env: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', 'natsgate.command.main', 'healthcheck', *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=cwd, env={'PATH': '', **env},
    )  # fmt: skip
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode().strip(), err.decode().strip()


@asynccontextmanager
async def health(answer: Answer, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[str]:
    """A server whose Health.Check answers so; its address."""
    handlers = {'Check': grpc.unary_unary_rpc_method_handler(answer)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler('grpc.health.v1.Health', handlers)])
    if credentials:
        port = server.add_secure_port('127.0.0.1:0', credentials)
    else:
        port = server.add_insecure_port('127.0.0.1:0')
    await server.start()
    try:
        yield f'127.0.0.1:{port}'
    finally:
        await server.stop(0)


async def healthy(request: bytes, context: Any) -> bytes:
    """A server with one service; requests and responses are spelt out, byte by byte."""
    statuses = {b'': b'\x08\x01', b'\x0a\x03a.B': b'\x08\x02', b'\x0a\x03c.D': b'\x08\x09'}
    if request not in statuses:
        await context.abort(grpc.StatusCode.NOT_FOUND, 'unknown service')
    return statuses[request]


async def silent(_: bytes, __: Any) -> bytes:
    await asyncio.Event().wait()
    return b''


async def without_a_status(_: bytes, __: Any) -> bytes:
    return b''


@pytest.mark.parametrize(
    ('answer', 'arguments', 'code', 'told'),
    [
        (healthy, [], 0, 'SERVING'),
        (healthy, ['--service', 'a.B'], NOT_SERVING, "'a.B' is NOT_SERVING"),
        (healthy, ['--service', 'c.D'], NOT_SERVING, "'c.D' is status 9"),
        (healthy, ['--service', 'no.Such'], NO_ANSWER, "service 'no.Such' is not known there"),
        (without_a_status, [], NOT_SERVING, 'the gateway is UNKNOWN'),
        (silent, ['--rpc-timeout', '100ms'], NO_ANSWER, 'no answer within 0.1 s'),
    ],
)
async def test_answers(answer: Answer, arguments: list[str], code: int, told: str, tmp_path: Path) -> None:
    async with health(answer) as address:
        found, out, err = await run(address, *arguments, cwd=tmp_path)
    assert (found, out) == (code, '' if code else told), err
    assert err == (f'natsgate: {address}: {told}' if code else '')


async def test_a_server_without_health(tmp_path: Path) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port('127.0.0.1:0')
    await server.start()
    code, _, err = await run(f'127.0.0.1:{port}', cwd=tmp_path)
    await server.stop(0)
    assert (code, 'no health service' in err) == (NO_ANSWER, True)


async def test_nobody_there(tmp_path: Path) -> None:
    """Neither where nothing listens nor where somebody does who says nothing."""
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        expected = (NO_CONNECTION, '', f'natsgate: {address}: no connection within 0.2 s')
        assert await run(address, '--connect-timeout', '200ms', cwd=tmp_path) == expected
        taken.listen()
        assert await run(address, '--connect-timeout', '200ms', cwd=tmp_path) == expected


async def test_a_timeout_of_0_is_none(tmp_path: Path) -> None:
    async def slow(request: bytes, context: Any) -> bytes:
        await asyncio.sleep(1.2)  # more than the default
        return await healthy(request, context)

    async with health(slow) as address:
        arguments = ('--connect-timeout', '0', '--rpc-timeout', '0')
        assert await run(address, *arguments, cwd=tmp_path) == (0, 'SERVING', '')
        assert (await run(address, cwd=tmp_path))[0] == NO_ANSWER


@pytest.mark.parametrize(
    ('arguments', 'env', 'told'),
    [
        (['--sevrice', 'x'], {}, '--sevrice'),
        (['--rpc-timeout', 'soon'], {}, "'soon' is not a duration"),
        (['--config', 'missing.toml'], {}, 'missing.toml'),
        (['x:1', 'y:1'], {}, 'y:1'),
        ([], {'NATSGATE_LISTEN': '0.0.0.0:0'}, 'give its address'),
        (['x:1', '--tls-ca', 'missing.pem'], {}, 'missing.pem'),
        (['x:1', '--tls-server-name', 'x'], {}, 'tls-ca'),
        (['x:1', '--tls-ca', __file__, '--tls-client-key', __file__], {}, 'one needs the other'),
    ],
)
async def test_invalid_arguments(arguments: list[str], env: dict[str, str], told: str, tmp_path: Path) -> None:
    code, out, err = await run(*arguments, cwd=tmp_path, **env)
    assert (code, out) == (INVALID, '')
    assert told in err
    assert len(err.splitlines()) == 1


async def test_the_address_is_that_of_the_configuration(tmp_path: Path) -> None:
    async with health(healthy) as address:
        port = address.rpartition(':')[2]
        (tmp_path / 'natsgate.toml').write_text(f'listen = ["0.0.0.0:{port}"]\nservice = "a.B"\n')
        assert (await run(cwd=tmp_path))[0] == NOT_SERVING
        assert (await run(cwd=tmp_path, NATSGATE_SERVICE='no.Such'))[0] == NO_ANSWER
        (tmp_path / 'natsgate.toml').unlink()
        assert (await run(cwd=tmp_path, NATSGATE_LISTEN=f'[::]:{port}', http_proxy='http://127.0.0.1:1'))[0] == 0


@pytest.mark.parametrize(
    ('listen', 'expected'),
    [
        (['0.0.0.0:1', '10.0.0.1:2'], '127.0.0.1:1'),
        (['[::]:1'], '127.0.0.1:1'),
        (['10.0.0.1:2'], '10.0.0.1:2'),
        (['[::1]:3'], '[::1]:3'),
        (['unix:/run/x'], 'unix:/run/x'),
    ],
)
def test_where_a_gateway_is_found(listen: list[str], expected: str) -> None:
    assert address_to_ask(listen) == expected


def test_nowhere_to_be_found() -> None:
    with pytest.raises(ContractError, match='HOST:PORT'):
        address_to_ask([])


async def test_tls(tmp_path: Path) -> None:
    (tmp_path / 'cert.pem').write_bytes(CERTIFICATE)
    (tmp_path / 'key.pem').write_bytes(KEY)
    tls = ('--connect-timeout', '5s', '--tls-ca', 'cert.pem', '--tls-server-name', 'gateway.test')
    client = ('--tls-client-cert', 'cert.pem', '--tls-client-key', 'key.pem')
    async with health(healthy, grpc.ssl_server_credentials([(KEY, CERTIFICATE)])) as address:
        assert (await run(address, *tls, cwd=tmp_path))[:2] == (0, 'SERVING')
        assert (await run(address, '--tls-ca', 'cert.pem', cwd=tmp_path))[0] == NO_CONNECTION  # another name
        assert (await run(address, cwd=tmp_path))[0] in (NO_CONNECTION, NO_ANSWER)
    mutual = grpc.ssl_server_credentials([(KEY, CERTIFICATE)], CERTIFICATE, require_client_auth=True)
    async with health(healthy, mutual) as address:
        assert (await run(address, *tls, *client, cwd=tmp_path))[:2] == (0, 'SERVING')


async def test_the_gateway_itself_as_the_compose_file_asks_it(nats: EmbeddedNats, tmp_path: Path) -> None:
    services = yaml.safe_load((ROOT / 'docker-compose.yml').read_text())['services']
    kind, name, command, *arguments = services['gateway-1']['healthcheck']['test']
    assert (kind, name, command) == ('CMD', 'natsgate', 'healthcheck')
    assert services['gateway-2']['healthcheck'] == services['gateway-1']['healthcheck']
    assert services['actors']['healthcheck'] == {'disable': True}, 'workers listen nowhere'
    async with program('serve', '--proto', WORDS, '--nats', nats.url, '--listen', '127.0.0.1:0') as gateway:
        address = (await gateway.says('serving ')).rpartition(' ')[2]
        assert await run(*arguments, cwd=tmp_path, NATSGATE_LISTEN=address) == (0, 'SERVING', '')


def test_the_image_asks_too() -> None:
    assert 'CMD ["natsgate", "healthcheck"]' in (ROOT / 'Dockerfile').read_text()
