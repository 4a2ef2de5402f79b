"""What waiting costs: calls are held open, measured, some cancelled, the others answered, and everything is closed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from statistics import median

from benchmarks import h2load
from benchmarks.callers import Connection
from benchmarks.failure import BenchmarkError
from benchmarks.measure import Measurement
from benchmarks.running import Running
from benchmarks.scenarios import UNARY, WAIT, Holding

_WARM_UP = h2load.Shape(paths=(UNARY,), size=16, in_flight=4)
_WARM_UP_CALLS = 400
_SETTLES_WITHIN = 1.0
_GIVEN_BACK_WITHIN = 15.0  # natsgate waits for a quiet moment: docs/operations.md
_WATCHED_FOR = 2.0
_RUN = 32  # fewer than a worker runs at a time: these calls run, while others may wait in the queue
_PATIENCE = 60.0
_AT_ONCE = 200
_LOOK_EVERY = 0.001


def measure(running: Running, scenario: Holding, number: int) -> Measurement:
    """Hold a fresh peer's calls."""
    problems: list[str] = []
    values: dict[str, float] = {}
    try:
        values = asyncio.run(_Session(running, scenario, problems).values())
    except (BenchmarkError, OSError) as error:
        problems.append(str(error))
    return Measurement(
        scenario=scenario.name, peer=running.peer.name, round=number, values=values, problems=tuple(problems)
    )


class _Session:
    """The connections of a measurement, and what is done on them."""

    def __init__(self, running: Running, scenario: Holding, problems: list[str]) -> None:
        self._running = running
        self._scenario = scenario
        self._problems = problems
        self._front = running.parts['front']
        self._connections: list[Connection] = []
        self._first: list[tuple[Connection, int]] = []
        self._expected = 0

    async def values(self) -> dict[str, float]:
        """Do it all. Raises BenchmarkError, OSError."""
        running, scenario = self._running, self._scenario
        warm = h2load.run(running.address, running.folder, _WARM_UP, calls=_WARM_UP_CALLS, timeout=_PATIENCE)
        self._problems.extend((*warm.problems, *running.recount(_WARM_UP_CALLS)))
        fresh = self._front.memory()
        count = scenario.connections + scenario.idle
        self._connections = [await Connection.open(running.address) for _ in range(count)]
        connected = await self._memory()
        await self._begin()
        waiting = await self._memory()
        values = {'waiting_share': await self._cores()}
        if running.peer.cancels and scenario.cancels:
            delays = [await self._cancel(*call) for call in self._first[: scenario.cancels]]
            values |= {'cancel_ms': median(delays), 'cancel_max_ms': max(delays)}
        await self._answer()
        if scenario.waves:
            values['connection_bytes'] = (connected - fresh) / count
            values['call_bytes'] = (waiting - connected) / scenario.calls
        for _ in range(1, scenario.waves):
            await self._begin()
            again = await self._memory()
            values['again'] = (again - fresh) / (waiting - fresh)
            await self._answer()
        for connection in self._connections:
            connection.close()
        if scenario.waves:
            await asyncio.sleep(_GIVEN_BACK_WITHIN)
            values['given_back'] = 1 - (await self._memory() - fresh) / (waiting - fresh)
        return values

    async def _memory(self) -> int:
        """The memory of the server in front, when it has settled."""
        await asyncio.sleep(_SETTLES_WITHIN)
        return self._front.memory()

    async def _cores(self) -> float:
        before = self._front.cpu()
        await asyncio.sleep(_WATCHED_FOR)
        return (self._front.cpu() - before) / _WATCHED_FOR

    async def _begin(self) -> None:
        """Begin all calls, and wait until each has come to where it waits."""
        running, calls, body = self._running, self._scenario.calls, h2load.frame(16)
        base = running.count()
        running.set_gate(is_open=False)
        connections = self._connections[: self._scenario.connections]
        self._first = [(connections[0], connections[0].call(WAIT, body)) for _ in range(_RUN)]
        connections[0].flush()
        await _until(lambda: running.count() - base == _RUN, 'calls do not come to the handler')
        for done, connection in enumerate(islice(cycle(connections), calls - _RUN), 1):
            connection.call(WAIT, body)
            if done % _AT_ONCE == 0:
                await _flush(connections)
        await _flush(connections)
        if running.peer.worker:
            await _until(lambda: running.queued() == calls, 'calls do not come to the queue')
        else:
            await _until(lambda: running.count() - base == calls, 'calls do not come to the handler')

    async def _cancel(self, connection: Connection, call: int) -> float:
        """Cancel a call; return how long it took until its handler knew, in milliseconds."""
        begin = time.monotonic_ns()
        connection.cancel(call)
        self._expected -= 1
        await _until(lambda: self._running.cancelled_at() >= begin, 'a handler was not cancelled')
        return (self._running.cancelled_at() - begin) / 1e6

    async def _answer(self) -> None:
        """Let the calls be answered, and see how."""
        self._running.set_gate(is_open=True)
        self._expected += self._scenario.calls
        await _until(lambda: self._ended().total() >= self._expected, 'calls were not answered')
        if wrong := {status: count for status, count in self._ended().items() if status != '0'}:
            self._problems.append(f'statuses of calls that waited: {wrong}')
        self._problems.extend(self._running.recount(self._scenario.calls))

    def _ended(self) -> Counter[str]:
        return sum((connection.ended for connection in self._connections), Counter())


async def _flush(connections: Sequence[Connection]) -> None:
    for connection in connections:
        connection.flush()
    await asyncio.sleep(0)


async def _until(condition: Callable[[], bool], problem: str) -> None:
    """Wait until the condition holds. Raises BenchmarkError."""
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise BenchmarkError(f'{problem} within {_PATIENCE:.0f} s')
        await asyncio.sleep(_LOOK_EVERY)
