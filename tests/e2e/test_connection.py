"""The connection to NATS: what peers and servers send must not end it, and what ends it must be mended."""

import asyncio
import json
import ssl
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support import certify, connect, until

from natsgate.command.embedded import EmbeddedNats
from natsgate.events.connection import ConnectOptions, Disconnected, NoResponders, open_connection


async def exchange(connection: Any) -> None:
    """The connection reads and writes."""
    heard: list[bytes] = []
    sid = await connection.subscribe('exchange', lambda subject, reply, header, payload: heard.append(payload))
    connection.write(b'PUB exchange 2\r\nhi\r\n')
    await connection.synced()
    assert heard == [b'hi']
    connection.unsubscribe(sid)
    connection.forget(sid)


@pytest.mark.parametrize(
    'frame',
    [
        b'PUB hear.\xff\xfe 2\r\nhi\r\n',
        b'HPUB hear.x 15 15\r\nNATS/1.0\r\n\xff\r\n\r\n\r\n',
        b'HPUB hear.x 4 4\r\nevil\r\n',
        b'HPUB hear.x 21 21\r\nNATS/1.0 999999 \xff\r\n\r\n\r\n',
        b'HPUB hear.x 12 12\r\nNATS/1.0\r\n\r\n\r\n',
        b'PUB hear.x reply.\xff 2\r\nhi\r\n',
    ],
)
async def test_malformed_messages(nats: EmbeddedNats, frame: bytes) -> None:
    connection, evil = await connect(nats.url), await connect(nats.url)
    heard: list[bytes] = []
    await connection.subscribe('hear.>', lambda subject, reply, header, payload: heard.append(subject))
    await connection.synced()
    evil.write(frame)
    evil.write(b'PUB hear.end 0\r\n\r\n')
    await until(lambda: b'hear.end' in heard)
    await exchange(connection)
    await connection.close()
    await evil.close()


async def test_a_callback_that_fails(nats: EmbeddedNats, caplog: pytest.LogCaptureFixture) -> None:
    connection = await connect(nats.url)

    def fail(*_: Any) -> None:
        raise ValueError('in a callback')

    await connection.subscribe('fail', fail)
    connection.write(b'PUB fail 0\r\n\r\n')
    await connection.synced()
    assert 'in a callback' in caplog.text
    await exchange(connection)
    await connection.close()


