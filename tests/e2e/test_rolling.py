"""Workers are restarted one by one, again and again, while calls come: none is lost, none is run twice."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from demo.v1 import words_pb2
from google.protobuf.duration_pb2 import Duration
from support import ROOT, Client, program, running_gateway

from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Code
from natsgate.gateway.protos import Descriptors

CALLS, AT_ONCE, LEAST_RESTARTS = 5_000, 64, 4
PONDER = words_pb2.PonderRequest(time=Duration(nanos=50_000_000))  # which is not idempotent
MODULES = f'{Path(words_pb2.__file__).parent.parent.parent}:{ROOT / "tests" / "mesh"}'


class Load:
    """Calls with numbers of their own, until there were CALLS and the workers were restarted often enough."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._numbers = iter(range(10 * CALLS))
        self.answered: list[words_pb2.PonderResponse] = []
        self.failed: list[tuple[int, Code, str]] = []
        self.begun = 0
        self.enough = False

    async def run(self) -> None:
        """AT_ONCE at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._call_on())

    async def _call_on(self) -> None:
        for number in self._numbers:
            if self.enough and number >= CALLS:
                return
            self.begun += 1
            ended = await self._client.call('Ponder', PONDER, timeout=60, metadata=[('x-number', str(number))])
            if ended.code is Code.OK:
                self.answered.append(words_pb2.PonderResponse.FromString(ended.data))
            else:
                self.failed.append((number, ended.code, ended.message))

    async def more(self, calls: int) -> None:
        """Wait until this many more were answered."""
        wanted = len(self.answered) + calls
        async with asyncio.timeout(60):
            while len(self.answered) < wanted:
                assert not self.failed
                await asyncio.sleep(0.01)


async def test_rolling_restarts(nats: EmbeddedNats, words: Descriptors, tmp_path: Path) -> None:
    runs, restarts = tmp_path / 'runs', 0
    env = {'PYTHONPATH': MODULES, 'RUNS_FILE': str(runs)}
    arguments = ('work', 'recorders:ACTORS', '--nats', nats.url)
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(program(*arguments, env=env)) for _ in range(2)]
        for worker in workers:
            await worker.says('working')
        _, client = await stack.enter_async_context(running_gateway(nats.url, words))
        load = Load(client)
        loading = asyncio.create_task(load.run())
        while restarts < LEAST_RESTARTS or load.begun < CALLS:
            await load.more(200)
            oldest = workers.pop(0)
            oldest.stop()
            assert await oldest.end() == 0
            workers.append(await stack.enter_async_context(program(*arguments, env=env)))
            await workers[-1].says('working')
            restarts += 1
        load.enough = True
        await loading
    assert load.failed == []
    recorded = Counter(map(int, runs.read_text().split()))
    assert recorded == dict.fromkeys(range(load.begun), 1)
    assert {answer.attempt for answer in load.answered} == {1}
    print(f'\n{load.begun} calls, {restarts} restarts, {len({answer.worker for answer in load.answered})} processes')
    assert load.begun >= CALLS
