"""Who makes the calls: h2load, but for the peers without a server in front, whose client speaks NATS."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import h2load, load
from benchmarks.h2load import Shape
from benchmarks.load import Load
from benchmarks.prepare import SERVERS
from benchmarks.running import Running


def call(running: Running, shape: Shape, *, calls: int, timeout: float) -> Load:
    """Make so many calls; wait at most `timeout` seconds for the last answer."""
    script = running.peer.client
    if script is None:
        return h2load.run(running.address, running.folder, shape, calls=calls, timeout=timeout)
    assert shape.in_flight == 1, 'these make one call at a time'
    command = [sys.executable, str(SERVERS / script), running.nats, str(calls), str(shape.size)]
    try:
        output, errors, client = load.run(command, timeout=timeout, env=running.env)
        times = json.loads(output)
    except subprocess.TimeoutExpired:
        return Load(calls=calls, problems=(f'calls still without an answer after {timeout:.0f} s',))
    except ValueError:
        last = (errors.strip().splitlines() or ['nothing'])[-1]
        return Load(calls=calls, problems=(f'{script} did not finish, its last words: {last}',))
    return Load(calls=calls, rate=len(times) / sum(times) * 1e6, times=times, client=client)
