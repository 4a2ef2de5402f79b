"""Deadlines: on time, on one clock, and in every place."""

import asyncio
import time
from typing import Any

import pytest
from demo.v1 import words_pb2
from support import connect, running_actors, running_gateway, stack, until, word_actors

from natsgate.actors import Context
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, wire
from natsgate.events.subjects import reply_subject
from natsgate.gateway.protos import Descriptors

COUNT = words_pb2.CountRequest(text='one two three')


async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


async def test_50_milliseconds(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    async def never(_: Any) -> Any:
        await asyncio.sleep(30)

    async with stack(nats, words, word_actors(Count=never), edge=edge) as running:
        taken = [await running.client.call('Count', COUNT, timeout=0.05) for _ in range(20)]
    assert {ended.code for ended in taken} == {Code.DEADLINE_EXCEEDED}
    assert min(ended.seconds for ended in taken) > 0.045
    assert sorted(ended.seconds for ended in taken)[10] < 0.1  # the machine's noise is not ours


async def test_an_expired_event_is_not_run(nats: EmbeddedNats) -> None:
    """Ten calls whose time is over wait in the queue, one whose time is not: one run. All eleven are answered."""
    async with running_actors(nats.url, word_actors(Count=count)) as actors:
        await actors.connection.api('STREAM.INFO.rpc=demo=v1=Words')
        connection = await connect(nats.url)
        answers: list[wire.Response] = []
        await connection.subscribe(
            f'_REPLY.{connection.id}.>',
            lambda subject, reply, header, payload: answers.append(wire.decode_response(header, payload)),
        )
        await connection.synced()
        now = actors.connection.clock.to_broker(actors.connection.clock.now())
        for n, deadline in enumerate([now - 1_000_000] * 10 + [now + 5_000_000]):
            reply = reply_subject(connection.id, 'demo.v1.Words', f'{n:022d}')
            block = wire.encode_request(wire.RequestHead(id=f'c:{n}', reply=reply, deadline=deadline))
            await connection.request('rpc.demo.v1.Words.Count', COUNT.SerializeToString(), header=block)
        await until(lambda: len(answers) == 11)
        assert [answer.status.code for answer in answers] == [Code.DEADLINE_EXCEEDED] * 10 + [Code.OK]
        assert actors.workers[0].runs == 1
        await connection.close()


@pytest.mark.parametrize('skew', [-30, 30])
async def test_a_workers_wrong_clock(
    nats: EmbeddedNats, words: Descriptors, skew: int, monkeypatch: pytest.MonkeyPatch, edge: str
) -> None:
    """Wall clocks that are half a minute off change nothing: all deadlines are on the broker's clock."""
    seen: list[float | None] = []

    async def look(_: Any, context: Context) -> words_pb2.CountResponse:
        seen.append(context.time_remaining())
        return words_pb2.CountResponse()

    right = time.time
    monkeypatch.setattr('time.time', lambda: right() + skew)
    async with running_actors(nats.url, word_actors(Count=look)) as actors:
        monkeypatch.setattr('time.time', right)
        async with running_gateway(nats.url, words, edge=edge) as (_, client):
            await actors.connection.api('STREAM.INFO.rpc=demo=v1=Words')
            assert (await client.call('Count', COUNT, timeout=2)).code is Code.OK
    assert seen[0] is not None
    assert 1.5 < seen[0] < 2.1


async def test_a_call_without_a_deadline_gets_the_gateways(nats: EmbeddedNats, words: Descriptors, edge: str) -> None:
    seen: list[float | None] = []

    async def look(_: Any, context: Context) -> words_pb2.CountResponse:
        seen.append(context.time_remaining())
        return words_pb2.CountResponse()

    async with stack(nats, words, word_actors(Count=look), timeout=20, edge=edge) as running:
        for timeout in (None, 1e6, 0.5):
            assert (await running.client.call('Count', COUNT, timeout=timeout)).code is Code.OK
    assert [round(left or 0, 1) for left in seen] == [20.0, 20.0, 0.5]
