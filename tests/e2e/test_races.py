"""Races and rare turns, each of which once lost a call, a slot or an answer."""

import asyncio
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import Faults, connect, running_actors, running_gateway, stack, until, word_actors, words_service
from test_hostile_frames import by_hand

from natsgate.actors import Actor, Actors
from natsgate.actors import worker as worker_module
from natsgate.events import Code, Event, Events, StatusError
from natsgate.events.frames import FrameKind, encode
from natsgate.events.status import Status
from natsgate.events.subjects import cancel_subject
from natsgate.testing.faults import frames, responses

Word, Split = words_pb2.Word, words_pb2.SplitRequest
COUNT = words_pb2.CountRequest(text='a b')


async def count(request):
    return words_pb2.CountResponse(words=2)


@pytest.mark.parametrize('what', ['trailing', 'details'])
@pytest.mark.parametrize('method', ['Count', 'Split'])
async def test_status_that_cannot_travel(nats, words, what, method, edge):
    async def unary(request):
        if what == 'trailing':
            raise StatusError(Status(Code.NOT_FOUND, 'x'), trailing=(('X Bad', 'é'),))
        raise StatusError(Status(Code.NOT_FOUND, 'x' * 5000, b'\xff\xff'))

    async def server(request):
        await unary(request)
        yield

    async with stack(
        nats, words, word_actors(**{method: unary if method == 'Count' else server}), edge=edge
    ) as running:
        ended = await running.client.call(method, COUNT if method == 'Count' else Split(text='a'), timeout=10)
        assert running.runs == 1, (running.runs, ended)
        assert ended.seconds < 1
        assert not running.actors.workers[0].jobs


async def test_empty_cancel(nats):
    event = Event('ev', bytes).with_response(bytes)
    got = []

    async def handler(data):
        got.append(data)
        return b''

    async with Events(event).connect(nats.url) as conn:
        await conn.register()
        async with running_actors(nats.url, Actors(Actor('a', event, handler))):
            await asyncio.sleep(0.5)
            conn.connection.write(b'PUB %b 0\r\n\r\n' % cancel_subject('ev').encode())
            await conn.connection.synced()
            await asyncio.sleep(0.1)
            await conn.emit(event, b'1', sync=True)
            await asyncio.sleep(0.5)
            assert got == [b'1']


async def test_two_events_on_one_connection(nats):
    service = words_service()

    async def split(request):
        await asyncio.sleep(0.3)
        yield Word(word='a')

    connection = await connect(nats.url)
    async with running_actors(nats.url, word_actors(Split=split)):
        events = Events(service['Split'])
        async with events.connect(connection, close=False) as first, events.connect(connection, close=False):
            assert [w.word async for w in first.stream(service['Split'], Split(text='a'), timeout=5)] == ['a']
        async with Events(service['Split']).connect(connection, close=False) as third:
            assert [w.word async for w in third.stream(service['Split'], Split(text='a'), timeout=5)] == ['a']
    await connection.close()


async def test_sequential(nats):
    service = words_service()

    async def split(request):
        await asyncio.sleep(0.3)
        yield Word(word='a')

    connection = await connect(nats.url)
    async with running_actors(nats.url, word_actors(Split=split)):
        async with Events(service['Split']).connect(connection, close=False):
            pass
        before = len(connection._client.handlers), len(connection.on_connected), len(connection.on_disconnected)
        async with Events(service['Split']).connect(connection, close=False) as third:
            assert [w.word async for w in third.stream(service['Split'], Split(text='a'), timeout=5)] == ['a']
        after = len(connection._client.handlers), len(connection.on_connected), len(connection.on_disconnected)
        assert before == after
    await connection.close()


