"""Each interval against a known value, against scipy, and by how often it misses the truth."""

import itertools
import math

import numpy as np
import pytest
from scipy.special import gammaln, xlogy
from scipy.stats import binom, binomtest, multinomial, sem, t
from scipy.stats import bootstrap as scipy_bootstrap

from tamis import intervals

NOMINAL = 0.025  # of one side of a 95 % interval


def test_wilson_agrees_with_scipy():
    for successes, n in [(0, 10), (3, 10), (10, 10), (412, 416)]:
        theirs = binomtest(successes, n).proportion_ci(0.95, method="wilson")

        assert intervals.wilson(successes, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_proportion_of_no_items_is_missing_and_not_zero():
    found = intervals.proportion([])

    assert (found.n, found.lower, found.upper) == (0, None, None)
    assert math.isnan(found.value)


def test_a_perfect_score_still_has_a_lower_bound_below_one():
    found = intervals.proportion(np.ones(100))

    assert (found.value, found.upper) == (1, 1)
    assert found.lower == pytest.approx(0.9630, abs=1e-4)


@pytest.mark.parametrize(("n", "bound"), [(50, 0.0713), (100, 0.0370), (200, 0.0188), (500, 0.0076)])
def test_items_that_all_agree_do_not_prove_a_difference_of_zero(n, bound):
    found = intervals.paired_proportion(np.ones(n), np.ones(n))

    assert (found.lower, found.upper) == pytest.approx((-bound, bound), abs=1e-4)


def test_tango_touches_zero_where_mcnemars_z_says_so():
    fixed, broken, n = 20, 8, 300
    z = (fixed - broken) / math.sqrt(fixed + broken)

    lower, _ = intervals.tango(fixed, broken, n, z=z)

    assert lower == pytest.approx(0, abs=1e-9)


def test_tango_is_antisymmetric():
    lower, upper = intervals.tango(9, 4, 120)

    assert intervals.tango(4, 9, 120) == pytest.approx((-upper, -lower), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "fixes", "breaks"),
    [(50, 0.0, 0.01), (100, 0.0, 0.01), (200, 0.0, 0.02), (100, 0.05, 0.05), (200, 0.02, 0.06), (50, 0.1, 0.2)],
)
def test_tango_misses_the_truth_in_at_most_three_of_a_hundred_cases_per_side(n, fixes, breaks):
    """Exact, by enumeration. Wald, t and BCa miss in up to 60 of a hundred on the first rows of this grid."""
    truth = fixes - breaks
    missed = total = 0.0
    for fixed, broken in itertools.product(range(n + 1), repeat=2):
        if fixed + broken > n:
            continue
        chance = multinomial.pmf([fixed, broken, n - fixed - broken], n, [fixes, breaks, 1 - fixes - breaks])
        if chance < 1e-7:
            continue
        total += chance
        missed += chance * (intervals.tango(fixed, broken, n)[0] > truth)

    assert total > 0.9999
    assert missed <= 0.030


def test_clusters_of_one_change_nothing():
    rng = np.random.default_rng(1)
    a, b = rng.random(80) < 0.8, rng.random(80) < 0.7
    own = np.arange(80)

    assert intervals.proportion(a, own) == intervals.proportion(a)
    assert intervals.paired_proportion(a, b, own) == intervals.paired_proportion(a, b)
    assert intervals.mean(a, own) == intervals.mean(a)


def test_items_copied_five_times_give_the_interval_of_the_originals():
    scores = np.random.default_rng(2).random(60) < 0.75
    copies, clusters = np.repeat(scores, 5), np.repeat(np.arange(60), 5)

    clustered = intervals.proportion(copies, clusters)
    naive = intervals.proportion(copies)
    original = intervals.proportion(scores)

    assert clustered.lower == pytest.approx(original.lower, abs=0.01)
    assert naive.lower > clustered.lower + 0.03


def test_copies_that_all_agree_count_once_per_cluster():
    clusters = np.repeat(np.arange(20), 10)

    assert intervals.proportion(np.ones(200), clusters).lower < intervals.proportion(np.ones(25)).lower
    assert intervals.paired_proportion(np.ones(200), np.ones(200), clusters).lower < -0.1


def test_clustered_intervals_miss_in_at_most_three_and_a_half_of_a_hundred_cases_per_side():
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(40), 4)
    high = low = high_p = low_p = 0
    repeats = 1500
    for _ in range(repeats):
        shared = np.repeat(rng.normal(size=40), 4)
        scores = shared + rng.normal(size=160)
        found = intervals.mean(scores, clusters)
        high, low = high + (found.lower > 0), low + (found.upper < 0)
        hits = intervals.proportion(scores > -0.8, clusters)
        truth = 0.7142  # P(N(0, 2) > -0.8)
        high_p, low_p = high_p + (hits.lower > truth), low_p + (hits.upper < truth)

    assert max(high, low, high_p, low_p) / repeats <= 0.035


