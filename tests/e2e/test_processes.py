"""Handlers in processes of their own: what crosses, what is killed, and that the pool is whole afterwards."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import computers
import pytest
from computers import WORDS
from demo.v1 import words_pb2
from google.protobuf.duration_pb2 import Duration
from support import ROOT, Client, program, running_actors, running_gateway, stack, until, word_actors

from natsgate.actors import Actor, Actors, ConnectedActors, ExecuteIn, process
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code, ContractError, Event, Events, leases
from natsgate.events.subjects import presence_subject
from natsgate.gateway.protos import Descriptors

IN_PROCESS = {'execute_in': ExecuteIn.PROCESS, 'max_jobs': 1}


def text(text: str) -> words_pb2.CountRequest:
    return words_pb2.CountRequest(text=text)


def seconds(seconds: float) -> words_pb2.PonderRequest:
    time = Duration()
    time.FromTimedelta(timedelta(seconds=seconds))
    return words_pb2.PonderRequest(time=time)


def pid_of(data: bytes) -> int:
    return words_pb2.PonderResponse.FromString(data).worker


def words_of(ended: Any) -> int:
    assert ended.code is Code.OK, ended
    return words_pb2.CountResponse.FromString(ended.data).words


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_message_context_and_metadata_cross(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors(Count=(computers.count, IN_PROCESS))) as running:
        ended = await running.client.call('Count', text('to be or not'), metadata=[('asked', 'yes')])
        assert words_pb2.CountResponse.FromString(ended.data).words == 4
        trailing = dict(ended.trailing)
        assert dict(ended.initial)['initial'] == '1'
        assert trailing['asked'] == 'yes'
        assert int(trailing['pid']) != os.getpid()
    assert not is_alive(int(trailing['pid']))


def double(number: int) -> int:
    return 2 * number


async def test_an_event_without_grpc(nats: EmbeddedNats) -> None:
    event = Event('double', int).with_response(int)
    actors = Actors(Actor('doubler', event, double, execute_in=ExecuteIn.PROCESS, max_jobs=2))
    async with running_actors(nats.url, actors), Events(event).connect(nats.url) as events:
        assert await asyncio.gather(*(events.request(event, n) for n in range(20))) == [2 * n for n in range(20)]


async def test_errors_travel_back(nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    async with stack(nats, words, word_actors(Count=(computers.fail, IN_PROCESS))) as running:
        call = running.client.call
        aborted = await call('Count', text('abort'))
        assert (aborted.code, aborted.message) == (Code.NOT_FOUND, 'no such word')
        assert dict(aborted.trailing)['trailing'] == '1'
        for how, told in (
            ('raise', 'ValueError: as told'), ('picky', 'PickyError: this and that'),
            ('exit', 'SystemExit: 3'), ('interrupt', 'KeyboardInterrupt: '),
            ('lambda', 'what it returned cannot leave its process'),
        ):  # fmt: skip
            caplog.clear()
            failed = await call('Count', text(how))
            assert (failed.code, failed.reason) == (Code.UNKNOWN, 'HANDLER_FAILED')
            assert told in caplog.text
            assert (how == 'lambda') is ('computers.py' not in caplog.text)
        assert (await call('Count', text('fine'))).code is Code.OK


async def test_a_process_that_dies(nats: EmbeddedNats, words: Descriptors, caplog: pytest.LogCaptureFixture) -> None:
    """As when a worker dies: the call is run again, by a new process, and given up after max_attempts."""
    async with stack(nats, words, word_actors(Count=(computers.fail, IN_PROCESS))) as running:
        again = await running.client.call('Count', text('kill once'))
        assert words_pb2.CountResponse.FromString(again.data).words == 2
        assert 'killed by SIGKILL' in caplog.text
        given_up = await running.client.call('Count', text('kill'))
        assert given_up.reason == 'WORKER_CRASHED'
        assert (await running.client.call('Count', text('fine'))).code is Code.OK


async def test_a_process_that_dies_with_what_must_not_run_twice(nats: EmbeddedNats, words: Descriptors) -> None:
    actors = word_actors(Count=(computers.fail, {**IN_PROCESS, 'at_most_once': True}))
    async with stack(nats, words, actors) as running:
        ended = await running.client.call('Count', text('kill once'))
        assert ended.reason == 'WORKER_CRASHED'
        assert running.runs == 1
        assert (await running.client.call('Count', text('fine'))).code is Code.OK


async def test_a_listener_whose_process_dies(nats: EmbeddedNats) -> None:
    """It is given up like one whose workers died, and kept as a dead letter."""
    event = Event('heard', str)
    actors = Actors(Actor('ear', event, computers.hear, execute_in=ExecuteIn.PROCESS, max_jobs=1))
    async with running_actors(nats.url, actors) as connected, Events(event).connect(nats.url) as events:
        await events.emit(event, 'kill')
        await until(lambda: connected.dead_letters.stored, 20)
        assert connected.workers[0].runs == 3


async def test_those_that_die_with_nothing_to_do(nats: EmbeddedNats, words: Descriptors) -> None:
    """No call loses an attempt by them, and they are replaced."""
    actors = word_actors(Count=(computers.start, IN_PROCESS | {'max_jobs': 4, 'at_most_once': True}))
    async with stack(nats, words, actors) as running:
        for _ in range(8):  # they take turns
            pid = words_of(await running.client.call('Count', text('pid')))
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
        assert (await running.client.call('Count', text('fine'))).code is Code.OK
        assert running.runs == 9


@pytest.mark.parametrize('how', ['exit', 'return', 'raise', 'terminate'])
async def test_a_fork_has_no_part_in_the_calls(nats: EmbeddedNats, words: Descriptors, how: str) -> None:
    """It answers neither its own call nor the next one, and ends as it would elsewhere."""
    async with stack(nats, words, word_actors(Count=(computers.start, IN_PROCESS))) as running:
        for _ in range(3):
            assert words_of(await running.client.call('Count', text(how))) == 2
            pid = words_of(await running.client.call('Count', text('pid')))
            assert is_alive(pid)


async def test_a_death_is_noticed_although_a_fork_lives(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors(Count=(computers.start, IN_PROCESS))) as running:
        assert (await running.client.call('Count', text('die'), timeout=30)).reason == 'WORKER_CRASHED'


async def test_what_a_handler_left_ends_with_the_worker(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors(Count=(computers.start, IN_PROCESS))) as running:
        left = words_of(await running.client.call('Count', text('leave')))
        assert is_alive(left)
    await until(lambda: not is_alive(left))


async def test_what_a_handler_prints_is_written(
    nats: EmbeddedNats, words: Descriptors, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, also where that is no terminal."""
    monkeypatch.delenv('PYTHONUNBUFFERED', raising=False)
    async with stack(nats, words, word_actors(Count=(computers.start, IN_PROCESS))) as running:
        await running.client.call('Count', text('print'))
        assert 'as told' in capfd.readouterr().out