async def test_silent_then_awake(nats, words, edge):
    """An actor that stands still for 6 s before the commit and wakes up is not told gone; the call does not hang."""
    runs = []

    async def split(request):
        runs.append(1)
        if len(runs) == 1:
            await asyncio.sleep(30)
        yield Word(word='a')

    async with (
        Faults(nats.url) as faults,
        running_actors(faults.url, word_actors(Split=split)) as actors,
        running_gateway(nats.url, words, timeout=30, edge=edge) as (_, client),
    ):
        call = words_pb2_grpc.WordsStub(client.channel).Split(Split(text='a'))  # no deadline
        await until(lambda: runs)
        # the worker's pings do not arrive for a while
        links = actors.workers[0]._calls.links
        tick, links._tick = links._tick, lambda: links._timer and None
        links._timer.cancel()
        await asyncio.sleep(6.5)
        links._tick = tick
        tick()
        async with asyncio.timeout(15):
            try:
                assert [w.word async for w in call] == ['a']
            except grpc.aio.AioRpcError as error:
                print(error.details())
                raise


async def test_gateway_away_meanwhile(nats, words, edge):
    """The actor commits while the gateway is away for longer than 3 s: the call ends."""
    go = asyncio.Event()

    async def split(request):
        await go.wait()
        yield Word(word='a')
        await asyncio.sleep(30)

    async with (
        Faults(nats.url) as faults,
        running_actors(nats.url, word_actors(Split=split)) as actors,
        running_gateway(faults.url, words, timeout=1, edge=edge) as (gateway, client),
    ):
        call = words_pb2_grpc.WordsStub(client.channel).Split(Split(text='a'))
        await until(lambda: actors.workers[0].jobs)
        await asyncio.sleep(1.2)
        faults.kill()
        await gateway.becomes(lambda inside: not inside.connected)
        go.set()
        await asyncio.sleep(4)
        await faults.heal()
        await gateway.becomes(lambda inside: inside.connected, 10)
        async with asyncio.timeout(10):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                _ = [w.word async for w in call]
        assert raised.value.code() is not grpc.StatusCode.OK
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_given_back_with_slow_cleanup(nats, words, edge):
    runs = []

    async def split(request):
        runs.append(1)
        if len(runs) == 1:
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.sleep(1.0)
        yield Word(word='a')

    async with stack(nats, words, word_actors(Split=split), edge=edge) as running:
        call = words_pb2_grpc.WordsStub(running.client.channel).Split(Split(text='a'), timeout=20)
        await until(lambda: runs)
        worker = running.actors.workers[0]
        (job,) = worker.jobs.values()
        # its caller is silent for it: given back
        job.exchange.on_silence()
        await asyncio.sleep(0.1)
        got = [w.word async for w in call]
        assert got == ['a'], got
        await until(lambda: not worker.jobs)
        assert worker.puller.credit.running == 0


async def test_stream_made_anew(nats, words, edge):
    """The same sequence again, while the first job of it still runs."""
    hold = asyncio.Event()
    begun = []

    async def handler(request):
        begun.append(1)
        await hold.wait()
        return words_pb2.CountResponse(words=2)

    async with stack(nats, words, word_actors(Count=handler), edge=edge) as running:
        worker = running.actors.workers[0]
        first = asyncio.create_task(running.client.call('Count', COUNT, timeout=30))
        await until(lambda: len(begun) == 1)
        await running.actors.connection.api('STREAM.DELETE.rpc=demo=v1=Words')
        await asyncio.sleep(3)
        second = asyncio.create_task(running.client.call('Count', COUNT, timeout=30))
        await until(lambda: len(begun) == 2, 20)
        hold.set()
        assert (await first).code is Code.OK
        assert (await second).code is Code.OK
        await asyncio.sleep(0.2)
        assert worker.puller.credit.running == 0
        assert not worker.jobs


async def test_surrogate(nats):
    event = Event('ev', dict[str, int]).with_response(bytes)

    async def handler(data):
        return b'ok'

    raw = Event('ev', bytes).with_response(bytes)
    async with Events(raw).connect(nats.url) as conn:
        await conn.register()
        async with running_actors(nats.url, Actors(Actor('a', event, handler, max_jobs=2))) as actors:
            for _ in range(3):
                answer = await conn.ask(raw, rb'{"\ud800":"x"}', timeout=3)
                print(answer.status)
                assert answer.status.code is Code.INTERNAL
            assert actors.workers[0].puller.credit.running == 0
            assert (await conn.ask(raw, b'{"a":1}', timeout=3)).payload == b'ok'


