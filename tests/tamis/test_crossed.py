"""Intervals over seeds and items: do they hold what they promise? By simulation, seeded."""

from __future__ import annotations

import numpy as np
import pytest

from tamis.crossed import Contrast, Scores, contrast, fixed_sequence, needed


def trainings(rng, seeds, items, *, mean=0.0, seed_sd=0.0, item=None, rest_sd=1.0):
    """(seeds, items, 1): mean + seed effect + item effect + rest."""
    effects = np.zeros(items) if item is None else item
    noise = rest_sd * rng.standard_normal((seeds, items))
    return Scores((mean + seed_sd * rng.standard_normal((seeds, 1)) + effects + noise)[:, :, None])


@pytest.mark.parametrize(
    ("seed_sd", "item_sd", "rest_sd", "seeds"),
    [(0.1, 0.5, 1.0, 5), (0.3, 0.2, 0.5, 5), (0.0, 0.7, 1.0, 5), (0.2, 0.0, 1.0, 3)],
)
def test_the_interval_of_a_difference_covers_the_truth(seed_sd, item_sd, rest_sd, seeds):
    """Fails if either variance is left out, or the normal quantile is used in place of Student's."""
    rng = np.random.default_rng(3)
    hits, runs = 0, 1000
    for _ in range(runs):
        shared = rng.standard_normal(150)
        one = trainings(
            rng,
            seeds,
            150,
            mean=0.2,
            seed_sd=seed_sd,
            item=shared + item_sd * rng.standard_normal(150),
            rest_sd=rest_sd,
        )
        other = trainings(rng, seeds, 150, seed_sd=seed_sd, item=shared, rest_sd=rest_sd)
        interval = contrast([one, other], [1, -1]).interval()
        hits += interval.lower <= 0.2 <= interval.upper
    assert 0.935 <= hits / runs <= 0.985


def test_right_and_wrong_answers_near_the_ceiling_are_covered_too():
    """Accuracy 0.95 against 0.93 with five seeds: few items differ, so a plain variance is too small."""
    rng = np.random.default_rng(4)
    hits, runs = 0, 1000
    for _ in range(runs):
        hardness = rng.beta(0.5, 10, 200)
        arms = []
        for mean in (1.0, 1.4):
            p = np.clip(mean * hardness * np.exp(0.2 * rng.standard_normal((5, 1)) - 0.02), 0, 1)
            arms.append(Scores((rng.random((5, 200)) > p)[:, :, None].astype(float)))
        truth = -0.4 * (0.5 / 10.5)
        interval = contrast(arms, [1, -1], span=(0.0, 1.0)).interval()
        hits += interval.lower <= -truth <= interval.upper
    assert hits / runs >= 0.93


def test_an_arm_trained_once_borrows_the_seed_variance_of_the_others():
    rng = np.random.default_rng(5)
    hits, runs = 0, 800
    for _ in range(runs):
        item = rng.standard_normal(150)
        many = trainings(rng, 5, 150, seed_sd=0.2, item=item)
        once = trainings(rng, 1, 150, seed_sd=0.2, item=item)
        found = contrast([many, once], [1, -1])
        interval = found.interval()
        assert found.borrowed
        assert "trained once" in interval.note
        hits += interval.lower <= 0 <= interval.upper
    assert 0.925 <= hits / runs <= 0.985
    with pytest.raises(ValueError, match="trained twice"):
        contrast([once, once], [1, -1])
    lent = contrast([once, once], [1, -1], borrow=[[many], [many]])
    assert lent.seeds > 0
    with pytest.raises(ValueError, match="trained twice"):
        contrast([once, once], [1, -1], borrow=[[many], [once]])


def test_near_duplicates_count_once():
    """Twenty items, each asked ten times: the interval is that of twenty items, not of two hundred."""
    rng = np.random.default_rng(6)
    few = trainings(rng, 5, 20, item=rng.standard_normal(20), rest_sd=0.3)
    copied = Scores(np.repeat(few.rows, 10, axis=1))
    components = np.repeat(np.arange(20), 10)

    assert contrast([copied], [1], components).se == pytest.approx(contrast([few], [1]).se, rel=1e-9)
    assert contrast([copied], [1]).items < contrast([few], [1]).items / 5


