"""Events that are buried: what is kept of them, once, and that the worker goes on whatever becomes of it."""

import asyncio
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import Stack, connect, running_actors, running_gateway, stack, until, word_actors

from natsgate.actors import Actor, Actors, Context, Retry, dead_letters
from natsgate.actors.dead_letters import DeadLetters
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, Event, Events, dead_letter, wire
from natsgate.events.connection import Connection
from natsgate.events.dead_letter import Cause, DeadLetter, DeadLetterLimits
from natsgate.events.stored import read_msg
from natsgate.events.streams import StreamOptions
from natsgate.gateway.protos import Descriptors

STREAM, SUBJECT = 'rpc=demo=v1=Words', 'rpc.demo.v1.Words.Ponder'
SOON = Retry(attempts=3, backoff=0.02)
TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'


async def letters(connection: Connection) -> list[DeadLetter]:
    found: list[DeadLetter] = []
    sequence = 1
    while msg := await read_msg(connection, dead_letter.STREAM, seq=sequence, next_by_subj='_DEAD.>'):
        found.append(DeadLetter.decode(msg.subject, msg.header, msg.payload))
        sequence = msg.sequence + 1
    return found


async def first_letter(connection: Connection) -> DeadLetter:
    async with asyncio.timeout(10):
        while not (found := await letters(connection)):
            await asyncio.sleep(0.02)
    assert len(found) == 1
    return found[0]


async def empty(connection: Connection, stream: str = STREAM) -> None:
    async with asyncio.timeout(5):
        while (await connection.api(f'STREAM.INFO.{stream}'))['state']['messages']:
            await asyncio.sleep(0.02)


async def fail(request: Any) -> Any:
    raise ValueError('the ledger is closed')


async def well(running: Stack) -> None:
    assert (await running.client.call('Count', words_pb2.CountRequest(text='a b'))).code is Code.OK


async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


async def test_when_the_attempts_are_spent(nats: EmbeddedNats, words: Descriptors) -> None:
    request = words_pb2.PonderRequest()
    request.time.seconds = 7
    async with stack(nats, words, word_actors(Ponder=(fail, {'retry': SOON}))) as running:
        metadata = (('traceparent', TRACE), ('x-order', '17'), ('x-bin', b'\x00\xff'))
        ended = await running.client.call('Ponder', request, metadata=metadata)
        assert (ended.code, ended.reason) == (Code.UNKNOWN, 'HANDLER_FAILED')
        connection = running.actors.connection
        letter = await first_letter(connection)
        assert (letter.subject, letter.stream, letter.sequence, letter.actor) == (SUBJECT, STREAM, 1, 'ponder')
        assert (letter.cause, letter.attempts) == (Cause.FAILED, 3)
        assert 'ValueError' in letter.reason
        assert 'the ledger is closed' in letter.reason
        assert words_pb2.PonderRequest.FromString(letter.payload) == request
        head = letter.head()
        assert head.id.startswith(SUBJECT)
        assert head.reply.startswith('_REPLY.')
        assert dict(head.metadata).items() >= dict(metadata).items()
        kept = await read_msg(connection, dead_letter.STREAM, seq=1)
        assert kept is not None
        assert f'traceparent: {TRACE}\r\n'.encode() in kept.header
        assert abs(letter.buried_at / 1e6 - kept.time) < 5
        await empty(connection)
        assert (running.actors.dead_letters.stored, running.actors.dead_letters.lost) == (1, 0)


@pytest.mark.parametrize(('options', 'kept'), [({}, 0), ({'bury_failures': True}, 1)])
async def test_a_failure_that_is_answered_at_once(
    nats: EmbeddedNats, words: Descriptors, options: Any, kept: int
) -> None:
    """Its caller knows; who wants it kept all the same says so."""
    async with stack(nats, words, word_actors(Ponder=(fail, options))) as running:
        assert (await running.client.call('Ponder')).reason == 'HANDLER_FAILED'
        await empty(running.actors.connection)
        assert len(await letters(running.actors.connection)) == kept


async def test_statuses_are_answers(nats: EmbeddedNats, words: Descriptors) -> None:
    async def refuse(request: Any, context: Context) -> Any:
        context.abort(Code.NOT_FOUND, 'no')

    async with stack(nats, words, word_actors(Ponder=(refuse, {'bury_failures': True}))) as running:
        assert (await running.client.call('Ponder')).code is Code.NOT_FOUND
        await empty(running.actors.connection)
        assert await letters(running.actors.connection) == []


