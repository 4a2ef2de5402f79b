"""Poison in a service's stream, and the four ways in which a plain client's connection dies of what a peer sends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2
from support import NO_LIMITS, Client, connect, running_actors, until, word_actors

from natsgate.actors import Actors, ConnectedActors, Context, Retry, misaddressed
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.events.connection import Connection
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import routes
from natsgate.gateway.server import serving

SUBJECT = b'rpc.demo.v1.Words.Count'
STREAM = 'rpc=demo=v1=Words'
COUNT = words_pb2.CountRequest(text='one two three')
TRACE = b'traceparent: \xff\xfe\r\n'


async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


def hpub(header: bytes, payload: bytes = b'', *, subject: bytes = SUBJECT, reply: bytes = b'') -> bytes:
    where = b' '.join(filter(None, (subject, reply)))
    return b'HPUB %b %d %d\r\n%b%b\r\n' % (where, len(header), len(header) + len(payload), header, payload)


@dataclass
class Both:
    """A worker and a gateway, and their connections to NATS."""

    client: Client
    actors: ConnectedActors
    worker: Connection
    gateway: Connection

    def watched(self) -> list[str]:
        """Names of the connections that are lost from here on."""
        lost: list[str] = []
        self.worker.on_disconnected.append(lambda: lost.append('worker'))
        self.gateway.on_disconnected.append(lambda: lost.append('gateway'))
        return lost

    @property
    def runs(self) -> int:
        return sum(worker.runs for worker in self.actors.workers)


@asynccontextmanager
async def both(nats: EmbeddedNats, words: Descriptors, actors: Actors) -> AsyncIterator[Both]:
    connection = await connect(nats.url)
    try:
        async with (
            running_actors(nats.url, actors) as working,
            serving(connection, words, routes(words), drain_timeout=1) as gateway,
            grpc.aio.insecure_channel(gateway.addresses[0], options=NO_LIMITS) as channel,
        ):
            yield Both(Client(channel), working, working.connection, connection)
    finally:
        await connection.close()


async def stored(connection: Connection) -> int:
    found: int = (await connection.api(f'STREAM.INFO.{STREAM}'))['state']['messages']
    return found


async def well(running: Both) -> None:
    ended = await running.client.call('Count', COUNT)
    assert words_pb2.CountResponse.FromString(ended.data).words == 3


@pytest.mark.parametrize(
    'frame',
    [
        b'PUB %b 2\r\n\xff\xff\r\n' % SUBJECT,
        hpub(b'X', b'\xff'),
        hpub(b'NATS/1.0', b'\xff'),
        hpub(b'NATS/1.0\r\n\xff\r\n\r\n'),
        hpub(b'NATS/1.0\r\nno colon\r\n\r\n'),
        hpub(b'NATS/1.0 999999 \xff\r\n\xff\xff: x\r\n\r\n'),
        hpub(b'NATS/1.0\r\nNatsgate-Reply: \xff\xfe\r\n\r\n'),
        hpub(b'NATS/1.0\r\nNatsgate-Deadline: soon\r\n\r\n'),
        hpub(b'NATS/1.0\r\nGrpc-Metadata-x: a\x01b\r\n' + TRACE + b'\r\n'),
        hpub(b'NATS/1.0\r\nNatsgate-Kind: \xc3\xa9vil\r\n\r\n'),
        hpub(b'NATS/1.0\r\n\r\n', b'\xff\xff', reply=b'reply.\xff\xfe'),
    ],
)
async def test_what_cannot_be_read_is_buried(nats: EmbeddedNats, words: Descriptors, frame: bytes) -> None:
    """Counted, and the next event runs; the connections do not even blink. With one slot, it would block."""
    async with both(nats, words, word_actors(Count=(count, {'max_jobs': 1}))) as running:
        lost, peer = running.watched(), await connect(nats.url)
        for _ in range(3):
            peer.write(frame)
        await peer.synced()
        await well(running)
        letters = running.actors.dead_letters
        await until(lambda: letters.stored == 3)
        async with asyncio.timeout(5):
            while await stored(peer):
                await asyncio.sleep(0.01)
        assert (letters.lost, running.runs, lost) == (0, 1, [])
        await peer.close()


async def test_subjects_that_no_method_has(
    nats: EmbeddedNats, words: Descriptors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker is ever given them; they are in nobody's way, and are buried all the same."""
    monkeypatch.setattr(misaddressed, 'LOOK_EVERY', 0.1)
    pretending = b'NATS/1.0\r\nNats-Subject: rpc.demo.v1.Words.Count\r\nNats-Sequence: 1\r\n\r\n'
    async with both(nats, words, word_actors(Count=count)) as running:
        lost, peer = running.watched(), await connect(nats.url)
        peer.write(b'PUB rpc.demo.v1.Words.Join 2\r\nhi\r\n')  # a method that nobody runs at the moment
        for name in (b'\xff\xfe', b'\xff\xfe', 'café'.encode(), b'\x01', b'1'):
            for header in (b'', b'X', b'NATS/1.0\r\n\xff\r\n\r\n', pretending):
                peer.write(hpub(header, b'hi', subject=b'rpc.demo.v1.Words.' + name))
        await peer.synced()
        letters = running.actors.dead_letters
        await until(lambda: letters.stored == 20)
        await well(running)
        assert await stored(peer) == 1
        assert (letters.lost, running.runs, lost) == (0, 1, [])
        kept = (await peer.api('STREAM.INFO._DEAD', {'subjects_filter': '_DEAD.>'}))['state']['subjects']
        assert kept['_DEAD.rpc.demo.v1.Words.\ufffd\ufffd'] == 8  # as JSON has it
        await peer.close()


