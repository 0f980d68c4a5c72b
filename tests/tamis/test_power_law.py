"""The curve of a study: found again where it is known, and silent beyond what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from tamis.crossed import Scores
from tamis.power_law import curves, fit


@pytest.mark.parametrize(("a", "b", "c"), [(0.0, 2.0, 0.5), (0.05, 3.0, 0.8)])
def test_a_law_without_noise_is_found_again(a, b, c):
    sizes = [100, 200, 400, 800, 1600]
    found = fit(sizes, a + b * np.asarray(sizes, float) ** -c, np.ones(5), free=True)
    assert found.a[0] == pytest.approx(a, abs=0.01)
    assert found.c[0] == pytest.approx(c, rel=0.1)
    assert found.at(sizes)[0] == pytest.approx(a + b * np.asarray(sizes, float) ** -c, rel=0.02)


def test_what_does_not_fall_is_flat_and_never_rises():
    found = fit([100, 200, 400, 800], np.array([0.1, 0.2, 0.3, 0.4]), np.ones(4), free=True)
    assert found.at([100])[0, 0] >= found.at([800])[0, 0]


def made(shortfall, sizes, method="random", items=2000, seeds=4, up=True):
    """Right answers (or losses) with a known shortfall at each size, and all rows at the end of it."""
    rng, hard = np.random.default_rng(3), np.arange(items) / items
    found = {}
    for name, size in [(method, s) for s in sizes[:-1]] + [("all", sizes[-1])]:
        wrong = hard[None] < shortfall(size) + 0.002 * rng.standard_normal((seeds, 1))
        found[name, size] = Scores((~wrong if up else wrong)[:, :, None].astype(float))
    return found


@pytest.mark.parametrize("up", [True, False])
def test_the_margin_is_met_where_the_law_says_and_the_interval_holds_it(up):
    scores = made(lambda n: 2.0 * n**-0.5, [100, 200, 400, 800, 1600], up=up)
    span = (0.0, 1.0)
    asked = {"up": up, "span": span, "margin": 0.03, "confidence": 0.95}
    curve = curves(scores, np.arange(2000), ["random"], "all", **asked)["random"]
    truth = (2.0 / (2.0 * 1600**-0.5 + 0.03)) ** 2  # rows at which the shortfall is that of all and the margin
    assert curve["reaches"]["lower"] < truth < curve["reaches"]["upper"]
    assert curve["reaches"]["size"] == pytest.approx(truth, rel=0.1)
    assert curve["c"]["lower"] < 0.5 < curve["c"]["upper"]
    ends = curve["line"][0]["value"], curve["line"][-1]["value"]
    assert (ends[0] < ends[1]) == up


def test_nothing_is_said_beyond_the_sizes_that_were_measured():
    scores = made(lambda n: 2.0 * n**-0.5, [100, 200, 400, 800, 6400], method="cluster")
    asked = {"up": True, "span": (0.0, 1.0), "margin": 0.01, "confidence": 0.95}
    curve = curves(scores, np.arange(2000), ["cluster"], "all", **asked)["cluster"]
    assert curve["reaches"] is None
    assert (curve["from"], curve["to"]) == (100, 800)
    assert max(p["size"] for p in curve["line"]) == 800


def test_two_sizes_or_a_metric_without_a_best_value_give_no_curve():
    scores = made(lambda n: 2.0 * n**-0.5, [100, 200, 400], method="cluster")
    asked = {"margin": 0.01, "confidence": 0.95}
    assert curves(scores, np.arange(2000), ["cluster"], "all", up=True, span=(0.0, 1.0), **asked) == {}
    assert curves(scores, np.arange(2000), ["cluster"], "all", up=True, span=None, **asked) == {}
