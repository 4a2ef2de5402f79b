"""Peers on NATS that do not keep to the protocol of streaming calls: by hand, on both sides."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import connect, running_actors, running_gateway, until, word_actors, words_service

from natsgate.actors import consumer
from natsgate.command.demo.actors import ACTORS
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Connection, Events, wire
from natsgate.events.frames import FrameKind, Message, decode, encode, encode_end, is_frame, join
from natsgate.events.leases import Beat
from natsgate.events.streams import declare
from natsgate.events.subjects import call_inbox, cancel_subject, presence_subject, reply_subject
from natsgate.gateway.protos import Descriptors

TARGET = 'demo.v1.Words'
INBOX = call_inbox('evil', 'p', TARGET, 'A' * 22)
Word = words_pb2.Word


def hpub(subject: str, reply: str, block: bytes, payload: bytes = b'') -> bytes:
    where = f'{subject} {reply}' if reply else subject
    return f'HPUB {where} {len(block)} {len(block) + len(payload)}\r\n'.encode() + block + payload + b'\r\n'


class Actor:
    """An actor by hand: it takes one event and then says whatever the test wants."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard: list[tuple[bytes, bytes | None, bytes]] = []
        self.reply = ''

    async def take(self) -> None:
        inbox = f'{self.connection.inbox}.taken'
        taken: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        await self.connection.subscribe(
            inbox, lambda subject, reply, header, payload: reply and not taken.done() and taken.set_result(header)
        )
        await self.connection.subscribe(
            '_CALL.>', lambda subject, reply, header, payload: self.heard.append((subject, header, payload))
        )
        body = consumer.pull_request(1)
        self.connection.write(
            b'PUB $JS.API.CONSUMER.MSG.NEXT.rpc=demo=v1=Words.split %b %d\r\n%b\r\n' % (inbox.encode(), len(body), body)
        )
        self.reply = wire.decode_request(await taken).reply

    def say(self, block: bytes, payload: bytes = b'', *, inbox: str = INBOX) -> None:
        self.connection.write(hpub(self.reply, inbox, block, payload))

    def frames(self) -> list[FrameKind]:
        return [decode(header, payload).kind for _, header, payload in self.heard if header and is_frame(header)]


@asynccontextmanager
async def by_hand(nats: EmbeddedNats, words: Descriptors, edge: str) -> AsyncIterator[tuple[Actor, Any]]:
    """A gateway, a client's server-streaming call, and an actor by hand that has taken it."""
    connection = await connect(nats.url)
    event = words_service()['Split']
    await declare(connection, [event])

    async def handler(request: Any) -> AsyncIterator[Any]:
        yield

    (actor,) = word_actors(Split=handler)
    await consumer.declare(connection, *consumer.consumers_of([actor]))
    async with running_gateway(nats.url, words, edge=edge) as (gateway, client):
        call = words_pb2_grpc.WordsStub(client.channel).Split(words_pb2.SplitRequest(text='a'), timeout=10)
        hand = Actor(connection)
        await hand.take()
        yield hand, call
        call.cancel()
        await gateway.becomes(lambda inside: not inside.waiting)
    await connection.close()


