"""Intervals and tests behind every number that a release may stand on.

Every function says what its interval is *over*: items, clusters of items, requests, or batches. Two rules hold
throughout. A bound that the data cannot give is None ("not resolved"), never the point value: ten examples that agree
do not prove a difference of zero. And items of one cluster (near-duplicates of each other) do not count as independent.

Sources: Wilson (1927); Tango (1998), Statistics in Medicine 17:891, for paired proportions; Miller (2024),
arXiv:2411.00640, appendix A, for clustered standard errors; Efron (1987) for BCa; Hahn and Meeker (1991) for
order-statistic intervals of percentiles; Holm (1979).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]

BOOTSTRAP_REPLICATES = 2000  # Monte Carlo error of a 2.5 % bound is then about 0.35 % of coverage
MAX_SCALE = 1e4  # beyond ten thousand times the examples at hand, "how many more" is no longer advice
GAIN_CORRECTION = 0.75  # items off the numerator of Tango's score for gains: benchmarks/intervals.md says why so many


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and what is known of it. `lower` or `upper` is None where the data cannot give that bound."""

    value: float
    lower: float | None
    upper: float | None
    n: int
    method: str
    over: str = "items"
    confidence: float = 0.95
    note: str | None = None

    def as_dict(self, unit: str | None = None) -> dict[str, Any]:
        """What `comparison.json` and `metrics.json` hold."""
        return {**dataclasses.asdict(self), "unit": unit}

    def scaled(self, factor: float) -> Interval:
        """The same interval in another unit. `factor` must be positive."""
        return dataclasses.replace(
            self,
            value=self.value * factor,
            lower=None if self.lower is None else self.lower * factor,
            upper=None if self.upper is None else self.upper * factor,
        )


def missing(method: str, note: str, *, over: str = "items", confidence: float = 0.95) -> Interval:
    """No estimate at all: n is 0 and the value NaN. A gate on it is INVALID."""
    return Interval(math.nan, None, None, 0, method, over, confidence, note)


# ---------------------------------------------------------------------------------------------- one proportion


def wilson(successes: float, n: float, confidence: float = 0.95, *, z: float | None = None) -> tuple[float, float]:
    """Wilson score bounds of a proportion; counts may be fractional (effective sample sizes).

    Raises:
        ValueError: n is not positive, or successes are outside 0..n.
    """
    if not (n > 0 and -1e-9 <= successes <= n * (1 + 1e-12) + 1e-9):
        raise ValueError(f"successes {successes} of {n} is not a proportion")
    z = _z(confidence) if z is None else z
    p = min(max(successes / n, 0.0), 1.0)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # at p = 0 and p = 1 rounding may leave a bound a hair outside of what was observed
    return min(max(0.0, centre - half), p), max(min(1.0, centre + half), p)


def proportion(
    scores: npt.ArrayLike, clusters: npt.ArrayLike | None = None, confidence: float = 0.95, *, times: float = 1
) -> Interval:
    """A proportion with Wilson bounds, clustered where items come in clusters.

    With clusters, n is replaced by n / design effect, where the design effect is the ratio of the clustered variance
    to the binomial one (at least 1), and z by Student's t with one degree of freedom per cluster less one. At 0 % or
    100 % there is no variance to take a design effect from; then each cluster counts once.

    Args:
        scores: 0/1 or boolean, shape (n,).
        clusters: cluster of each item, shape (n,), or None where all are independent.
        confidence: of the two-sided interval.
        times: the bounds as they would be with so many times as many items and clusters like these, for planning.
    """
    x = _vector(scores)
    n = len(x)
    if n == 0:
        return missing("wilson", "no items", confidence=confidence)
    p = float(x.mean())
    count = _count(clusters, n)
    if count == n:
        return Interval(p, *wilson(float(x.sum()) * times, n * times, confidence), n, "wilson", "items", confidence)
    if count < 2:
        return _unresolved(p, n, "wilson, clustered", "clusters", confidence, "a single cluster has no variance")
    iid = p * (1 - p) / n
    effect = max(1.0, clustered_se(x, clusters) ** 2 / iid) if iid > 0 else n / count
    effective = n * times / effect
    bounds = wilson(p * effective, effective, z=_t(confidence, count * times - 1))
    return Interval(p, *bounds, n, "wilson, clustered", "clusters", confidence)


