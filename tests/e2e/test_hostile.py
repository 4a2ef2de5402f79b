"""What clients and peers on NATS may send to do harm."""

import asyncio
from typing import Any

import pytest
from demo.v1 import words_pb2
from h2client import Pair, Stream, message, raw_client
from support import Client, Stack, connect, running_actors, stack, until, word_actors

from natsgate.actors import Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, headers, wire
from natsgate.events.subjects import reply_subject
from natsgate.gateway.protos import Descriptors

COUNT = words_pb2.CountRequest(text='one two three')
SUBJECT = 'rpc.demo.v1.Words.Count'
OWN_NAMES = ('natsgate-reply', 'natsgate-deadline', 'natsgate-kind', 'grpc-metadata-x', 'grpc-status-details-bin')
NATS_NAMES = ('nats-msg-id', 'nats-ttl', 'nats-expected-stream', 'nats-rollup', 'nats-schedule')


class Seen:
    """An actor's view of the calls: their metadata, and the raw header blocks on NATS."""

    def __init__(self) -> None:
        self.metadata: list[Any] = []
        self.blocks: list[bytes] = []

    async def count(self, request: words_pb2.CountRequest, context: Context) -> words_pb2.CountResponse:
        self.metadata.append(tuple(pair for pair in context.metadata if pair[0] != 'user-agent'))
        return words_pb2.CountResponse(words=len(request.text.split()))

    async def tap(self, nats: EmbeddedNats) -> Any:
        connection = await connect(nats.url)
        await connection.subscribe(SUBJECT, lambda subject, reply, header, payload: self.blocks.append(header or b''))
        await connection.synced()
        return connection


async def still_well(client: Client) -> None:
    ended = await client.call('Count', COUNT)
    assert words_pb2.CountResponse.FromString(ended.data).words == 3


async def raw_call(running: Stack, *pairs: Pair) -> Stream:
    """A call of Count with metadata that no gRPC client would send."""
    async with raw_client(running.gateway.address, within=5) as client:
        return await client.ask('Count', message(COUNT.SerializeToString()), pairs)


@pytest.mark.parametrize(
    'value',
    [b'a\r\nNats-Rollup: all', b'a\nNats-TTL: 1', b'a\rb', b'a\0b', b'a\x7fb', b'\xff\xfe', b'caf\xc3\xa9', b'\x1b[2J'],
)
async def test_line_breaks_and_controls_in_metadata(
    nats: EmbeddedNats, words: Descriptors, value: bytes, edge: str
) -> None:
    """Refused by one layer or the other; no header of theirs ever appears on NATS."""
    seen = Seen()
    async with stack(nats, words, word_actors(Count=seen.count), edge=edge) as running:
        tap = await seen.tap(nats)
        stream = await raw_call(running, (b'x-evil', value))
        assert stream.outcome != 'OK' or seen.metadata == [()], stream.trailers
        await still_well(running.client)
        await until(lambda: seen.blocks)
        for block in seen.blocks:
            names = {name.lower() for name, _ in headers.parse(block)}
            assert 'nats-rollup' not in names
            assert all(int(value) >= 10 for name, value in headers.parse(block) if name == 'Nats-TTL')
        await tap.close()


@pytest.mark.parametrize('name', [b'x evil', b'x:evil', b'x\r\nNats-Rollup', b'X-UPPER', b'x\xff', b''])
async def test_broken_metadata_keys(nats: EmbeddedNats, words: Descriptors, name: bytes, edge: str) -> None:
    seen = Seen()
    async with stack(nats, words, word_actors(Count=seen.count), edge=edge) as running:
        await raw_call(running, (name, b'all'))
        await still_well(running.client)


