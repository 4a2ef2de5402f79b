"""Limits: of an actor, of a worker; what is slow does not hold up what is not."""

import asyncio
import time
from collections import Counter
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import Client, running_actors, running_gateway, stack, until, word_actors

from natsgate.actors import Actors, ConnectedActors
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, ContractError
from natsgate.gateway.protos import Descriptors

COUNT = words_pb2.CountRequest(text='to be')
SLOW, MEASURED, AT_ONCE = 200, 400, 4
MARGIN = 0.25
"""Seconds. It is 50 ms that are promised, on a machine that does nothing else meanwhile."""


class Sleepers:
    """Handlers of Ponder that go on until they are let go, and those of Count that end at once."""

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.running: Counter[str] = Counter()
        self.most = 0

    async def ponder(self, request: Any) -> words_pb2.PonderResponse:
        self._begin('ponder')
        await self.let_go.wait()
        self.running['ponder'] -= 1
        return words_pb2.PonderResponse()

    async def count(self, request: Any) -> words_pb2.CountResponse:
        self._begin('count')
        await asyncio.sleep(0)
        self.running['count'] -= 1
        return words_pb2.CountResponse(words=2)

    def _begin(self, name: str) -> None:
        self.running[name] += 1
        self.most = max(self.most, self.running.total())

    def actors(self, **options: Any) -> Actors:
        return word_actors(Ponder=(self.ponder, options), Count=(self.count, options))


async def p99(client: Client) -> float:
    """Of the times that MEASURED calls take, AT_ONCE at a time."""
    times: list[float] = []

    async def calling() -> None:
        while len(times) < MEASURED:
            began = time.perf_counter()
            assert (await client.call('Count', COUNT)).code is Code.OK
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(calling() for _ in range(AT_ONCE)))
    return sorted(times)[len(times) * 99 // 100]


async def test_200_that_sleep_do_not_delay_another_method(nats: EmbeddedNats, words: Descriptors) -> None:
    sleepers = Sleepers()
    async with stack(nats, words, sleepers.actors(max_jobs=SLOW)) as running:
        await p99(running.client)  # everything is warm then
        alone = await p99(running.client)
        sleeping = [asyncio.create_task(running.client.call('Ponder', timeout=60)) for _ in range(SLOW)]
        await until(lambda: sleepers.running['ponder'] == SLOW, 20)
        beside = await p99(running.client)
        sleepers.let_go.set()
        assert {ended.code for ended in await asyncio.gather(*sleeping)} == {Code.OK}
    print(f'\np99: {alone * 1e3:.1f} ms alone, {beside * 1e3:.1f} ms beside {SLOW} that sleep')
    assert beside < alone + MARGIN


async def test_a_slow_method_does_not_get_all_slots_of_the_worker(nats: EmbeddedNats, words: Descriptors) -> None:
    """Of ten, nine at most: the other method goes on with the one that is its own."""
    sleepers = Sleepers()
    async with (
        limited(nats, sleepers.actors(), 10) as actors,
        running_gateway(nats.url, words) as (_, client),
    ):
        await actors.listening.wait()
        sleeping = [asyncio.create_task(client.call('Ponder', timeout=60)) for _ in range(30)]
        await until(lambda: sleepers.running['ponder'] == 9, 20)
        counted = await asyncio.gather(*(client.call('Count', COUNT) for _ in range(100)))
        assert {ended.code for ended in counted} == {Code.OK}
        assert sleepers.running['ponder'] == 9
        sleepers.let_go.set()
        assert {ended.code for ended in await asyncio.gather(*sleeping)} == {Code.OK}
        assert sleepers.most == 10
        # The slots are free again, and the other method can have them.
        sleepers.let_go.clear()
        again = [asyncio.create_task(client.call('Ponder', timeout=60)) for _ in range(30)]
        await until(lambda: sleepers.running['ponder'] == 9, 20)
        sleepers.let_go.set()
        await asyncio.gather(*again)


class limited:  # noqa: N801
    """Actors with one limit for all of them."""

    def __init__(self, nats: EmbeddedNats, actors: Actors, max_jobs: int) -> None:
        self._connecting = actors.connect(nats.url)
        self._max_jobs = max_jobs

    async def __aenter__(self) -> ConnectedActors:
        self._connected = await self._connecting.__aenter__()
        await self._connected.register()
        self._listening = asyncio.create_task(self._connected.listen(max_jobs=self._max_jobs, drain_timeout=1))
        return self._connected

    async def __aexit__(self, *error: Any) -> None:
        self._connected.stop()
        await self._listening
        await self._connecting.__aexit__(*error)


async def test_many_calls_under_one_limit(nats: EmbeddedNats, words: Descriptors) -> None:
    """None is left behind when slots go from one method to the other and back."""
    sleepers = Sleepers()
    sleepers.let_go.set()
    async with limited(nats, sleepers.actors(), 3), running_gateway(nats.url, words) as (_, client):
        for _ in range(3):
            calls = [client.call(method, timeout=30) for method in ('Ponder', 'Count') for _ in range(200)]
            assert {ended.code for ended in await asyncio.gather(*calls)} == {Code.OK}
    assert sleepers.most <= 3


async def test_a_limit_below_the_number_of_consumers(nats: EmbeddedNats) -> None:
    async with Sleepers().actors().connect(nats.url) as actors:
        await actors.register()
        with pytest.raises(ContractError, match='max_jobs 1: 2 consumers need a slot each'):
            await actors.listen(max_jobs=1)


async def test_burst_under_one_limit(nats: EmbeddedNats, words: Descriptors) -> None:
    """It ends when the queues are empty, however small the limit is."""
    sleepers = Sleepers()
    sleepers.let_go.set()
    async with running_gateway(nats.url, words) as (_, client):
        async with running_actors(nats.url, sleepers.actors()):
            pass
        calls = [asyncio.create_task(client.call(name, timeout=30)) for name in ('Ponder', 'Count') for _ in range(20)]
        async with sleepers.actors().connect(nats.url) as actors:
            await actors.register()
            await until_queued(actors, 40)
            async with asyncio.timeout(20):
                await actors.listen(burst=True, max_jobs=2)
        assert {ended.code for ended in await asyncio.gather(*calls)} == {Code.OK}


async def until_queued(actors: ConnectedActors, count: int) -> None:
    """Wait until this many calls wait in the queue."""
    async with asyncio.timeout(10):
        while (await actors.connection.api('STREAM.INFO.rpc=demo=v1=Words'))['state']['messages'] < count:
            await asyncio.sleep(0.01)