async def test_an_error_line_of_the_server_means_connecting_anew(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    connection.write(b'NONSENSE\r\n')  # answered with -ERR and a closed connection
    await until(lambda: not connection.connected)
    await until(lambda: connection.connected)
    await exchange(connection)
    await connection.close()


async def test_a_late_pong(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await connection.synced(timeout=0)
    await exchange(connection)
    await connection.close()


async def test_subscriptions_are_there_again_after_a_restart(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    heard: list[bytes] = []
    await connection.subscribe('hear', lambda subject, reply, header, payload: heard.append(payload))
    again = asyncio.Event()
    connection.on_connected.append(again.set)
    await nats.kill()
    await until(lambda: not connection.connected)
    with pytest.raises(Disconnected):
        connection.write(b'PUB hear 0\r\n\r\n')
    with pytest.raises(Disconnected):
        await connection.request('hear')
    await nats.start()
    await asyncio.wait_for(again.wait(), 10)
    connection.write(b'PUB hear 2\r\nhi\r\n')
    await until(lambda: heard == [b'hi'])
    await connection.close()


async def test_waiting_for_an_answer_ends_with_the_connection(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    await connection.subscribe('silent', lambda *_: None)
    asking = asyncio.create_task(connection.request('silent', timeout=30))
    await connection.synced()
    await nats.kill()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asking, 5)
    await connection.close()


async def test_nobody_listens(nats: EmbeddedNats) -> None:
    connection = await connect(nats.url)
    with pytest.raises(NoResponders):
        await connection.request('nobody', timeout=5)
    await connection.close()


async def test_wrong_password() -> None:
    async with EmbeddedNats(config='authorization { user: a, password: b }') as nats:
        options = ConnectOptions(servers=(nats.url,), auth={'user': 'a', 'password': 'wrong'})
        with pytest.raises(PermissionError):
            await open_connection(options, timeout=20)
        options = ConnectOptions(servers=(nats.url,), auth={'user': 'a', 'password': 'b'})
        connection = await open_connection(options, timeout=20)
        await exchange(connection)
        await connection.close()


async def test_a_subject_that_is_not_permitted(caplog: pytest.LogCaptureFixture) -> None:
    """The server says so with an error line; the connection lives on."""
    config = 'authorization { users = [{ user: a, password: b, permissions: { publish: { deny: "secret.>" } } }] }'
    async with EmbeddedNats(config=config) as nats:
        connection = await connect(nats.url, auth={'user': 'a', 'password': 'b'})
        connection.write(b'PUB secret.x 0\r\n\r\n')
        await until(lambda: 'permissions violation' in caplog.text.lower())
        async with asyncio.timeout(5):
            with pytest.raises(TimeoutError, match='may not ask'):  # no answer is waited for
                await connection.request('secret.Y', timeout=60)
        await exchange(connection)
        assert connection.connected
        await connection.close()


@asynccontextmanager
async def fake_server(*lines: bytes) -> AsyncIterator[str]:
    """A server that greets properly, and says these lines to whoever publishes something."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(b'INFO {"server_id":"x","version":"2.12.0","headers":true,"max_payload":1048576}\r\n')
        while line := await reader.readline():
            if line.startswith(b'PING'):
                writer.write(b'PONG\r\n')
            elif line.startswith(b'PUB'):
                writer.writelines(lines)
        writer.close()

    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    try:
        yield f'nats://127.0.0.1:{server.sockets[0].getsockname()[1]}'
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ('lines', 'anew'),
    [
        ((b'INFO {broken\r\n',), False),
        ((b'INFO {"connect_urls":5}\r\n',), False),
        ((b'+OK\r\n',), False),
        ((b'PONG\r\n', b'PONG\r\n'), False),
        ((b'MSG x 999 0\r\n\r\n',), False),
        ((b"-ERR 'Permissions Violation for Publish to x'\r\n",), False),
        ((b"-ERR 'Maximum Payload Violation'\r\n",), True),
        ((b"-ERR 'Slow Consumer'\r\n",), True),
        ((b'-ERR \xff\xfe\r\n',), True),
        ((b'MSG x 1 -5\r\n',), True),
        ((b'MSG x 1 99999999999\r\n',), True),
        ((b'HMSG x 1 9 3\r\n',), True),
        ((b'WHAT IS THIS\r\n',), True),
    ],
)
async def test_lines_of_a_server(lines: tuple[bytes, ...], anew: bool) -> None:
    async with fake_server(*lines) as url:
        connection = await connect(url)
        lost: list[bool] = []
        connection.on_disconnected.append(lambda: lost.append(True))
        connection.write(b'PUB x 0\r\n\r\n')
        if anew:
            await until(lambda: lost)
        await until(lambda: connection.connected)
        await connection.synced()
        assert bool(lost) == anew
        await connection.close()


TLS = 'tls {{ cert_file: "{0}/nats.pem", key_file: "{0}/nats.key"{1} }}\nallow_non_tls: {2}\n'


@pytest.mark.parametrize(
    ('more', 'clear_too', 'first'),
    [('', 'false', {}), ('', 'true', {}), (', handshake_first: true', 'false', {'tls_handshake_first': True})],
    ids=['demanded', 'offered', 'first'],
)
async def test_tls(tmp_path: Path, more: str, clear_too: str, first: dict[str, bool]) -> None:
    await certify(tmp_path, 'nats')
    auth = {'tls': ssl.create_default_context(cafile=tmp_path / 'nats.pem'), 'tls_hostname': 'nats.test', **first}
    async with EmbeddedNats(config=TLS.format(tmp_path, more, clear_too)) as server:
        connection = await open_connection(ConnectOptions(servers=[server.url], auth=auth), timeout=5)
        await exchange(connection)
        with urllib.request.urlopen(f'{server.monitor_url}/connz') as answer:  # noqa: ASYNC210
            (client,) = json.load(answer)['connections']
        assert client['tls_version'].startswith('1.')
        await connection.close()


@pytest.mark.parametrize(
    ('scheme', 'auth'),
    [('tls', {}), ('nats', {'tls': ssl.create_default_context()}), ('nats', {'tls_hostname': 'nats.test'})],
)
async def test_a_server_without_tls_is_told_no_password(scheme: str, auth: dict[str, Any]) -> None:
    heard = b''

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(b'INFO {"server_id": "x", "version": "2.12.0", "headers": true, "max_payload": 9}\r\n')
        heard += await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, '127.0.0.1', 0) as server:
        url = f'{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}'
        options = ConnectOptions(servers=[url], auth={'user': 'u', 'password': 'secret', **auth})
        with pytest.raises(TimeoutError, match='no TLS'):
            await open_connection(options, timeout=1)
    assert heard == b''
