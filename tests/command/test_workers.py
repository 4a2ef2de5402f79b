"""`--workers N`: one parent, N processes of the same command."""

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from demo.v1 import words_pb2
from processes import alive, children_of
from support import NO_LIMITS, ROOT, Client, Program, program, running_actors, running_gateway, until, word_actors

from natsgate.command import restarts
from natsgate.command.embedded import EmbeddedNats
from natsgate.command.ports import reserved
from natsgate.events import Code
from natsgate.events.status import ContractError
from natsgate.gateway.protos import Descriptors

WORDS = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
SERVE = ('serve', '--proto', WORDS, '--drain-delay', '0', '--workers', '2')
WORK = ('work', 'natsgate.command.demo.actors:ACTORS', '--proto', WORDS, '--workers', '2')


async def all_ready(parent: Program) -> list[int]:
    """Wait until its two children are; their pids."""
    await parent.says('process 2 of 2 is ready')
    return [await ready(parent, number) for number in (1, 2)]


async def ready(parent: Program, number: int, *, other_than: int = 0) -> int:
    """Wait until this child is ready; its pid."""

    def pids() -> list[int]:
        found = re.findall(rf'^process {number} of \d is ready \(pid (\d+)\)', '\n'.join(parent.lines), re.MULTILINE)
        return [int(pid) for pid in found if int(pid) != other_than]

    await until(pids, 20)
    return pids()[-1]


async def address_of(gateway: Program) -> str:
    return (await gateway.says('serving ')).rpartition(' ')[2]


