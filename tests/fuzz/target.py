"""Targets: what is given any bytes, and must hold what it promises. To add one is to write one function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

CORPUS = Path(__file__).parent / 'corpus'
"""Inputs that are kept, a folder for each target."""

Check = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """A check of any bytes, which raises for what is wrong."""

    name: str
    group: str
    """What is fuzzed together in one span of time."""
    check: Check
    words: tuple[bytes, ...]
    """What its inputs are made of, besides any bytes."""

    @property
    def inputs(self) -> st.SearchStrategy[bytes]:
        """Inputs as Hypothesis makes them."""
        parts = st.binary(max_size=12)
        return st.lists(parts | st.sampled_from(self.words), max_size=24).map(b''.join)

    @property
    def corpus(self) -> list[Path]:
        """The kept inputs."""
        return sorted((CORPUS / self.name).glob('*'))


TARGETS: dict[str, Target] = {}


def target(group: str, *words: bytes) -> Callable[[Check], Check]:
    """Make a target of a function; it has the function's name."""

    def register(check: Check) -> Check:
        TARGETS[check.__name__] = Target(check.__name__, group, check, words)
        return check

    return register


NEXT, IS = b'\x1e', b'\x1f'
"""What parts pairs, and a pair's key from its value, in the input of a target that takes pairs."""


def pairs(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The pairs that an input stands for."""
    for part in data.split(NEXT) if data else ():
        key, _, value = part.partition(IS)
        yield key, value


def pieces(data: bytes) -> tuple[list[bytes], bytes]:
    """A stream as it may arrive, and the whole of it: the first bytes of the input say how it is cut."""
    count = data[0] % 8 if data else 0
    sizes, whole = [size or 300 for size in data[1 : 1 + count]], data[1 + count :]
    found, position = [], 0
    for size in _for_ever(sizes or [len(whole) or 1]):
        if position >= len(whole):
            return found, whole
        found.append(whole[position : position + size])
        position += size
    raise AssertionError


def _for_ever(sizes: Iterable[int]) -> Iterator[int]:
    while True:
        yield from sizes
