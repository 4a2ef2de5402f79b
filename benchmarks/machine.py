"""Where and with what the figures were made."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import h2load
from benchmarks.prepare import FASTSTREAM, HERE, SHARED, WALNATS
from natsgate.command.embedded import find_server


def describe(arguments: list[str]) -> dict[str, str]:
    """Return what a reader needs to make the figures again. Call it before the load: it notes the machine's own."""
    return {
        'date': datetime.now(UTC).strftime('%Y-%m-%d %H:%M UTC'),
        'command': shlex.join(['python', '-m', 'benchmarks', *arguments]),
        'machine': f'{_cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}',
        'load before': ' '.join(f'{average:.2f}' for average in os.getloadavg()),
        'python': platform.python_version(),
        **{name: version(name) for name in SHARED},
        'walnats': WALNATS,
        'faststream': FASTSTREAM,
        **_go_modules(),
        'nats-server': _first_line(str(find_server()), '--version').removeprefix('nats-server: '),
        'h2load': _first_line(h2load.require(), '--version').removeprefix('h2load '),
    }


def header(about: dict[str, str]) -> str:
    """Return it as a Markdown list."""
    return '\n'.join(f'- {name}: {value}' for name, value in about.items())


def _cpu_model() -> str:
    for line in Path('/proc/cpuinfo').read_text().splitlines():
        name, _, value = line.partition(':')
        if name.strip() == 'model name':
            return value.strip()
    return platform.machine()


def _go_modules() -> dict[str, str]:
    """The versions that the programs in Go are built with."""
    found = re.findall(r'^\t\S+/(\S+) (v\S+)$', (HERE / 'go' / 'go.mod').read_text(), re.MULTILINE)
    return {{'grpc': 'grpc-go'}.get(name, name): version for name, version in found if name in ('grpc', 'nats.go')}


def _first_line(*command: str) -> str:
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return lines[0] if lines else 'unknown'
