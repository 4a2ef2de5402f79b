"""The parent of `--workers N`: how many processes it starts, and when."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from natsgate.command import restarts
from natsgate.command.options import WorkSettings
from natsgate.command.parent import Children, parent
from natsgate.command.spawn import spawned
from natsgate.events.status import ContractError

CHILD = """
import json, os, pathlib, signal, sys, time
told = json.loads(os.environ['_NATSGATE_CHILD'])
place = pathlib.Path(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
(place / f'started-{told["number"]}').touch()
while not (place / f'ready-{told["number"]}').exists():
    time.sleep(0.01)
os.write(told['ready'], b'1')
os.close(told['ready'])
time.sleep(60)
"""


class StopByHand:
    number = 0

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def serving(self) -> None:
        await self.asked.wait()


class Place:
    """The folder in which the children say that they have started, and are told to be ready."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make_ready(self, number: int) -> None:
        (self.folder / f'ready-{number}').touch()

    async def has_started(self, *numbers: int) -> None:
        """Exactly these, also a little later."""
        async with asyncio.timeout(20):
            while self.started() < set(numbers):
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert self.started() == set(numbers)

    def started(self) -> set[int]:
        return {int(path.name.rpartition('-')[2]) for path in self.folder.glob('started-*')}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(os, 'cpu_count', lambda: 1)
    return Place(tmp_path)


async def test_no_more_start_at_once_than_there_are_cores(place: Place) -> None:
    stop = StopByHand()
    children = Children([sys.executable, '-I', '-S', '-c', CHILD, str(place.folder)], WorkSettings(workers=3))
    running = asyncio.create_task(children.run(stop, {}))
    await place.has_started(1)
    place.make_ready(1)
    (second,) = await one_more(place, {1})
    place.make_ready(second)
    (third,) = await one_more(place, {1, second})
    place.make_ready(third)
    stop.number = 15
    stop.asked.set()
    async with asyncio.timeout(10):
        assert await running == 0


async def one_more(place: Place, before: set[int]) -> set[int]:
    """The one that is started next, alone."""
    async with asyncio.timeout(20):
        while place.started() == before:
            await asyncio.sleep(0.01)
    await place.has_started(*place.started())
    return place.started() - before


async def test_none_is_started_any_more_when_all_are_to_stop(place: Place) -> None:
    stop = StopByHand()
    children = Children([sys.executable, '-I', '-S', '-c', CHILD, str(place.folder)], WorkSettings(workers=200))
    running = asyncio.create_task(children.run(stop, {}))
    await place.has_started(1)
    place.make_ready(1)
    (second,) = await one_more(place, {1})
    stop.number = 15
    stop.asked.set()
    async with asyncio.timeout(10):
        assert await running == 0
    assert place.started() == {1, second}


async def test_too_many() -> None:
    with pytest.raises(ContractError, match=f'workers: {restarts.MOST + 1} are too many, at most {restarts.MOST}'):
        await parent(WorkSettings(workers=restarts.MOST + 1), ['false'])


async def test_a_process_that_nobody_waits_for() -> None:
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context))
    process, ready = await spawned([sys.executable, '-c', 'input()'], number=1, settings={})
    ready.cancel()
    await process.wait()
    for _ in range(3):  # turns of the loop, in which the end of the pipe is read
        await asyncio.sleep(0)
    assert problems == []
