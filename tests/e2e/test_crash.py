"""Workers that die, workers that are blocked, workers that stop."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import grpc
from demo.v1 import words_pb2
from support import program, running_actors, running_gateway, stack, until, word_actors

from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

ENV = {'PYTHONPATH': str(Path(words_pb2.__file__).parent.parent.parent)}


def pondering(seconds: float) -> words_pb2.PonderRequest:
    request = words_pb2.PonderRequest()
    request.time.FromMilliseconds(int(seconds * 1000))
    return request


async def test_a_killed_workers_calls_are_answered_by_another(
    nats: EmbeddedNats, words: Descriptors, edge: str
) -> None:
    """Within 3 s of the kill, by default. Nothing is lost, nothing is answered twice."""
    arguments = ('work', 'natsgate.command.demo.actors:ACTORS', '--nats', nats.url)
    async with running_gateway(nats.url, words, edge=edge) as (running, client), program(*arguments, env=ENV) as first:
        await first.says('working')
        calls = [asyncio.create_task(client.call('Ponder', pondering(3), timeout=20)) for _ in range(10)]
        await first.says('pondering')
        async with program(*arguments, env=ENV) as second:
            await second.says('working')
            assert first.process.returncode is None
            first.process.kill()
            killed = time.monotonic()
            ended = await asyncio.gather(*calls)
            assert time.monotonic() - killed < 3 + 3
            answers = [words_pb2.PonderResponse.FromString(one.data) for one in ended]
            assert {one.code for one in ended} == {Code.OK}
            assert {(answer.attempt, answer.worker) for answer in answers} == {(2, second.pid)}
        assert (await running.inside()).late == 0


async def test_a_plain_handler_that_blocks_for_10_seconds_runs_once(
    nats: EmbeddedNats, words: Descriptors, edge: str
) -> None:
    """Five times the silence after which an event goes elsewhere; another worker stands by."""
    runs: list[int] = []

    def block(_: Any) -> words_pb2.PonderResponse:
        runs.append(1)
        time.sleep(10)
        return words_pb2.PonderResponse(attempt=len(runs))

    actors = word_actors(Ponder=block)
    async with stack(nats, words, actors, edge=edge) as running, running_actors(nats.url, actors):
        ended = await running.client.call('Ponder', timeout=20)
    assert ended.code is Code.OK
    assert len(runs) == 1


async def test_a_worker_that_is_stopped_finishes_what_runs(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    arguments = ('work', 'natsgate.command.demo.actors:ACTORS', '--nats', nats.url)
    async with running_gateway(nats.url, words, edge=edge) as (_, client), program(*arguments, env=ENV) as worker:
        await worker.says('working')
        call = asyncio.create_task(client.call('Ponder', pondering(1)))
        await worker.says('pondering')
        worker.stop()
        assert await worker.end() == 0
        ended = await call
        assert words_pb2.PonderResponse.FromString(ended.data).attempt == 1


async def test_a_worker_that_is_stopped_gives_back_what_does_not_end(
    nats: EmbeddedNats, words: Descriptors, edge: str
) -> None:
    arguments = ('work', 'natsgate.command.demo.actors:ACTORS', '--nats', nats.url, '--drain-timeout', '300ms')
    async with running_gateway(nats.url, words, edge=edge) as (_, client), program(*arguments, env=ENV) as first:
        await first.says('working')
        call = asyncio.create_task(client.call('Ponder', pondering(2), timeout=20))
        await first.says('pondering')
        async with program(*arguments[:-2], env=ENV) as second:
            await second.says('working')
            first.stop()
            assert await first.end() == 0
            await second.says('pondering', timeout=1)  # at once, not after the silence
            assert words_pb2.PonderResponse.FromString((await call).data).worker == second.pid


async def test_a_gateway_that_is_stopped_finishes_its_calls(nats: EmbeddedNats, words: Descriptors) -> None:
    let_go = asyncio.Event()

    async def slow(_: Any) -> words_pb2.CountResponse:
        await let_go.wait()
        return words_pb2.CountResponse(words=1)

    proto = os.path.join(os.path.dirname(__file__), '../../protos/demo/v1/words.proto')
    arguments = ('serve', '--proto', proto, '--nats', nats.url, '--listen', '127.0.0.1:0', '--drain-delay', '0')
    async with running_actors(nats.url, word_actors(Count=slow)) as actors, program(*arguments) as gateway:
        address = (await gateway.says('serving')).rpartition(' on ')[2]
        async with grpc.aio.insecure_channel(address) as channel:
            call: Any = channel.unary_unary('/demo.v1.Words/Count')(b'', timeout=10)
            await until(lambda: actors.workers[0].runs)
            gateway.stop()
            await asyncio.sleep(0.2)
            let_go.set()
            assert words_pb2.CountResponse.FromString(await call).words == 1
        assert await gateway.end() == 0
