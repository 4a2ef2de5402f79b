"""The peers: how each is started, all in the same way: an own nats-server, a worker, and a gRPC server in front."""

from __future__ import annotations

import json
import os
import socket
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import load
from benchmarks.failure import BenchmarkError
from benchmarks.prepare import GENERATED, PROTO, SERVERS, WALNATS_PYTHON
from benchmarks.process import Process
from natsgate.command.embedded import find_server

START_TIMEOUT = 30.0
"""Seconds that a peer has from its start to its first answer."""

_LOOK_AGAIN = 0.05


class Peer:
    """A running peer: its processes by their part (front, broker, worker), its address, its count of handled calls."""

    def __init__(self, name: str, folder: Path, stack: ExitStack) -> None:
        """The processes are stopped when the stack is closed, the last one first."""
        folder.mkdir()
        self.name = name
        self.folder = folder
        self.address = f'127.0.0.1:{_free_port()}'
        self.parts: dict[str, Process] = {}
        self._stack = stack
        self._count = folder / 'count'
        self._count.write_bytes(bytes(8))
        # The servers' own modules and the generated one are found by path; settings of the user's do not leak in.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(('NATSGATE_', 'PYTHON'))}
        self._env = kept | {'PYTHONPATH': f'{SERVERS}:{GENERATED}', 'BENCH_COUNT': str(self._count)}

    def start(self, part: str, *command: str | Path) -> None:
        """Start the process that plays this part."""
        process = Process(command, log=self.folder / f'{part}.log', env=self._env)
        self._stack.callback(process.stop)
        self.parts[part] = process

    def start_broker(self) -> str:
        """Start a nats-server with JetStream in files, on a free port; return its URL."""
        store, ports = self.folder / 'store', self.folder / 'ports'
        ports.mkdir()
        flags = ('-a', '127.0.0.1', '-p', '-1', '-js', '-sd', store, '--ports_file_dir', ports)
        self.start('broker', find_server(), *flags)
        written = ports / f'nats-server_{self.parts["broker"].pid}.ports'
        self.wait(lambda: _first_url(written) is not None)
        url = _first_url(written)
        assert url is not None
        return url

    def count(self) -> int:
        """Return how many calls the handler has run."""
        return int.from_bytes(self._count.read_bytes(), sys.byteorder)

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds of every part. Raises BenchmarkError if one has ended."""
        return {part: process.cpu() for part, process in self.parts.items()}

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds. Raises BenchmarkError when a process ends, or after START_TIMEOUT."""
        end = time.monotonic() + START_TIMEOUT
        while not condition():
            for process in self.parts.values():
                process.check()
            if time.monotonic() > end:
                words = '; '.join(f'{part}: {process.last_words()}' for part, process in self.parts.items())
                raise BenchmarkError(f'{self.name}: no answer within {START_TIMEOUT:.0f} s. {words}')
            time.sleep(_LOOK_AGAIN)

    def answers(self) -> bool:
        """Make one call, and tell whether it was answered."""
        return not load.run(self.address, self.folder, calls=1, in_flight=1, timeout=START_TIMEOUT).problems


def bare(peer: Peer) -> None:
    peer.start('front', sys.executable, SERVERS / 'bare.py', peer.address)


def walnats(peer: Peer) -> None:
    _walnats(peer, 'defaults')


def walnats_tuned(peer: Peer) -> None:
    _walnats(peer, 'tuned')


def _walnats(peer: Peer, options: str) -> None:
    url = peer.start_broker()
    peer.start('worker', WALNATS_PYTHON, SERVERS / 'walnats_worker.py', url, options)
    peer.start('front', WALNATS_PYTHON, SERVERS / 'walnats_front.py', peer.address, url)


def natsgate(peer: Peer) -> None:
    _natsgate(peer, 'grpc')


def natsgate_envoy(peer: Peer) -> None:
    _natsgate(peer, 'envoy')


def _natsgate(peer: Peer, edge: str) -> None:
    command = Path(sysconfig.get_path('scripts')) / 'natsgate'
    url = peer.start_broker()
    peer.start('worker', command, 'work', 'benchmarks_actors:ACTORS', '--nats', url)
    peer.start(
        'front',
        command,
        'serve',
        '--edge',
        edge,
        '--drain-delay',
        '0',
        '--nats',
        url,
        '--proto',
        PROTO,
        '--listen',
        peer.address,
    )


PEERS: dict[str, Callable[[Peer], None]] = {
    'bare': bare,
    'walnats': walnats,
    'walnats-tuned': walnats_tuned,
    'natsgate': natsgate,
    'natsgate-envoy': natsgate_envoy,
}


def started(name: str, folder: Path, stack: ExitStack) -> Peer:
    """Start a peer in a folder of its own and return it when it has answered its first call."""
    peer = Peer(name, folder / name, stack)
    PEERS[name](peer)
    peer.wait(peer.answers)
    return peer


def _first_url(written: Path) -> str | None:
    try:
        return str(json.loads(written.read_text())['nats'][0])
    except (OSError, ValueError, LookupError):  # not there yet, or half written
        return None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return int(listener.getsockname()[1])
