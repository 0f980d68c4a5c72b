"""Several against one: the p-value belongs to the interval, and Holm keeps false finds rare."""

from __future__ import annotations

import numpy as np
import pytest

from tamis import intervals


def coins(seed: int, n: int, share: float) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < share).astype(float)


@pytest.mark.parametrize("seed", range(6))
def test_p_is_below_five_percent_exactly_where_the_interval_leaves_zero_out(seed):
    a, b = coins(seed, 120, 0.75), coins(seed + 100, 120, 0.62)

    def at(confidence: float) -> intervals.Interval:
        return intervals.paired_proportion(a, b, None, confidence)

    p, told = intervals.two_sided_p(at), at(0.95)
    assert (p < 0.05) == (told.lower > 0 or told.upper < 0)
    edge = at(1 - p)
    assert min(abs(edge.lower), abs(edge.upper)) < 1e-3


def test_p_is_near_mcnemars_where_items_are_independent():
    a = np.array([1.0] * 30 + [0.0] * 10 + [1.0] * 60)
    b = np.array([0.0] * 30 + [1.0] * 10 + [1.0] * 60)

    p = intervals.two_sided_p(lambda level: intervals.paired_proportion(a, b, None, level))

    assert p == pytest.approx(intervals.mcnemar_exact(30, 10), abs=0.002)


def test_equal_arms_and_unknown_intervals_are_told_nothing_of():
    same = coins(1, 50, 0.5)
    assert intervals.two_sided_p(lambda level: intervals.paired_proportion(same, same, None, level)) == 1.0
    assert intervals.two_sided_p(lambda level: intervals.missing("x", "y", confidence=level)) == 1.0


def test_p_values_of_equal_arms_are_spread_evenly():
    """A p-value that is too small too often would pick winners out of noise."""
    rng, found = np.random.default_rng(7), []
    for _ in range(300):
        pair = rng.random((2, 150)) < 0.7
        found.append(
            intervals.two_sided_p(
                lambda level, p=pair: intervals.paired_proportion(p[0].astype(float), p[1].astype(float), None, level)
            )
        )

    below = np.mean(np.array(found) < 0.05)
    assert 0.02 < below < 0.09


def test_holm_over_several_arms_finds_less_than_each_alone(evaluated):
    from tamis.evaluate.evidence import Evidence
    from tamis.evaluate.versus import versus

    def answered(arm: str, share: float, seed: int) -> Evidence:
        evaluated.add(arm, right=coins(seed, 200, share))
        return Evidence(arm, "tuned", evaluated.run.evaluate(arm, "tuned"))

    reference = answered("planned", 0.6, 0)
    arms = [answered(f"a{k}", 0.6 + 0.03 * k, k) for k in range(1, 6)]

    told = versus(arms, reference, "accuracy")

    assert [v.arm for v in told] == [f"a{k}" for k in range(1, 6)]
    assert [v.p_holm for v in told] == intervals.holm([v.p for v in told])
    assert any(v.p < 0.05 < v.p_holm for v in told), "told apart alone, not among five"
    assert all(v.better == (v.delta.value > 0) for v in told if v.delta.value)
