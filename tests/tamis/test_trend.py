"""Numbers that go one way are told from those that wander."""

import numpy as np

from tamis.trend import MOST, trend


def test_a_falling_number_is_said_to_fall_and_too_few_say_nothing():
    found = trend([0.95, 0.94, 0.94, 0.93, None, 0.92, float("nan"), 0.9])
    assert (found["direction"], found["values"]) == ("falling", [0.95, 0.94, 0.94, 0.93, 0.92, 0.9])
    assert found["p"] <= 0.01
    assert trend([1, 2, 3, 4, 5])["direction"] is None
    assert trend(range(9, 40))["direction"] == "rising"
    assert len(trend(range(40))["values"]) == MOST
    assert trend([0.9] * 8) == {"values": [0.9] * 8, "direction": "steady", "p": 1.0}


def test_a_number_that_wanders_is_steady_in_all_but_a_few_of_200_draws():
    draws = [trend(np.random.default_rng(s).normal(size=10))["direction"] for s in range(200)]
    assert draws.count("steady") >= 0.95 * 200
