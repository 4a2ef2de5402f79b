"""Gateways, actors and clients for tests: what the testing kit has not."""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import processes
from google.rpc import error_details_pb2

from natsgate import testing
from natsgate.actors import Actor, Actors, ConnectedActors
from natsgate.events import Service
from natsgate.events.status import Code, Status
from natsgate.gateway.gateway import Gateway as Core
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Override
from natsgate.testing import EmbeddedNats, Faults, Program, running_actors, until
from natsgate.testing.running import connect

__all__ = [
    'INSIDE', 'NO_LIMITS', 'OBJECTS', 'ROOT', 'WORDS_PROTO', 'Client', 'Ended', 'Faults', 'Gateway', 'Inside',
    'Program', 'Stack', 'certify', 'connect', 'in_envoy', 'in_process', 'program', 'running_actors', 'running_gateway',
    'stack', 'until', 'word_actors', 'words_service',
]  # fmt: skip

ROOT = Path(__file__).parent.parent

program = partial(testing.program, cwd=ROOT)


def words_service() -> Service:
    """demo.v1.Words with its generated types."""
    from demo.v1 import words_pb2

    return Service.of(words_pb2, 'Words')


@dataclass(frozen=True, kw_only=True)
class Inside:
    """What a gateway holds for its calls, and what it knows."""

    in_flight: int
    waiting: int
    links: int
    unacknowledged: int
    late: int
    strays: int
    connected: bool
    served: bool
    """Whether it has heard of a worker."""
    subscriptions: int
    handlers: int
    answers: int
    tasks: int

    @classmethod
    def of(cls, gateway: Core) -> 'Inside':
        requester = gateway._requester
        connection = requester._connection
        return cls(
            in_flight=gateway.in_flight,
            waiting=requester.waiting,
            links=len(requester.links),
            unacknowledged=requester.unacknowledged,
            late=requester.late,
            strays=requester.strays,
            connected=connection.connected,
            served=bool(requester._presence and requester._presence.served),
            subscriptions=len(connection._client._subs),
            handlers=len(connection._client.handlers),
            answers=len(connection._answers),
            tasks=len(asyncio.all_tasks()),
        )

    @property
    def empty(self) -> bool:
        """Whether it holds nothing."""
        return not (self.in_flight or self.waiting or self.links)


class Gateway:
    """A gateway that serves, on either edge."""

    def __init__(
        self, addresses: Sequence[str], look: Callable[[], Awaitable[Inside]], process: Program | None = None
    ) -> None:
        self.addresses = addresses
        self.inside = look
        """What it holds at this moment."""
        self.pid = processes.serving(process.pid) if process else os.getpid()
        self.said = process.lines if process else []
        """Its log, if it has one of its own."""

    @property
    def address(self) -> str:
        return self.addresses[0]

    async def becomes(self, condition: Callable[[Inside], object], timeout: float = 5) -> None:
        """Wait until something holds inside it."""
        async with asyncio.timeout(timeout):
            while not condition(await self.inside()):
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running_gateway(
    url: str,
    descriptors: Descriptors,
    *,
    edge: str = 'grpc',
    overrides: dict[str, Override] | None = None,
    patience: float = 10,
    **options: Any,
) -> AsyncIterator[tuple[Gateway, 'Client']]:
    """A gateway of demo.v1.Words: with the edge `grpc` in this process, with `envoy` in one of its own."""
    made = in_envoy(url, overrides, publish_patience=patience, **options) if edge == 'envoy' else None
    async with (
        made or in_process(url, descriptors, overrides, patience, **options) as gateway,
        grpc.aio.insecure_channel(gateway.address, options=NO_LIMITS) as channel,
    ):
        yield gateway, Client(channel)


@asynccontextmanager
async def in_process(
    url: str, descriptors: Descriptors, overrides: dict[str, Override] | None, patience: float, **options: Any
) -> AsyncIterator[Gateway]:
    async with testing.running_gateway(url, descriptors, overrides=overrides, patience=patience, **options) as running:

        async def look() -> Inside:
            return Inside.of(running.serving.gateway)

        yield Gateway(running.serving.addresses, look)


@asynccontextmanager
async def in_envoy(url: str, overrides: dict[str, Override] | None, **options: Any) -> AsyncIterator[Gateway]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / 'natsgate.toml'
        config.write_text(_as_toml(overrides or {}, options))
        serve = ('serve', '--edge', 'envoy', '--config', str(config), '--nats', url, '--proto', WORDS_PROTO)
        stop = ('--listen', '127.0.0.1:0', '--drain-delay', '0', '--drain-timeout', '1s')
        env = {'PYTHONPATH': str(Path(__file__).parent)}
        async with program(*serve, *stop, module='inspected', env=env) as process:
            addresses = (await process.says('serving ')).rpartition(' on ')[2].split(', ')
            async with grpc.aio.insecure_channel(addresses[0]) as channel:
                ask = channel.unary_unary(INSIDE)

                async def look() -> Inside:
                    return Inside(**json.loads(await ask(b'', wait_for_ready=True)))

                yield Gateway(addresses, look, process)
            process.stop()
            assert await process.end() == 0, process.lines
            failed = process.find('Traceback') or process.find('inside the gateway')
            assert not failed, process.lines


