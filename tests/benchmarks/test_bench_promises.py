"""How a promise is judged, and what the tables make of it."""

import math

import pytest
from benchmarks import table
from benchmarks.measure import Measurement
from benchmarks.promises import PROMISES, Bound, Figure, Promise
from benchmarks.scenarios import BUSY
from benchmarks.verdicts import judge, ratio

MORE = Promise('1', 'rate', Figure(BUSY, 'ours', 'rate'), Figure(BUSY, 'theirs', 'rate'), Bound(1.8, 2.5))
LESS = Promise('4', 'CPU', Figure(BUSY, 'ours', 'cpu_us'), Figure(BUSY, 'theirs', 'cpu_us'), Bound(0.5, 0.25))


def measured(peer: str, *values: float, problems: tuple[str, ...] = ()) -> list[Measurement]:
    return [
        Measurement(
            scenario=BUSY.name,
            peer=peer,
            round=number,
            values={'rate': value, 'cpu_us': 1000 / value},
            problems=problems,
        )
        for number, value in enumerate(values, 1)
    ]


def test_the_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_medians() -> None:
    verdict = judge(MORE, measured('ours', 10, 30, 20) + measured('theirs', 1, 10, 10))
    assert (verdict.value, verdict.of, verdict.over) == (3, 20, 10)


def test_rounds_are_paired_by_their_number_whatever_their_order() -> None:
    verdict = judge(MORE, [*reversed(measured('ours', 2, 40)), *measured('theirs', 1, 10)])
    assert verdict.value == pytest.approx((2 + 4) / 2)


@pytest.mark.parametrize(('value', 'word'), [(2.5, 'aim'), (2.4, 'floor'), (1.8, 'floor'), (1.79, 'MISSED')])
def test_more_is_better(value: float, word: str) -> None:
    assert judge(MORE, measured('ours', value) + measured('theirs', 1)).word == word


@pytest.mark.parametrize(('value', 'word'), [(4, 'aim'), (3, 'floor'), (2, 'floor'), (1.9, 'MISSED')])
def test_less_is_better(value: float, word: str) -> None:
    assert judge(LESS, measured('ours', value) + measured('theirs', 1)).word == word


def test_a_round_that_lost_a_call_is_no_figure() -> None:
    found = measured('ours', 10) + measured('theirs', 1, problems=('a call was lost',))
    assert judge(MORE, found).word == 'not measured'
    assert 'invalid' in table.of_scenario(BUSY, [*found, *measured('bare', 1, problems=('a call was lost',))])


def test_what_was_not_measured_is_not_judged() -> None:
    verdict = judge(MORE, measured('ours', 10))
    assert verdict.word == 'not measured'
    assert math.isnan(verdict.value)
    assert '| - | ≥ 1.8 | ≥ 2.5 | - | - | not measured |' in table.of_promises([verdict])


def test_a_figure_without_another_is_judged_itself() -> None:
    alone = Promise('13', 'rate', Figure(BUSY, 'ours', 'rate'), None, Bound(100, 50))
    assert [judge(alone, measured('ours', value)).word for value in (40, 60, 110)] == ['aim', 'floor', 'MISSED']


def test_a_figure_without_a_bound_is_told() -> None:
    told = judge(Promise('', 'rate', Figure(BUSY, 'ours', 'rate'), None, None), measured('ours', 4))
    assert (told.word, told.value) == ('told', 4)
    assert '| 4.00 | - | - | 4.00 | - | told |' in table.of_promises([told])


def test_nothing_is_divided_by_nothing() -> None:
    assert math.isnan(ratio(1, 0))


def test_each_promise_is_about_peers_that_its_scenario_measures() -> None:
    for promise in PROMISES:
        for figure in filter(None, (promise.of, promise.over)):
            assert figure.peer in figure.scenario.peers, promise.what


def test_the_table_of_a_scenario_has_a_row_for_each_peer_that_was_measured() -> None:
    found = measured('bare', 10, 20) + measured('natsgate', 20, 60)
    bare, ours = table.of_scenario(BUSY, found).splitlines()[2:]
    assert (bare[:14], bare[-15:]) == ('| bare | 15 | ', '| 1.00 | 1.00 |')
    assert (ours[:18], ours[-15:]) == ('| natsgate | 40 | ', '| 2.50 | 0.42 |')