# ---------------------------------------------------------------------------------------- two paired proportions


def tango(
    fixed: float, broken: float, n: float, confidence: float = 0.95, *, z: float | None = None
) -> tuple[float, float]:
    """Tango's score bounds of the difference of two paired proportions (candidate less baseline).

    As published (Tango 1998) for a lower bound up to zero and an upper bound from zero on: there it misses the truth on
    either side in at most 0.027 of cases, nominal 0.025. The lower bound of a gain exceeds it in up to 0.052: there,
    and for the upper bound of a loss, the numerator is corrected for continuity (`GAIN_CORRECTION`), which keeps 0.03.

    Args:
        fixed: items that only the candidate has right. May be fractional.
        broken: items that only the baseline has right.
        n: all items.
        confidence: of the two-sided interval.
        z: quantile to use in its place (Student's, where there are few clusters).

    Raises:
        ValueError: the counts do not fit into n.
    """
    if not (n > 0 and fixed >= 0 and broken >= 0 and fixed + broken <= n * (1 + 1e-12)):
        raise ValueError(f"fixed {fixed} and broken {broken} do not fit into n = {n}")
    z = _z(confidence) if z is None else z
    value = (fixed - broken) / n
    return (
        _falling_root(lambda d: _tango_score(fixed, broken, n, d) - z, -1.0, value),
        _falling_root(lambda d: _tango_score(fixed, broken, n, d) + z, value, 1.0),
    )


def _tango_score(fixed: float, broken: float, n: float, delta: float) -> float:
    """The score statistic at `delta`; falls in delta, is 0 about the estimate and McNemar's z at delta = 0."""
    gap = fixed - broken - n * delta
    if gap * delta > 0:  # less than the estimate, and of its sign
        # it grows from nothing at zero, so that the bound and McNemar's z agree on whether there is a difference
        gap = math.copysign(max(0.0, abs(gap) - min(GAIN_CORRECTION, n * abs(delta))), gap)
    if abs(gap) < 1e-12 * n:
        return 0.0
    a = 2 * n
    b = -fixed - broken + (2 * n - fixed + broken) * delta
    c = -broken * delta * (1 - delta)
    q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * q + delta * (1 - delta))
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap)


def _falling_root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero; 60 halvings are 1e-18 of the range."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) > 0 else (low, middle)
    return (low + high) / 2


def paired_proportion(
    candidate: npt.ArrayLike,
    baseline: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    *,
    times: float = 1,
) -> Interval:
    """Difference of two paired proportions (candidate less baseline), Tango bounds, clustered where needed.

    Clusters divide the counts by the design effect of the differences, as `proportion` does.

    Args:
        candidate: 0/1, shape (n,).
        baseline: 0/1 of the same items in the same order.
        clusters: cluster of each item, or None.
        confidence: of the two-sided interval.
        times: as `proportion`'s.
    """
    a, b = _vector(candidate), _vector(baseline)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} candidate scores against {len(b)} baseline scores")
    n = len(a)
    if n == 0:
        return missing("tango", "no items", confidence=confidence)
    difference = a - b
    fixed, broken = float((difference > 0).sum()), float((difference < 0).sum())
    value = (fixed - broken) / n
    count = _count(clusters, n)
    if count == n:
        bounds = tango(fixed * times, broken * times, n * times, confidence)
        return Interval(value, *bounds, n, "tango", "items", confidence)
    if count < 2:
        return _unresolved(value, n, "tango, clustered", "clusters", confidence, "a single cluster has no variance")
    iid = float(((difference - difference.mean()) ** 2).sum()) / n**2
    effect = max(1.0, clustered_se(difference, clusters) ** 2 / iid) if iid > 0 else n / count
    scale = times / effect
    bounds = tango(fixed * scale, broken * scale, n * scale, z=_t(confidence, count * times - 1))
    return Interval(value, *bounds, n, "tango, clustered", "clusters", confidence)