async def test_listener_and_actor(nats):
    event = Event('ev', bytes).with_response(bytes)
    heard = Event('ev', bytes)
    ended = []

    async def answer(data):
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            ended.append('answer cancelled')
            raise
        return b''

    async def listen(data):
        try:
            await asyncio.sleep(0.3)
            ended.append('listened')
        except asyncio.CancelledError:
            ended.append('listener cancelled')
            raise

    async with Events(event).connect(nats.url) as conn:
        await conn.register()
        async with running_actors(nats.url, Actors(Actor('a', event, answer), Actor('l', heard, listen))) as actors:
            asking = asyncio.create_task(conn.request(event, b'', timeout=10))
            await until(lambda: actors.workers and all(w.jobs for w in actors.workers))
            await asyncio.sleep(0.6)
            asking.cancel()
            await asyncio.sleep(0.3)
            assert sorted(ended) == ['answer cancelled', 'listened']


async def test_listener_is_not_cancelled(nats):
    event = Event('ev', bytes).with_response(bytes)
    heard = Event('ev', bytes)
    ended = []

    async def answer(data):
        await asyncio.sleep(5)
        return b''

    async def listen(data):
        await asyncio.sleep(0.3)
        ended.append('listened')

    async with Events(event).connect(nats.url) as conn:
        await conn.register()
        async with running_actors(nats.url, Actors(Actor('a', event, answer), Actor('l', heard, listen))) as actors:
            asking = asyncio.create_task(conn.request(event, b'', timeout=10))
            await until(lambda: actors.workers and all(w.jobs for w in actors.workers))
            asking.cancel()
            await asyncio.sleep(0.6)
            assert ended == ['listened']


async def test_close_from_an_actor(nats, words, edge):
    async with by_hand(nats, words, edge) as (actor, call):
        actor.say(encode(0, FrameKind.ACCEPT, 0, 0))
        actor.say(encode(1, FrameKind.CLOSE, 0))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            _ = [word async for word in call]
        print(raised.value.details())
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE, raised.value


