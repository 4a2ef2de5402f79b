"""What the system knows of processes."""

import os
from pathlib import Path


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def serving(pid: int) -> int:
    """The process that serves: with Envoy's edge, the child of the one that was started."""
    return (children_of(pid) or [pid])[0]


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    return _status(pid, 'VmRSS')


def peak(pid: int, *, reset: bool = False) -> int:
    """The most bytes that it had in memory since the last reset."""
    if reset:
        Path(f'/proc/{pid}/clear_refs').write_text('5')
    return _status(pid, 'VmHWM')


def _status(pid: int, name: str) -> int:
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) << 10


def cpu(pid: int) -> float:
    """Seconds of CPU that it has used."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
