"""`natsgate dlq`: what became of buried events, and another chance for them."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import program, running_actors, running_gateway, until, word_actors

from natsgate.actors import Actor, Actors, ConnectedActors, Context, Retry
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, Event, Events
from natsgate.events.connection import Connection
from natsgate.events.dead_letter import Cause, DeadLetter, subject_of
from natsgate.gateway.protos import Descriptors

WORDS = str(Path(__file__).parents[2] / 'protos' / 'demo' / 'v1' / 'words.proto')
SOON = Retry(attempts=2, backoff=0.02)


class Mended:
    """A handler that fails until it is mended."""

    def __init__(self) -> None:
        self.well = False
        self.seen: list[Context] = []

    async def __call__(self, request: Any, context: Context) -> Any:
        self.seen.append(context)
        if not self.well:
            raise ValueError('the ledger is closed')
        return words_pb2.PonderResponse(attempt=context.attempt)


async def dlq(nats: EmbeddedNats, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', 'natsgate.command.main', 'dlq', *arguments, '--nats', nats.url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, **(env or {})},
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def lines(nats: EmbeddedNats, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = await dlq(nats, *arguments, '--output', 'json')
    assert (code, 'Traceback' in err) == (0, False), err
    return [json.loads(line) for line in out.splitlines()]


def pondering(seconds: int) -> words_pb2.PonderRequest:
    request = words_pb2.PonderRequest()
    request.time.seconds = seconds
    return request


@asynccontextmanager
async def buried(
    nats: EmbeddedNats, words: Descriptors, handler: Mended, *, calls: int = 2, **more: Any
) -> AsyncIterator[ConnectedActors]:
    """Calls of Ponder that have failed, and lie in the dead letters."""
    actors = word_actors(Ponder=(handler, {'retry': SOON}), **more)
    async with running_actors(nats.url, actors) as running, running_gateway(nats.url, words) as (_, client):
        for number in range(calls):
            ended = await client.call('Ponder', pondering(number), metadata=(('x-order', str(number)),))
            assert ended.reason == 'HANDLER_FAILED'
        await until(lambda: running.dead_letters.stored == calls)
        yield running


async def test_the_list(nats: EmbeddedNats, words: Descriptors) -> None:
    async with buried(nats, words, Mended()):
        code, out, err = await dlq(nats, 'ls')
        rows = [line.split(maxsplit=6) for line in out.splitlines()]
        assert (code, err) == (0, '')
        assert rows[0] == ['LETTER', 'TIME', 'METHOD', 'ACTOR', 'REASON', 'ATTEMPTS']
        assert [(row[0], row[2], row[3], row[4], row[5]) for row in rows[1:]] == [
            ('1', 'demo.v1.Words/Ponder', 'ponder', 'failed', '2'),
            ('2', 'demo.v1.Words/Ponder', 'ponder', 'failed', '2'),
        ]
        assert 'the ledger is closed' in rows[1][6]
        assert [row['letter'] for row in await lines(nats, 'ls')] == [1, 2]


async def test_filters(nats: EmbeddedNats, words: Descriptors) -> None:
    async with buried(nats, words, Mended(), Count=Mended()) as running:
        junk = b'PUB rpc.demo.v1.Words.Count 2\r\n\xff\xff\r\n'
        running.connection.write(junk)
        await until(lambda: running.dead_letters.stored == 3)

        async def found(*arguments: str) -> list[int]:
            return [row['letter'] for row in await lines(nats, 'ls', *arguments)]

        assert await found('--method', 'demo.v1.Words/Ponder') == [1, 2]
        assert await found('--method', 'demo.v1.Words/Count', '--proto', WORDS) == [3]
        assert await found('--method', 'demo.v1.Words.Count') == [3]
        for protos in [(), ('--proto', WORDS)]:
            assert await found('--method', 'demo.v1.Words', *protos) == [1, 2, 3]
        assert await found('--method', 'an-event') == []
        assert await found('--reason', 'unreadable') == [3]
        assert await found('--reason', 'failed', '--reason', 'late', '--since', '1h') == [1, 2]
        await asyncio.sleep(0.01)
        assert await found('--since', '1ms') == []
        assert await found('2', '1') == [2, 1]


async def test_a_letter_in_full(nats: EmbeddedNats, words: Descriptors) -> None:
    async with buried(nats, words, Mended()):
        (shown,) = await lines(nats, 'show', '2', '--proto', WORDS)
        assert shown['request'] == {'time': '1s'}
        assert ['x-order', '1'] in shown['metadata']
        assert (shown['id'].partition(':')[0], shown['kind']) == ('rpc.demo.v1.Words.Ponder', 'unary')
        assert (shown['stream'], shown['sequence'], shown['answered']) == ('rpc=demo=v1=Words', 2, True)
        (raw,) = await lines(nats, 'show', '2')
        assert raw['payload'] == 'CgIIAQ=='
        code, out, _ = await dlq(nats, 'show', '1', '--proto', WORDS)
        assert code == 0
        assert 'the ledger is closed' in out


async def test_a_replay_succeeds_once_the_handler_is_mended(nats: EmbeddedNats, words: Descriptors) -> None:
    handler = Mended()
    async with buried(nats, words, handler) as running:
        ids = [context.id for context in handler.seen]
        code, out, err = await dlq(nats, 'replay', '--method', 'demo.v1.Words/Ponder', '--timeout', '5s')
        assert code == 1
        assert 'UNKNOWN' in out
        assert '2 of 2 replayed: 2 UNKNOWN' in err
        assert running.dead_letters.stored == 2  # whoever replays a call hears of it, and has the letter
        handler.well = True
        handler.seen.clear()
        code, out, err = await dlq(nats, 'replay', '1', '--output', 'json')
        assert (code, err) == (0, '1 of 1 replayed: 1 OK\n')
        assert json.loads(out)['code'] == 'OK'
        (context,) = handler.seen
        assert context.replayed
        assert context.id == ids[0]
        assert context.get('x-order') == '0'
        assert (context.attempt, 4 < (context.time_remaining() or 0) < 30) == (1, True)
        assert [row['letter'] for row in await lines(nats, 'ls')] == [2]


async def test_a_replayed_call_that_nats_gives_up_has_one_letter(nats: EmbeddedNats, words: Descriptors) -> None:
    """The one it had."""
    async with buried(nats, words, Mended(), calls=1) as running:
        api, stream = running.connection.api, 'rpc=demo=v1=Words'
        config = (await api(f'CONSUMER.INFO.{stream}.ponder'))['config'] | {'max_deliver': 1}
        body = {'stream_name': stream, 'config': config, 'action': 'update'}
        await api(f'CONSUMER.CREATE.{stream}.ponder.rpc.demo.v1.Words.Ponder', body)
        code, out, _ = await dlq(nats, 'replay', '1', '--timeout', '20s')
        assert (code, 'given up by NATS after 1 attempts' in out) == (1, True)
        while (await api(f'STREAM.INFO.{stream}'))['state']['messages']:
            await asyncio.sleep(0.02)
        assert [row['letter'] for row in await lines(nats, 'ls')] == [1]


async def test_a_plain_event_of_an_actor_that_is_gone_stays(nats: EmbeddedNats) -> None:
    """Another one does not run what it was not given, so the event would be lost with its letter."""
    event, told = Event('told.twice', str), list[str]()

    async def fail(message: str) -> None:
        raise ValueError('not yet')

    async def listen(message: str) -> None:
        told.append(message)

    old = Actors(Actor('old', event, fail, retry=SOON, consumer='its-own'))
    async with running_actors(nats.url, old) as running, Events(event).connect(nats.url) as conn:
        await conn.emit(event, 'hi', sync=True)
        await until(lambda: running.dead_letters.stored == 1)
    async with running_actors(nats.url, Actors(Actor('new', event, listen))) as running:
        await running.connection.api('CONSUMER.DELETE.told=twice.its-own')
        code, out, _ = await dlq(nats, 'replay', '--all')
        assert (code, 'there is no actor old any more' in out) == (1, True)
        assert len(await lines(nats, 'ls')) == 1
    async with running_actors(nats.url, Actors(Actor('old', event, listen, consumer='its-own'))):
        assert (await dlq(nats, 'replay', '--all'))[0] == 0
        await until(lambda: told)
        assert told == ['hi']


@pytest.mark.parametrize(
    'chosen',
    [('1', '1'), ('--method', 'demo.v1.Words/Ponder', '--method', 'demo.v1.Words', '--proto', WORDS)],
    ids=['by number', 'by method'],
)
async def test_a_letter_that_is_named_twice_is_replayed_once(
    nats: EmbeddedNats, words: Descriptors, chosen: tuple[str, ...]
) -> None:
    handler = Mended()
    async with buried(nats, words, handler, calls=1):
        handler.well = True
        handler.seen.clear()
        assert await dlq(nats, 'replay', *chosen) == (0, '1  demo.v1.Words/Ponder  OK\n', '1 of 1 replayed: 1 OK\n')
        assert len(handler.seen) == 1


async def forge(connection: Connection, subject: str, *, header: bytes = b'', payload: bytes = b'') -> None:
    """Put a letter into the stream, as whoever may publish there can."""
    letter = DeadLetter(
        subject=subject, stream='rpc=demo=v1=Words', sequence=1, actor='ponder', cause=Cause.FAILED, reason='none',
        attempts=1, buried_at=0, header=header, payload=payload,
    )  # fmt: skip
    block, data = letter.encode(max_payload=1 << 20)
    await connection.request(subject_of(subject), data, header=block)


async def test_letters_that_somebody_else_has_written(nats: EmbeddedNats, words: Descriptors) -> None:
    """What they say is neither obeyed by the terminal nor by NATS, and hides no other letter."""
    handler = Mended()
    async with buried(nats, words, handler, calls=1) as running:
        connection = running.connection
        await forge(connection, 'rpc.demo.v1.Words.Ponder', payload=pondering(10**16).SerializeToString())
        await forge(connection, 'rpc.demo.v1.Words.Count', header=b'NATS/1.0\r\nNats-Msg-Id: \x1b[2J\r\n\r\n')
        await forge(connection, '$JS.API.STREAM.PURGE._DEAD')
        code, out, _ = await dlq(nats, 'show', '--proto', WORDS)
        assert (code, out.count('letter ')) == (0, 4)
        assert ('\x1b' in out, r'\x1b[2J' in out) == (False, True)
        assert 'unreadable' in out  # no Duration has so many seconds
        code, out, _ = await dlq(nats, 'replay', '4')
        assert (code, 'its subject is none that an event has' in out) == (1, True)
        assert len(await lines(nats, 'ls')) == 4


async def test_a_rehearsal_does_nothing(nats: EmbeddedNats, words: Descriptors) -> None:
    handler = Mended()
    async with buried(nats, words, handler):
        handler.seen.clear()
        code, out, _ = await dlq(nats, 'replay', '--all', '--dry-run')
        assert (code, out.count('would be replayed')) == (0, 2)
        code, _, err = await dlq(nats, 'drop', '--all', '--dry-run')
        assert (code, err) == (0, '2 would be dropped\n')
        assert handler.seen == []
        assert len(await lines(nats, 'ls')) == 2


async def test_dropping(nats: EmbeddedNats, words: Descriptors) -> None:
    async with buried(nats, words, Mended()):
        code, _, err = await dlq(nats, 'drop', '1')
        assert (code, err) == (0, '1 dropped\n')
        assert [row['letter'] for row in await lines(nats, 'ls')] == [2]
        assert (await dlq(nats, 'drop', '1'))[0::2] == (1, 'natsgate: there is no dead letter 1\n')
        for none in ('0', '-1', '9' * 30):
            assert (await dlq(nats, 'show', none))[0::2] == (1, f'natsgate: there is no dead letter {none}\n')
        assert (await dlq(nats, 'drop', '--all'))[0] == 0
        assert (await dlq(nats, 'ls')) == (0, '', 'no dead letters\n')


async def test_a_plain_event_is_put_back_for_the_actor_that_failed(nats: EmbeddedNats) -> None:
    event, seen, good = Event('told.twice', str), list[Context](), list[str]()
    failing = True

    async def fail(message: str, context: Context) -> None:
        seen.append(context)
        if failing:
            raise ValueError('not yet')

    async def listen(message: str) -> None:
        good.append(message)

    actors = Actors(Actor('failing', event, fail, retry=SOON), Actor('well', event, listen))
    async with running_actors(nats.url, actors) as running, Events(event).connect(nats.url) as conn:
        await conn.emit(event, 'hi', uid='17', sync=True)
        await until(lambda: running.dead_letters.stored == 1)
        (shown,) = await lines(nats, 'show')
        assert (shown['method'], shown['request'], shown['answered']) == ('told.twice', 'hi', False)
        await lines(nats, 'replay', '--method', 'told.twice')
        await until(lambda: running.dead_letters.stored == 2)  # it fails again: nobody heard, so it is kept anew
        failing = False
        seen.clear()
        (end,) = await lines(nats, 'replay', '--all')
        assert end['code'] == 'OK'
        await until(lambda: seen)
        assert seen[0].replayed
        assert seen[0].id.endswith('17')
        assert await lines(nats, 'ls') == []
        assert good == ['hi']


async def test_streaming_calls(nats: EmbeddedNats, words: Descriptors) -> None:
    """What one request asks for can be replayed; what a stream of requests asked for was never stored."""
    well = False

    async def split(request: Any) -> AsyncIterator[Any]:
        if not well:
            raise ValueError('not yet')
        for word in request.text.split():
            yield words_pb2.Word(word=word)

    async def join(messages: Any) -> Any:
        raise ValueError('not yet')

    actors = word_actors(Split=(split, {'retry': SOON}), Join=(join, {'bury_failures': True}))
    async with running_actors(nats.url, actors) as running, running_gateway(nats.url, words) as (_, client):
        stub = words_pb2_grpc.WordsStub(client.channel)
        assert (await stub.Split(words_pb2.SplitRequest(text='a b'), timeout=10).code()).value[0] == Code.UNKNOWN
        assert (await stub.Join(timeout=10).code()).value[0] == Code.UNKNOWN
        await until(lambda: running.dead_letters.stored == 2)
        well = True
        code, out, _ = await dlq(nats, 'replay', '--all', '--output', 'json')
        ends = {row['method']: (row['code'], row['message']) for row in map(json.loads, out.splitlines())}
        assert code == 1
        assert ends['demo.v1.Words/Split'] == ('OK', '')
        assert ends['demo.v1.Words/Join'] == ('FAILED_PRECONDITION', "its caller's messages were never stored")
        assert [row['method'] for row in await lines(nats, 'ls')] == ['demo.v1.Words/Join']


async def test_a_replay_that_is_interrupted(nats: EmbeddedNats, words: Descriptors) -> None:
    """What runs is cancelled, and its letter stays."""

    async def ponder(request: Any, context: Context) -> Any:
        if not context.replayed:
            raise ValueError('not yet')
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    begun, cancelled = asyncio.Event(), asyncio.Event()
    actors = word_actors(Ponder=(ponder, {'bury_failures': True}))
    async with running_actors(nats.url, actors) as running, running_gateway(nats.url, words) as (_, client):
        await client.call('Ponder')
        await until(lambda: running.dead_letters.stored == 1)
        async with program('dlq', 'replay', '--all', '--nats', nats.url) as replay:
            await begun.wait()
            replay.process.send_signal(signal.SIGINT)
            assert await replay.end() == 130
        await asyncio.wait_for(cancelled.wait(), 5)
        assert len(await lines(nats, 'ls')) == 1


async def test_a_user_who_may_not() -> None:
    config = 'authorization { users = [{ user: a, password: b, permissions: { publish: { deny: "$JS.API.>" } } }] }'
    async with EmbeddedNats(config=config) as strict:
        code, out, err = await dlq(strict, 'ls', '--nats-user', 'a', env={'NATSGATE_NATS_PASSWORD': 'b'})
        assert (code, out) == (1, '')
        assert err.splitlines()[-1].startswith('natsgate: $JS.API.STREAM.INFO._DEAD: this user may not ask for it')


@pytest.mark.parametrize(
    ('arguments', 'code', 'part'),
    [
        (('ls',), 1, 'this NATS has no stream _DEAD'),
        (('replay',), 2, 'replay which ones?'),
        (('drop',), 2, 'drop which ones?'),
        (('drop', '1', '--reason', 'unreadable'), 2, 'not both'),
        (('show', '1', '--since', '1h'), 2, 'not both'),
        (('lose',), 2, 'invalid choice'),
        (('ls', 'x'), 2, 'invalid int'),
        (('ls', '--reason', 'bad'), 2, 'one of failed, late'),
        (('ls', '--since', 'soon'), 2, 'a duration'),
        (('ls', '--methd', 'x'), 2, "did you mean '--method'?"),
        (('ls', '--method', 'demo.v1.Words/Pondr', '--proto', WORDS), 2, 'did you mean'),
    ],
)
async def test_errors(nats: EmbeddedNats, arguments: tuple[str, ...], code: int, part: str) -> None:
    ended, out, err = await dlq(nats, *arguments)
    assert (ended, out) == (code, '')
    assert part in err
    assert len(err.splitlines()) == 1


async def test_strangers_in_the_stream_are_passed_over(nats: EmbeddedNats) -> None:
    async with running_actors(nats.url, word_actors()) as running:
        await running.connection.request('_DEAD.x', b'no letter')
        await running.connection.request('_DEAD.x', b'', header=b'NATS/1.0\r\nNatsgate-Dead-Headers: 9999999\r\n\r\n')
        assert await dlq(nats, 'ls') == (0, '', 'no dead letters\n')
