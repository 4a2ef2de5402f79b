"""Leases: which workers live, as tables of what was heard and when."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.events.leases import DOWN, DRAINING, LEASE, UP, BadBeat, Beat, Leases

A, B = 'rpc.s.A', 'rpc.s.B'


def beat(worker: str, *subjects: str, state: str = UP) -> Beat:
    return Beat(worker=worker, state=state, subjects=frozenset(subjects))


def test_a_worker_comes_lives_and_falls_silent() -> None:
    leases = Leases(0.0)
    assert leases.absence(A, 5.0) == 5.0
    assert leases.hear('s', beat('w', A), 5.0)
    assert not leases.hear('s', beat('w', A), 6.0)
    assert leases.served == {A}
    assert leases.lives('s')
    assert not leases.lapse(6.0 + LEASE - 0.1)
    assert leases.lapse(6.0 + LEASE)
    assert leases.served == set()
    assert leases.absence(A, 7.0 + LEASE) == 1.0
    assert leases.was_served(A)
    assert not leases.was_served(B)


def test_the_last_of_two_counts() -> None:
    leases = Leases(0.0)
    leases.hear('s', beat('w1', A, B), 1.0)
    assert not leases.hear('s', beat('w2', A), 1.0)
    assert leases.hear('s', beat('w1', A, B, state=DOWN), 2.0)
    assert leases.served == {A}
    assert leases.absence(A, 9.0) == 0
    assert leases.absence(B, 3.0) == 1.0


def test_a_draining_worker_serves_no_more_and_is_not_absent() -> None:
    leases = Leases(0.0)
    leases.hear('s', beat('w', A), 1.0)
    assert leases.hear('s', beat('w', A, state=DRAINING), 2.0)
    assert leases.served == set()
    assert leases.lives('s')
    assert leases.absence(A, 4.0) == 0
    leases.hear('s', beat('w', A, state=DOWN), 5.0)
    assert leases.absence(A, 6.0) == 1.0
    assert not leases.lives('s')


def test_a_worker_that_goes_without_having_come() -> None:
    leases = Leases(0.0)
    assert not leases.hear('s', beat('w', A, state=DOWN), 1.0)
    assert leases.served == set()


def test_after_our_own_absence_everybody_has_its_time_again() -> None:
    leases = Leases(0.0)
    leases.hear('s', beat('w1', A), 0.0)
    leases.hear('s', beat('w2', B), 0.0)
    leases.hear('s', beat('w2', B, state=DOWN), 1.0)
    leases.renew(100.0)
    assert not leases.lapse(100.0 + LEASE / 2)
    assert leases.served == {A}
    assert leases.absence(B, 101.0) == 1.0


def test_served_stays_the_same_set() -> None:
    """Others hold on to it, to look at it for each call."""
    leases = Leases(0.0)
    served = leases.served
    leases.hear('s', beat('w', A), 0.0)
    assert served is leases.served
    assert served == {A}


@given(
    st.text(max_size=9), st.sampled_from((UP, DRAINING, DOWN)), st.frozensets(st.text(max_size=9)), st.integers(0, 99)
)
def test_beats_come_back(worker: str, state: str, subjects: frozenset[str], free: int) -> None:
    said = Beat(worker=worker, state=state, subjects=subjects, free=free)
    assert Beat.decode(said.encode()) == said


@given(st.binary(max_size=80))
def test_garbage_is_a_bad_beat_and_nothing_else(payload: bytes) -> None:
    with suppress(BadBeat):
        Beat.decode(payload)


@pytest.mark.parametrize(
    'payload',
    [
        b'', b'[]', b'5', b'{"worker": 1, "state": "up", "subjects": []}',
        b'{"worker": "w", "state": "?", "subjects": []}',
        b'{"worker": "w", "state": "up", "subjects": [1]}', b'{"worker": "w", "state": "up", "subjects": "x"}',
        b'{"worker": "w", "state": "up", "subjects": [], "free": "x"}', b'[' * 100_000, b' ' * 300_000,
    ],
)  # fmt: skip
def test_bad_beats(payload: bytes) -> None:
    with pytest.raises(BadBeat):
        Beat.decode(payload)


def test_who_is_gone() -> None:
    """By its own word, or by silence."""
    leases = Leases(0.0)
    leases.hear('s', beat('a'), 0.0)
    leases.hear('s', beat('b'), 2.0)
    leases.hear('s', beat('b', state=DRAINING), 2.0)
    assert leases.gone == set()
    leases.lapse(3.0)
    leases.hear('s', beat('b', state=DOWN), 3.0)
    leases.hear('s', beat('c', state=DOWN), 3.0)
    assert leases.gone == {'a', 'b'}
