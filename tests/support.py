"""Gateways, actors and faults for tests."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import processes
from google.rpc import error_details_pb2

from natsgate.actors import Actor, Actors, ConnectedActors
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Connection, ConnectOptions, Service
from natsgate.events.connection import open_connection
from natsgate.events.parser import Control, Msg, Parser
from natsgate.events.status import Code, Status
from natsgate.gateway.gateway import Gateway as Core
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Override, routes
from natsgate.gateway.server import serving

ROOT = Path(__file__).parent.parent


def words_service() -> Service:
    """demo.v1.Words with its generated types."""
    from demo.v1 import words_pb2

    return Service.of(words_pb2, 'Words')


async def connect(url: str, **options: Any) -> Connection:
    return await open_connection(ConnectOptions(servers=(url,), reconnect_wait=0.05, **options), timeout=10)


async def until(condition: Callable[[], object], timeout: float = 5) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running_actors(
    url: str, actors: Actors, *, drain_timeout: float = 1, **connection: Any
) -> AsyncIterator[ConnectedActors]:
    opened = await connect(url, **connection)
    connected = ConnectedActors(opened, tuple(actors))
    await connected.register()
    listening = asyncio.create_task(connected.listen(drain_timeout=drain_timeout))
    try:
        yield connected
    finally:
        connected.stop()
        await listening
        await opened.close()


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
        self, addresses: Sequence[str], look: Callable[[], Awaitable[Inside]], process: 'Program | None' = None
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
    connection = await connect(url)
    gateway = serving(
        connection,
        descriptors,
        routes(descriptors, overrides),
        options=GatewayOptions(**options),
        patience=patience,
        drain_timeout=1,
    )

    async def look() -> Inside:
        return Inside.of(running.gateway)

    try:
        async with gateway as running:
            yield Gateway(running.addresses, look)
    finally:
        await connection.close()


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
    lines = [f'{name.replace("_", "-")} = {json.dumps(str(value).lower())}' for name, value in options.items()]
    for name, override in overrides.items():
        lines.append(f'[{"methods" if "/" in name else "services"}."{name}"]')
        lines += [f'{key} = {json.dumps(str(value))}' for key, value in asdict(override).items() if value is not None]
    return '\n'.join(lines)


INSIDE = '/tests.Inside/Look'
"""The method by which a gateway in a process of its own is looked into (inspected.py)."""
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


class Proxy:
    """A wire between a client and a nats-server on which messages from the server can be held up."""

    def __init__(self, server: EmbeddedNats) -> None:
        self._server = server
        self.drop: Callable[[Msg], bool] = lambda msg: False
        self.dropped = 0
        self.tamper: Callable[[Msg], list[Msg]] = lambda msg: [msg]
        """What is handed on instead of a message."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> 'Proxy':
        self._listener = await asyncio.start_server(self._accept, '127.0.0.1', 0)
        self.url = f'nats://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}'
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection('127.0.0.1', self._server.port)
        self._writers += [writer, up_writer]
        for pump in (self._pump(reader, up_writer), self._filter(up_reader, writer)):
            task = asyncio.create_task(pump)
            self._tasks.add(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def _filter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = Parser()
        while data := await reader.read(65536):
            for operation in parser.feed(data):
                if isinstance(operation, Msg) and self.drop(operation):
                    self.dropped += 1
                elif isinstance(operation, Msg):
                    for msg in self.tamper(operation):
                        writer.write(written(msg))
                else:
                    writer.write(written(operation))
        writer.close()


def written(operation: Msg | Control) -> bytes:
    """An operation as bytes again."""
    if isinstance(operation, Control):
        return b' '.join(filter(None, operation)) + b'\r\n'
    sid, subject, reply, header, payload = operation
    where = b' '.join(filter(None, (subject, b'%d' % sid, reply)))
    if header is None:
        return b'MSG %b %d\r\n%b\r\n' % (where, len(payload), payload)
    return b'HMSG %b %d %d\r\n%b%b\r\n' % (where, len(header), len(header) + len(payload), header, payload)


class Program:
    """`natsgate …` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self.process.pid

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            text = line.decode()
            self.lines.append(json.loads(text)['msg'] if text.startswith('{') else text.rstrip())

    async def says(self, part: str, timeout: float = 20) -> str:
        await until(lambda: self.find(part) or self._reading.done(), timeout)
        found = self.find(part)
        assert found is not None, f'never said {part!r}: {self.lines}'
        return found

    def find(self, part: str) -> str | None:
        return next((line for line in self.lines if part in line), None)

    def stop(self) -> None:
        """Ask it to stop."""
        self.process.terminate()

    async def end(self, timeout: float = 15) -> int:
        """Wait until it has ended, after it was asked to; its exit code."""
        async with asyncio.timeout(timeout):
            code = await self.process.wait()
            await self._reading
        return code


@asynccontextmanager
async def program(
    *arguments: str, module: str = 'natsgate.command.main', cwd: Path = ROOT, env: dict[str, str] | None = None
) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', module, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        cwd=cwd, env={**os.environ, 'NATSGATE_LOG_FORMAT': 'json', **(env or {})},
    )  # fmt: skip
    running = Program(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await running.end()


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
