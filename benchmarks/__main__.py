"""The command: `python -m benchmarks`. The table goes to stdout, the progress to stderr.

Exit code: 0; 1 if a figure is invalid, a peer does not start or, with --strict, a promise does not hold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from math import isnan
from pathlib import Path
from typing import Any

from benchmarks import load, machine, prepare, table
from benchmarks.failure import BenchmarkError
from benchmarks.measure import Measurement, Meter
from benchmarks.peers import PEERS, started
from natsgate.events.status import ContractError


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, help='how often each peer is measured, in turn (default 5)')
    parser.add_argument('--seconds', type=float, help='about how long a measurement lasts (default 3.5)')
    parser.add_argument('--quick', action='store_true', help='one round of a second each: to see that it runs')
    parser.add_argument('--peers', nargs='+', choices=PEERS, default=list(PEERS), help='which to measure (default all)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write every measurement there')
    parser.add_argument('--strict', action='store_true', help='exit with 1 if a promise does not hold')
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    rounds = options.rounds or (1 if options.quick else 5)
    seconds = options.seconds or (1.0 if options.quick else 3.5)
    about = machine.describe(list(arguments))
    prepare.generate()
    if any(name.startswith('walnats') for name in options.peers):
        prepare.walnats_venv()
    prepare.BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix='run-', dir=prepare.BUILD))
    try:
        found = run(options.peers, folder, rounds=rounds, seconds=seconds)
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(folder)
        raise
    if options.json:
        report = {'about': about, 'measurements': [_known(asdict(one)) for one in found]}
        options.json.write_text(json.dumps(report, indent=2, allow_nan=False) + '\n')
    kept = show(found, about)
    if wrong := table.problems(found):
        print(*wrong, f'the logs are in {folder}', sep='\n', file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0 if kept or not options.strict else 1


def run(names: Sequence[str], folder: Path, *, rounds: int, seconds: float) -> list[Measurement]:
    """Start all peers, measure them in turn, and stop them whatever happens."""
    with ExitStack() as stack:
        try:
            meters = [Meter(started(name, folder, stack)) for name in names]
            found = []
            for one in _measured(meters, rounds, seconds):
                print(_progress(one, rounds), file=sys.stderr)
                found.append(one)
            late = {meter.peer.name: meter.recount() for meter in meters}
            return [replace(one, problems=one.problems + late.pop(one.peer, ())) for one in reversed(found)][::-1]
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):  # from here on, nothing interrupts the stopping
                signal.signal(number, signal.SIG_IGN)


def show(found: Sequence[Measurement], about: dict[str, str]) -> bool:
    """Print the tables, the verdict and the circumstances; tell whether the promises hold."""
    for in_flight in load.CONNECTIONS:
        print(f'### Unary echo of 16 bytes, {in_flight} in flight\n\n{table.table(found, in_flight)}\n')
    verdict, kept = table.verdict(found)
    print('Medians of the rounds; a ratio is the median of the ratios of each round. CPU µs are per call.\n')
    print(f'### Promises, at {table.BOUNDS_AT} in flight\n\n{verdict}\n')
    print(f'### Made with\n\n{machine.header(about)}', flush=True)
    return kept


def _measured(meters: Sequence[Meter], rounds: int, seconds: float) -> Iterator[Measurement]:
    for number in range(rounds):
        first = number % len(meters)  # each begins a round once, so that none always follows the same one
        for in_flight in load.CONNECTIONS:
            for meter in [*meters[first:], *meters[:first]]:
                yield meter.measure(number + 1, in_flight, seconds)


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """The values with None for what was not found out: JSON has no NaN."""
    return {name: None if isinstance(value, float) and isnan(value) else value for name, value in values.items()}


def _progress(one: Measurement, rounds: int) -> str:
    where = f'round {one.round}/{rounds}  {one.peer:<14}{one.in_flight:>4} in flight'
    if one.problems:
        return f'{where}: INVALID: {"; ".join(one.problems)}'
    cpu = ' + '.join(f'{one.cpu_us[part]:.0f}' for part in table.PARTS if part in one.cpu_us)
    return (
        f'{where}: {one.rate:>7,.0f} calls/s, p50 {one.p50_ms:.2f} ms, p99 {one.p99_ms:.2f} ms, '
        f'CPU {cpu} = {one.cpu_sum_us:.0f} µs per call'
    )


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except (BenchmarkError, ContractError) as error:
        sys.exit(f'benchmarks: {error}')
    except KeyboardInterrupt:
        sys.exit(130)
