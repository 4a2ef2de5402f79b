"""The load: h2load, the same for every peer, and what its output says.

h2load counts every HTTP 200 as a success, and a gRPC error is one. The bytes of DATA tell them apart: an answer has
exactly those of the request, an error has none.
"""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.failure import BenchmarkError

PATH = '/bench.Echo/Unary'
CONNECTIONS = {1: 1, 128: 4}
"""Calls in flight, and how many connections they share."""

MESSAGE = b'\x0a\x10' + b'0123456789abcdef'  # bench.Packet: field 1, 16 bytes
FRAME = b'\x00' + len(MESSAGE).to_bytes(4, 'big') + MESSAGE  # not compressed, length, message

_RATE = re.compile(r'^finished in \S+, ([\d.]+) req/s', re.MULTILINE)
_SUCCEEDED = re.compile(r'^requests: .*?(\d+) succeeded', re.MULTILINE)
_DATA = re.compile(r'^traffic: .*\((\d+)\) data', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run of h2load."""

    calls: int
    """How many were asked for, and sent."""
    rate: float
    """Calls per second, from the first connection to the last answer."""
    p50_ms: float
    """Half of the calls took no longer, in milliseconds."""
    p99_ms: float
    """All but one in a hundred took no longer, in milliseconds."""
    problems: tuple[str, ...] = ()
    """Why the figures cannot be used; empty if they can."""


def require() -> str:
    """Return the path of h2load. Raises BenchmarkError if it is not installed."""
    path = shutil.which('h2load')
    if path is None:
        raise BenchmarkError('h2load is missing, which makes the load: apt-get install nghttp2-client')
    return path


def run(address: str, folder: Path, *, calls: int, in_flight: int, timeout: float) -> Load:
    """Make so many calls, so many at a time; wait at most `timeout` seconds for the last answer."""
    log = folder / 'h2load.tsv'
    log.unlink(missing_ok=True)
    command = _command(address, folder, calls=calls, in_flight=in_flight, log=log)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return Load(calls=calls, rate=math.nan, p50_ms=math.nan, p99_ms=math.nan, problems=(_unanswered(timeout),))
    times = [int(line.split('\t')[2]) for line in log.read_text().splitlines()] if log.exists() else []
    return read(done.stdout, times, calls=calls)


def read(output: str, times: Sequence[int], *, calls: int) -> Load:
    """Judge what h2load printed, and the response times in microseconds that it logged."""
    rate, succeeded, data = (pattern.search(output) for pattern in (_RATE, _SUCCEEDED, _DATA))
    if not (rate and succeeded and data):
        last = (output.strip().splitlines() or ['nothing'])[-1]
        problem = f'h2load did not finish, its last words: {last}'
        return Load(calls=calls, rate=math.nan, p50_ms=math.nan, p99_ms=math.nan, problems=(problem,))
    problems = []
    if int(succeeded[1]) != calls:
        problems.append(f'{succeeded[1]} of {calls} calls got HTTP 200')
    if int(data[1]) != calls * len(FRAME):
        problems.append(f'{data[1]} bytes of answers, not {calls} x {len(FRAME)}: not every call was answered right')
    times = sorted(times)
    p50, p99 = (quantile(times, share) / 1000 for share in (0.5, 0.99))
    return Load(calls=calls, rate=float(rate[1]), p50_ms=p50, p99_ms=p99, problems=tuple(problems))


def quantile(ordered: Sequence[int], share: float) -> float:
    """Return the smallest of the ordered values that this share of them does not exceed; NaN of nothing."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def _command(address: str, folder: Path, *, calls: int, in_flight: int, log: Path) -> list[str]:
    body = folder / 'body.bin'
    body.write_bytes(FRAME)
    connections = CONNECTIONS[in_flight]
    return [
        *(require(), '-n', str(calls), '-c', str(connections), '-m', str(in_flight // connections), '-t', '1'),
        *('-d', str(body), f'--log-file={log}'),
        *('-H', 'content-type: application/grpc', '-H', 'te: trailers', f'http://{address}{PATH}'),
    ]


def _unanswered(timeout: float) -> str:
    return f'calls still without an answer after {timeout:.0f} s'
