"""A peer that runs: its processes, its address, what its handlers and the benchmark tell each other."""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import h2load
from benchmarks.failure import BenchmarkError
from benchmarks.peers import Command, Peer
from benchmarks.prepare import GENERATED, SERVERS
from benchmarks.process import Process
from benchmarks.servers.shared import CANCELLED_AT, HANDLED, OPEN, SIZE
from natsgate.command.embedded import find_server

START_TIMEOUT = 30.0
"""Seconds that a peer has from its start to its first answer."""
SET_UP_TIMEOUT = 120.0
PARTS = ('front', 'broker', 'worker')

_LOOK_EVERY = 0.02


class Running:
    """A peer's processes by their part (front, broker, worker)."""

    def __init__(self, peer: Peer, folder: Path, stack: ExitStack) -> None:
        """Start them; they are stopped when the stack is closed, the last one first."""
        folder.mkdir()
        self.peer = peer
        self.folder = folder
        self.address = f'127.0.0.1:{_free_port()}'
        self.nats = ''
        self.parts: dict[str, Process] = {}
        self._monitor = ''
        self._counted = 0
        self._stack = stack
        count = folder / 'count'
        count.write_bytes(bytes(SIZE))
        with count.open('r+b') as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), SIZE)).cast('Q')
        # The servers' own modules and the generated ones are found by path; settings of the user's do not leak in.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(('NATSGATE_', 'PYTHON'))}
        self.env = kept | {'PYTHONPATH': f'{SERVERS}:{GENERATED}', 'BENCH_COUNT': str(count)}
        if peer.worker:
            self._start_broker()
            self._start('worker', peer.worker)
        if peer.setup:
            self._set_up(peer.setup)
        if peer.front:
            self._start('front', peer.front)
            self.wait(self._answers)
        self._counted = self.count()

    def count(self) -> int:
        """Return how many calls the handlers have run."""
        return self._cells[HANDLED]

    def recount(self, calls: int) -> tuple[str, ...]:
        """Say by how much the handlers' runs since the last time differ from so many calls."""
        expected, self._counted = self._counted + calls, self.count()
        if self._counted == expected:
            return ()
        return (f'handlers ran {self._counted - expected:+} times more than there were calls',)

    def cancelled_at(self) -> int:
        """Return when a handler was cancelled last, in monotonic nanoseconds."""
        return self._cells[CANCELLED_AT]

    def set_gate(self, *, is_open: bool) -> None:
        """Let the calls go that wait, or make them wait."""
        self._cells[OPEN] = is_open

    def queued(self) -> int:
        """Return how many messages the broker has stored."""
        with urllib.request.urlopen(f'{self._monitor}/jsz', timeout=START_TIMEOUT) as answer:
            return int(json.load(answer)['messages'])

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
                raise BenchmarkError(f'{self.peer.name}: no answer within {START_TIMEOUT:.0f} s. {words}')
            time.sleep(_LOOK_EVERY)

    def _start(self, part: str, command: Command) -> None:
        process = Process(self._words(command), log=self.folder / f'{part}.log', env=self.env)
        self._stack.callback(process.stop)
        self.parts[part] = process

    def _set_up(self, command: Command) -> None:
        done = subprocess.run(
            self._words(command), env=self.env, capture_output=True, text=True, timeout=SET_UP_TIMEOUT, check=False
        )
        if done.returncode:
            raise BenchmarkError(f'{self.peer.name}: {command[1]} failed: {done.stderr.strip()[-200:]}')

    def _words(self, command: Command) -> list[str]:
        known = {'address': self.address, 'nats': self.nats, 'folder': str(self.folder)}
        return [str(word).format_map(known) for word in command]

    def _start_broker(self) -> None:
        """Start a nats-server with JetStream, on free ports."""
        ports = self.folder / 'ports'
        ports.mkdir()
        settings = self.folder / 'nats.conf'
        settings.write_text('max_payload: 8MB\n')
        places = ('-a', '127.0.0.1', '-p', '-1', '-m', '-1', '--ports_file_dir', ports)
        self._start('broker', (find_server(), '-c', settings, *places, '-js', '-sd', '{folder}/store'))
        written = ports / f'nats-server_{self.parts["broker"].pid}.ports'
        self.wait(lambda: bool(_ports(written)))
        found = _ports(written)
        self.nats, self._monitor = found['nats'][0], found['monitoring'][0]

    def _answers(self) -> bool:
        first = h2load.Shape(paths=(self.peer.first,), size=16)
        return not h2load.run(self.address, self.folder, first, calls=1, timeout=START_TIMEOUT).problems


def _ports(written: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(written.read_text()))
    except (OSError, ValueError):  # not there yet, or half written
        return {}


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return int(listener.getsockname()[1])