async def test_names_of_nats_and_of_ours(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """They travel as metadata under our prefix, or not at all: never as headers that mean something."""
    seen = Seen()
    async with stack(nats, words, word_actors(Count=seen.count), edge=edge) as running:
        tap = await seen.tap(nats)
        plain = await running.client.call('Count', COUNT)
        metadata = [(name, 'evil') for name in NATS_NAMES + OWN_NAMES if not name.endswith('-bin')]
        ended = await running.client.call('Count', COUNT, metadata=metadata)
        assert (plain.code, ended.code) == (Code.OK, Code.OK)
        await until(lambda: len(seen.blocks) == 2)
        harmless, evil = (
            {name for name, _ in headers.parse(block) if not name.startswith(wire.REQUEST_METADATA)}
            for block in seen.blocks
        )
        assert evil == harmless
        assert dict(headers.parse(seen.blocks[1]))[wire.REPLY].startswith('_REPLY.')
        await tap.close()


async def test_70_kilobytes(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """NATS takes 64 KiB of headers at most, and drops the connection of who sends more."""
    seen = Seen()
    async with stack(nats, words, word_actors(Count=seen.count), max_metadata_size=1 << 20, edge=edge) as running:
        for metadata in (
            (('k', 'v' * 70_000),),
            (('k-bin', b'\0' * 70_000),),
            [(f'k{n}', 'v' * 1000) for n in range(70)],
        ):
            ended = await running.client.call('Count', COUNT, metadata=metadata)
            # Envoy's decoder takes no single header above 64 KiB: it ends the connection.
            too_long = edge == 'envoy' and len(metadata) == 1
            assert ended.code is (Code.UNAVAILABLE if too_long else Code.RESOURCE_EXHAUSTED), ended
            assert ended.seconds < (
                3 if too_long else 1
            )  # with a connection that has ended, a client waits for a second
            await still_well(running.client)
        assert all(not pairs for pairs in seen.metadata)


async def test_metadata_above_the_limit(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with stack(nats, words, word_actors(Count=Seen().count), edge=edge) as running:
        for metadata in ((('k', 'v' * 17_000),), [(f'k{n}', '') for n in range(500)]):
            ended = await running.client.call('Count', COUNT, metadata=metadata)
            assert ended.code is Code.RESOURCE_EXHAUSTED, ended
            await still_well(running.client)


async def test_500_keys(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    seen = Seen()
    pairs = tuple((f'k-{n}', f'v{n}') for n in range(250)) + tuple(('twice', str(n)) for n in range(250))
    async with stack(nats, words, word_actors(Count=seen.count), max_metadata_size=64 << 10, edge=edge) as running:
        assert (await running.client.call('Count', COUNT, metadata=pairs)).code is Code.OK
        assert seen.metadata[0] == pairs


@pytest.mark.parametrize('value', [b'!!!', b'a', b'YQ==YQ==', b',', b'', b'YQ,YQ', b'\xff'])
async def test_junk_in_binary_metadata(nats: EmbeddedNats, words: Descriptors, value: bytes, edge: str) -> None:
    seen = Seen()
    async with stack(nats, words, word_actors(Count=seen.count), edge=edge) as running:
        await raw_call(running, (b'x-bin', value))
        await still_well(running.client)


async def test_any_bytes_in_binary_metadata_arrive(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    seen = Seen()
    async with stack(nats, words, word_actors(Count=seen.count), edge=edge) as running:
        value = bytes(range(256))
        assert (await running.client.call('Count', COUNT, metadata=(('x-bin', value),))).code is Code.OK
        assert seen.metadata == [(('x-bin', value),)]


@pytest.mark.parametrize(
    'reply',
    [
        'secrets.of.others',
        '$JS.API.STREAM.DELETE.rpc=demo=v1=Words',
        '_REPLY.gw.other.v1.Service.' + 'a' * 22,
        '_REPLY.gw.demo.v1.Words',
        '_REPLY.*.demo.v1.Words.' + 'a' * 22,
        '_REPLY.gw.>.demo.v1.Words.' + 'a' * 22,
        '_REPLY.gw.demo.v1.Words.' + 'a' * 22 + '.more',
        '_REPLY.gw.demo.v1.Words.' + 'a' * 500,
    ],
)
async def test_a_forged_reply_subject_is_refused_by_the_actor(
    nats: EmbeddedNats, reply: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who may publish calls could otherwise have an actor publish anywhere."""
    seen = Seen()
    async with running_actors(nats.url, word_actors(Count=seen.count)) as actors:
        connection = await connect(nats.url)
        heard: list[bytes] = []
        await connection.subscribe('>', lambda subject, *_: heard.append(subject))
        await connection.synced()
        block = wire.encode_request(wire.RequestHead(id='x', reply=reply))
        await connection.request(SUBJECT, COUNT.SerializeToString(), header=block)
        await until(lambda: 'its reply subject is not one of this target' in caplog.text)
        good = reply_subject(connection.id, 'demo.v1.Words', 'b' * 22)
        block = wire.encode_request(wire.RequestHead(id='y', reply=good))
        await connection.request(SUBJECT, COUNT.SerializeToString(), header=block)
        await until(lambda: good.encode() in heard)
        assert len(seen.metadata) == 1
        assert actors.workers[0].runs == 1
        assert not [subject for subject in heard if subject.startswith((b'secrets', b'$JS.API.STREAM.DELETE'))]
        assert reply.encode() not in heard
        await connection.close()


@pytest.mark.parametrize(
    'header',
    [
        b'',
        b'no colon in here\r\n',
        b'Natsgate-Deadline: tomorrow\r\n',
        b'Natsgate-Deadline: -99999999\r\n',
        b'Natsgate-Deadline: 99999999999999999999999999\r\n',
        b'Natsgate-Kind: evil\r\n',
        b'Grpc-Metadata-x-bin: \xff\xfe!!!!!!!\r\n',
        b'Natsgate-Reply: \xff\xfe\r\n',
    ],
)
async def test_malformed_events_do_not_stop_a_worker(
    nats: EmbeddedNats, words: Descriptors, header: bytes, edge: str
) -> None:
    async with stack(nats, words, word_actors(Count=Seen().count), edge=edge) as running:
        connection = await connect(nats.url)
        block = b'NATS/1.0\r\n' + header + b'\r\n'
        for _ in range(100):  # more than there are slots
            size = len(block)
            connection.write(b'HPUB %b %d %d\r\n%b\xff\xff\r\n' % (SUBJECT.encode(), size, size + 2, block))
        await connection.synced()
        await still_well(running.client)
        await until_empty(running)
        await connection.close()


async def test_strangers_on_a_reply_subject_are_passed_over(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """A message that is no response does not end a call; one to a call that has ended is dropped."""
    replies: list[bytes] = []
    let_go = asyncio.Event()

    async def slow(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        await let_go.wait()
        return words_pb2.CountResponse(words=3)

    async with stack(nats, words, word_actors(Count=slow), edge=edge) as running:
        connection = await connect(nats.url)

        def note(subject: bytes, reply: bytes, header: bytes | None, payload: bytes) -> None:
            replies.append(dict(headers.parse(header))[wire.REPLY].encode())

        await connection.subscribe(SUBJECT, note)
        await connection.synced()
        call = asyncio.create_task(running.client.call('Count', COUNT))
        await until(lambda: replies)
        other = replies[0][:-22] + b'z' * 22
        for subject in (replies[0], other):
            connection.write(b'PUB %b 2\r\nhi\r\n' % subject)
            connection.write(b'PUB %b 0\r\n\r\n' % subject)
            connection.write(b'PUB %b 27\r\n{"stream":"x","seq":1}     \r\n' % subject)
            connection.write(b'HPUB %b 16 16\r\nNATS/1.0 503\r\n\r\n\r\n' % subject)
        await running.gateway.becomes(lambda inside: inside.strays == 4 and inside.late == 4)
        assert not call.done()
        let_go.set()
        assert words_pb2.CountResponse.FromString((await call).data).words == 3
        await connection.close()


async def until_empty(running: Stack) -> None:
    async with asyncio.timeout(5):
        while (await running.actors.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']['messages']:
            await asyncio.sleep(0.02)
