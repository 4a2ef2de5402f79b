"""Actors that share a consumer."""

import asyncio

import pytest
from demo.v1 import words_pb2
from support import running_actors

from natsgate.actors import Actor, Actors
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import ContractError, Events, Service
from natsgate.events.connection import Connection

WORDS = Service.of(words_pb2, 'Words')
COUNT, PONDER = WORDS['Count'], WORDS['Ponder']


async def count(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=len(request.text.split()))


async def ponder(request: words_pb2.PonderRequest) -> words_pb2.PonderResponse:
    return words_pb2.PonderResponse(worker=7)


def sharing() -> Actors:
    return Actors(Actor('count', COUNT, count, consumer='words'), Actor('ponder', PONDER, ponder, consumer='words'))


async def test_each_gets_its_own_events(nats: EmbeddedNats) -> None:
    async with running_actors(nats.url, sharing()) as connected, Events(COUNT, PONDER).connect(nats.url) as events:
        for _ in range(20):
            counted, pondered = await asyncio.gather(
                events.request(COUNT, words_pb2.CountRequest(text='to be')),
                events.request(PONDER, words_pb2.PonderRequest()),
            )
            assert (counted.words, pondered.worker) == (2, 7)
        names = (await connected.connection.api(f'CONSUMER.NAMES.{COUNT.stream_name}'))['consumers']
        assert names == ['words']


async def test_what_no_actor_here_takes_is_given_to_another_worker(nats: EmbeddedNats) -> None:
    """As while workers are replaced by others that take more methods."""
    async with running_actors(nats.url, sharing()) as connected:
        await connected.listening.wait()
        worker = next(worker for worker in connected.workers if worker.actor.name == 'ponder')
        taken = worker.puller.takers.pop(PONDER.subject_name.encode())
        async with Events(PONDER).connect(nats.url) as events:
            asking = asyncio.create_task(events.request(PONDER, words_pb2.PonderRequest(), timeout=10))
            async with asyncio.timeout(5):
                while not await given_back(connected.connection):
                    await asyncio.sleep(0.01)
            worker.puller.takers[PONDER.subject_name.encode()] = taken
            assert (await asking).worker == 7
        assert worker.puller.credit.running == 0


async def given_back(connection: Connection) -> bool:
    info = await connection.api(f'CONSUMER.INFO.{COUNT.stream_name}.words')
    return bool(info['delivered']['consumer_seq'])


@pytest.mark.parametrize('option', [{'max_jobs': 3}, {'ack_wait': 9.0}, {'max_ack_pending': 5}])
def test_they_agree_on_what_is_the_consumers(option: dict[str, float]) -> None:
    with pytest.raises(ContractError, match=f'share consumer .words., but differ in {next(iter(option))}'):
        Actors(
            Actor('count', COUNT, count, consumer='words'),
            Actor('ponder', PONDER, ponder, consumer='words', **option),  # type: ignore[arg-type]
        )
