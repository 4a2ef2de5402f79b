"""The command: `python -m benchmarks`. The tables go to stdout, the progress to stderr.

Exit code: 0; 1 if a figure is invalid, a peer does not start or, with --strict, a promise does not hold.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from math import isnan
from pathlib import Path
from typing import Any

from benchmarks import machine, prepare, table
from benchmarks.failure import BenchmarkError
from benchmarks.measure import Measurement
from benchmarks.peers import PEERS
from benchmarks.promises import PROMISES, Verdict, judge
from benchmarks.run import Pace, run
from benchmarks.scenarios import SCENARIOS, Scenario
from natsgate.events.status import ContractError


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, help='how often each peer is measured, in turn (default 5)')
    parser.add_argument('--seconds', type=float, help='about how long a measurement lasts (default 2)')
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument('--quick', action='store_true', help='one short round of the promises, without peers in Go')
    extent.add_argument('--full', action='store_true', help='all sizes and numbers of calls in flight')
    parser.add_argument('--only', nargs='+', metavar='SCENARIO', help='which to measure, * is allowed: --list has them')
    parser.add_argument('--peers', nargs='+', choices=PEERS, help='whom to measure (default all)')
    parser.add_argument('--list', action='store_true', help='list scenarios and peers')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write every measurement there')
    parser.add_argument('--strict', action='store_true', help='exit with 1 if a promise does not hold')
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        print(*(f'{scenario.name:<24}{" ".join(scenario.peers)}' for scenario in SCENARIOS.values()), sep='\n')
        return 0
    scenarios = chosen(options)
    peers = {name for scenario in scenarios for name in scenario.peers} & set(options.peers or PEERS)
    if options.quick and (left_out := {name for name in peers if PEERS[name].needs is prepare.go}):
        print(f'left out, because nothing is built in Go in a quick run: {", ".join(sorted(left_out))}')
        peers -= left_out
    _allow_connections()
    about = machine.describe(list(arguments))
    prepare.generate()
    for make in {PEERS[name].needs for name in peers}:
        make()
    pace = Pace(
        rounds=options.rounds or (1 if options.quick else 5), seconds=options.seconds or (0.7 if options.quick else 2)
    )
    prepare.BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix='run-', dir=prepare.BUILD))
    try:
        found = run(scenarios, peers, folder, pace)
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(folder)
        raise
    verdicts = [judge(promise, found) for promise in PROMISES]
    if options.json:
        options.json.write_text(report(about, found, verdicts))
    show(scenarios, found, verdicts, about)
    if wrong := table.problems(found):
        print(*wrong, f'the logs are in {folder}', sep='\n', file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 1 if options.strict and any(one.word == 'MISSED' for one in verdicts) else 0


def chosen(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios that are asked for. Raises BenchmarkError when there are none."""
    if options.only is None:
        return [scenario for scenario in SCENARIOS.values() if options.full or not scenario.full]
    found = [one for one in SCENARIOS.values() if any(fnmatch(one.name, wanted) for wanted in options.only)]
    if not found:
        raise BenchmarkError(f'no scenario is called {" or ".join(options.only)}: --list shows them')
    return found


def show(
    scenarios: Sequence[Scenario],
    found: Sequence[Measurement],
    verdicts: Sequence[Verdict],
    about: dict[str, str],
) -> None:
    """Print the promises, the tables and the circumstances."""
    print(f'### Promises\n\n{table.of_promises(verdicts)}\n')
    for scenario in scenarios:
        print(f'### {scenario.title}\n\n{table.of_scenario(scenario, found)}\n')
    print('Medians of the rounds; a ratio is the median of the ratios of each round. CPU µs are per call or message.\n')
    print(f'### Made with\n\n{machine.header(about)}', flush=True)


def _allow_connections() -> None:
    """A thousand connections are held; what is started inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def report(about: dict[str, str], found: Sequence[Measurement], verdicts: Sequence[Verdict]) -> str:
    """All of it, as JSON."""
    judged = [
        {'line': one.promise.line, 'what': one.promise.what, 'value': one.value, 'of': one.of, 'over': one.over,
         'floor': one.promise.floor, 'aim': one.promise.aim, 'met': one.word}
        for one in verdicts
    ]  # fmt: skip
    whole = {'about': about, 'measurements': [asdict(one) for one in found], 'promises': judged}
    return json.dumps(_known(whole), indent=2, allow_nan=False) + '\n'


def _known(value: Any) -> Any:
    """The value with None for what was not found out: JSON has no NaN."""
    match value:
        case dict():
            return {name: _known(one) for name, one in value.items()}
        case list() | tuple():
            return [_known(one) for one in value]
        case float() if isnan(value):
            return None
    return value


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except (BenchmarkError, ContractError) as error:
        sys.exit(f'benchmarks: {error}')
    except KeyboardInterrupt:
        sys.exit(130)