@asynccontextmanager
async def client_of(address: str) -> AsyncIterator[Client]:
    """A client with a connection of its own."""
    options = [*NO_LIMITS, ('grpc.use_local_subchannel_pool', 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Client(channel)


def with_connections_at(port: int, pids: list[int]) -> set[int]:
    """Those of the processes that clients are connected to at this port."""
    rows = [
        line.split() for table in ('tcp', 'tcp6') for line in Path(f'/proc/net/{table}').read_text().splitlines()[1:]
    ]
    sockets = {f'socket:[{row[9]}]' for row in rows if row[1].endswith(f':{port:04X}') and row[3] == '01'}
    return {pid for pid in pids if open_files(pid) & sockets}


def open_files(pid: int) -> set[str]:
    found = set()
    for file in Path(f'/proc/{pid}/fd').iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            found.add(os.readlink(file))
    return found


async def count(_: Any) -> words_pb2.CountResponse:
    return words_pb2.CountResponse(words=1)


async def test_gateways_share_a_port(nats: EmbeddedNats) -> None:
    arguments = (*SERVE, '--nats', nats.url, '--listen', '127.0.0.1:0', '--name', 'gw')
    async with running_actors(nats.url, word_actors(Count=count)), program(*arguments) as gateway:
        pids = await all_ready(gateway)
        address = await address_of(gateway)
        port = int(address.rpartition(':')[2])
        async with contextlib.AsyncExitStack() as clients:
            for _ in range(30):
                client = await clients.enter_async_context(client_of(address))
                assert (await client.call('Count')).code is Code.OK
            assert with_connections_at(port, pids) == set(pids)

        os.kill(pids[0], signal.SIGKILL)
        await gateway.says('process 1 was ended by SIGKILL; it is started again')
        async with client_of(address) as client:
            assert (await client.call('Count')).code is Code.OK
        again = await ready(gateway, 1, other_than=pids[0])
        async with client_of(address) as client:
            assert (await client.call('Count')).code is Code.OK

        gateway.stop()
        assert await gateway.end() == 0
        assert not [pid for pid in (*pids, again) if alive(pid)]


async def test_workers_share_the_calls(nats: EmbeddedNats, words: Descriptors) -> None:
    request = words_pb2.PonderRequest()
    async with running_gateway(nats.url, words) as (_, client), program(*WORK, '--nats', nats.url) as worker:
        pids = await all_ready(worker)
        answered: set[int] = set()
        async with asyncio.timeout(20):
            while answered != set(pids):
                ended = await asyncio.gather(*(client.call('Ponder', request) for _ in range(10)))
                answered |= {words_pb2.PonderResponse.FromString(one.data).worker for one in ended}
        worker.stop()
        assert await worker.end() == 0
        assert not [pid for pid in pids if alive(pid)]


async def test_a_signal_to_all_processes_at_once_lets_calls_end(nats: EmbeddedNats, words: Descriptors) -> None:
    """As systemd sends it: each child gets it twice, from outside and from the parent."""
    request = words_pb2.PonderRequest()
    request.time.FromMilliseconds(1500)
    async with running_gateway(nats.url, words) as (_, client), program(*WORK, '--nats', nats.url) as worker:
        pids = await all_ready(worker)
        call = asyncio.create_task(client.call('Ponder', request))
        await worker.says('pondering')
        for pid in (*pids, worker.pid):
            os.kill(pid, signal.SIGTERM)
        ended = await call
        assert words_pb2.PonderResponse.FromString(ended.data).attempt == 1
        assert await worker.end() == 0
        assert not worker.find('stopping at once')


async def test_a_second_signal_insists(nats: EmbeddedNats, words: Descriptors) -> None:
    request = words_pb2.PonderRequest()
    request.time.FromSeconds(60)
    async with running_gateway(nats.url, words) as (_, client), program(*WORK, '--nats', nats.url) as worker:
        pids = await all_ready(worker)
        call = asyncio.create_task(client.call('Ponder', request))
        await worker.says('pondering')
        worker.stop()
        await worker.says('stopping: ')
        worker.process.send_signal(signal.SIGINT)
        assert await worker.end() == 128 + signal.SIGINT
        assert not [pid for pid in pids if alive(pid)]
        call.cancel()


async def test_a_killed_parent_takes_its_children_along() -> None:
    async with program(*SERVE, '--embedded', '--listen', '127.0.0.1:0') as gateway:
        pids = await all_ready(gateway)
        children = children_of(gateway.pid)
        assert set(pids) < set(children), 'the nats-server is another one'
        gateway.process.kill()
        await until(lambda: not [pid for pid in children if alive(pid)], 10)


@pytest.mark.parametrize('command', ['serve', 'work'])
async def test_a_wrong_configuration_is_told_once(command: str) -> None:
    wrong = {
        'serve': (*SERVE, '--nats-creds', 'missing', '--listen', '127.0.0.1:0'),
        'work': ('work', 'missing:A', *WORK[2:]),
    }
    async with program(*wrong[command]) as parent:
        assert await parent.end() == 78
        assert len(parent.lines) == 1, parent.lines
        assert 'missing' in parent.lines[0]


async def test_embedded_and_a_url() -> None:
    async with program(*WORK, '--embedded', '--nats', 'nats://127.0.0.1:1') as parent:
        assert await parent.end() == 78
        assert parent.lines == ['natsgate: --embedded and --nats: one or the other']


async def test_a_port_in_use(nats: EmbeddedNats) -> None:
    """By a stranger, by another gateway's processes, and by those for one that wants the port for itself."""
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        await refused(f'127.0.0.1:{taken.getsockname()[1]}', nats, '2')
    async with program(*SERVE, '--nats', nats.url, '--listen', '127.0.0.1:0') as gateway:
        address = await address_of(gateway)
        await refused(address, nats, '2')
        await refused(address, nats, '1')
        assert not gateway.find('ended')


async def refused(address: str, nats: EmbeddedNats, workers: str) -> None:
    arguments = (*SERVE[:-1], workers, '--nats', nats.url, '--listen', address)
    async with program(*arguments, env={'GRPC_VERBOSITY': 'NONE'}) as second:
        assert await second.end() == 1
        assert len(second.lines) == 1, second.lines
        assert second.lines[0].startswith(f'natsgate: cannot listen on {address}: the port is in use')


async def test_what_dies_at_the_start_is_started_later_and_later() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(('127.0.0.1', 0))
        url = f'nats://127.0.0.1:{taken.getsockname()[1]}'
        async with program(*WORK, '--nats', url, '--nats-timeout', '100ms') as parent:
            await parent.says('process 1 ended with exit code 1; it is started again in 0.25 s')
            await parent.says('process 1 ended with exit code 1; it is started again in 0.5 s')
            assert not parent.find('process 2')
            parent.stop()
            assert await parent.end() == 0


def test_the_pause_grows_and_is_forgotten() -> None:
    early, pauses = 0, []
    for lived in (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 60.0, 1.0):
        early = restarts.early_deaths(early, lived)
        pauses.append(restarts.pause(early))
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 0.0, 0.25]
    assert restarts.pause(100_000) == restarts.LONGEST_PAUSE


@pytest.mark.parametrize(
    ('code', 'ever_ready', 'expected'),
    [(78, False, True), (2, False, True), (1, False, False), (-9, False, False), (78, True, False), (0, False, False)],
)
def test_giving_up(code: int, ever_ready: bool, expected: bool) -> None:
    assert restarts.gives_up(code, ever_ready=ever_ready) is expected


@pytest.mark.parametrize(
    ('codes', 'insisted', 'expected'),
    [([0, 0], 0, 0), ([0, -signal.SIGTERM], 0, 0), ([0, 1], 0, 1), ([0, -9], 0, 1), ([-9, -9], 15, 143)],
)
def test_the_exit_code(codes: list[int], insisted: int, expected: int) -> None:
    assert restarts.exit_code(codes, insisted=insisted) == expected


def test_how_a_process_ended() -> None:
    assert [restarts.told(code) for code in (3, -9, -64)] == [
        'ended with exit code 3', 'was ended by SIGKILL', 'was ended by SIGRTMAX'
    ]  # fmt: skip


def test_several_addresses_are_reserved() -> None:
    with reserved(['127.0.0.1:0', 'localhost:0', '0.0.0.0:0']) as addresses:
        assert [address.rpartition(':')[0] for address in addresses] == ['127.0.0.1', 'localhost', '0.0.0.0']
        assert all(int(address.rpartition(':')[2]) for address in addresses)
        with pytest.raises(OSError, match='in use'), reserved(addresses[:1]):
            pass
    with reserved(addresses) as again:
        assert again == addresses


@pytest.mark.parametrize('address', ['unix:/tmp/x', 'x', '127.0.0.1', 'ipv4:127.0.0.1:5'])
def test_an_address_that_cannot_be_shared(address: str) -> None:
    with pytest.raises(ContractError, match='HOST:PORT'), reserved([address]):
        pass


@pytest.mark.parametrize('address', ['192.0.2.1:5', 'no-such-host.invalid:5', '127.0.0.1:70000'])
def test_an_address_of_another_host(address: str) -> None:
    with pytest.raises(OSError, match=f'cannot listen on {address}: .+'), reserved([address]):
        pass
