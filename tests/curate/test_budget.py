"""Budgeted scoring: a proportional sample, honest intervals, and an end."""

import math

import numpy as np
import pytest

from tamis.curate import budget


def world(n=3000, seed=0, noise=0.3):
    """Rows in three clusters whose score follows one feature, with noise that is skewed as IFD's is."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    vectors = np.eye(3)[group] + rng.normal(0, 0.05, (n, 3))
    features = rng.normal(size=(n, 4))
    scores = np.exp(0.5 * features[:, 0] + 0.3 * group + noise * rng.normal(size=n))
    return [f"{i:016x}" for i in range(n)], vectors, features, scores, group


def test_every_prefix_of_the_sample_holds_each_cluster_in_proportion():
    ids, vectors, _, _, group = world()
    order = budget.draw(ids, vectors, 150, 1)
    assert sorted(order.tolist()) == list(range(len(ids)))
    for size in (75, 150, 600):
        share = np.bincount(group[order[:size]], minlength=3) / size
        np.testing.assert_allclose(share, np.bincount(group) / len(ids), atol=0.06)


def test_every_row_is_drawn_about_as_often_as_any_other():
    ids, vectors, _, _, _ = world(200)
    drawn = np.zeros(200)
    for seed in range(300):
        drawn[budget.draw(ids, vectors, 20, seed)[:20]] += 1
    assert drawn.min() > 10  # 30 expected; a fixed start in each cluster would leave rows that are never drawn
    assert drawn.max() < 55


def test_intervals_cover_what_they_promise():
    coverage = []
    for seed in range(8):
        ids, vectors, features, scores, _ = world(seed=seed)
        x = budget.predictors(vectors, features)
        found = budget.predict(lambda r, s=scores: s[r], budget.draw(ids, vectors, 200, seed), x, 200)
        rest = ~found.scored
        coverage.append(np.mean((found.low <= scores)[rest] & (scores <= found.high)[rest]))
        assert found.scored.sum() == 200
        assert (found.values[found.scored] == np.round(scores[found.scored], 4)).all()
    assert 0.87 < np.mean(coverage) < 0.94
    assert min(coverage) > 0.8


def test_features_are_not_drowned_by_a_long_embedding():
    ids, _, features, scores, _ = world(noise=0.1)
    vectors = np.random.default_rng(5).normal(size=(len(ids), 300))
    x = budget.predictors(vectors, features)
    found = budget.predict(lambda r: scores[r], budget.draw(ids, vectors, 200, 0), x, 200)
    assert found.about["rank_correlation"] > 0.6


def test_scoring_stops_when_it_is_precise_enough():
    ids, vectors, features, scores, _ = world(noise=0.02)
    asked = []

    def measure(rows):
        asked.extend(rows.tolist())
        return scores[rows]

    x = budget.predictors(vectors, features)
    found = budget.predict(measure, budget.draw(ids, vectors, 800, 0), x, 800, tolerance=3.0)
    assert len(asked) == len(set(asked)) == found.about["scored"] == 200
    assert found.about["stopped"] == "precise enough"
    whole = budget.predict(measure, budget.draw(ids, vectors, 800, 0), x, 800, tolerance=1e-9)
    assert (whole.about["scored"], whole.about["stopped"]) == (800, "budget spent")
    assert len(whole.about["rounds"]) == 4


def test_bounds_cut_intervals_and_too_few_scores_predict_nothing():
    ids, vectors, features, scores, _ = world()
    x = budget.predictors(vectors, features)
    order = budget.draw(ids, vectors, 200, 0)
    found = budget.predict(lambda r: scores[r], order, x, 200, bounds=(0.9, 1.1))
    assert found.low[~found.scored].min() >= 0.9
    assert found.high[~found.scored].max() <= 1.1
    few = budget.predict(lambda r: scores[r], order, x, budget.LEAST - 1)
    assert np.isnan(few.values[~few.scored]).all()
    assert few.about["half_width"] == math.inf


def test_rows_without_a_score_take_no_part():
    ids, vectors, features, scores, _ = world()
    x = budget.predictors(vectors, features)
    holes = np.where(np.arange(len(scores)) % 4 == 0, np.nan, scores)
    found = budget.predict(lambda r: holes[r], budget.draw(ids, vectors, 200, 0), x, 200)
    assert found.about["without_score"] == int(np.isnan(holes[found.scored]).sum()) > 20
    assert np.isfinite(found.values[~found.scored]).all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_hardly_any_rows(n):
    ids, vectors, features, scores, _ = (v[:n] for v in world())
    x = budget.predictors(vectors, features)
    found = budget.predict(lambda r: scores[r], budget.draw(ids, vectors, 1, 0), x, 1)
    assert found.scored.sum() == min(n, 1)


def test_rows_that_are_all_alike():
    ids, features, scores = [f"{i}" for i in range(100)], np.ones((100, 4)), np.ones(100)
    vectors = np.ones((100, 8))
    x = budget.predictors(vectors, features)
    found = budget.predict(lambda r: scores[r], budget.draw(ids, vectors, 60, 0), x, 60)
    assert (found.values == 1).all()