def test_one_cluster_resolves_nothing():
    assert intervals.mean([1.0, 2.0], [0, 0]).lower is None
    assert intervals.proportion([1, 0], [0, 0]).upper is None


def test_mean_without_variance_is_unresolved_unless_the_score_is_bounded():
    same = np.zeros(50)

    assert intervals.mean(same).lower is None
    assert intervals.mean(same, pseudo=(-1, 1)).lower == pytest.approx(-0.055, abs=0.005)


def test_a_percentile_has_the_bounds_of_order_statistics():
    values = np.arange(1, 101, dtype=float)

    found = intervals.quantile(values, 0.5)

    assert found.value == 50
    lower, upper = int(found.lower), int(found.upper)
    # the widest ranks whose tails are still within 2.5 %
    assert binom.cdf(lower - 1, 100, 0.5) <= NOMINAL < binom.cdf(lower, 100, 0.5)
    assert binom.cdf(upper - 1, 100, 0.5) >= 1 - NOMINAL > binom.cdf(upper - 2, 100, 0.5)


@pytest.mark.parametrize(("q", "fewest"), [(0.95, 72), (0.99, 368), (0.999, 3688)])
def test_a_deep_percentile_is_not_resolved_below_its_fewest_values(q, fewest):
    assert intervals.quantile_min_n(q) == fewest
    enough, few = (intervals.quantile(np.arange(n), q) for n in (fewest, fewest - 1))
    assert enough.upper is not None
    assert few.upper is None
    assert str(fewest) in few.note


def test_failures_are_infinite_and_reach_the_percentile():
    values = [10.0] * 95 + [math.inf] * 5

    assert intervals.quantile(values, 0.5).value == 10
    assert intervals.quantile(values, 0.99).value == math.inf
    assert intervals.quantile(values, 0.95).upper == math.inf


def test_nan_is_refused_as_a_duration():
    with pytest.raises(ValueError, match="NaN"):
        intervals.quantile([1.0, math.nan], 0.5)


def test_percentile_intervals_cover():
    rng = np.random.default_rng(4)
    truth = math.log(20)  # 95th percentile of the exponential distribution
    found = [intervals.quantile(rng.exponential(size=200), 0.95) for _ in range(1000)]

    assert sum(f.lower > truth for f in found) / 1000 <= 0.035
    assert sum(f.upper < truth for f in found) / 1000 <= 0.035


def f1(sums):
    """(true positives, said, true) to F1."""
    return 2 * sums[:, 0] / (sums[:, 1] + sums[:, 2])


def f1_rows(rng, n):
    true, said = rng.random(n) < 0.4, rng.random(n)
    said = np.where(true, said < 0.8, said < 0.1)
    return np.stack([true & said, said, true], axis=1).astype(float)


def test_the_bootstrap_finds_the_standard_error_of_f1():
    """Within 10 % of brute force. lighteval 0.13 returns this number divided by the root of the replicates."""
    rng = np.random.default_rng(5)
    brute = np.std([f1(f1_rows(rng, 400).sum(0, keepdims=True))[0] for _ in range(4000)])
    estimates = []
    for seed in range(25):
        found = intervals.bootstrap(f1_rows(rng, 400), f1, seed=seed, confidence=0.6827, replicates=1000)
        estimates.append((found.upper - found.lower) / 2)  # one standard error each way

    assert np.mean(estimates) == pytest.approx(brute, rel=0.10)


def test_the_bootstrap_covers_with_clusters():
    rng = np.random.default_rng(6)
    truth, high, low, repeats = math.exp(0.5), 0, 0, 250
    for seed in range(repeats):
        nll = np.repeat(rng.normal(0.5, 0.2, 50), 2) + rng.normal(0, 0.1, 100)
        rows = np.stack([nll, np.ones(100)], axis=1)
        found = intervals.bootstrap(
            rows, lambda s: np.exp(s[:, 0] / s[:, 1]), np.repeat(np.arange(50), 2), seed=seed, replicates=800
        )
        high, low = high + (found.lower > truth), low + (found.upper < truth)

    assert max(high, low) / repeats <= 0.05


def test_pseudo_rows_give_a_perfect_model_an_interval_and_leave_its_value():
    rows = np.stack([np.ones(60)] * 3, axis=1)
    imagined = np.asarray([[1.0, 1, 1], [0.0, 1, 1]])

    bare = intervals.bootstrap(rows, f1, seed=1)
    helped = intervals.bootstrap(rows, f1, seed=1, pseudo=imagined)

    assert bare.lower is None
    assert "no variance" in bare.note
    assert helped.value == 1
    assert 0.9 < helped.lower < 0.99