async def test_when_the_time_is_spent_after_retries(nats: EmbeddedNats, words: Descriptors) -> None:
    async def slow(request: Any, context: Context) -> Any:
        if context.attempt == 1:
            raise ValueError('not yet')
        await asyncio.Event().wait()

    async with stack(nats, words, word_actors(Ponder=(slow, {'retry': SOON}))) as running:
        assert (await running.client.call('Ponder', timeout=0.7)).code is Code.DEADLINE_EXCEEDED
        letter = await first_letter(running.actors.connection)
        assert (letter.cause, letter.attempts) == (Cause.LATE, 2)


async def test_what_expired_in_the_queue_is_not_kept(nats: EmbeddedNats, words: Descriptors) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> Any:
        begun.set()
        await let_go.wait()
        return words_pb2.PonderResponse()

    async with stack(nats, words, word_actors(Ponder=(slow, {'max_jobs': 1}))) as running:
        first = asyncio.create_task(running.client.call('Ponder'))
        await begun.wait()
        assert (await running.client.call('Ponder', timeout=0.2)).code is Code.DEADLINE_EXCEEDED
        let_go.set()
        assert (await first).code is Code.OK
        await empty(running.actors.connection)
        assert await letters(running.actors.connection) == []


async def test_an_event_whose_workers_died(nats: EmbeddedNats, words: Descriptors) -> None:
    """Somebody was given it and never said a word."""
    actors = word_actors(Ponder=(fail, {'ack_wait': 0.3, 'max_attempts': 1}))
    async with running_actors(nats.url, actors):
        pass  # its consumer is there
    async with stack(nats, words, word_actors()) as running:
        silent, taken = await connect(nats.url), asyncio.Event()
        await silent.subscribe(f'{silent.inbox}.taken', lambda *_: taken.set())
        silent.write(f'PUB $JS.API.CONSUMER.MSG.NEXT.{STREAM}.ponder {silent.inbox}.taken 1\r\n1\r\n'.encode())
        call = asyncio.create_task(running.client.call('Ponder'))
        await taken.wait()
        async with running_actors(nats.url, actors):
            assert (await call).reason == 'WORKER_CRASHED'
            letter = await first_letter(silent)
        assert (letter.cause, letter.attempts) == (Cause.CRASHED, 2)
        await silent.close()


async def test_an_event_that_nobody_waits_for(nats: EmbeddedNats) -> None:
    event = Event('told', str)
    actors = Actors(Actor('one', event, fail, retry=SOON), Actor('two', event, fail, retry=Retry(attempts=1)))
    async with running_actors(nats.url, actors) as running, Events(event).connect(nats.url) as conn:
        await conn.emit(event, 'hi', sync=True)
        await until(lambda: running.dead_letters.stored == 2)
        found = {(letter.actor, letter.attempts, letter.payload) for letter in await letters(running.connection)}
        assert found == {('one', 3, b'"hi"'), ('two', 1, b'"hi"')}
        await empty(running.connection, 'told')


async def test_what_nats_gives_up(nats: EmbeddedNats, words: Descriptors) -> None:
    """An operator has limited the consumer to one delivery: the caller is told, and the event is kept."""
    async with stack(nats, words, word_actors(Ponder=(fail, {'retry': SOON}))) as running:
        connection = running.actors.connection
        config = (await connection.api(f'CONSUMER.INFO.{STREAM}.ponder'))['config'] | {'max_deliver': 1}
        body = {'stream_name': STREAM, 'config': config, 'action': 'update'}
        await connection.api(f'CONSUMER.CREATE.{STREAM}.ponder.{SUBJECT}', body)
        ended = await running.client.call('Ponder')
        assert (ended.code, ended.reason) == (Code.INTERNAL, 'WORKER_CRASHED')
        letter = await first_letter(connection)
        assert (letter.cause, letter.attempts, letter.subject) == (Cause.GIVEN_UP, 1, SUBJECT)
        assert letter.head().reply.startswith('_REPLY.')
        await empty(connection)


