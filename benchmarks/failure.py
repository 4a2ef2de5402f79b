"""The one exception of the benchmark: it cannot go on, and the message says why in one line."""


class BenchmarkError(Exception):
    """Nothing can be measured: a program is missing, or a peer does not start. The message names the cure."""
