"""Processes that we start: that they end when we are killed, and what one of several is told by their parent."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

T = TypeVar('T')

VARIABLE = '_NATSGATE_CHILD'
"""The variable of the environment in which a child finds what its parent tells it."""

# Linux ends the process when we are killed. Said by a process in between, not by a preexec_fn: after a plain fork of a
# process with gRPC's threads, Python may crash. We may be gone before it is said, hence the look at the parent.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit('the parent is gone')
os.execv(sys.argv[2], sys.argv[2:])
"""


def dying_with_us() -> list[str]:
    """What to put before a command so that it gets SIGTERM when we are killed. Elsewhere than on Linux it stays."""
    if sys.platform != 'linux':
        return []
    return [sys.executable, '-I', '-S', '-c', _DIE_WITH_PARENT, str(os.getpid())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One of several processes that a parent keeps running."""

    number: int
    """Counts from 1; the process that is started in the place of a dead one has the same."""
    ready: int
    """The file descriptor on which the parent hears that we are ready."""
    settings: Mapping[str, Any]
    """Settings that differ from what command line, environment and file say."""

    def tell_ready(self) -> None:
        """Tell the parent. It may be gone."""
        try:
            os.write(self.ready, b'1')
        except BrokenPipeError:
            return
        finally:
            os.close(self.ready)

    def to_environment(self) -> dict[str, str]:
        """The variable for the child's environment."""
        return {VARIABLE: json.dumps({'number': self.number, 'ready': self.ready, 'settings': dict(self.settings)})}

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self | None:
        """What our parent told us; None when there is none. The variable is removed: it is not for our own children."""
        told = environ.pop(VARIABLE, None)
        return None if told is None else cls(**json.loads(told))


def as_told(settings: T, child: Child | None) -> T:
    """The settings with what the parent wants otherwise."""
    if child is None:
        return settings
    told = {name: tuple(value) if isinstance(value, list) else value for name, value in child.settings.items()}
    return replace(settings, **told, child=child)  # type: ignore[type-var]