def test_the_same_seed_draws_the_same_bounds():
    rows = f1_rows(np.random.default_rng(7), 100)

    assert intervals.bootstrap(rows, f1, seed=3) == intervals.bootstrap(rows, f1, seed=3)
    assert intervals.bootstrap(rows, f1, seed=3) != intervals.bootstrap(rows, f1, seed=4)


def test_mcnemar_is_exact_and_defined_for_two_equal_models():
    assert intervals.mcnemar_exact(12, 3) == pytest.approx(binomtest(12, 15, 0.5).pvalue)
    assert intervals.mcnemar_exact(0, 0) == 1.0


def test_a_ratio_is_of_sums_and_its_interval_covers():
    rng = np.random.default_rng(8)
    outside, repeats = 0, 600
    for _ in range(repeats):
        seconds = rng.uniform(0.5, 2, 30)
        items = 20 * seconds + rng.normal(0, 2, 30)
        found = intervals.ratio(items, seconds)
        outside += not found.lower <= 20 <= found.upper

    assert intervals.ratio([30, 10], [1, 1]).value == 20
    assert outside / repeats <= 0.07
    assert intervals.ratio([], []).n == 0


@pytest.mark.parametrize(
    ("margin", "discordance", "n"),
    [(0.02, 0.05, 982), (0.03, 0.05, 437), (0.05, 0.05, 157), (0.02, 0.10, 1963), (0.03, 0.10, 873), (0.05, 0.20, 628)],
)
def test_items_for_non_inferiority(margin, discordance, n):
    assert intervals.noninferiority_n(margin, discordance) == pytest.approx(n, abs=1)


def test_planning_agrees_with_itself():
    n = intervals.noninferiority_n(0.03, 0.08, 0.01)

    assert intervals.detectable(n, 0.08) == pytest.approx(0.04, abs=0.002)
    with pytest.raises(ValueError, match="cannot be shown"):
        intervals.noninferiority_n(0.02, 0.05, -0.02)


def test_holm_is_monotone_and_multiplies_the_smallest_by_the_count():
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert intervals.holm([]) == []


def test_how_much_data_would_settle_a_question():
    assert intervals.scale_until(lambda k: k >= 7.5) == pytest.approx(7.5, rel=0.002)
    assert intervals.scale_until(lambda k: False) is None


# ------------------------------------------------------- coverage over the survey's grid, exact and vectorised


