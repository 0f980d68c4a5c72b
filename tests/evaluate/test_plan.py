"""Planning: the number of items it names really suffices, and fewer do not."""

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from tamis import intervals
from tamis.errors import UserError
from tamis.evaluate.plan import Assumptions, enough, lines, plan
from tamis.evaluate.policy import load_policy


def planned(evaluated, gate, run=None, rest="", **assumed):
    policy = load_policy(evaluated.policy(f"gates: [{gate}]\n{rest}"))
    return plan(policy, run, None, Assumptions(**assumed))


def needs(evaluated, gate, run=None, **assumed):
    return planned(evaluated, gate, run, **assumed)["gates"][0]["needs"]


def test_the_surveys_table_of_non_inferiority(evaluated):
    gate = '{{id: a, metric: accuracy, require: "delta.lower > -{}"}}'

    assert needs(evaluated, gate.format(0.02), discordance=0.05) == pytest.approx(982, abs=1)
    assert needs(evaluated, gate.format(0.05), discordance=0.20) == pytest.approx(628, abs=1)


def test_a_system_that_disagrees_with_itself_needs_more_items(evaluated):
    """Two models cannot be told apart more finely than one model from itself."""
    gate = '{id: a, metric: accuracy, require: "delta.lower > -0.02"}'
    evaluated.add(system="base", right=[1] * 400)
    evaluated.add(right=[1] * 400)
    steady = needs(evaluated, gate, evaluated.run)
    evaluated.add(right=[1] * 400, about={"again": {"items": 100, "rate": {"value": 0.1}}})

    found = planned(evaluated, gate, evaluated.run)["gates"][0]

    assert steady < 100
    assert found["needs"] == pytest.approx(1963, abs=1)
    assert "disagrees with itself" in found["assuming"]


def test_a_floor_is_planned_by_the_exact_power_of_the_wilson_bound(evaluated):
    n = needs(evaluated, '{id: a, metric: accuracy, require: "lower >= 0.80"}', headroom=0.05)

    def power(n):
        passing = [k for k in range(n + 1) if intervals.wilson(k, n)[0] >= 0.80]
        return float(binom.pmf(passing, n, 0.85).sum())

    assert power(n) >= 0.80
    assert power(int(n * 0.93)) < 0.80


def test_a_rate_that_should_be_low_is_planned_by_its_complement(evaluated):
    low = needs(evaluated, '{id: a, metric: error_rate, require: "upper <= 0.20"}')
    high = needs(evaluated, '{id: a, metric: accuracy, require: "lower >= 0.80"}')

    assert low == high


def test_the_plan_for_a_margin_holds_for_tangos_bound(evaluated):
    """The formula is a normal approximation; the gate uses Tango. Exact power by enumeration."""
    n = needs(evaluated, '{id: a, metric: accuracy, require: "delta.lower > -0.10"}', discordance=0.2)
    power = 0.0
    for fixed in range(n + 1):
        for broken in range(n + 1 - fixed):
            chance = multinomial.pmf([fixed, broken, n - fixed - broken], n, [0.1, 0.1, 0.8])
            if chance > 1e-6:
                power += chance * (intervals.tango(fixed, broken, n)[0] > -0.10)

    assert power == pytest.approx(0.8, abs=0.04)


def test_a_percentile_is_planned_by_the_order_statistic_that_bounds_it(evaluated):
    n = needs(evaluated, '{id: a, metric: latency.e2e.p95, require: "upper <= 800 ms"}')
    rng = np.random.default_rng(1)
    # as the plan assumes, 2.5 % of the requests are slower than the limit
    passed = [
        bound is not None and bound <= 800
        for bound in (intervals.quantile(np.where(rng.random(n) < 0.025, 900.0, 100.0), 0.95).upper for _ in range(600))
    ]

    assert np.mean(passed) >= 0.76
    assert n > 72


def test_a_run_says_how_many_items_there_are_and_how_often_the_two_differ(evaluated):
    evaluated.add(system="base", right=[1] * 400)
    evaluated.add(right=[int(i % 20 > 0) for i in range(400)])
    found = planned(evaluated, '{id: a, metric: accuracy, require: "delta.lower > -0.02"}', evaluated.run)
    (row,) = found["gates"]

    assert (found["items"], row["have"], row["enough"]) == (400, 400, False)
    assert "5.2% of the items (as in the run" in row["assuming"]
    assert not enough(found)
    assert "TOO FEW" in "\n".join(lines(found))


def test_near_duplicates_count_once(evaluated):
    evaluated.add(right=[1] * 400, component=[i // 4 for i in range(400)])

    found = planned(evaluated, '{id: a, metric: accuracy, require: "lower >= 0.8"}', evaluated.run)
    assert found["items"] == 100


def test_slices_need_more_where_there_are_many(evaluated):
    gate = '{id: a, metric: accuracy, by: label, require: "lower >= 0.8"}'
    evaluated.add(right=[1] * 400, label=[f"intent {i % 10}" for i in range(400)])
    (many,) = planned(evaluated, gate, evaluated.run)["gates"]
    (alone,) = planned(evaluated, gate, evaluated.run, rest="defaults: {multiplicity: none}")["gates"]

    assert many["have"] == alone["have"] == 40
    assert many["needs"] > alone["needs"] * 1.3


def test_a_mean_is_planned_from_a_pilot_and_not_without_one(evaluated):
    gate = '{id: a, metric: mae, require: "upper <= 2.0"}'
    numbers = [repr(float(i % 9)) for i in range(100)]
    said = [repr(float(i % 9 + i % 3)) for i in range(100)]
    evaluated.add(right=[1] * 100, expected=numbers, answer=said)

    assert needs(evaluated, gate) is None
    n = needs(evaluated, gate, evaluated.run)
    # sd of the errors 0, 1, 2 is 0.82; 5 % of the limit is 0.1
    assert n == pytest.approx((2.8 * 0.82 / 0.1) ** 2, rel=0.05)


def test_what_an_evaluation_set_alone_tells(evaluated, eval_table, tmp_path):
    from tamis import schema

    schema.write_parquet(evaluated.run.curate / "eval.parquet", eval_table(24))
    (row,) = planned(evaluated, '{id: a, metric: accuracy, require: "lower >= 0.8"}', evaluated.run)["gates"]

    assert (row["have"], row["enough"]) == (24, False)


def test_a_share_outside_zero_and_one_is_refused():
    with pytest.raises(UserError, match="between 0 and 1"):
        Assumptions(power=80)


def test_fewest_items_are_never_below_min_n(evaluated):
    gate = '{id: a, metric: accuracy, min_n: 5000, require: "lower >= 0.8"}'

    assert needs(evaluated, gate) == 5000