def mcnemar_exact(fixed: int, broken: int) -> float:
    """Two-sided exact p-value that a fix is as likely as a breakage; 1.0 where neither happened."""
    from scipy.special import bdtr  # not scipy.stats, which takes a second to import and is all else a rerun would need

    return min(1.0, 2 * float(bdtr(min(fixed, broken), fixed + broken, 0.5)))


# ---------------------------------------------------------------------------------------------- means and ratios


def clustered_se(scores: npt.ArrayLike, clusters: npt.ArrayLike | None = None) -> float:
    """Standard error of a mean whose items come in clusters, with the C / (C - 1) correction.

    With one item per cluster it is the ordinary standard error. NaN below two clusters.
    """
    x = _vector(scores)
    sums = cluster_sums((x - x.mean())[:, None], clusters)[:, 0]
    count = len(sums)
    return math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(x) if count > 1 else math.nan


def mean(
    scores: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    *,
    pseudo: Sequence[float] = (),
) -> Interval:
    """A mean with Student's t bounds, clustered where needed. Not for 0/1 scores: see `proportion`.

    Also the paired difference of means: give the per-item differences.

    Args:
        scores: shape (n,).
        clusters: cluster of each item, or None.
        confidence: of the two-sided interval.
        pseudo: extremes of a bounded score (0 and 1; of a difference -1 and 1). The bounds are widened to those of
            the data with these added, as Bonett and Price do for proportions: where nearly all differences are zero,
            t alone is far too sure of itself. They never enter the value.
    """
    x = _vector(scores)
    n = len(x)
    method = "t" if _count(clusters, n) == n else "t, clustered"
    method += " and pseudo-counts" if len(pseudo) else ""
    if n == 0:
        return missing(method, "no items", confidence=confidence)
    value = float(x.mean())
    count = _count(clusters, n)
    over = "items" if count == n else "clusters"
    if count < 2:
        return _unresolved(value, n, method, over, confidence, "fewer than two independent items")
    bounds = [value, *_t_bounds(x, clusters, confidence)]
    if len(pseudo):
        ids = np.arange(n) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
        own = np.concatenate([ids, ids.max() + 1 + np.arange(len(pseudo))])
        bounds += _t_bounds(np.concatenate([x, pseudo]), own, confidence)
    if len(bounds) == 1:
        return _unresolved(value, n, method, over, confidence, "no variance to judge from")
    return Interval(value, min(bounds), max(bounds), n, method, over, confidence)


def _t_bounds(x: Floats, clusters: npt.ArrayLike | None, confidence: float) -> list[float]:
    """Both bounds, or none where the items do not differ."""
    se = clustered_se(x, clusters)
    if not se > 0:
        return []
    half = _t(confidence, _count(clusters, len(x)) - 1) * se
    return [float(x.mean()) - half, float(x.mean()) + half]


def ratio(
    numerators: npt.ArrayLike, denominators: npt.ArrayLike, confidence: float = 0.95, *, over: str = "batches"
) -> Interval:
    """Sum of numerators over sum of denominators (items per second), t bounds by linearisation (Cochran 1977, 6.4)."""
    a, b = _vector(numerators), _vector(denominators)
    n = len(a)
    if n == 0 or not b.sum() > 0:
        return missing("ratio, t", "nothing measured", over=over, confidence=confidence)
    value = float(a.sum() / b.sum())
    if n < 2:
        return _unresolved(value, n, "ratio, t", over, confidence, f"one of the {over} has no variance")
    se = math.sqrt(n / (n - 1) * float(((a - value * b) ** 2).sum())) / float(b.sum())
    half = _t(confidence, n - 1) * se
    return Interval(value, max(0.0, value - half), value + half, n, "ratio, t", over, confidence)


