"""Gateways, actors and faults for tests."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2

from natsgate.actors import Actor, Actors, ConnectedActors
from natsgate.command.embedded import EmbeddedNats
from natsgate.events import Connection, ConnectOptions, Service
from natsgate.events.connection import open_connection
from natsgate.events.parser import Control, Msg, Parser
from natsgate.events.status import Code, Status
from natsgate.gateway.options import GatewayOptions
from natsgate.gateway.protos import Descriptors
from natsgate.gateway.routes import Override, routes
from natsgate.gateway.server import Serving, serving

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


@asynccontextmanager
async def running_gateway(
    url: str,
    descriptors: Descriptors,
    *,
    overrides: dict[str, Override] | None = None,
    patience: float = 10,
    **options: Any,
) -> AsyncIterator[tuple[Serving, 'Client']]:
    connection = await connect(url)
    gateway = serving(
        connection,
        descriptors,
        routes(descriptors, overrides),
        options=GatewayOptions(**options),
        patience=patience,
        drain_timeout=1,
    )
    try:
        async with gateway as running, grpc.aio.insecure_channel(running.addresses[0], options=NO_LIMITS) as channel:
            yield running, Client(channel)
    finally:
        await connection.close()


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
async def program(*arguments: str, cwd: Path = ROOT, env: dict[str, str] | None = None) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-m', 'natsgate.command.main', *arguments,
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
    serving: Serving
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
