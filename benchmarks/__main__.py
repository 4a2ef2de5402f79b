"""The command: `python -m benchmarks`. The tables go to stdout, the progress to stderr.

Exit code: 0; 1 if a figure is invalid, a peer does not start or, with --strict, a promise does not hold.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import choice, machine, pages, prepare, table
from benchmarks.failure import BenchmarkError
from benchmarks.peers import PEERS
from benchmarks.report import Report
from benchmarks.run import Pace, run
from benchmarks.scenarios import SCENARIOS, Extent, Scenario
from natsgate.events.status import ContractError

ROUNDS = {Extent.QUICK: 1, Extent.CORE: 5, Extent.FULL: 5}
SECONDS = {Extent.QUICK: 0.7, Extent.CORE: 1.5, Extent.FULL: 1.5}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m benchmarks', description=__doc__.splitlines()[0])
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument('--quick', action='store_const', dest='extent', const=Extent.QUICK, default=Extent.CORE,
                        help='one short round of most promises, without peers in Go')  # fmt: skip
    extent.add_argument('--full', action='store_const', dest='extent', const=Extent.FULL,
                        help='all sizes and all numbers of calls in flight')  # fmt: skip
    parser.add_argument('--only', nargs='+', metavar='SCENARIO', help='which to measure; * is allowed')
    parser.add_argument('--peers', nargs='+', choices=PEERS, metavar='PEER', help='whom to measure')
    parser.add_argument('--list', action='store_true', help='list the scenarios, each with its peers')
    parser.add_argument('--rounds', type=int, help='how often each peer is measured, in turn (default 5)')
    parser.add_argument('--seconds', type=float, help='about how long a measurement lasts (default 1.5)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write every measurement there')
    parser.add_argument('--docs', action='store_true', help='write docs/performance.md and docs/performance.svg')
    parser.add_argument('--read', type=Path, metavar='FILE', help='measure nothing: show what --json has written')
    parser.add_argument('--strict', action='store_true', help='exit with 1 if a promise does not hold')
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    if options.list:
        print(*(f'{scenario.name:<20}{" ".join(scenario.peers)}' for scenario in SCENARIOS), sep='\n')
        return 0
    if options.read:
        report = Report.read(options.read)
    else:
        scenarios = choice.chosen(options.extent, options.only, options.peers)
        rounds, seconds = options.rounds or ROUNDS[options.extent], options.seconds or SECONDS[options.extent]
        report = measured(scenarios, Pace(rounds=rounds, seconds=seconds), arguments)
        if options.extent is Extent.QUICK:
            print(choice.left_out(scenarios))
    if options.json:
        options.json.write_text(report.to_json())
    if options.docs:
        pages.write(report)
    show(report)
    return exit_code(report, strict=options.strict)


def measured(scenarios: Sequence[Scenario], pace: Pace, arguments: Sequence[str]) -> Report:
    """Make what is needed, and measure. Raises BenchmarkError."""
    _allow_connections()
    about = machine.describe([Path(word).name for word in arguments])
    prepare.generate()
    for make in dict.fromkeys(PEERS[name].needs for scenario in scenarios for name in scenario.peers):
        make()
    prepare.BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix='run-', dir=prepare.BUILD))
    kept = False
    try:
        report = Report(about, run(scenarios, folder, pace))
        if kept := any(one.problems for one in report.found):
            print(f'the logs are in {folder}', file=sys.stderr)
    except BenchmarkError:
        kept = True
        raise
    finally:
        if not kept:
            shutil.rmtree(folder)
    return report


def show(report: Report) -> None:
    """Print the promises, the tables and the circumstances."""
    print(f'### Promises\n\n{table.of_promises(report.verdicts)}\n\n{pages.tables(report)}\n')
    print('Medians of the rounds; a ratio is the median of the ratios of each round. CPU µs are per call or message.\n')
    print(f'### Made with\n\n{machine.header(report.about)}', flush=True)


def exit_code(report: Report, *, strict: bool) -> int:
    """Say what went wrong, and judge it. What other libraries lose is theirs."""
    print(*table.problems(report.found), sep='\n', file=sys.stderr)
    if any(one.problems and not PEERS[one.peer].stumbles for one in report.found):
        return 1
    return 1 if strict and any(one.word == 'MISSED' for one in report.verdicts) else 0


def _allow_connections() -> None:
    """A thousand connections are held; what is started inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except (BenchmarkError, ContractError) as error:
        sys.exit(f'benchmarks: {error}')
    except KeyboardInterrupt:
        sys.exit(130)
