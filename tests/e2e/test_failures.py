"""The failure table: every row provoked for real, seen by a stock gRPC client."""

import asyncio
import os
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2
from google.rpc import error_details_pb2
from support import Ended, Faults, Stack, connect, program, running_actors, running_gateway, stack, until, word_actors

from natsgate.actors import Actor, Actors, Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, Event, Service
from natsgate.events.event import Limits
from natsgate.events.streams import declare
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Override
from natsgate.testing.faults import stored

COUNT = words_pb2.CountRequest(text='one two three')
PUSHBACK = ('grpc-retry-pushback-ms', '-1')


async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


async def ponder(request: words_pb2.PonderRequest, context: Context) -> words_pb2.PonderResponse:
    await asyncio.sleep(request.time.ToTimedelta().total_seconds())
    return words_pb2.PonderResponse(attempt=context.attempt, worker=os.getpid())


def at_once(ended: Ended, code: Code, reason: str) -> None:
    """The code, the reason in the details, and an answer within a second."""
    assert (ended.code, ended.reason) == (code, reason), ended
    assert ended.seconds < 1, ended


async def test_unknown_method(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with running_gateway(nats.url, words, edge=edge) as (_, client):
        for method in ('/demo.v1.Words/Nothing', '/no.Service/Count', '/', '//', '/demo.v1.Words/Count/'):
            ended = await client.call(method, COUNT)
            at_once(ended, Code.UNIMPLEMENTED, 'UNKNOWN_METHOD')
            assert method in ended.message


async def test_a_request_without_a_message(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with running_gateway(nats.url, words, edge=edge) as (_, client):
        call: Any = client.channel.stream_unary('/demo.v1.Words/Count')(timeout=5)
        await call.done_writing()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_unreadable_request_when_validation_is_on(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with stack(nats, words, word_actors(Count=count), validate=True, edge=edge) as running:
        ended = await running.client.call('Count', b'\xff\xff')
        at_once(ended, Code.INVALID_ARGUMENT, 'UNREADABLE_REQUEST')
        bad = ended.status.detail(error_details_pb2.BadRequest)
        assert bad is not None
        assert bad.field_violations[0].field == 'demo.v1.CountRequest'
        assert running.runs == 0
        assert (await running.client.call('Count', COUNT)).code is Code.OK


async def test_unreadable_event(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """Validation is off by default: the actor finds out, answers, and buries the event. It goes on working."""
    async with stack(nats, words, word_actors(Count=count), edge=edge) as running:
        ended = await running.client.call('Count', b'\xff\xff')
        at_once(ended, Code.INTERNAL, 'EVENT_UNREADABLE')
        assert PUSHBACK in ended.trailing
        assert running.runs == 0
        assert (await running.client.call('Count', COUNT)).code is Code.OK
        await until_empty(running)


async def test_a_request_too_large_for_grpc(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with stack(nats, words, word_actors(Count=count), max_message_size=1000, edge=edge) as running:
        ended = await running.client.call('Count', words_pb2.CountRequest(text='x' * 2000))
        assert ended.code is Code.RESOURCE_EXHAUSTED
        assert '2003' in ended.message
        assert '1000' in ended.message
        assert ended.seconds < 1
        assert (await running.client.call('Count', COUNT)).code is Code.OK


async def test_a_request_too_large_for_nats_headers_counted(words: Descriptors, edge: str) -> None:
    async with (
        EmbeddedNats(config='max_payload: 20KB') as nats,
        stack(nats, words, word_actors(Count=count), edge=edge) as running,
    ):
        fits = words_pb2.CountRequest(text='x' * 19_000)
        assert (await running.client.call('Count', fits)).code is Code.OK
        for size, metadata in ((21_000, ()), (19_000, (('k', 'v' * 3000),))):
            request = words_pb2.CountRequest(text='x' * size)
            ended = await running.client.call('Count', request, metadata=metadata)
            at_once(ended, Code.RESOURCE_EXHAUSTED, 'MESSAGE_TOO_LARGE')
            info = ended.status.detail(error_details_pb2.ErrorInfo)
            assert info is not None
            assert info.metadata['limit'] == '20480'
            assert int(info.metadata['size']) > 20_480
            assert PUSHBACK in ended.trailing
        assert running.runs == 1


async def test_a_response_too_large_for_nats(words: Descriptors, edge: str) -> None:
    async def define(_: Any) -> words_pb2.LookupResponse:
        return words_pb2.LookupResponse(definition='x' * 30_000)

    async with (
        EmbeddedNats(config='max_payload: 20KB') as nats,
        stack(nats, words, word_actors(Lookup=define), edge=edge) as running,
    ):
        ended = await running.client.call('Lookup')
        at_once(ended, Code.RESOURCE_EXHAUSTED, 'MESSAGE_TOO_LARGE')
        await until_empty(running)


async def test_a_request_too_large_for_the_stream(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    limited = Service(words_service_descriptor(), limits=Limits(message_size=1000))
    async with stack(nats, words, Actors(Actor('count', limited['Count'], count)), edge=edge) as running:
        ended = await running.client.call('Count', words_pb2.CountRequest(text='x' * 2000))
        at_once(ended, Code.RESOURCE_EXHAUSTED, 'MESSAGE_TOO_LARGE')
        assert 'DEMO=V1' in ended.message.upper()
        assert (await running.client.call('Count', COUNT)).code is Code.OK


async def test_queue_full(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """Each method has its own limit; what was accepted is still answered."""
    let_go = asyncio.Event()

    async def slow(_: Any) -> words_pb2.CountResponse:
        await let_go.wait()
        return words_pb2.CountResponse(words=1)

    limited = Service(words_service_descriptor(), limits=Limits(messages=3))
    actors = Actors(Actor('count', limited['Count'], slow), Actor('ponder', limited['Ponder'], ponder))
    async with stack(nats, words, actors, edge=edge) as running:
        waiting = [asyncio.create_task(running.client.call('Count', COUNT)) for _ in range(3)]
        await until(lambda: running.runs == 3)
        ended = await running.client.call('Count', COUNT)
        at_once(ended, Code.RESOURCE_EXHAUSTED, 'QUEUE_FULL')
        assert ended.retry_info is not None
        assert ended.retry_info.retry_delay.ToTimedelta().total_seconds() == 1
        assert (await running.client.call('Ponder')).code is Code.OK
        let_go.set()
        assert {(await call).code for call in waiting} == {Code.OK}


async def test_too_many_calls_in_flight(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    let_go = asyncio.Event()

    async def slow(_: Any) -> words_pb2.CountResponse:
        await let_go.wait()
        return words_pb2.CountResponse(words=1)

    async with stack(nats, words, word_actors(Count=slow), max_in_flight=2, edge=edge) as running:
        waiting = [asyncio.create_task(running.client.call('Count', COUNT)) for _ in range(2)]
        await until(lambda: running.runs == 2)
        at_once(await running.client.call('Count', COUNT), Code.RESOURCE_EXHAUSTED, 'TOO_MANY_CALLS')
        let_go.set()
        assert {(await call).code for call in waiting} == {Code.OK}


async def test_nats_away_and_back(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with stack(nats, words, word_actors(Count=count), edge=edge) as running:
        assert (await running.client.call('Count', COUNT)).code is Code.OK
        await nats.kill()
        ended = await running.client.call('Count', COUNT)
        at_once(ended, Code.UNAVAILABLE, 'DISCONNECTED')
        assert ended.retry_info is not None
        await nats.start()
        await until_answered(running)


async def test_a_call_under_way_survives_a_restart_of_nats(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """The event is on disk, the handler goes on, the response goes out after the reconnect."""
    let_go = asyncio.Event()

    async def slow(_: Any) -> words_pb2.CountResponse:
        await let_go.wait()
        return words_pb2.CountResponse(words=7)

    async with stack(nats, words, word_actors(Count=slow), edge=edge) as running:
        call = asyncio.create_task(running.client.call('Count', COUNT))
        await until(lambda: running.runs == 1)
        await nats.kill()
        let_go.set()
        await nats.start()
        ended = await call
        assert (ended.code, words_pb2.CountResponse.FromString(ended.data).words) == (Code.OK, 7)
        assert running.runs == 1
        await until_empty(running)


async def test_a_stream_never_seen(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async with running_gateway(nats.url, words, edge=edge) as (_, client):
        ended = await client.call('Count', COUNT)
        at_once(ended, Code.UNAVAILABLE, 'NO_STREAM')
        assert ended.retry_info is not None


async def test_a_stream_that_was_there_is_waited_for(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """As in an election: the same call goes out again and again, and is run once."""
    async with stack(nats, words, word_actors(Count=count), edge=edge) as running:
        assert (await running.client.call('Count', COUNT)).code is Code.OK
        connection = running.actors.connection
        stream = 'rpc=demo=v1=Words'
        await connection.api(f'STREAM.DELETE.{stream}')
        call = asyncio.create_task(running.client.call('Count', COUNT))
        await asyncio.sleep(0.3)
        assert not call.done()
        await running.actors.register()
        assert (await call).code is Code.OK
        assert running.runs == 2


async def test_an_interest_stream_without_actors(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """The stream of a plain event takes a call and drops it when no actor is registered; the caller is told."""
    connection = await connect(nats.url)
    await declare(connection, [Event('count-them', bytes)])
    overrides = {'demo.v1.Words/Count': Override(event='count-them')}
    async with running_gateway(nats.url, words, overrides=overrides, edge=edge) as (_, client):
        at_once(await client.call('Count', COUNT), Code.UNAVAILABLE, 'NO_WORKER')
    await connection.close()


async def test_a_publish_acknowledgement_lost_once(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """The call goes out again under its id, is stored once, and is run once."""
    let_go = asyncio.Event()

    async def slow(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        await let_go.wait()
        return await count(request)

    async with (
        Faults(nats.url) as faults,
        stack(nats, words, word_actors(Count=slow), gateway_url=faults.url, edge=edge) as running,
    ):
        lost = faults.drop(stored, times=1)
        call = asyncio.create_task(running.client.call('Count', COUNT))
        await until(lambda: lost.met)
        await running.gateway.becomes(lambda inside: not inside.unacknowledged)
        let_go.set()
        assert (await call).code is Code.OK
        assert running.runs == 1


@pytest.mark.parametrize(('method', 'code'), [('Ponder', Code.UNKNOWN), ('Count', Code.UNAVAILABLE)])
async def test_publish_acknowledgements_lost_for_good(
    nats: EmbeddedNats, words: Descriptors, method: str, code: Code, edge: str
) -> None:
    """What may have run is UNAVAILABLE, which invites a retry, only where running it twice does no harm."""

    async def never(_: Any) -> Any:
        await asyncio.sleep(30)

    actors = word_actors(**{method: never})
    async with (
        Faults(nats.url) as faults,
        stack(nats, words, actors, gateway_url=faults.url, patience=2.5, edge=edge) as running,
    ):
        lost = faults.drop(stored)
        ended = await running.client.call(method)
        assert (ended.code, ended.reason) == (code, 'PUBLISH_UNCERTAIN')
        assert 2.4 < ended.seconds < 3.5
        assert (PUSHBACK in ended.trailing) == (code is Code.UNKNOWN)
        assert lost.met >= 2
        assert running.runs == 1


async def test_a_response_before_its_acknowledgement_is_success(
    nats: EmbeddedNats, words: Descriptors, edge: str
) -> None:
    async with (
        Faults(nats.url) as faults,
        stack(nats, words, word_actors(Count=count), gateway_url=faults.url, edge=edge) as running,
    ):
        faults.drop(stored)
        ended = await running.client.call('Count', COUNT)
        assert ended.code is Code.OK
        assert ended.seconds < 1


async def test_deadline_in_the_queue(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """Nobody works: the caller is told at its deadline, and a worker that starts later does not run the call."""
    connection = await connect(nats.url)
    await declare(connection, [word_actors(Count=count).get('count').event])  # type: ignore[union-attr]
    async with running_gateway(nats.url, words, edge=edge) as (gateway, client):
        ended = await client.call('Count', COUNT, timeout=0.3)
        assert ended.code is Code.DEADLINE_EXCEEDED
        assert 0.29 < ended.seconds < 0.8
        await gateway.becomes(lambda inside: not inside.waiting)  # its deadline began when the call had reached it
        async with running_actors(nats.url, word_actors(Count=count)) as actors:
            assert (await client.call('Count', COUNT)).code is Code.OK
            assert actors.workers[0].runs == 1
    await connection.close()


async def test_deadline_in_the_handler(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """The handler is cancelled at the deadline, and sees how much time it has."""
    seen: list[Any] = []

    async def slow(_: Any, context: Context) -> Any:
        seen.append(context.time_remaining())
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append('cancelled')
            raise

    async with stack(nats, words, word_actors(Count=slow), edge=edge) as running:
        ended = await running.client.call('Count', COUNT, timeout=0.4)
        assert ended.code is Code.DEADLINE_EXCEEDED
        await until(lambda: len(seen) == 2)
        assert 0.2 < seen[0] < 0.41
        assert seen[1] == 'cancelled'
        await until_empty(running)


async def test_deadline_of_the_method_and_of_the_gateway(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """The least of the client's, the method's and the gateway's deadline wins; the gateway answers with details."""
    overrides = {'demo.v1.Words/Ponder': Override(timeout=0.3)}
    request = words_pb2.PonderRequest()
    request.time.FromSeconds(30)
    async with stack(nats, words, word_actors(Ponder=ponder), overrides=overrides, timeout=5, edge=edge) as running:
        ended = await running.client.call('Ponder', request, timeout=None)
        assert (ended.code, ended.reason) == (Code.DEADLINE_EXCEEDED, 'DEADLINE')
        assert 0.29 < ended.seconds < 0.8
    async with stack(nats, words, word_actors(Ponder=ponder), timeout=0.3, edge=edge) as running:
        ended = await running.client.call('Ponder', request, timeout=10)
        assert (ended.code, ended.reason) == (Code.DEADLINE_EXCEEDED, 'DEADLINE')
        assert 0.29 < ended.seconds < 0.8


async def test_a_status_with_details(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async def lookup(request: words_pb2.LookupRequest, context: Context) -> Any:
        context.send_initial_metadata((('x-first', 'one'),))
        context.set_trailing_metadata((('x-last-bin', b'\x00\xff'),))
        resource = error_details_pb2.ResourceInfo(resource_type='word', resource_name=request.word)
        context.abort(Code.NOT_FOUND, 'no wörd, 100 %\n', [resource])

    async with stack(nats, words, word_actors(Lookup=lookup), edge=edge) as running:
        ended = await running.client.call('Lookup', words_pb2.LookupRequest(word='x'))
        assert (ended.code, ended.message) == (Code.NOT_FOUND, 'no wörd, 100 %\n')
        resource = ended.status.detail(error_details_pb2.ResourceInfo)
        assert resource is not None
        assert resource.resource_name == 'x'
        assert ('x-first', 'one') in ended.initial
        assert ('x-last-bin', b'\x00\xff') in ended.trailing
        assert ended.seconds < 1


async def test_any_other_exception(
    nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture, edge: str
) -> None:
    """The text stays in the worker's log."""

    async def fail(_: Any) -> Any:
        raise ValueError('the password is swordfish')

    def leave(_: Any) -> Any:
        raise SystemExit(3)

    async with stack(nats, words, word_actors(Count=fail, Lookup=leave), edge=edge) as running:
        for method in ('Count', 'Lookup'):
            ended = await running.client.call(method)
            at_once(ended, Code.UNKNOWN, 'HANDLER_FAILED')
            assert 'swordfish' not in str(ended)
        assert 'swordfish' in caplog.text
        await until_empty(running)


@pytest.mark.parametrize('returned', [None, 5, words_pb2.LookupResponse()])
async def test_a_handler_that_returns_something_else(
    nats: EmbeddedNats, words: Descriptors, returned: Any, edge: str
) -> None:
    async def wrong(_: Any) -> Any:
        return returned

    async with stack(nats, words, word_actors(Count=wrong), edge=edge) as running:
        at_once(await running.client.call('Count', COUNT), Code.INTERNAL, 'RESPONSE_UNREADABLE')


@pytest.mark.parametrize(('method', 'code'), [('Ponder', Code.INTERNAL), ('Count', Code.UNAVAILABLE)])
async def test_a_call_that_kills_each_worker(
    nats: EmbeddedNats, words: Descriptors, method: str, code: Code, edge: str
) -> None:
    """After three workers the call is given up: UNAVAILABLE only where running it once more does no harm."""
    async with running_gateway(nats.url, words, edge=edge) as (_, client):
        arguments = ('work', 'killers:KILLERS', '--nats', nats.url)
        env = {
            'PYTHONPATH': os.pathsep.join([os.path.dirname(words_pb2.__file__) + '/../..', os.path.dirname(__file__)])
        }
        calling: asyncio.Task[Ended] | None = None
        for _attempt in range(3):
            async with program(*arguments, env=env) as worker:
                await worker.says('working')
                calling = calling or asyncio.create_task(client.call(method, timeout=60))
                assert await asyncio.wait_for(worker.process.wait(), 20) == -9
        async with program(*arguments, env=env) as worker:
            assert calling is not None
            ended = await calling
            assert (ended.code, ended.reason) == (code, 'WORKER_CRASHED')
            assert (PUSHBACK in ended.trailing) == (code is Code.INTERNAL)
            info = ended.status.detail(error_details_pb2.ErrorInfo)
            assert info is not None
            assert info.metadata['attempts'] == '3'
            assert worker.process.returncode is None


async def until_empty(running: Stack) -> None:
    """Wait until the service's stream keeps nothing: all is acknowledged or buried."""
    async with asyncio.timeout(5):
        while (await running.actors.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']['messages']:
            await asyncio.sleep(0.02)


async def until_answered(running: Stack) -> None:
    """Wait until a call succeeds again; until then each fails with UNAVAILABLE."""
    async with asyncio.timeout(15):
        while (ended := await running.client.call('Count', COUNT)).code is not Code.OK:
            assert ended.code is Code.UNAVAILABLE, ended
            await asyncio.sleep(0.05)


def words_service_descriptor() -> Any:
    return words_pb2.DESCRIPTOR.services_by_name['Words']


async def test_a_server_that_has_lost_its_streams(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """Kept in memory, or removed by hand: the worker declares them again, and calls go on."""
    async with stack(nats, words, word_actors(Count=count), edge=edge) as running:
        assert (await running.client.call('Count', COUNT)).code is Code.OK
        await running.actors.connection.api('STREAM.DELETE.rpc=demo=v1=Words')

        async def answered() -> bool:
            return (await running.client.call('Count', COUNT, timeout=1)).code is Code.OK

        async with asyncio.timeout(10):
            while not await answered():
                await asyncio.sleep(0.05)
