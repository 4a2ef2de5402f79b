"""Many calls: each answered once, with its own answer, and nothing left behind."""

import asyncio
import gc

from demo.v1 import words_pb2
from support import Stack, stack, until, word_actors

from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

CALLS, AT_ONCE = 10_000, 128


def left(running: Stack) -> dict[str, int]:
    """What could grow."""
    requester, connection = running.serving.requester, running.serving.requester._connection
    worker = running.actors.workers[0]
    return {
        'waiting': requester.waiting,
        'unacknowledged': requester.unacknowledged,
        'subscriptions': len(connection._client._subs),
        'handlers': len(connection._client.handlers),
        'answers': len(connection._answers),
        'in flight': running.serving.gateway.in_flight,
        'worker subscriptions': len(running.actors.connection._client._subs),
        'worker jobs': len(worker.jobs),
        'worker slots': worker.puller.credit.running,
        'tasks': len(asyncio.all_tasks()),
    }


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {what: count for what, count in after.items() if count > before[what]}


async def test_10000_calls_at_128_in_flight(nats: EmbeddedNats, words: Descriptors) -> None:
    handled: list[str] = []

    async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        handled.append(request.text)
        return words_pb2.CountResponse(words=int(request.text))

    async with stack(nats, words, word_actors(Count=count)) as running:
        numbers = iter(range(CALLS))

        async def caller() -> int:
            answered = 0
            for number in numbers:
                ended = await running.client.call('Count', words_pb2.CountRequest(text=str(number)), timeout=60)
                assert ended.code is Code.OK, ended
                assert words_pb2.CountResponse.FromString(ended.data).words == number
                answered += 1
            return answered

        assert (await running.client.call('Count', words_pb2.CountRequest(text='0'))).code is Code.OK
        handled.clear()
        before = left(running)
        assert sum(await asyncio.gather(*(caller() for _ in range(AT_ONCE)))) == CALLS
        assert len(handled) == len(set(handled)) == CALLS
        requester = running.serving.requester
        assert (requester.late, requester.strays) == (0, 0)
        gc.collect()
        await until(lambda: not grown(before, left(running)))
        state = (await running.actors.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']
        assert state['messages'] == 0


async def test_deadlines_leave_nothing_behind(nats: EmbeddedNats, words: Descriptors) -> None:
    """1,000 calls that nobody waits for to the end."""

    async def slow(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        await asyncio.sleep(0.2)
        return words_pb2.CountResponse()

    async with stack(nats, words, word_actors(Count=slow)) as running:
        assert (await running.client.call('Count')).code is Code.OK
        before = left(running)
        ended = await asyncio.gather(*(running.client.call('Count', timeout=0.1) for _ in range(1000)))
        assert {one.code for one in ended} == {Code.DEADLINE_EXCEEDED}
        await until(lambda: not grown(before, left(running)), timeout=10)
        assert (await running.client.call('Count')).code is Code.OK