async def test_killed_at_the_deadline(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors(Ponder=(computers.compute, IN_PROCESS))) as running:
        first = pid_of((await running.client.call('Ponder', seconds(0))).data)
        late = await running.client.call('Ponder', seconds(60), timeout=0.3)
        assert late.code is Code.DEADLINE_EXCEEDED
        await until(lambda: not is_alive(first))
        second = pid_of((await running.client.call('Ponder', seconds(0))).data)
        assert second != first


async def test_killed_when_its_caller_goes_away(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors(Ponder=(computers.compute, IN_PROCESS))) as running:
        first = pid_of((await running.client.call('Ponder', seconds(0))).data)
        calling = asyncio.create_task(running.client.call('Ponder', seconds(60), timeout=30))
        await until(lambda: running.actors.workers[0].jobs)
        calling.cancel()
        await until(lambda: not is_alive(first))
        assert (await running.client.call('Ponder', seconds(0))).code is Code.OK


async def test_the_pool_is_whole_afterwards(nats: EmbeddedNats, words: Descriptors) -> None:
    """Three of four are killed at once; the fourth goes on, and four calls run at a time again."""
    actors = word_actors(Ponder=(computers.compute, IN_PROCESS | {'max_jobs': 4}))
    async with stack(nats, words, actors) as running:
        lasting = asyncio.create_task(running.client.call('Ponder', seconds(1), timeout=20))
        late = await asyncio.gather(*(running.client.call('Ponder', seconds(60), timeout=0.5) for _ in range(3)))
        assert {ended.code for ended in late} == {Code.DEADLINE_EXCEEDED}
        assert (await lasting).code is Code.OK
        found = await asyncio.gather(*(running.client.call('Ponder', seconds(1), timeout=20) for _ in range(4)))
        assert len({pid_of(ended.data) for ended in found}) == 4


