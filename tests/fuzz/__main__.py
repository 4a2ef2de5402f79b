"""`python -m fuzz [SECONDS]`: each group of targets for so long with Hypothesis, then with atheris; tells the counts.

`python -m fuzz keep`: adds to the corpus what reached something new.
"""

from __future__ import annotations

import faulthandler
import re
import subprocess
import sys
import time
from hashlib import sha1
from pathlib import Path

from fuzz.coverage import reached
from fuzz.target import CORPUS
from fuzz.targets import GROUPS, TARGETS, Target
from hypothesis import HealthCheck, Phase, given, seed, settings

FOUND = Path('build/fuzz')
"""Where atheris puts what reached something new."""
HANGS_AFTER = 60.0
LARGEST = 4096
KEPT_SIZE = 2048

_BATCH = settings(
    max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.target, Phase.shrink],
)  # fmt: skip
_EXECUTIONS = re.compile(r'stat::number_of_executed_units: (\d+)')


def by_hypothesis(target: Target, seconds: float) -> int:
    """Check inputs of Hypothesis' for so long; how many. Raises what the target raises, for the smallest such input."""
    checked = 0

    @_BATCH
    @given(target.inputs)
    def holds(data: bytes) -> None:
        nonlocal checked
        checked += 1
        target.check(data)

    until, batch = time.monotonic() + seconds, time.time_ns()
    while time.monotonic() < until:
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        batch += 1
        seed(batch)(holds)()
    faulthandler.cancel_dump_traceback_later()
    return checked


def by_atheris(target: Target, seconds: float) -> int:
    """Check inputs that atheris finds by what they reach, beginning with the corpus; how many. Exits if one fails."""
    folder = FOUND / target.name
    folder.mkdir(parents=True, exist_ok=True)
    words = folder.with_suffix('.words')
    words.write_text(''.join(map(_quoted, target.words)))
    limits = (f'-max_total_time={max(1, round(seconds))}', f'-timeout={HANGS_AFTER:.0f}', f'-max_len={LARGEST}')
    corpora = [str(folder), *([str(CORPUS / target.name)] if target.corpus else [])]
    done = subprocess.run(
        [sys.executable, '-m', 'fuzz.guided', target.name, *limits, f'-dict={words}', '-print_final_stats=1',
         f'-artifact_prefix={folder}.failed-', *corpora],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    counted = _EXECUTIONS.search(done.stdout)
    if done.returncode or not counted:
        sys.exit(f'{target.name}: {done.stdout[-4000:]}')
    return int(counted[1])


def _quoted(word: bytes) -> str:
    return '"' + ''.join(f'\\x{byte:02x}' for byte in word) + '"\n'


def fuzz(seconds: float) -> None:
    """Each group for so long with either tool."""
    for group in GROUPS:
        targets = [target for target in TARGETS.values() if target.group == group]
        for tool in (by_hypothesis, by_atheris):
            began = time.monotonic()
            counts = {target.name: tool(target, seconds / len(targets)) for target in targets}
            took = time.monotonic() - began
            print(
                f'{group}, {tool.__name__.replace("_", " ")}, {took:.0f} s: {sum(counts.values()):,} inputs', flush=True
            )
            print(f'  {", ".join(f"{name} {count:,}" for name, count in counts.items())}', flush=True)


def keep() -> None:
    """Add what reaches something new: of the words, and of what was found, the smallest first."""
    for target in TARGETS.values():
        folder = CORPUS / target.name
        folder.mkdir(parents=True, exist_ok=True)
        found = [path.read_bytes() for path in (*target.corpus, *sorted((FOUND / target.name).glob('*'), key=_size))]
        known: set[object] = set()
        for data in (*target.words, b''.join(target.words), *found):
            if len(data) <= KEPT_SIZE and (new := reached(target, data) - known):
                known |= new
                (folder / sha1(data).hexdigest()[:16]).write_bytes(data)


def _size(path: Path) -> tuple[int, str]:
    return path.stat().st_size, path.name


if __name__ == '__main__':
    if sys.argv[1:] == ['keep']:
        keep()
    else:
        fuzz(float(sys.argv[1] if sys.argv[1:] else 600))
