"""Successive halving on numbers: who falls, who goes on, how many calls that takes, how often the best one wins."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tamis.halving import Score, cut, most_calls


def scores(**values: float) -> dict[str, Score]:
    return {name: Score(value) for name, value in values.items()}


def test_the_weaker_half_falls_and_is_not_called_worse():
    found = cut(scores(a=0.1, b=0.9, c=0.5, d=0.4, e=0.2), worse=())
    assert found.going_on == ["b", "c", "d"]
    assert found.fallen == {"e": "of the weaker half", "a": "of the weaker half"}


def test_two_are_left_to_the_end_unless_one_is_shown_to_be_worse():
    assert cut(scores(a=0.5, b=0.4, c=0.3), worse=()).going_on == ["a", "b"]
    assert cut(scores(a=0.5, b=0.4), worse=()).going_on == ["a", "b"]
    found = cut(scores(a=0.5, b=0.1), worse={"b"})
    assert (found.going_on, found.fallen) == (["a"], {"b": "shown to be worse"})


def test_one_of_the_better_half_falls_if_it_is_shown_to_be_worse():
    found = cut(scores(a=0.9, b=0.5, c=0.4, d=0.3), worse={"b"})
    assert found.going_on == ["a"]


def test_equal_ones_are_told_apart_by_the_second_number_and_then_stay_as_they_came():
    equal = {"a": Score(0.5, -2.0), "b": Score(0.5, -1.0), "c": Score(0.5, -1.0), "d": Score(0.5)}
    assert cut(equal, worse=()).order == ["b", "c", "a", "d"]


def test_a_candidate_without_a_value_is_last():
    assert cut(scores(a=math.nan, b=0.0), worse=()).order == ["b", "a"]


def test_nobody_falls_after_the_last_round():
    found = cut(scores(a=0.9, b=0.1, c=0.2), worse={"b"}, last=True)
    assert (found.going_on, found.fallen) == (["a", "c", "b"], {})


@pytest.mark.parametrize(("candidates", "calls"), [(1, 256), (2, 512), (4, 544), (5, 608), (6, 624), (8, 704)])
def test_calls_are_counted(candidates, calls):
    assert most_calls(candidates, [16, 64, 256]) == calls


def test_from_five_candidates_on_it_takes_half_the_calls_or_fewer():
    assert all(most_calls(n, [16, 64, 256]) <= n * 256 / 2 for n in range(5, 100))


def test_the_best_of_six_wins_where_it_is_clearly_better():
    truth = {"a": 0.85, "b": 0.70, "c": 0.65, "d": 0.60, "e": 0.5, "f": 0.2}
    draw, won = np.random.default_rng(7), 0
    for _ in range(300):
        right = {name: draw.random(256) < p for name, p in truth.items()}
        alive = list(truth)
        for size in (16, 64, 256):
            found = cut({n: Score(right[n][:size].mean()) for n in alive}, worse=(), last=size == 256)
            alive = found.going_on
        won += alive[0] == "a"
    assert won / 300 > 0.95  # 0.16 by chance; without the first round's better half it would be lost