async def test_the_loop_goes_on_and_the_beats_go_out(nats: EmbeddedNats, words: Descriptors) -> None:
    """While a handler computes for three seconds in another process."""
    async with stack(nats, words, word_actors(Ponder=(computers.compute, IN_PROCESS))) as running:
        beats: list[float] = []
        loop = asyncio.get_running_loop()
        await running.actors.connection.subscribe(
            presence_subject('demo.v1.Words', '*'), lambda *_: beats.append(loop.time())
        )
        async with lag_of_the_loop() as lags:
            ended = await running.client.call('Ponder', seconds(3), timeout=20)
        assert ended.code is Code.OK
        print(f'\nlag of the loop: median {sorted(lags)[len(lags) // 2] * 1e3:.1f} ms, most {max(lags) * 1e3:.1f} ms')
        assert sorted(lags)[len(lags) * 9 // 10] < 0.05  # the most is the machine's: others run on it
        assert len(beats) >= 2
        assert all(later - earlier < leases.LEASE for earlier, later in pairwise(beats))


@asynccontextmanager
async def lag_of_the_loop() -> AsyncIterator[list[float]]:
    """How late the loop runs what is due, in seconds, looked at every 10 ms."""
    lags: list[float] = []
    loop = asyncio.get_running_loop()

    async def look() -> None:
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            lags.append(loop.time() - due)

    looking = asyncio.create_task(look())
    try:
        yield lags
    finally:
        looking.cancel()


async def test_what_runs_when_the_worker_stops_is_given_back(nats: EmbeddedNats, words: Descriptors) -> None:
    async with running_gateway(nats.url, words) as (_, client):
        actors = word_actors(Ponder=(computers.compute, IN_PROCESS))
        async with running_actors(nats.url, actors, drain_timeout=0.1) as connected:
            calling = asyncio.create_task(client.call('Ponder', seconds(1), timeout=30))
            await until(lambda: connected.workers and connected.workers[0].jobs)
        async with running_actors(nats.url, actors):
            ended = await calling
    assert words_pb2.PonderResponse.FromString(ended.data).attempt == 2


@pytest.mark.parametrize('stopped', [signal.SIGTERM, signal.SIGINT, None], ids=['stopped', 'interrupted', 'killed'])
async def test_the_command(nats: EmbeddedNats, words: Descriptors, stopped: signal.Signals | None) -> None:
    """Its processes have the modules of its protos, and end with it, also when it is killed while they compute."""
    proto = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
    env = {'PYTHONPATH': str(Path(__file__).parent)}
    arguments = ('work', 'computers:ACTORS', '--nats', nats.url, '--proto', proto, '--log-level', 'info')
    async with program(*arguments, env=env) as worker, running_gateway(nats.url, words) as (_, client):
        await worker.says('working')
        pid = pid_of((await client.call('Ponder', seconds(0))).data)
        assert (await client.call('Count', text('a b'))).code is Code.OK
        computing = asyncio.create_task(client.call('Ponder', seconds(1 if stopped else 60), timeout=5))
        await until_busy(client, nats)
        if stopped:
            os.kill(pid, stopped)  # as whoever stops a whole container does
            worker.stop()
            assert await worker.end() == 0
            assert (await computing).code is Code.OK
        else:
            worker.process.kill()
            computing.cancel()
        await until(lambda: not is_alive(pid))


async def until_busy(client: Client, nats: EmbeddedNats) -> None:
    """Wait until a call is at work."""
    async with Events().connect(nats.url) as events:
        async with asyncio.timeout(10):
            while True:
                info = await events.connection.api('CONSUMER.INFO.rpc=demo=v1=Words.ponder')
                if info['num_ack_pending']:
                    return
                await asyncio.sleep(0.02)


async def waiting(request: Any) -> Any: ...


class Servant:
    def method(self, request: Any) -> Any: ...


def enclosed() -> Callable[[Any], Any]:
    def inner(request: Any) -> Any: ...

    return inner


@pytest.mark.parametrize(
    ('method', 'handler', 'where', 'told'),
    [
        ('Count', waiting, ExecuteIn.PROCESS, 'an async handler runs in the event loop; make it a plain def'),
        ('Count', waiting, ExecuteIn.THREAD, 'an async handler runs in the event loop; make it a plain def'),
        ('Split', waiting, ExecuteIn.PROCESS, 'a streaming call cannot run in a process'),
        ('Count', lambda request: request, ExecuteIn.PROCESS, 'lambda> is not it; make it a function of a module'),
        ('Count', enclosed(), ExecuteIn.PROCESS, 'is not it; make it a function of a module'),
        ('Count', Servant().method, ExecuteIn.PROCESS, 'is not it; make it a function of a module'),
        ('Count', computers.count, 'process', 'execute_in is one of ExecuteIn, not .process.'),
    ],
)
def test_what_cannot_run_there(method: str, handler: Any, where: Any, told: str) -> None:
    with pytest.raises(ContractError, match=f"actor 'it': .*{told}"):
        Actor('it', WORDS[method], handler, execute_in=where)


def test_the_program_itself_is_not_imported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computers.count, '__module__', '__main__')
    with pytest.raises(ContractError, match='this one is the program itself; put it into another'):
        Actor('it', WORDS['Count'], computers.count, execute_in=ExecuteIn.PROCESS)


