"""Threads: what runs in one cannot be stopped, and is reckoned with until it ends."""

import asyncio
import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from demo.v1 import words_pb2, words_pb2_grpc
from support import program, running_actors, running_gateway, stack, until, word_actors

from natsgate.actors import Actors, Context
from natsgate.actors.threads import Pool, in_thread
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Event, Events
from natsgate.gateway.protos import Descriptors

COUNT = words_pb2.CountRequest(text='to be')


class Stuck(words_pb2_grpc.WordsServicer):
    """A plain handler, and a plain method, that goes on until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.begun: list[str] = []

    def count(self, request: Any) -> words_pb2.CountResponse:
        self.begun.append(request.text)
        self.let_go.wait(20)
        return words_pb2.CountResponse()

    def Count(self, request: Any, context: Any) -> words_pb2.CountResponse:
        return self.count(request)


def interrupt(request: Any) -> Any:
    raise KeyboardInterrupt


async def test_only_a_signal_interrupts_a_worker(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors(Count=interrupt)) as running:
        assert (await running.client.call('Count', COUNT)).reason == 'HANDLER_FAILED'


class WeakError(Exception):
    """One that can be referred to weakly."""


async def test_what_fails_in_a_thread_is_not_kept() -> None:
    """Its traceback holds the message, which would stay until somebody looks for garbage."""
    pool, context = Pool(1, 'test'), Context(event=Event('asked', str))

    def fail(message: str, context: Context) -> None:
        raise WeakError(message)

    async def failed() -> weakref.ref[WeakError]:
        try:
            await in_thread(pool, context, fail, 'message', context)
        except WeakError as error:
            return weakref.ref(error)
        raise AssertionError('it fails')

    gc.disable()
    try:
        kept = await failed()
        await until(lambda: kept() is None)  # the thread lets go of it, too
    finally:
        gc.enable()
        pool.close()


async def count_two(request: Any) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=2)


@pytest.mark.parametrize('written_for_grpc', [False, True], ids=['handler', 'servicer'])
async def test_a_thread_that_goes_on_keeps_its_slot(
    nats: EmbeddedNats, words: Descriptors, written_for_grpc: bool
) -> None:
    """When the caller of what it runs has gone: the next event would wait for it, while another worker is free."""
    stuck, one_job = Stuck(), {'max_jobs': 1, 'name': 'count'}
    add = words_pb2_grpc.add_WordsServicer_to_server
    made = Actors.of(stuck, add, methods={'Count': one_job}) if written_for_grpc else None
    actors = made or word_actors(Count=(stuck.count, {'max_jobs': 1}))
    async with running_gateway(nats.url, words) as (_, client), running_actors(nats.url, actors) as first:
        worker = first.workers[0]
        try:
            gone = asyncio.create_task(client.call('Count', COUNT))
            await until(lambda: stuck.begun)
            gone.cancel()
            await until(lambda: not worker.jobs)
            assert worker.free == 0
            async with running_actors(nats.url, word_actors(Count=count_two)):
                ended = await asyncio.gather(*(client.call('Count', COUNT, timeout=5) for _ in range(8)))
            assert [words_pb2.CountResponse.FromString(one.data).words for one in ended] == [2] * 8
        finally:
            stuck.let_go.set()
        await until(lambda: worker.free == 1)
        assert len(stuck.begun) == 1


STUCK = """
import threading
from natsgate.actors import Actor, Actors
from natsgate.events import Event

def handle(message):
    threading.Event().wait()

ACTORS = Actors(Actor('stuck', Event('stuck', str), handle))
"""


async def test_a_worker_ends_although_a_thread_goes_on(nats: EmbeddedNats, tmp_path: Path) -> None:
    (tmp_path / 'stuck.py').write_text(STUCK)
    stuck = Event('stuck', str)
    arguments = ('work', 'stuck:ACTORS', '--nats', nats.url, '--drain-timeout', '100ms', '--log-level', 'info')
    async with (
        program(*arguments, env={'PYTHONPATH': str(tmp_path)}) as worker,
        Events(stuck).connect(nats.url) as conn,
    ):
        await worker.says('working')
        await conn.emit(stuck, 'hi', sync=True)
        async with asyncio.timeout(10):
            while not (await conn.connection.api('CONSUMER.INFO.stuck.stuck'))['num_ack_pending']:
                await asyncio.sleep(0.02)
        worker.stop()
        async with asyncio.timeout(10):
            assert await worker.end() == 0
        assert worker.find('is given back')
