"""The demo: starts everything, makes five calls, tells what went over gRPC and over NATS."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc

from natsgate.command import client
from natsgate.command.demo.processes import Process, started
from natsgate.command.demo.tap import Tap
from natsgate.command.embedded import EmbeddedNats
from natsgate.command.options import DemoSettings
from natsgate.command.signals import Stop
from natsgate.events.connection import Connection, ConnectOptions, open_connection
from natsgate.gateway.protos import Descriptors, load

PROTOS = Path(__file__).resolve().parents[2] / 'protos'
PROTO = PROTOS / 'demo' / 'v1' / 'words.proto'
ACTORS = 'natsgate.command.demo.actors:ACTORS'
PORT = 50051


class Demo:
    """What runs, and the calls that are made to it."""

    def __init__(self, address: str, workers: list[Process], tap: Tap, descriptors: Descriptors) -> None:
        self.address = address
        self.workers = workers
        self.tap = tap
        self.descriptors = descriptors
        self._channel = grpc.aio.insecure_channel(address)

    async def close(self) -> None:
        """Close the client's channel."""
        await self._channel.close()

    async def call(self, method: str, request: str, *, timeout: float = 10) -> client.Outcome:
        """Make a call, and tell what went over both wires."""
        responses: list[str] = []
        found = client.find_method(self.descriptors, f'demo.v1.Words/{method}')
        self.tap.begin()
        _say(f'  gRPC  →  demo.v1.Words/{method} {request}   (deadline in {timeout:g} s)')
        outcome = await client.call(
            self._channel, self.descriptors, found, request, timeout=timeout,
            on_response=lambda response: responses.append(json.dumps(response)),
        )  # fmt: skip
        await self.tap.settled()
        for line in self.tap.lines():
            _say(f'  {line}')
        told = ' '.join(responses) or outcome.message
        _say(f'  gRPC  ←  {outcome.code.name} {told}   after {outcome.seconds * 1000:.1f} ms')
        for detail in outcome.details:
            _say(f'           {json.dumps(detail)}')
        _say('')
        return outcome


async def demo(settings: DemoSettings) -> None:
    """Run the demo. Raises RuntimeError when a call ends otherwise than it should."""
    stop = Stop()
    descriptors = load([PROTO])
    _say('natsgate: gRPC in front of NATS JetStream. Everything runs on this machine, and ends with the demo.\n')
    async with EmbeddedNats() as server:
        _say(f'  nats-server   {server.url}   (pid {server.pid})')
        async with _workers(server.url, 2) as workers, _gateway(server.url, settings.keep) as (gateway, address):
            _say(f'  workers       pids {", ".join(str(worker.pid) for worker in workers)}')
            _say(f'  gateway       {address}   (pid {gateway.pid})\n')
            connection = await open_connection(ConnectOptions(servers=(server.url,)), timeout=10)
            running = Demo(address, workers, await _tap(connection), descriptors)
            try:
                await _calls(running)
                _try_next(address, settings.keep)
                if settings.keep:
                    await stop.serving()
            finally:
                await running.close()
                await connection.close()


async def _calls(demo: Demo) -> None:
    _say('1. A call that is answered')
    outcome = await demo.call('Count', '{"text": "to be or not to be"}')
    _expect(outcome, 'OK')
    _say('2. A call that is answered with a status and details')
    _expect(await demo.call('Lookup', '{"word": "xylophone"}'), 'NOT_FOUND')
    _say('3. A call whose handler takes longer than the caller waits')
    _expect(await demo.call('Ponder', '{"time": "5s"}', timeout=0.3), 'DEADLINE_EXCEEDED')
    _say('4. A call whose worker is killed while it runs: another one takes it over')
    killing = asyncio.create_task(_kill_whoever_ponders(demo), name='demo/kill')
    outcome = await demo.call('Ponder', '{"time": "0.5s"}')
    await killing
    _expect(outcome, 'OK')
    if outcome.response['attempt'] != 2:
        raise RuntimeError(f'the demo did not go as it should: answered in attempt {outcome.response["attempt"]}')
    _say('5. A call that streams both ways: stored like the others, then frames go to and fro')
    _expect(await demo.call('Echo', '{"word": "to"} {"word": "be"}'), 'OK')


async def _kill_whoever_ponders(demo: Demo) -> None:
    said = {worker: worker.said for worker in demo.workers}
    heard = {
        asyncio.create_task(worker.says('pondering', after=count), name=f'demo/{worker.pid}'): worker
        for worker, count in said.items()
    }
    done, pending = await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    worker = heard[done.pop()]
    os.kill(worker.pid, signal.SIGKILL)
    demo.tap.note(f'worker {worker.pid} is killed with SIGKILL')


def _expect(outcome: client.Outcome, code: str) -> None:
    if outcome.code.name != code:
        raise RuntimeError(
            f'the demo did not go as it should: {outcome.code.name} instead of {code}: {outcome.message}'
        )


def _try_next(address: str, keep: bool) -> None:
    where = 'In another terminal' if keep else 'With the gateway kept up (make demo KEEP=1, or natsgate demo --keep)'
    shown = address if keep else f'127.0.0.1:{PORT}'
    data = """'{"text": "to be or not to be"}'"""
    _say(f'{where}, try:\n')
    _say(f'  {_natsgate()} call {shown} demo.v1.Words/Count {data}')
    _say(f'  grpcurl -plaintext -d {data} {shown} demo.v1.Words/Count\n')
    if keep:
        _say('Serving until Ctrl-C.')


def _natsgate() -> str:
    return os.path.relpath(sys.argv[0]) if sys.argv[0].endswith('natsgate') else 'natsgate'


async def _tap(connection: Connection) -> Tap:
    tap = Tap(connection)
    await tap.open()
    return tap


@asynccontextmanager
async def _workers(url: str, count: int) -> AsyncIterator[list[Process]]:
    arguments = ['work', ACTORS, '--proto', str(PROTO), '--nats', url]
    async with started(arguments) as first, started(arguments) as second:
        workers = [first, second][:count]
        for worker in workers:
            await worker.says('working: ')
        yield workers


@asynccontextmanager
async def _gateway(url: str, keep: bool) -> AsyncIterator[tuple[Process, str]]:
    port = PORT if keep and _is_free(PORT) else 0
    async with started(
        ['serve', '--proto', str(PROTO), '--nats', url, '--listen', f'127.0.0.1:{port}', '--drain-delay', '0']
    ) as gateway:
        line = await gateway.says('serving ')
        yield gateway, line.rpartition(' ')[2]


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('127.0.0.1', port))
        except OSError:
            return False
    return True


def _say(line: str) -> None:
    print(line, flush=True)