# -------------------------------------------------------------------------------------------------- percentiles


def quantile(values: npt.ArrayLike, q: float, confidence: float = 0.95, *, over: str = "requests") -> Interval:
    """A percentile by nearest rank, with distribution-free bounds from order statistics.

    Failures belong into `values` as infinity. A bound that n is too small for is None: a two-sided 95 % interval of
    the 95th percentile needs 72 values, of the 99th 368.

    Args:
        values: shape (n,); NaN is refused, infinity is meant.
        q: 0 < q < 1.
        confidence: of the two-sided interval.
        over: what a value belongs to; only for the interval's label.

    Raises:
        ValueError: a value is NaN.
    """
    from scipy.special import bdtr

    x = np.sort(_vector(values))
    if np.isnan(x).any():
        raise ValueError("NaN has no place in a percentile; a failed request is infinite")
    n = len(x)
    method = "order statistics"
    if n == 0:
        return missing(method, "no requests", over=over, confidence=confidence)
    value = float(x[math.ceil(q * n - 1e-9) - 1])
    tail = (1 - confidence) / 2
    ranks = np.arange(1, n + 1)
    below = bdtr(ranks - 1, n, q)  # P(fewer than `rank` values lie under the true percentile)
    lows, highs = ranks[below <= tail], ranks[below >= 1 - tail]
    lower = float(x[lows[-1] - 1]) if len(lows) else None
    upper = float(x[highs[0] - 1]) if len(highs) else None
    note = None
    if lower is None or upper is None:
        note = f"not resolved: needs {quantile_min_n(q, confidence)} {over}"
    return Interval(value, lower, upper, n, method, over, confidence, note)


def quantile_min_n(q: float, confidence: float = 0.95) -> int:
    """Fewest values from which a percentile has both bounds."""
    deepest = max(q, 1 - q)
    return math.ceil(math.log((1 - confidence) / 2) / math.log(deepest))


# ---------------------------------------------------------------------------------------------------- bootstrap


def cluster_sums(rows: Floats, clusters: npt.ArrayLike | None) -> Floats:
    """Sum of the rows of each cluster: (n, k) -> (clusters, k), in order of cluster value."""
    if clusters is None:
        return rows
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.zeros((int(place.max()) + 1 if len(place) else 0, rows.shape[1]))
    np.add.at(sums, place, rows)
    return sums


def bootstrap(
    rows: Floats,
    statistic: Statistic,
    clusters: npt.ArrayLike | None = None,
    confidence: float = 0.95,
    *,
    seed: int,
    pseudo: Floats | None = None,
    replicates: int = BOOTSTRAP_REPLICATES,
) -> Interval:
    """A statistic of sums (F1, BLEU, perplexity, a difference of them) with cluster-bootstrap bounds.

    Whole clusters are drawn with replacement. Two models are compared by putting the sufficient statistics of both
    into one row, so that both are drawn together.

    Bounds are BCa (Efron 1987). Where `pseudo` is given, they are widened to the percentiles of draws that hold the
    pseudo rows as well: these do for a bounded metric what Bonett and Price's added counts do for a proportion.
    Without them a model that makes no error would get an interval of zero width, and one with a single error a lower
    bound that misses the truth in one case of seven (simulated for macro F1, 100 items, 5 classes, 1 % errors).
    Pseudo rows never enter the value.

    Args:
        rows: sufficient statistics per item, shape (n, k), summed over items.
        statistic: maps sums of shape (m, k) to values of shape (m,).
        clusters: cluster of each item, or None.
        confidence: of the two-sided interval.
        seed: of the draws; the same seed gives the same bounds.
        pseudo: extra rows, shape (p, k), each a cluster of its own.
        replicates: draws.
    """
    method = "cluster bootstrap, BCa" + (" and pseudo-counts" if pseudo is not None else "")
    n = len(rows)
    if n == 0:
        return missing(method, "no items", confidence=confidence)
    sums = cluster_sums(rows, clusters)
    over = "items" if len(sums) == n else "clusters"
    value = float(statistic(sums.sum(axis=0, keepdims=True))[0])
    if len(sums) < 2 or not math.isfinite(value):
        return _unresolved(value, n, method, over, confidence, "fewer than two independent items, or no value")
    tail = (1 - confidence) / 2
    bounds: list[float] = [value]
    draws = _replicates(sums, statistic, replicates, np.random.default_rng(seed))
    if draws is not None:
        bounds += np.quantile(draws, _bca_tails(sums, statistic, draws, value, tail)).tolist()
    if pseudo is not None:
        seeds = np.random.default_rng([seed, 1])
        widened = _replicates(np.concatenate([sums, pseudo]), statistic, replicates, seeds)
        if widened is not None:
            bounds += np.quantile(widened, (tail, 1 - tail)).tolist()
    if len(bounds) == 1:
        return _unresolved(value, n, method, over, confidence, "no variance to judge from")
    return Interval(value, min(bounds), max(bounds), n, method, over, confidence)