def refuse() -> None:
    raise RuntimeError('not today')


async def test_a_process_that_cannot_start(nats: EmbeddedNats) -> None:
    async with word_actors(Count=(computers.count, IN_PROCESS)).connect(nats.url) as actors:
        await actors.register()
        with pytest.raises(
            ContractError, match=r"actor 'count': its process cannot run it: RuntimeError: not today \("
        ):
            await listening(actors)


async def test_a_process_that_hangs_before_it_is_ready(
    nats: EmbeddedNats, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, 'STARTS_WITHIN', 0.6)
    monkeypatch.setattr(process, '_TOLD_AFTER', 0.3)
    async with word_actors(Count=(computers.count, IN_PROCESS)).connect(nats.url) as actors:
        await actors.register()
        with pytest.raises(ContractError, match=r"actor 'count': its process was not ready after 0.6 s: computers, or"):
            await actors.listen(initializer=partial(time.sleep, 60))
    assert 'a process still imports computers, 0.3 s after its start' in caplog.text


@pytest.mark.parametrize('stopped', [True, False], ids=['stopped', 'killed'])
async def test_a_worker_that_is_ended_while_they_start(nats: EmbeddedNats, tmp_path: Path, stopped: bool) -> None:
    """It does not wait for them, nor do they stay."""
    place = tmp_path / 'pid'
    env = {'PYTHONPATH': str(Path(__file__).parent), 'COMPUTERS_HANG': str(place)}
    proto = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
    async with program('work', 'computers:ACTORS', '--nats', nats.url, '--proto', proto, env=env) as worker:
        await until(lambda: place.exists() and place.read_text(), 20)
        if stopped:
            worker.stop()
            assert await worker.end() == 0
        else:
            worker.process.kill()
        await until(lambda: not is_alive(int(place.read_text())))


async def listening(actors: ConnectedActors) -> None:
    await actors.listen(initializer=refuse)


def plain(request: words_pb2.CountRequest) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=id(asyncio.current_task()) and 1)


async def test_a_plain_handler_in_the_loop(nats: EmbeddedNats, words: Descriptors) -> None:
    async with stack(nats, words, word_actors(Count=(plain, {'execute_in': ExecuteIn.LOOP}))) as running:
        assert (await running.client.call('Count', text('a'))).code is Code.OK


def test_as_many_processes_as_cores() -> None:
    in_process = Actor('it', WORDS['Count'], computers.count, execute_in=ExecuteIn.PROCESS)
    assert in_process.max_jobs == len(os.sched_getaffinity(0))
    assert Actor('it', WORDS['Count'], computers.count).max_jobs == 64
