"""Many calls: each answered once, with its own answer, and nothing left behind."""

import asyncio
import gc
from dataclasses import asdict, replace

from demo.v1 import words_pb2
from support import Stack, stack, word_actors

from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

CALLS, AT_ONCE = 10_000, 128


async def left(running: Stack) -> dict[str, int]:
    """What could grow."""
    worker = running.actors.workers[0]
    inside = asdict(replace(await running.gateway.inside(), late=0, strays=0))
    return inside | {
        'worker subscriptions': len(running.actors.connection._client._subs),
        'worker jobs': len(worker.jobs),
        'worker slots': worker.puller.credit.running,
        'tasks here': len(asyncio.all_tasks()),
    }


async def not_grown(running: Stack, before: dict[str, int], timeout: float = 5) -> None:
    """Wait until nothing is left that was not there before."""
    async with asyncio.timeout(timeout):
        while any(count > before[what] for what, count in (await left(running)).items()):
            await asyncio.sleep(0.05)


async def test_10000_calls_at_128_in_flight(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    handled: list[str] = []

    async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        handled.append(request.text)
        return words_pb2.CountResponse(words=int(request.text))

    async with stack(nats, words, word_actors(Count=count), edge=edge) as running:
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
        before = await left(running)
        assert sum(await asyncio.gather(*(caller() for _ in range(AT_ONCE)))) == CALLS
        assert len(handled) == len(set(handled)) == CALLS
        inside = await running.gateway.inside()
        assert (inside.late, inside.strays) == (0, 0)
        gc.collect()
        await not_grown(running, before)
        state = (await running.actors.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']
        assert state['messages'] == 0


async def test_deadlines_leave_nothing_behind(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    """1,000 calls that nobody waits for to the end."""

    async def slow(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
        await asyncio.sleep(0.2)
        return words_pb2.CountResponse()

    async with stack(nats, words, word_actors(Count=slow), edge=edge) as running:
        assert (await running.client.call('Count')).code is Code.OK
        before = await left(running)
        ended = await asyncio.gather(*(running.client.call('Count', timeout=0.1) for _ in range(1000)))
        assert {one.code for one in ended} == {Code.DEADLINE_EXCEEDED}
        await not_grown(running, before, timeout=10)
        assert (await running.client.call('Count')).code is Code.OK
