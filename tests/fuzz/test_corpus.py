"""Each target, with the inputs that were kept and with some of Hypothesis': `make fuzz` does it for long."""

import pytest
from fuzz.targets import TARGETS, Target
from hypothesis import given

ALL = pytest.mark.parametrize('target', TARGETS.values(), ids=lambda target: target.name)


@ALL
def test_the_corpus(target: Target) -> None:
    assert target.corpus, 'it has none: make fuzz, then make corpus'
    for path in target.corpus:
        target.check(path.read_bytes())


@ALL
def test_any_bytes(target: Target) -> None:
    @given(target.inputs)
    def holds(data: bytes) -> None:
        target.check(data)

    holds()


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for target in TARGETS.values() for path in target.corpus) < 200_000
