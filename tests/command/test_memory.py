"""Memory is given back when the calls are over that took it, however short they were."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import Client, running_actors, until, word_actors

from natsgate import testing
from natsgate.command import memory
from natsgate.command.embedded import EmbeddedNats
from natsgate.gateway.protos import Descriptors

EVERY = 0.02


@dataclass
class Some:
    """Calls, as many as the test says."""

    in_flight: int = 0
    most_in_flight: int = 0


@asynccontextmanager
async def giving_back(calls: Some, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[int]]:
    """What was in flight whenever memory was given back."""
    given: list[int] = []
    monkeypatch.setattr(memory, '_trim', lambda: given.append(calls.in_flight))
    task = asyncio.create_task(memory.give_back(calls, every=EVERY))
    try:
        yield given
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_wave_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Some(most_in_flight=1000)
    async with giving_back(calls, monkeypatch) as given:
        await until(lambda: given)
        await asyncio.sleep(5 * EVERY)
        assert given == [0], 'once is enough'
        calls.most_in_flight = 1000
        await until(lambda: len(given) == 2)


async def test_not_before_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Some()
    async with giving_back(calls, monkeypatch) as given:
        for _ in range(10):
            calls.most_in_flight = 5000  # none is in flight at the looks themselves
            await asyncio.sleep(EVERY / 4)
        calls.in_flight = calls.most_in_flight = 5000
        await asyncio.sleep(3 * EVERY)
        assert given == []
        calls.in_flight = 499
        await until(lambda: given == [499])


async def test_few_calls_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with giving_back(Some(most_in_flight=999), monkeypatch) as given:
        await asyncio.sleep(5 * EVERY)
        assert given == []


async def test_a_gateway_knows_the_most(nats: EmbeddedNats, words: Descriptors) -> None:
    let_go = asyncio.Event()

    async def count(_: Any) -> words_pb2.CountResponse:
        await let_go.wait()
        return words_pb2.CountResponse()

    async with (
        running_actors(nats.url, word_actors(Count=count)),
        testing.running_gateway(nats.url, words) as running,
    ):
        gateway, client = running.serving.gateway, Client(running.channel)
        calls = [asyncio.create_task(client.call('Count')) for _ in range(3)]
        await until(lambda: gateway.in_flight == 3)
        let_go.set()
        await asyncio.gather(*calls)
        assert (gateway.in_flight, gateway.most_in_flight) == (0, 3)