async def test_an_actor_by_hand(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """What docs/protocol.md says is enough."""
    async with by_hand(nats, words, edge) as (actor, call):
        actor.say(encode(0, FrameKind.ACCEPT, 0, 0))
        actor.say(encode(1, FrameKind.DATA), join([Message(Word(word='a').SerializeToString())] * 3))
        actor.say(encode_end(2, 3, wire.Response()))
        assert [word.word async for word in call] == ['a'] * 3
        await until(actor.frames)
        assert actor.frames() == [FrameKind.GO]


@pytest.mark.parametrize('inbox', ['rpc.bank.Pay', '_CALL.evil.p.other.Service.' + 'A' * 22, '_REPLY.x', ''])
async def test_an_accept_with_a_foreign_inbox(nats: EmbeddedNats, words: Descriptors, edge: str, inbox: str) -> None:
    """The gateway publishes frames nowhere but to actors of its call's own target."""
    async with by_hand(nats, words, edge) as (actor, call):
        stolen: list[bytes] = []
        await actor.connection.subscribe(
            inbox or 'nothing', lambda subject, reply, header, payload: stolen.append(subject)
        )
        actor.say(encode(0, FrameKind.ACCEPT, 9, 9), inbox=inbox)
        actor.say(encode(0, FrameKind.ACCEPT, 0, 0))
        actor.say(encode_end(1, 0, wire.Response()))
        assert [word async for word in call] == []
        assert stolen == []


MESSAGE = Message(b'x' * 1000)

BREAKING = {
    'more messages than it has credit for': lambda actor: [
        actor.say(encode(number, FrameKind.DATA), join([Message(b'')] * 100)) for number in range(1, 8)
    ],
    'more bytes than it has credit for': lambda actor: [
        actor.say(encode(number, FrameKind.DATA), join([MESSAGE] * 100)) for number in range(1, 5)
    ],
    'a gap': lambda actor: actor.say(encode(2, FrameKind.DATA), join([MESSAGE])),
    'half a message': lambda actor: actor.say(encode(1, FrameKind.DATA), join([MESSAGE])[:-1]),
    'a wrong count': lambda actor: actor.say(encode_end(1, 5, wire.Response())),
}


@pytest.mark.parametrize('what', BREAKING)
async def test_an_actor_that_breaks_the_rules(nats: EmbeddedNats, words: Descriptors, edge: str, what: str) -> None:
    async with by_hand(nats, words, edge) as (actor, call):
        actor.say(encode(0, FrameKind.ACCEPT, 0, 0))
        BREAKING[what](actor)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            _ = [word async for word in call]
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await until(lambda: FrameKind.CANCEL in actor.frames())


@pytest.mark.parametrize(
    'block',
    [
        b'NATS/1.0\r\nNatsgate-Frame: x\r\n\r\n',
        b'NATS/1.0\r\nNatsgate-Frame: 1 end 0\r\ngrpc-status: 0\r\nGrpc-Trailing-A B: c\r\n\r\n',
    ],
)
async def test_frames_that_cannot_be_read(nats: EmbeddedNats, words: Descriptors, edge: str, block: bytes) -> None:
    async with by_hand(nats, words, edge) as (actor, call):
        actor.say(encode(0, FrameKind.ACCEPT, 0, 0))
        actor.say(block)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            _ = [word async for word in call]
        assert raised.value.code() is grpc.StatusCode.INTERNAL


async def test_frames_of_a_stranger(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """A second accept after the first message is told so, and nothing that it says is heard."""
    other = call_inbox('other', 'p', TARGET, 'B' * 22)
    async with by_hand(nats, words, edge) as (actor, call):
        actor.say(encode(0, FrameKind.ACCEPT, 0, 0))
        actor.say(encode(1, FrameKind.DATA), join([Message(Word(word='a').SerializeToString())]))
        actor.say(encode(0, FrameKind.ACCEPT, 0, 0), inbox=other)
        actor.say(encode(1, FrameKind.DATA), join([Message(Word(word='evil').SerializeToString())]), inbox=other)
        actor.say(encode_end(2, 0, wire.Response()), inbox=other)
        actor.say(encode_end(2, 1, wire.Response()))
        assert [word.word async for word in call] == ['a']
        await until(lambda: FrameKind.GONE in actor.frames())
        assert {subject for subject, header, _ in actor.heard if header and b'gone' in header} == {other.encode()}


# The other way round: callers


async def test_a_caller_without_credit_manners(nats: EmbeddedNats) -> None:
    """It sends more than the actor takes: the call breaks off, and the worker goes on."""
    let_go = asyncio.Event()

    async def join_(messages: AsyncIterator[Any]) -> Any:
        await let_go.wait()
        return words_pb2.JoinResponse()

    async with running_actors(nats.url, word_actors(Join=join_)) as actors:
        connection = await connect(nats.url)
        reply = reply_subject(connection.id, TARGET, 'C' * 22)
        heard: list[tuple[bytes, bytes, bytes]] = []
        await connection.subscribe(
            reply, lambda subject, reply, header, payload: heard.append((reply, header or b'', payload))
        )
        head = wire.encode_request(wire.RequestHead(id='x:1', reply=reply, kind='client', credit=(9, 999)))
        connection.write(hpub('rpc.demo.v1.Words.Join', '', head))
        await until(lambda: heard)
        inbox = heard[0][0].decode()
        for number in range(8):
            connection.write(hpub(inbox, reply, encode(number, FrameKind.DATA), join([Message(b'')] * 100)))
        await until(lambda: any(b' end ' in header for _, header, _ in heard))
        assert any(b'grpc-status: 14' in header for _, header, _ in heard)
        await until(lambda: not actors.workers[0].jobs)
        assert len(actors.workers[0]._calls) == 0
        await connection.close()
        let_go.set()


@pytest.mark.parametrize('payload', [b'', b'\xff' * 100, b'x' * 100_000, b'_REPLY.x.demo.v1.Words.' + b'D' * 22])
async def test_cancellations_of_nothing(nats: EmbeddedNats, payload: bytes) -> None:
    service = words_service()
    async with running_actors(nats.url, ACTORS) as actors, Events(service['Count']).connect(nats.url) as conn:
        for _ in range(100):
            conn.connection.write(b'PUB %b %d\r\n%b\r\n' % (cancel_subject(TARGET).encode(), len(payload), payload))
        answer = await conn.request(service['Count'], words_pb2.CountRequest(text='a b'))
        assert answer.words == 2
        assert len(actors.workers[0]._calls._cancelled) <= 1


async def test_signs_of_life_that_cannot_be_read(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with running_actors(nats.url, ACTORS), running_gateway(nats.url, words, edge=edge) as (gateway, client):
        await gateway.becomes(lambda inside: inside.served)
        connection = await connect(nats.url)
        subject = presence_subject(TARGET, 'evil').encode()
        for payload in (b'', b'{', b'[' * 10_000, b'\xff', json.dumps({'worker': 1}).encode(), b'x' * 300_000):
            connection.write(b'PUB %b %d\r\n%b\r\n' % (subject, len(payload), payload))
        many = Beat(worker='w', state='up', subjects=frozenset({f'rpc.x.{number}' for number in range(1000)}))
        connection.write(b'PUB %b %d\r\n%b\r\n' % (subject, len(many.encode()), many.encode()))
        await connection.synced()
        assert (await client.call('Count', words_pb2.CountRequest(text='a'))).code.name == 'OK'
        await connection.close()