def _as_toml(overrides: dict[str, Override], options: dict[str, Any]) -> str:
    told = {name: value if isinstance(value, bool) else str(value).lower() for name, value in options.items()}
    lines = [f'{name.replace("_", "-")} = {json.dumps(value)}' for name, value in told.items()]
    for name, override in overrides.items():
        lines.append(f'[{"methods" if "/" in name else "services"}."{name}"]')
        lines += [f'{key} = {json.dumps(str(value))}' for key, value in asdict(override).items() if value is not None]
    return '\n'.join(lines)


INSIDE = '/tests.Inside/Look'
"""The method by which a gateway in a process of its own is looked into (inspected.py)."""
OBJECTS = '/tests.Inside/Objects'
"""The method that counts the objects of each type that it holds, as JSON."""
WORDS_PROTO = str(ROOT / 'protos' / 'demo' / 'v1' / 'words.proto')
NO_LIMITS = [('grpc.max_receive_message_length', -1), ('grpc.max_send_message_length', -1), ('grpc.enable_retries', 0)]


@dataclass
class Ended:
    """How a call ended, as a stock grpc client sees it."""

    code: Code
    message: str
    data: bytes = b''
    initial: tuple[Any, ...] = ()
    trailing: tuple[Any, ...] = ()
    seconds: float = 0.0
    status: Status = field(default_factory=lambda: Status(Code.OK))

    @property
    def reason(self) -> str:
        info = self.status.detail(error_details_pb2.ErrorInfo)
        return info.reason if info else ''

    @property
    def retry_info(self) -> error_details_pb2.RetryInfo | None:
        return self.status.detail(error_details_pb2.RetryInfo)


class Client:
    """A stock grpc.aio client of raw messages."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def call(
        self,
        method: str,
        data: Any = b'',
        *,
        timeout: float | None = 10,
        metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> Ended:
        message = data if isinstance(data, bytes) else data.SerializeToString()
        path = method if method.startswith('/') else f'/demo.v1.Words/{method}'
        loop = asyncio.get_running_loop()
        started = loop.time()
        running: Any = self.channel.unary_unary(path)(message, timeout=timeout, metadata=tuple(metadata))
        try:
            answer = await running
        except grpc.aio.AioRpcError as error:
            trailing = tuple(error.trailing_metadata() or ())
            details = dict(trailing).get('grpc-status-details-bin', b'')
            code = Code.of(error.code())
            initial = tuple(error.initial_metadata() or ())
            status = Status(code, error.details() or '', details)
            return Ended(code, error.details() or '', b'', initial, trailing, loop.time() - started, status)
        initial, trailing = tuple(await running.initial_metadata()), tuple(await running.trailing_metadata())
        return Ended(Code.OK, '', answer, initial, trailing, loop.time() - started)


async def certify(folder: Path, *names: str) -> None:
    """Write keys and certificates of <name>.test, each its own authority."""
    for name in names:
        process = await asyncio.create_subprocess_exec(
            'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
            '-subj', f'/CN={name}.test', '-addext', f'subjectAltName=DNS:{name}.test',
            '-keyout', str(folder / f'{name}.key'), '-out', str(folder / f'{name}.pem'),
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert await process.wait() == 0


Handler = Callable[..., Awaitable[Any]]


def word_actors(**handlers: Any) -> Actors:
    """Actors of demo.v1.Words, by the methods' names; `Count=handler` or `Count=(handler, options)`."""
    service = words_service()
    found = []
    for method, given in handlers.items():
        handler, options = given if isinstance(given, tuple) else (given, {})
        found.append(Actor(method.lower(), service[method], handler, **options))
    return Actors(*found)


@dataclass
class Stack:
    """Actors, gateway and client on one nats-server."""

    client: Client
    gateway: Gateway
    actors: ConnectedActors

    @property
    def runs(self) -> int:
        return sum(worker.runs for worker in self.actors.workers)


@asynccontextmanager
async def stack(
    nats: EmbeddedNats, descriptors: Descriptors, actors: Actors, *, gateway_url: str = '', **options: Any
) -> AsyncIterator[Stack]:
    async with (
        running_actors(nats.url, actors) as connected,
        running_gateway(gateway_url or nats.url, descriptors, **options) as (running, client),
    ):
        yield Stack(client, running, connected)
