"""The number of times a handler ran, in a file that the benchmark reads while the handler runs.

The file named by BENCH_COUNT holds one native unsigned 64-bit integer, mapped into memory: an increment costs some
60 ns and no system call, so that counting does not show in what is measured. One process writes it.
"""

import mmap
import os
from collections.abc import Callable


def counter() -> Callable[[], None]:
    """Return a function that adds one to the count in the file named by BENCH_COUNT."""
    with open(os.environ['BENCH_COUNT'], 'r+b') as file:
        count = memoryview(mmap.mmap(file.fileno(), 8)).cast('Q')

    def add() -> None:
        count[0] += 1

    return add