def inboxes(running: Both) -> list[bytes]:
    """Where the worker and the gateway hear something, made to look bad where a part of the subject is free."""
    actors, gateway = running.worker, running.gateway
    return [
        f'{actors.inbox}.count.pull.1'.encode(),
        f'{actors.inbox}.count.sent.'.encode() + b'\xff\xfe',
        f'{actors.inbox}.api.'.encode() + b'\xff\xfe',
        f'_CALL.{actors.id}.{actors.inbox.rpartition(".")[2]}.'.encode() + b'\xff.\xfe',
        b'_CANCEL.demo.v1.Words',
        b'_PRESENCE.demo.v1.Words.@ask',
        b'_PRESENCE.demo.v1.Words.\xff\xfe',
        f'_REPLY.{gateway.id}.'.encode() + b'\xff.\xfe',
        f'{gateway.inbox}.api.'.encode() + b'\xff\xfe',
    ]


async def test_bytes_that_are_no_text_in_every_inbox(nats: EmbeddedNats, words: Descriptors) -> None:
    """The first way: a subject or a reply subject that is not UTF-8."""
    async with both(nats, words, word_actors(Count=count)) as running:
        lost, peer = running.watched(), await connect(nats.url)
        for subject in inboxes(running):
            for reply in (b'', b'reply.\xff', b'$JS.ACK.\xff.1.2.3.4.5.6.7', b'$JS.ACK.a.b.\xff.\xff.5.6.7'):
                peer.write(b'PUB %b 2\r\n\xff\xff\r\n' % b' '.join(filter(None, (subject, reply))))
        await peer.synced()
        for _ in range(3):
            await well(running)
        assert lost == []
        await peer.close()


async def test_broken_headers_in_every_inbox(nats: EmbeddedNats, words: Descriptors) -> None:
    """The second way: a header block that is none."""
    blocks = (b'X', b'NATS/1.0', b'NATS/1.0\r\n\xff\r\n\r\n', b'NATS/1.0 \xff\r\n\r\n', b'NATS/1.0 409 \xff\r\n\r\n',
              b'NATS/1.0\r\nNatsgate-Frame: \xff\r\n\r\n', b'NATS/1.0\r\ngrpc-status: \xff\r\n\r\n')  # fmt: skip
    async with both(nats, words, word_actors(Count=count)) as running:
        lost, peer = running.watched(), await connect(nats.url)
        for subject in inboxes(running):
            for block in blocks:
                peer.write(hpub(block, subject=subject))
        await peer.synced()
        for _ in range(3):
            await well(running)
        assert lost == []
        await peer.close()


async def test_pongs_that_come_too_late(nats: EmbeddedNats, words: Descriptors) -> None:
    """The third way: a PONG whose PING was given up."""
    async with both(nats, words, word_actors(Count=count)) as running:
        lost = running.watched()
        for connection in (running.worker, running.gateway):
            with pytest.raises(TimeoutError):
                await connection.synced(timeout=0)
        await well(running)
        for connection in (running.worker, running.gateway):
            await connection.synced()
        assert lost == []


async def test_acknowledgements_in_the_new_form(words: Descriptors) -> None:
    """The fourth way: reply subjects of JetStream's second form. Retries, claims and dead letters read them too."""

    async def fail(request: Any, context: Context) -> Any:
        attempts.append(context.attempt)
        raise ValueError('not yet')

    attempts: list[int] = []
    async with EmbeddedNats(config='feature_flags { js_ack_fc_v2: true }') as nats:
        retried = (fail, {'retry': Retry(attempts=2, backoff=0.02)})
        actors = word_actors(Count=(count, {'at_most_once': True}), Ponder=retried)
        async with both(nats, words, actors) as running:
            seen: list[bytes] = []
            taker = running.actors.workers[0].puller.takers[SUBJECT]

            def noting(reply: bytes, *event: Any) -> None:
                seen.append(reply)
                taker(reply, *event)

            running.actors.workers[0].puller.takers[SUBJECT] = noting
            lost = running.watched()
            await well(running)
            assert len(seen[0].split(b'.')) > 9
            assert (await running.client.call('Ponder')).reason == 'HANDLER_FAILED'
            assert attempts == [1, 2]
            await until(lambda: running.actors.dead_letters.stored == 1)
            assert lost == []


@pytest.mark.parametrize('whose', ['worker', 'gateway'])
async def test_an_error_line_that_ends_the_connection(nats: EmbeddedNats, words: Descriptors, whose: str) -> None:
    """Any -ERR closes a plain client for good: both come back by themselves."""
    async with both(nats, words, word_actors(Count=count)) as running:
        lost = running.watched()
        worker, gateway = running.worker, running.gateway
        (worker if whose == 'worker' else gateway).write(b'NONSENSE\r\n')
        await until(lambda: lost == [whose])
        await until(lambda: worker.connected and gateway.connected)
        await well(running)
        assert (await running.client.call('Count', COUNT)).code is Code.OK
