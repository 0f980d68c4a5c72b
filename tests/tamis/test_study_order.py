"""What a limited sum buys first."""

from __future__ import annotations

import pytest

from tamis.cells import Cell
from tamis.errors import UserError
from tamis.study_order import affordable

MONEY = {("cluster", 10): 1.0, ("random", 10): 1.0, ("cluster", 40): 4.0, ("random", 40): 4.0, ("all", 100): 10.0}


def bought(limit, money=MONEY, seeds=5):
    cells = [
        Cell(f"{m}-{n}-s{s}", ["x"], about={"method": m, "size": n}) for s in range(seeds) for m, n in money
    ]  # seed by seed, as a study plans them
    return [c.name for c in affordable(cells, money, limit)]


def spent(names):
    return sum(MONEY[n.split("-")[0], int(n.split("-")[1])] for n in names)


def test_what_any_answer_needs_is_bought_first_and_less_is_refused_with_its_price():
    assert bought(14.0) == ["all-100-s0", "cluster-10-s0", "random-10-s0", "cluster-10-s1", "random-10-s1"]
    with pytest.raises(UserError, match=r"pay for no answer: the least costs 14\.0"):
        bought(13.9)


def test_a_size_is_bought_for_all_methods_or_for_none():
    assert not [n for n in bought(21.9) if "-40-" in n]
    assert [n for n in bought(22.0) if "-40-" in n] == ["cluster-40-s0", "random-40-s0"]


def test_money_that_is_left_goes_where_it_takes_most_variance_off():
    more = bought(32.0)[7:]
    # all serves four comparisons, and its second training takes half of their variance off: more than a third seed
    assert more[0] == "cluster-10-s2"  # 2 x (1/2 - 1/3) for 1; all: 4 x (1 - 1/2) for 10
    assert "all-100-s1" not in more
    cheap = {**MONEY, ("all", 100): 1.0}
    assert bought(13.0 + 1.0, cheap)[-1] == "all-100-s1"


@pytest.mark.parametrize("limit", [14.0, 30.0, 77.0, 1e6])
def test_never_more_is_spent_than_there_is_and_nothing_is_bought_twice(limit):
    names = bought(limit)
    assert spent(names) <= limit
    assert len(set(names)) == len(names)
    if limit == 1e6:
        assert len(names) == 25
