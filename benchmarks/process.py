"""The processes of a peer: started in sessions of their own, metered, and stopped again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.failure import BenchmarkError

STOP_TIMEOUT = 5.0
"""Seconds that a process has to end after SIGTERM, before it is killed."""

_TICK = 1 / os.sysconf('SC_CLK_TCK')
_PARENT, _CHILDREN_USER, _CHILDREN_SYSTEM = 1, 13, 14  # fields of /proc/PID/stat, counted behind the name


class Process:
    """One started process, with what it started itself."""

    def __init__(self, command: Sequence[str | Path], *, log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        with log.open('wb') as output:
            # Its own session: Ctrl-C must not reach it before the load has stopped.
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise BenchmarkError with its last words if the process has ended."""
        if (code := self._process.poll()) is not None:
            raise BenchmarkError(f'{self.log.parent.name}: {self.log.stem} ended with code {code}: {self.last_words()}')

    def last_words(self) -> str:
        """Return the last line that the process wrote."""
        lines = self.log.read_text(errors='replace').strip().splitlines()
        return f'{lines[-1]} ({self.log})' if lines else f'it wrote nothing ({self.log})'

    def cpu(self) -> float:
        """Return the CPU seconds, user and system, of the process and its descendants, those that ended included."""
        self.check()
        return sum(_cpu(pid, fields) for pid, fields in _family(self.pid).items())

    def memory(self) -> int:
        """Return the bytes of memory of the process and its descendants; what several share counts once."""
        self.check()
        return sum(map(_memory, _family(self.pid)))

    def stop(self) -> None:
        """End the process and whatever it started."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def _family(root: int) -> dict[int, list[str]]:
    """The fields of /proc/PID/stat of a process and its descendants."""
    everyone = {int(path.name): _fields(path) for path in Path('/proc').iterdir() if path.name.isdecimal()}
    family = {root}
    grown = True
    while grown:
        children = {pid for pid, fields in everyone.items() if fields and int(fields[_PARENT]) in family}
        grown = not children <= family
        family |= children
    return {pid: everyone[pid] for pid in family if everyone.get(pid)}


def _memory(pid: int) -> int:
    try:
        rollup = Path(f'/proc/{pid}/smaps_rollup').read_text()
    except OSError:  # it ended while we looked
        return 0
    found = re.search(r'^Pss:\s+(\d+) kB$', rollup, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _fields(path: Path) -> list[str]:
    try:
        return (path / 'stat').read_text().rpartition(')')[2].split()
    except OSError:  # it ended while we looked
        return []


def _cpu(pid: int, fields: list[str]) -> float:
    # clock_getcpuclockid(3): the CPU clock of another process, with all its threads, in nanoseconds, where utime and
    # stime of /proc/PID/stat have a resolution of 10 ms.
    try:
        own = time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0
    return own + (int(fields[_CHILDREN_USER]) + int(fields[_CHILDREN_SYSTEM])) * _TICK