def test_a_ratio_of_sums_has_the_standard_error_of_its_delta_method():
    rng = np.random.default_rng(7)
    size = rng.integers(50, 150, 300).astype(float)
    nll = size * (0.8 + 0.1 * rng.standard_normal((4, 300)))
    rows = np.stack([nll, np.broadcast_to(size, nll.shape)], axis=2)
    found = contrast([Scores(rows, lambda s: s[:, 0] / s[:, 1])], [1])

    ratio = nll.sum() / (4 * size.sum())
    residual = (nll.mean(axis=0) - ratio * size) / size.mean()
    assert found.value == pytest.approx(ratio, abs=1e-3)
    assert np.sqrt(found.items) == pytest.approx(residual.std(ddof=1) / np.sqrt(300), rel=0.02)


def test_the_chance_to_pass_any_size_wrongly_stays_below_alpha():
    """Four sizes, every one worse than the reference by exactly the margin (the least favourable truth)."""
    rng = np.random.default_rng(8)
    margin, wrong, runs = 0.3, 0, 1500
    for _ in range(runs):
        item = rng.standard_normal(120)
        reference = trainings(rng, 5, 120, seed_sd=0.15, item=item)
        p_values = {}
        for size in (100, 200, 400, 800):
            arm = trainings(rng, 5, 120, mean=-margin, seed_sd=0.15, item=item + 0.3 * rng.standard_normal(120))
            p_values[size] = contrast([arm, reference], [1, -1]).p_above(-margin)
        wrong += bool(fixed_sequence(p_values, 0.025))
    assert wrong / runs <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / runs)


def test_a_sequence_stops_at_the_first_size_that_fails():
    assert fixed_sequence({100: 0.001, 200: 0.2, 400: 0.01, 800: 0.001}, 0.025) == [800, 400]
    assert fixed_sequence({100: 0.001, 800: 0.3}, 0.025) == []


def test_what_is_missing_is_seeds_where_seeds_disagree_and_items_where_they_do_not():
    rng = np.random.default_rng(9)
    item = rng.standard_normal(200)
    wild = contrast(
        [trainings(rng, 5, 200, seed_sd=1.0, item=item), trainings(rng, 5, 200, seed_sd=1.0, item=item)], [1, -1]
    )
    calm = contrast(
        [trainings(rng, 5, 200, item=item + rng.standard_normal(200)), trainings(rng, 5, 200, item=item)], [1, -1]
    )

    assert needed(wild, wild.value - 0.3).limited_by == "seeds"
    assert needed(wild, wild.value - 0.3).items is None
    assert needed(wild, wild.value - 0.3).seeds > 5
    assert needed(calm, calm.value - 0.1).limited_by == "items"
    assert needed(calm, calm.value - 0.1).items > 200


def test_where_neither_seeds_nor_items_alone_would_settle_it_both_are_asked_for():
    found = Contrast(0.0, items=1.0, seeds=1.0, rest=0.0, freedom=10.0, clusters=100, trained=(5, 7))
    asked = needed(found, -2.0)
    assert (asked.seeds, asked.items) == (None, None)
    seeds, items = asked.together
    assert found.projected(seeds=seeds / 7, items=items / 100) <= 2.0 / 2.8
    assert found.projected(seeds=0.8 * seeds / 7, items=0.8 * items / 100) > 2.0 / 2.8  # and hardly more than needed


def test_with_two_seeds_the_few_degrees_of_freedom_are_what_is_missing_and_more_than_there_are_is_asked_for():
    found = Contrast(-0.10, items=1e-5, seeds=1e-4, rest=0.0, freedom=1.2, clusters=300, trained=(2, 1))
    assert found.interval().upper > -0.04  # open, although the estimate is six standard errors away
    asked = needed(found, -0.04)
    assert 3 <= asked.seeds <= 10
    assert asked.items is None


def test_with_as_many_seeds_as_it_asks_for_the_question_is_settled():
    """The number of seeds foretold from pilots is right within a factor of two."""
    rng = np.random.default_rng(10)
    item = rng.standard_normal(300)
    asked = []
    for _ in range(40):
        pilot = [trainings(rng, 5, 300, mean=m, seed_sd=0.3, item=item, rest_sd=0.5) for m in (0.0, 0.0)]
        found = contrast(pilot, [1, -1])
        asked.append(needed(found, found.value - 0.3).seeds)
    seeds = int(np.median(asked))
    settled = 0
    for _ in range(200):
        arms = [trainings(rng, seeds, 300, seed_sd=0.3, item=item, rest_sd=0.5) for _ in range(2)]
        settled += contrast(arms, [1, -1]).interval().lower > -0.3
    assert 0.65 <= settled / 200 <= 0.95
