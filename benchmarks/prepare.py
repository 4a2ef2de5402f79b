"""What is made once under build/bench: the generated module, venvs for other libraries, the programs in Go."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks import many
from benchmarks.failure import BenchmarkError

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / 'build' / 'bench'
GENERATED = BUILD / 'gen'
SERVERS = HERE / 'servers'
PROTO = HERE / 'echo.proto'
MANY_PROTO = GENERATED / 'many.proto'
GO = BUILD / 'go'

WALNATS = '1.2.6'
FASTSTREAM = '0.7.8'
SHARED = ('grpcio', 'nats-py', 'protobuf', 'uvloop')
"""What all sides use, in the versions that natsgate has here: only the libraries themselves are compared."""


def nothing() -> None:
    """For who needs nothing."""


def generate() -> None:
    """Make echo_pb2 and many_pb2, which the natsgate actors import."""
    GENERATED.mkdir(parents=True, exist_ok=True)
    MANY_PROTO.write_text(many.proto())
    for proto in (PROTO, MANY_PROTO):
        _run([sys.executable, '-m', 'grpc_tools.protoc', f'-I{proto.parent}', f'--python_out={GENERATED}', str(proto)])


def go() -> None:
    """Build the programs in Go; a second time costs next to nothing. Needs Go, and at first a module proxy."""
    if shutil.which('go') is None:
        raise BenchmarkError('go is missing, in which two peers are written: see https://go.dev/doc/install')
    GO.mkdir(parents=True, exist_ok=True)
    _run(['go', 'build', '-C', str(HERE / 'go'), '-buildvcs=false', '-o', str(GO), './...'])


@dataclass(frozen=True, slots=True)
class Venv:
    """A virtual environment with one other library."""

    name: str
    requirement: str

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return BUILD / f'{self.name}-venv' / 'bin' / 'python'

    def make(self) -> None:
        """Make it, unless it is there with these very versions. Needs a package index."""
        wanted = '\n'.join([self.requirement, *(f'{name}=={version(name)}' for name in SHARED), ''])
        folder = self.python.parent.parent
        ready = folder / 'ready.txt'
        if ready.exists() and ready.read_text() == wanted:
            return
        print(f'setting up a venv for {self.name} (once)', file=sys.stderr)
        _run([sys.executable, '-m', 'venv', '--clear', str(folder)])
        _run([str(self.python), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', *wanted.split()])
        ready.write_text(wanted)


WALNATS_VENV = Venv('walnats', f'walnats=={WALNATS}')
FASTSTREAM_VENV = Venv('faststream', f'faststream[nats]=={FASTSTREAM}')


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['no output'])[-1]
        raise BenchmarkError(f'{" ".join(command[:5])} ... failed: {last}')
