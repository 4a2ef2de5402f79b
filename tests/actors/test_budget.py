"""One limit for several consumers: never exceeded, and never all of it for one."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsgate.actors.credit import Budget, SharedCredit
from natsgate.events import ContractError

MOVES = st.lists(st.tuples(st.sampled_from(['ask', 'deliver', 'finish', 'return']), st.integers(0, 3)), max_size=200)


def ask(credit: SharedCredit) -> None:
    if count := credit.due():
        credit.asked(count)


def finished(credit: SharedCredit, budget: Budget) -> None:
    """As a puller does it."""
    credit.finished()
    if credit.running or credit.promised:
        budget.wait(partial(ask, credit))
    else:
        ask(credit)
    budget.serve()


@given(st.integers(4, 20), MOVES)
def test_never_more_than_the_limit_and_one_for_each(slots: int, moves: list[tuple[str, int]]) -> None:
    budget = Budget(slots, 4)
    sharers = [SharedCredit(10, budget) for _ in range(4)]
    for move, which in moves:
        credit = sharers[which]
        match move:
            case 'ask':
                ask(credit)
            case 'deliver' if credit.promised:
                credit.delivered()
            case 'finish' if credit.running:
                finished(credit, budget)
            case 'return':
                credit.returned(credit.promised)
        assert sum(each.running + each.promised for each in sharers) <= slots
        assert budget.left == slots - sum(max(1, each.running + each.promised) for each in sharers)
        assert all(each.due() == 1 for each in sharers if not (each.running or each.promised))
        assert all(0 <= each.free <= 10 for each in sharers)


def test_one_that_is_busy_grows_until_all_but_one_for_each_is_its_own() -> None:
    budget = Budget(10, 3)
    busy, *others = (SharedCredit(64, budget) for _ in range(3))
    seen = []
    for _ in range(5):
        count = busy.due()
        seen.append(count)
        busy.asked(count)
        for _ in range(count):
            busy.delivered()
    assert seen == [1, 1, 2, 4, 0]
    assert [other.due() for other in others] == [1, 1]


def test_who_waits_longest_is_next() -> None:
    """Not the one that has just ended something, and would have it all."""
    budget = Budget(3, 2)
    greedy, modest = SharedCredit(64, budget), SharedCredit(64, budget)
    for credit in (greedy, modest, greedy):
        credit.asked(credit.due())
        credit.delivered()
    assert budget.left == 0
    budget.wait(partial(ask, modest))
    finished(greedy, budget)
    assert (greedy.promised, modest.promised) == (0, 1)


def test_fewer_than_there_are_consumers() -> None:
    with pytest.raises(ContractError, match='max_jobs 2: 3 consumers need a slot each'):
        Budget(2, 3)
