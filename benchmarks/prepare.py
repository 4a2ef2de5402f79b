"""What is made once under build/bench: the generated module of echo.proto, and a venv for walnats."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.failure import BenchmarkError

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / 'build' / 'bench'
GENERATED = BUILD / 'gen'
SERVERS = HERE / 'servers'
PROTO = HERE / 'echo.proto'
WALNATS_PYTHON = BUILD / 'walnats-venv' / 'bin' / 'python'

WALNATS = '1.2.6'
SHARED = ('grpcio', 'nats-py', 'protobuf', 'uvloop')
"""What both sides use, in the versions that natsgate has here: only the libraries themselves are compared."""


def generate() -> None:
    """Make echo_pb2, which the natsgate actor imports."""
    GENERATED.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, '-m', 'grpc_tools.protoc', f'-I{HERE}', f'--python_out={GENERATED}', str(PROTO)])


def walnats_venv() -> None:
    """Make the venv of walnats, unless it is there with these very versions. Needs a package index."""
    wanted = '\n'.join([f'walnats=={WALNATS}', *(f'{name}=={version(name)}' for name in SHARED), ''])
    folder = WALNATS_PYTHON.parent.parent
    ready = folder / 'ready.txt'
    if ready.exists() and ready.read_text() == wanted:
        return
    print('setting up a venv for walnats (once)', file=sys.stderr)
    _run([sys.executable, '-m', 'venv', '--clear', str(folder)])
    _run([str(WALNATS_PYTHON), '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', *wanted.split()])
    ready.write_text(wanted)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ['no output'])[-1]
        raise BenchmarkError(f'{" ".join(command[:5])} ... failed: {last}')