async def test_a_letter_is_kept_once(nats: EmbeddedNats) -> None:
    """As when its worker dies before the event is terminated, so that another one buries it again."""
    async with running_actors(nats.url, word_actors()) as running:
        store = DeadLetters(running.connection)
        letter = DeadLetter(
            subject=SUBJECT, stream=STREAM, sequence=1, actor='a', cause=Cause.FAILED, reason='x', attempts=1,
            buried_at=5, header=b'', payload=b'payload',
        )  # fmt: skip
        assert await store.store(letter)
        assert await store.store(letter)
        assert await letters(running.connection) == [letter]


async def test_a_stream_that_is_away_is_made_again(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors(Ponder=(fail, {'retry': SOON}), Count=count)) as running:
        await running.actors.connection.api(f'STREAM.DELETE.{dead_letter.STREAM}')
        assert (await running.client.call('Ponder')).reason == 'HANDLER_FAILED'
        await well(running)
        await until(lambda: running.actors.dead_letters.stored == 1, timeout=10)
        assert (await first_letter(running.actors.connection)).cause is Cause.FAILED


async def test_a_stream_that_refuses(nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    """The letter is lost, which is said and counted; nothing waits for it."""
    operator = await connect(nats.url)
    config = dead_letter.stream_config(DeadLetterLimits()) | {'max_msg_size': 10}
    await operator.api(f'STREAM.CREATE.{dead_letter.STREAM}', config)
    async with stack(nats, words, word_actors(Ponder=(fail, {'retry': SOON}), Count=count)) as running:
        assert (await running.client.call('Ponder')).reason == 'HANDLER_FAILED'
        await until(lambda: running.actors.dead_letters.lost == 1)
        assert 'a dead letter is lost' in caplog.text
        await empty(operator)
        await well(running)
    await operator.close()


async def test_a_server_that_has_no_room(words: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    """A worker whose NATS cannot keep dead letters says so, and works."""
    async with (
        EmbeddedNats(config='jetstream { max_file_store: 1MB }') as nats,
        stack(nats, words, word_actors(Count=count)) as running,
    ):
        assert 'dead letters are not kept' in caplog.text
        await well(running)


async def test_a_stream_that_was_made_otherwise(nats: EmbeddedNats, caplog: pytest.LogCaptureFixture) -> None:
    """It could not be made as this worker would: it is there, and that is enough."""
    connection = await connect(nats.url)
    for replicas, said in ((3, True), (1, False), (3, False)):
        caplog.clear()
        options = StreamOptions(replicas=replicas)
        await dead_letters.declare(connection, limits=DeadLetterLimits(), options=options)
        assert ('dead letters are not kept' in caplog.text) is said
    await connection.close()


async def test_a_worker_that_stops_before_a_letter_is_stored(
    nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture
) -> None:
    """The call was answered: it is rather lost to the dead letters than run again by another worker."""
    runs = []

    async def fail_once_more(request: Any) -> Any:
        runs.append(request)
        raise ValueError('no')

    actors = word_actors(Ponder=(fail_once_more, {'bury_failures': True}))
    async with running_gateway(nats.url, words) as (_, client), running_actors(nats.url, actors) as stopping:
        api = stopping.connection.api
        await api(f'STREAM.DELETE.{dead_letter.STREAM}')
        silent = {'name': 'SILENT', 'subjects': [dead_letter.subject_of('>')], 'no_ack': True}
        await api('STREAM.CREATE.SILENT', silent)
        assert (await client.call('Ponder')).reason == 'HANDLER_FAILED'
        stopping.stop()
        await until(lambda: 'a dead letter is lost (its worker stops)' in caplog.text, 10)
        async with running_actors(nats.url, actors) as another:
            await empty(another.connection, 'rpc=demo=v1=Words')
    assert len(runs) == 1


async def test_a_letter_as_large_as_a_message_may_be(nats: EmbeddedNats) -> None:
    """Without the payload it is still known what it was."""
    async with running_actors(nats.url, word_actors()) as running:
        letter = DeadLetter(
            subject='big', stream='big', sequence=1, actor='a', cause=Cause.FAILED, reason='\r\n\u00e4' * 500,
            attempts=1, buried_at=5, header=wire.encode_request(wire.RequestHead(id='x')),
            payload=bytes(running.connection.max_payload - 100),
        )  # fmt: skip
        assert await DeadLetters(running.connection).store(letter)
        kept = await first_letter(running.connection)
        assert (len(kept.payload), kept.size, kept.header) == (0, len(letter.payload), letter.header)
