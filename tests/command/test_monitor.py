"""The live feed of events: in Python, and as `natsgate monitor`."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import connect, running_actors, running_gateway, until, word_actors

from natsgate.command.embedded import EmbeddedNats
from natsgate.command.monitor import watched_subjects
from natsgate.events import ContractError, Event, Events, monitor
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import routes

WORDS = str(Path(__file__).parent.parent.parent / 'protos' / 'demo' / 'v1' / 'words.proto')
GREET = Event('greet', str)
ORDER = Event('shop.order', dict[str, int])


async def test_a_feed_of_all_events(nats: EmbeddedNats) -> None:
    async with Events(GREET.with_response(str), ORDER).connect(nats.url) as conn:
        await conn.register()
        async with conn.monitor() as feed:
            await conn.emit(GREET, 'hi', uid='u', meta={'tenant': 'a'})
            await conn.emit(ORDER, {'n': 1})
            conn.connection.write(b'PUB greet 1\r\n{\r\n')
            conn.connection.write(b'HPUB greet 1 1\r\n{\r\n')
            seen = [await anext(feed) for _ in range(4)]
    assert [(one.subject, one.message) for one in seen] == [
        ('greet', 'hi'), ('shop.order', {'n': 1}), ('greet', None), ('greet', None),
    ]  # fmt: skip
    assert (seen[0].id, seen[0].metadata, seen[0].payload) == ('greet:u', (('tenant', 'a'),), b'"hi"')
    assert 'not a str' in seen[2].problem
    assert 'NATS/1.0' in seen[3].problem


@pytest.mark.parametrize(('limit', 'most'), [('MOST', 2), ('MOST_BYTES', 7)])
async def test_a_feed_that_nobody_reads(
    nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(monitor, limit, most)
    async with Events(GREET).connect(nats.url) as conn, conn.monitor() as feed:
        for _ in range(5):
            await conn.emit(GREET, 'hi')
        await until(lambda: feed.missed == 3)
        assert [(await anext(feed)).message for _ in range(2)] == ['hi', 'hi']
        await conn.emit(GREET, 'again')
        async with asyncio.timeout(5):
            assert (await anext(feed)).message == 'again'


@asynccontextmanager
async def watching(nats: EmbeddedNats, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', 'natsgate.command.main', 'monitor', '--nats', nats.url, '--log-format', 'text',
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            while b'watching' not in (line := await process.stderr.readline()):
                assert line, 'it ended'
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output(process: asyncio.subprocess.Process) -> list[str]:
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().splitlines()


async def test_calls_for_machines(nats: EmbeddedNats, words: Descriptors) -> None:
    async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        return words_pb2.CountResponse()

    async with (
        running_actors(nats.url, word_actors(Count=count)),
        running_gateway(nats.url, words) as (_, client),
        watching(nats, '--proto', WORDS, '--output', 'json', '--count', '2') as process,
    ):
        await client.call('Count', words_pb2.CountRequest(text='to be'), metadata=(('tenant', 'a'), ('x-bin', b'\0')))
        await client.call('Count', b'\xff')
        first, second = map(json.loads, await output(process))
    assert (first['method'], first['subject'], first['kind']) == (
        'demo.v1.Words/Count', 'rpc.demo.v1.Words.Count', 'unary',
    )  # fmt: skip
    assert first['message'] == {'text': 'to be'}
    assert ['tenant', 'a'] in first['metadata']
    assert ['x-bin', 'AA=='] in first['metadata']
    assert first['id'].startswith('rpc.demo.v1.Words.Count:')
    assert second['payload'] == '/w=='
    assert second['problem']


async def test_plain_events_for_people(nats: EmbeddedNats) -> None:
    async with watching(nats, 'shop.>', 'greet', '--count', '6') as process:
        connection = await connect(nats.url)
        connection.write(b'PUB shop.\x1b]0;x\x07 1\r\n1\r\nPUB greet 11\r\n"gr\xc3\xbc\xc3\x9fe\xc2\x9b"\r\n')
        connection.write(b'PUB shop.order 7\r\n{"n":1}\r\nPUB greet 2\r\nhi\r\nPUB greet 1\r\n\xff\r\n')
        connection.write(b'HPUB greet 1 1\r\n{\r\n')
        lines = [line.partition('  ')[2] for line in await output(process)]
        await connection.close()
    assert lines == [
        'shop.\\x1b]0;x\\x07  1', 'greet  "grüße\\x9b"',  # what a terminal would obey
        'shop.order  {"n": 1}', 'greet  "hi"', 'greet  "/w=="',
        'greet  0 bytes that cannot be read: a header block does not begin with NATS/1.0',
    ]  # fmt: skip


async def test_it_stops_when_it_is_told(nats: EmbeddedNats) -> None:
    async with watching(nats, 'greet') as process:
        process.terminate()
        assert await output(process) == []


@pytest.mark.parametrize(
    ('what', 'expected'),
    [
        (('demo.v1.Words/Count',), ['rpc.demo.v1.Words.Count']),
        (('orders.*', 'orders.new', 'demo.v1.Words/Count'), ['orders.*', 'rpc.demo.v1.Words.Count']),
    ],
)
def test_what_is_watched(what: tuple[str, ...], expected: list[str], words: Descriptors) -> None:
    by_subject = {route.subject: route for route in routes(words).values()}
    assert watched_subjects(what, by_subject) == expected
    everything = watched_subjects((), by_subject)
    assert everything == watched_subjects(('demo.v1.Words',), by_subject)
    assert 'rpc.demo.v1.Words.Echo' in everything


@pytest.mark.parametrize(('what', 'problem'), [((), 'nothing to watch'), (('a b',), 'neither'), (('>',), 'neither')])
def test_what_cannot_be_watched(what: tuple[str, ...], problem: str) -> None:
    nothing: dict[str, Any] = {}
    with pytest.raises(ContractError, match=problem):
        watched_subjects(what, nothing)