def tango_scores(fixed, broken, n, delta):
    """The score statistic at a difference, for arrays of counts (Tango 1998, equation 3, in closed form).

    Between zero and the estimate its numerator is moved towards zero by up to three quarters of an item.
    """
    a, b = 2 * n, -fixed - broken + (2 * n - fixed + broken) * delta
    c = -broken * delta * (1 - delta)
    q = (np.sqrt(np.maximum(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * q + delta * (1 - delta))
    gap = fixed - broken - n * delta
    moved = np.sign(gap) * np.maximum(np.abs(gap) - min(0.75, n * abs(float(delta))), 0)
    gap = np.where(gap * delta > 0, moved, gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(gap) < 1e-12 * n, 0.0, gap / np.sqrt(variance))


GRID = [
    (n, fixes, breaks)
    for n in (50, 100, 200, 500)
    # the survey's rates, and those between them at which a statistic of counts misses most
    for fixes in (0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.10, 0.15, 0.20)
    for breaks in (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.10, 0.20)
    if fixes + breaks > 0
]


def test_tangos_bounds_are_where_its_score_is_the_quantile():
    """So that coverage may be computed from scores: the bound lies above the truth where the score does."""
    for fixed, broken, n in [(0, 0, 50), (1, 0, 50), (3, 7, 100), (20, 8, 300), (0, 12, 200)]:
        for z, bound in zip((1.959964, -1.959964), intervals.tango(fixed, broken, n), strict=True):
            assert tango_scores(float(fixed), float(broken), n, np.asarray(bound)) == pytest.approx(z, abs=1e-5)


@pytest.mark.parametrize("n", [50, 100, 200, 500])
def test_tangos_miss_rate_over_the_surveys_grid(n):
    """Exact, all counts: P(lower bound > truth) at most 0.03, nominal 0.025, for gains, losses and none.

    Without the correction it is up to 0.0504 where the truth is a gain (100 items, 5 % fixed, 1 % broken).
    """
    counts = np.arange(min(n, 260) + 1, dtype=float)
    fixed, broken = (x.ravel() for x in np.meshgrid(counts, counts, indexing="ij"))
    keep = fixed + broken <= n
    fixed, broken = fixed[keep], broken[keep]
    for _, fixes, breaks in (g for g in GRID if g[0] == n):
        same = np.maximum(0.0, n - fixed - broken)
        chance = np.exp(
            gammaln(n + 1) - gammaln(fixed + 1) - gammaln(broken + 1) - gammaln(same + 1)
            + xlogy(fixed, fixes) + xlogy(broken, breaks) + xlogy(same, 1 - fixes - breaks)
        )  # fmt: skip
        missed = chance[tango_scores(fixed, broken, n, fixes - breaks) > 1.959964].sum()

        assert chance.sum() > 0.99999
        assert missed <= 0.030, (n, fixes, breaks, missed)


@pytest.mark.parametrize("n", [30, 50, 100, 200, 500, 1000])
def test_wilsons_lower_bound_is_safe_where_releases_are_judged(n):
    """Exact over true proportions of 0.5 and above: a gate `lower >= limit` is passed by chance in at most 4 %.

    Binomial counts are lumpy, so no bound without randomisation keeps 2.5 % everywhere: on average Wilson does.
    """
    truths = np.linspace(0.5, 0.999, 500)
    counts = np.arange(n + 1)
    lowers = np.asarray([intervals.wilson(k, n)[0] for k in counts])
    missed = (binom.pmf(counts[None, :], n, truths[:, None]) * (lowers[None, :] > truths[:, None])).sum(axis=1)

    assert missed.max() <= 0.040
    assert missed.mean() <= NOMINAL


def test_the_paired_cluster_bootstrap_finds_the_standard_error_of_a_difference_of_f1():
    """Within 10 % of brute force: two models on the same items, in clusters of three."""
    rng = np.random.default_rng(9)

    def drawn(count):
        """Sums of both models over `count` evaluations of 120 clusters, or their rows for one."""
        easy = rng.random((count, 120, 1))
        true = np.repeat(rng.random((count, 120, 1)) < 0.4, 3, axis=2)
        rows = []
        for skill in (0.75, 0.85):
            right = rng.random((count, 120, 3)) < np.clip(skill + 0.4 * (easy - 0.5), 0, 1)
            said = true == right
            rows += [true & said, said, true]
        return np.stack(rows, axis=-1).astype(float).reshape(count, 360, 6)

    def difference(sums):
        return f1(sums[:, 3:]) - f1(sums[:, :3])

    brute = difference(drawn(3000).sum(axis=1)).std()
    clusters = np.repeat(np.arange(120), 3)
    widths, naive = [], []
    for seed, rows in enumerate(drawn(25)):
        for found, ids in ((widths, clusters), (naive, None)):
            made = intervals.bootstrap(rows, difference, ids, seed=seed, confidence=0.6827, replicates=1000)
            found.append((made.upper - made.lower) / 2)

    assert np.mean(widths) == pytest.approx(brute, rel=0.10)
    # unpaired, the error would be larger by far
    alone = np.hypot(*(f1(drawn(500).sum(axis=1)[:, s]).std() for s in (slice(0, 3), slice(3, 6))))
    assert alone > brute * 1.02


def test_the_mean_agrees_with_scipys_t_interval():
    x = np.random.default_rng(10).normal(3, 2, 40)
    theirs = t.interval(0.95, 39, loc=x.mean(), scale=sem(x))

    found = intervals.mean(x)

    assert (found.lower, found.upper) == pytest.approx(theirs)


def test_the_bootstrap_agrees_with_scipys_bca():
    x = np.random.default_rng(11).exponential(size=80)
    theirs = scipy_bootstrap((x,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(1))
    rows = np.stack([x, np.ones(80)], axis=1)

    found = intervals.bootstrap(rows, lambda s: s[:, 0] / s[:, 1], seed=2, replicates=20000)

    low, high = theirs.confidence_interval
    width = high - low
    assert found.lower == pytest.approx(low, abs=0.03 * width)
    assert found.upper == pytest.approx(high, abs=0.03 * width)


def test_the_number_of_items_for_a_floor_has_the_power_it_promises():
    for limit, truth in ((0.8, 0.85), (0.95, 0.975), (0.5, 0.53)):
        n = intervals.proportion_n(limit, truth)
        passing = np.asarray([intervals.wilson(k, n)[0] >= limit for k in range(n + 1)])

        assert binom.pmf(np.arange(n + 1), n, truth)[passing].sum() >= 0.8
        assert binom.pmf(np.arange(n + 1), n, limit)[passing].sum() <= 0.03
    with pytest.raises(ValueError, match="cannot be shown"):
        intervals.proportion_n(0.8, 0.8)
