"""The load: h2load, the same for every peer, and what its output says.

h2load counts every HTTP 200 as a success, and a gRPC error is one. The bytes of DATA tell them apart: an answer has
exactly those that it should have, an error has none. It is a client of streaming calls too: it sends all messages of a
call as fast as they are taken, and reads all that come.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.failure import BenchmarkError
from benchmarks.load import Load

_RATE = re.compile(r'^finished in \S+, ([\d.]+) req/s', re.MULTILINE)
_SUCCEEDED = re.compile(r'^requests: .*?(\d+) succeeded', re.MULTILINE)
_DATA = re.compile(r'^traffic: .*\((\d+)\) data', re.MULTILINE)
_CONNECTIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is called, and how."""

    paths: Sequence[str]
    """The methods that are called in turn."""
    size: int
    """Bytes of data in a message."""
    sent: int = 1
    """Messages in a call."""
    answered: int = 1
    """Messages that answer it."""
    in_flight: int = 1
    """Calls at a time."""

    @property
    def connections(self) -> int:
        """How many connections share them: one for a single call, else four."""
        return min(_CONNECTIONS, self.in_flight)


def require() -> str:
    """Return the path of h2load. Raises BenchmarkError if it is not installed."""
    path = shutil.which('h2load')
    if path is None:
        raise BenchmarkError('h2load is missing, which makes the load: apt-get install nghttp2-client')
    return path


def run(address: str, folder: Path, shape: Shape, *, calls: int, timeout: float) -> Load:
    """Make so many calls; wait at most `timeout` seconds for the last answer."""
    log = folder / 'h2load.tsv'
    log.unlink(missing_ok=True)
    try:
        output, _, client = load.run(_command(address, folder, shape, calls=calls, log=log), timeout=timeout)
    except subprocess.TimeoutExpired:
        return Load(calls=calls, problems=(f'calls still without an answer after {timeout:.0f} s',))
    times = [int(line.split('\t')[2]) for line in log.read_text().splitlines()] if log.exists() else []
    return read(output, times, calls=calls, answer=shape.answered * len(frame(shape.size)), client=client)


def read(output: str, times: Sequence[int], *, calls: int, answer: int, client: float) -> Load:
    """Judge what h2load printed, and the response times in microseconds that it logged; an answer has so many bytes."""
    rate, succeeded, data = (pattern.search(output) for pattern in (_RATE, _SUCCEEDED, _DATA))
    if not (rate and succeeded and data):
        last = (output.strip().splitlines() or ['nothing'])[-1]
        return Load(calls=calls, problems=(f'h2load did not finish, its last words: {last}',))
    problems = []
    if int(succeeded[1]) != calls:
        problems.append(f'{succeeded[1]} of {calls} calls got HTTP 200')
    if int(data[1]) != calls * answer:
        problems.append(f'{data[1]} bytes of answers, not {calls} x {answer}: not every call was answered right')
    return Load(calls=calls, rate=float(rate[1]), times=times, client=client, problems=tuple(problems))


def frame(size: int) -> bytes:
    """A gRPC message that holds a bench.Packet with so many bytes of data."""
    packet = b'\x0a' + _varint(size) + b'0123456789abcdef' * (size // 16) + b'x' * (size % 16)
    return b'\x00' + len(packet).to_bytes(4, 'big') + packet


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes((*encoded, number))


def _command(address: str, folder: Path, shape: Shape, *, calls: int, log: Path) -> list[str]:
    body, uris = folder / 'body.bin', folder / 'uris.txt'
    body.write_bytes(frame(shape.size) * shape.sent)
    uris.write_text(''.join(f'http://{address}{path}\n' for path in shape.paths))
    connections = shape.connections
    return [
        *(require(), '-n', str(calls), '-c', str(connections), '-m', str(shape.in_flight // connections), '-t', '1'),
        *('-d', str(body), f'--log-file={log}', '-i', str(uris)),
        *('-H', 'content-type: application/grpc', '-H', 'te: trailers'),
    ]