def _replicates(sums: Floats, statistic: Statistic, replicates: int, rng: np.random.Generator) -> Floats | None:
    """The statistic on `replicates` draws, in order; None where the draws do not differ or mostly have no value.

    Counts instead of indices: one matrix product instead of a gather.
    """
    count = len(sums)
    step = max(1, 4_000_000 // count)  # 32 MB of counts at a time
    parts = []
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        weights = rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
        parts.append(statistic(weights @ sums))
    draws = np.concatenate(parts)
    draws = np.sort(draws[np.isfinite(draws)])
    return None if len(draws) < replicates // 2 or draws[0] == draws[-1] else draws


def _bca_tails(sums: Floats, statistic: Statistic, draws: Floats, value: float, tail: float) -> tuple[float, float]:
    """Percentiles to read, corrected for bias and for a standard error that changes with the value."""
    from scipy.special import ndtr, ndtri

    below = (float((draws < value).sum()) + 0.5 * float((draws == value).sum())) / len(draws)
    bias = float(ndtri(min(max(below, 0.5 / len(draws)), 1 - 0.5 / len(draws))))
    left_out = statistic(sums.sum(axis=0, keepdims=True) - sums)
    spread = left_out.mean() - left_out
    scale = float((spread**2).sum()) ** 1.5
    acceleration = float((spread**3).sum()) / (6 * scale) if scale > 0 else 0.0

    def corrected(z: float) -> float:
        return float(ndtr(bias + (bias + z) / (1 - acceleration * (bias + z))))

    z = float(ndtri(tail))
    return corrected(z), corrected(-z)


# ------------------------------------------------------------------------------------ planning and many gates


def noninferiority_n(
    margin: float, discordance: float, difference: float = 0.0, *, alpha: float = 0.025, power: float = 0.8
) -> int:
    """Items needed to show that a candidate loses less than `margin`: (z_a + z_b)^2 (psi - d^2) / (d + m)^2.

    Args:
        margin: the loss that would be accepted, above 0 (0.02 = two points).
        discordance: share of items on which the two differ.
        difference: the true difference assumed, candidate less baseline.
        alpha: chance of a pass at a true loss of exactly the margin.
        power: chance of a pass at the true difference assumed.

    Raises:
        ValueError: the assumed difference is already a loss of the margin or more.
    """
    from scipy.special import ndtri

    if difference + margin <= 0:
        raise ValueError(f"a true loss of {-difference:g} cannot be shown to be less than {margin:g}")
    z = float(ndtri(1 - alpha) + ndtri(power))
    return math.ceil(z * z * max(discordance - difference**2, 0.0) / (difference + margin) ** 2)


def proportion_n(limit: float, truth: float, *, alpha: float = 0.025, power: float = 0.8) -> int:
    """Items until Wilson's lower bound reaches a limit that the truth is above, with the given chance.

    The normal formula gives the start, the exact binomial power the answer (a bound at or above the limit is the score
    test of the limit, so no bound has to be computed).

    Args:
        limit: what the lower bound must reach, 0 <= limit < truth.
        truth: the true proportion assumed.
        alpha: chance of a pass at a true proportion of exactly the limit.
        power: chance of a pass at the truth assumed.

    Raises:
        ValueError: the truth assumed is not above the limit.
    """
    from scipy.special import ndtri
    from scipy.stats import binom

    if not 0 <= limit < truth <= 1:
        raise ValueError(f"a true proportion of {truth:g} cannot be shown to be above {limit:g}")
    z, z_power = float(ndtri(1 - alpha)), float(ndtri(power))
    spread = z * math.sqrt(limit * (1 - limit)) + z_power * math.sqrt(truth * (1 - truth))
    n = max(1, math.ceil((spread / (truth - limit)) ** 2 * 0.9))  # from a little below: the formula is not exact
    while True:
        fewest = math.ceil(n * limit + z * math.sqrt(n * limit * (1 - limit)) - 1e-9)
        if fewest <= n and binom.sf(fewest - 1, n, truth) >= power:
            return n
        n += max(1, n // 1000)


def detectable(n: int, discordance: float, *, alpha: float = 0.025, power: float = 0.8) -> float:
    """Smallest true difference that n paired items show to be a difference, at the given power."""
    from scipy.special import ndtri

    z = float(ndtri(1 - alpha) + ndtri(power))
    # d^2 n = z^2 (psi - d^2), solved for d
    return z * math.sqrt(discordance / (n + z * z))


def scale_until(settled: Callable[[float], bool]) -> float | None:
    """The smallest factor by which the data must grow until `settled(factor)` holds; None beyond `MAX_SCALE`."""
    if not settled(MAX_SCALE):
        return None
    low, high = 1.0, MAX_SCALE
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high


def two_sided_p(at: Callable[[float], Interval], null: float = 0.0) -> float:
    """The p-value that belongs to an interval: the level at which it just touches the null value.

    So test and interval cannot disagree, whatever the interval's method, clusters included.

    Args:
        at: the interval by its confidence.
        null: the value tested.

    Returns:
        Between 1e-6, below which nothing is resolved, and 1.
    """

    def clear(alpha: float) -> bool:
        found = at(1 - alpha)
        return found.lower is not None and found.upper is not None and not found.lower <= null <= found.upper

    low, high = 1e-6, 1 - 1e-9
    if not clear(high):
        return 1.0
    if clear(low):
        return low
    for _ in range(24):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if clear(middle) else (middle, high)
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = np.argsort(np.asarray(p_values, dtype=np.float64), kind="stable")
    adjusted = np.empty(len(order))
    running = 0.0
    for step, place in enumerate(order):
        running = max(running, min(1.0, (len(order) - step) * float(p_values[place])))
        adjusted[place] = running
    return [float(p) for p in adjusted]


# ------------------------------------------------------------------------------------------------------ helpers


def _vector(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(-1)


def _count(clusters: npt.ArrayLike | None, n: int) -> int:
    if clusters is None:
        return n
    ids = np.asarray(clusters)
    if len(ids) != n:
        raise ValueError(f"{len(ids)} cluster ids for {n} items")
    return len(np.unique(ids))


def _unresolved(value: float, n: int, method: str, over: str, confidence: float, why: str) -> Interval:
    return Interval(value, None, None, n, method, over, confidence, f"not resolved: {why}")


def _z(confidence: float) -> float:
    from scipy.special import ndtri

    _check(confidence)
    return float(ndtri(0.5 + confidence / 2))


def _t(confidence: float, freedom: float) -> float:
    from scipy.special import stdtrit

    _check(confidence)
    return float(stdtrit(freedom, 0.5 + confidence / 2))


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