async def test_withdrawn_duplicate(nats, words):
    """A second request of a taken id, cancelled at once, does not delete the first from the queue."""
    service = words_service()
    event = service['Split']
    async with Events(event).connect(nats.url) as one, Events(event).connect(nats.url) as two:
        await one.register()
        first = one.stream(event, Split(text='a'), uid='x', timeout=10)
        await until(lambda: not one._requester.unacknowledged)
        second = two.stream(event, Split(text='a'), uid='x', timeout=10)
        await second.aclose()
        await asyncio.sleep(0.5)
        state = (await one.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']
        assert state['messages'] == 1
        await first.aclose()


@asynccontextmanager
async def slow_split(nats, words, edge, *, seconds):
    """Faults before the gateway, the actors, the gateway and a stub; Split gives one word, at first after a while."""

    async def split(request, context):
        if context.attempt == 1:
            await asyncio.sleep(seconds)
        yield Word(word='a')

    async with (
        Faults(nats.url) as faults,
        running_actors(nats.url, word_actors(Split=split)) as actors,
        running_gateway(faults.url, words, edge=edge) as (gateway, client),
    ):
        yield faults, actors, gateway, words_pb2_grpc.WordsStub(client.channel)


async def test_gateway_blip(nats, words, edge):
    async with slow_split(nats, words, edge, seconds=1) as (faults, actors, gateway, stub):
        call = stub.Split(Split(text='a'), timeout=20)
        await until(lambda: actors.workers[0].jobs)
        faults.kill()
        await gateway.becomes(lambda inside: not inside.connected)
        await asyncio.sleep(2.5)
        await faults.heal()
        await gateway.becomes(lambda inside: inside.connected, 10)
        try:
            got = [w.word async for w in call]
        except grpc.aio.AioRpcError as error:
            got = error.code(), error.details()
        assert got == ['a'], got


async def test_short_gateway_blip(nats, words, edge):
    """The gateway loses NATS for a moment before the commit."""

    async with slow_split(nats, words, edge, seconds=4) as (faults, actors, _, stub):
        call = stub.Split(Split(text='a'), timeout=20)
        await until(lambda: actors.workers[0].jobs)
        before = faults.accepted
        faults.cut()
        await until(lambda: faults.accepted > before)  # it has come back
        try:
            got = [w.word async for w in call]
        except grpc.aio.AioRpcError as error:
            got = error.code(), error.details()
        assert got == ['a'], got


async def test_response_lost_with_the_connection(nats, words, edge):
    """NATS has handed it to a connection that broke: it is asked for again."""
    async with (
        Faults(nats.url) as faults,
        running_actors(nats.url, word_actors(Count=count)) as actors,
        running_gateway(faults.url, words, edge=edge) as (_, client),
    ):
        lost = faults.drop(responses)
        call = asyncio.create_task(client.call('Count', COUNT, timeout=10))
        await until(lambda: lost.met)
        await faults.heal()
        faults.cut()
        ended = await call
        assert (ended.code, ended.seconds < 5) == (Code.OK, True), ended
        assert actors.workers[0].runs == 1


async def test_accept_frame_that_is_lost(nats, words, edge):
    """The call is not committed: another attempt takes it, unseen."""

    async with slow_split(nats, words, edge, seconds=3) as (faults, _, _, stub):
        lost = faults.drop(frames, times=1)
        call = stub.Split(Split(text='a'), timeout=20)
        assert [word.word async for word in call] == ['a']
        assert lost.met == 1


async def test_large_initial_metadata(nats, words, edge):
    other = asyncio.Event()

    async def split(request, context):
        if request.text == 'evil':
            context.send_initial_metadata([('a', 'x' * 8_400_000)])
        yield Word(word='a')
        await other.wait()

    async with stack(nats, words, word_actors(Split=split), edge=edge) as running:
        stub = words_pb2_grpc.WordsStub(running.client.channel)
        good = stub.Split(Split(text='good'), timeout=20)
        assert (await good.read()).word == 'a'
        bad = stub.Split(Split(text='evil'), timeout=20)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await bad.read()
        assert raised.value.code() is not grpc.StatusCode.OK
        other.set()
        assert (await good.read()) is grpc.aio.EOF
        assert (await good.code()) is grpc.StatusCode.OK


async def test_handler_that_ignores_its_deadline(nats, words, monkeypatch, edge):
    monkeypatch.setattr(worker_module, 'CANCELLED_WITHIN', 0.2)
    let_go = asyncio.Event()

    async def handler(request):
        while not let_go.is_set():
            with suppress(asyncio.CancelledError):
                await let_go.wait()

    async with stack(nats, words, word_actors(Count=(handler, {'max_jobs': 1})), edge=edge) as running:
        await running.client.call('Count', COUNT, timeout=0.3)
        await until(lambda: running.actors.workers[0].puller.credit.running == 0)
        let_go.set()


@pytest.mark.parametrize('method', ['Count', 'Split'])
async def test_what_cannot_be_sent(nats, words, method, edge):
    """INTERNAL, RESPONSE_UNREADABLE, as the table has it, for a streaming call as well."""

    async def unary(request):
        return Word(word='a')

    async def server(request):
        yield Split()

    async with stack(
        nats, words, word_actors(**{method: unary if method == 'Count' else server}), edge=edge
    ) as running:
        ended = await running.client.call(method, COUNT if method == 'Count' else Split(text='a'), timeout=10)
        assert (ended.code, ended.reason) == (Code.INTERNAL, 'RESPONSE_UNREADABLE'), ended


async def test_not_told_to_repeat_what_may_have_run(nats, words, edge):
    """The only worker dies with a call: what was published while it lived is not called NO_WORKER."""
    from natsgate.gateway.routes import Override

    ran = []

    async def handler(request):
        ran.append(1)
        await asyncio.sleep(60)

    async with (
        running_gateway(nats.url, words, overrides={'demo.v1.Words': Override(grace=0.5)}, edge=edge) as (_, client),
        Faults(nats.url) as faults,
        running_actors(faults.url, word_actors(Ponder=handler)),
    ):
        await asyncio.sleep(1.6)
        calling = asyncio.create_task(client.call('Ponder', timeout=15))
        await until(lambda: ran)
        faults.kill()
        ended = await calling
        assert (ended.code, ended.reason) == (Code.INTERNAL, 'WORKER_CRASHED')
        assert ('grpc-retry-pushback-ms', '-1') in ended.trailing
