"""Intervals over two kinds of luck at once: which items were asked, and which seeds the trainings had.

Every training answers the same items, so seeds and items are crossed random effects:

    y[arm, seed, item] = mean[arm] + seed effect + item effect + rest

A difference of arms that were trained once is uncertain in its items only, and looks far surer than it is: another seed
is another model. Here the variance of a contrast c (weights per arm) of the arms' means has three parts, estimated by
the analysis of variance, without assuming a distribution:

    items   of the seed-averaged contrast, item by item (near-duplicates together): what other items would give
    seeds   of the item-averaged scores, seed by seed, in each arm: what other trainings would give
    rest    counted in both, so taken off once; never below the larger of the two

Both contrast and parts are linearised for metrics that are no means (influence of an item: the metric's gradient at the
sums times the item's statistics). The quantile is Student's, with Satterthwaite's degrees of freedom, so five seeds
count as five. An arm that was trained once borrows the variance of the arms that were trained more often, and the
result says so. Sources: Searle, Casella and McCulloch (1992), "Variance Components", chapter 4; Satterthwaite (1946),
Biometrics Bulletin 2:110; Owen (2007), Annals of Applied Statistics 1:386, on why a bootstrap of both factors is too
wide; Bonett and Price (2012) for the pseudo-items of bounded scores.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.intervals import Floats, Interval, Statistic, cluster_sums

MOST = 10_000
"""Beyond so many seeds or items, "how many more" is no longer advice."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """One arm: every training's statistics of every item.

    Attributes:
        rows: (seeds, items, k) sufficient statistics; k is 1 for shares and means.
        statistic: sums of shape (m, k) to values of shape (m,); None for means.
    """

    rows: Floats
    statistic: Statistic | None = None

    @property
    def seeds(self) -> int:
        return int(self.rows.shape[0])

    def values(self) -> Floats:
        """The metric of every training: (seeds,)."""
        if self.statistic is None:
            return np.asarray(self.rows[:, :, 0].mean(axis=1))
        return np.asarray(self.statistic(self.rows.sum(axis=1)))

    def influence(self) -> Floats:
        """What each item adds to the metric's deviation: (seeds, items); its mean over items is the value, linearly."""
        if self.statistic is None:
            return np.asarray(self.rows[:, :, 0])
        sums = self.rows.sum(axis=1).mean(axis=0)
        slope = np.empty_like(sums)
        for j in range(len(sums)):
            step = 1e-4 * max(abs(sums[j]), 1.0)
            around = np.stack([sums, sums])
            around[0, j] += step
            around[1, j] -= step
            high, low = self.statistic(around)
            slope[j] = (high - low) / (2 * step)
        items = self.rows.shape[1]
        return np.asarray(items * ((self.rows - self.rows.mean(axis=(0, 1))) @ slope) + self.values().mean())


@dataclasses.dataclass(frozen=True)
class Contrast:
    """An estimate, its parts of variance, and what follows.

    Attributes:
        value: sum of the weighted means.
        items, seeds, rest: variances of the estimate; `total` is items + seeds - rest, at least the larger of the two.
        freedom: Satterthwaite's degrees of freedom of `total`.
        clusters: independent items.
        trained: seeds of each arm.
        borrowed: whether an arm that was trained once took its variance from the others.
    """

    value: float
    items: float
    seeds: float
    rest: float
    freedom: float
    clusters: int
    trained: tuple[int, ...]
    borrowed: bool = False

    @property
    def total(self) -> float:
        return max(self.items + self.seeds - self.rest, self.items, self.seeds)

    @property
    def se(self) -> float:
        return math.sqrt(self.total)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided, Student's t."""
        half = self._quantile(0.5 + confidence / 2) * self.se
        note = "an arm trained once has the seed variance of the others" if self.borrowed else None
        return Interval(
            self.value,
            self.value - half,
            self.value + half,
            self.clusters,
            "crossed random effects, t",
            "seeds and items",
            confidence,
            note,
        )

    def p_above(self, limit: float) -> float:
        """One-sided p-value against the hypothesis that the truth is at or below a limit."""
        from scipy.special import stdtr

        if self.se == 0:
            return 0.0 if self.value > limit else 1.0
        return float(stdtr(self.freedom, (limit - self.value) / self.se))

    def _quantile(self, probability: float) -> float:
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, probability))

    def projected(self, *, seeds: float = 1.0, items: float = 1.0) -> float:
        """Standard error with so many times the seeds and items: each part shrinks with what it averages over.

        The variance between items holds 1/seeds of the rest, and the variance between seeds 1/items of it.
        """
        pure_items = max(self.items - self.rest, 0.0)
        pure_seeds = max(self.seeds - self.rest, 0.0)
        rest = min(self.rest, self.items, self.seeds)
        return math.sqrt(pure_items / items + pure_seeds / seeds + rest / (seeds * items))


def contrast(
    arms: Sequence[Scores],
    weights: Sequence[float],
    components: npt.ArrayLike | None = None,
    *,
    span: tuple[float, float] | None = None,
    borrow: Sequence[Sequence[Scores]] = (),
) -> Contrast:
    """A weighted sum of arms' means, over seeds and items together.

    Args:
        arms: each (seeds, items, k); all have the same items in the same order, seeds may differ in number.
        weights: one per arm: (1,) for a mean, (1, -1) for a difference.
        components: cluster of each item, or None where all are independent.
        span: least and largest score of a bounded metric: the variance of the items is not taken to be less than with
            two more items, one at either extreme of the contrast. Where nearly all items agree, nothing else tells how
            many would not.
        borrow: for each of `arms` those whose seed variance stands in where it was trained once: of a like size, since
            a model trained on few rows varies far more. Without them those of `arms` that were trained more often do.

    Raises:
        ValueError: no arm here or in `borrow` was trained twice, or the items do not match.
    """
    weight = np.asarray(weights, dtype=np.float64)
    count = arms[0].rows.shape[1]
    if any(a.rows.shape[1] != count for a in arms) or len(weight) != len(arms):
        raise ValueError("every arm needs a weight and the same items")
    value = float(sum(w * a.values().mean() for w, a in zip(weight, arms, strict=True)))
    parts = [w * (u - u.mean()) / count for w, u in zip(weight, (a.influence() for a in arms), strict=True)]
    # (seeds, clusters): what each cluster adds to each training's deviation
    parts = [cluster_sums(p.T, components).T for p in parts]
    clusters = parts[0].shape[1]
    if clusters < 2:
        raise ValueError("a single independent item has no variance")
    per_cluster = sum(p.mean(axis=0) for p in parts)
    items = _item_variance(np.asarray(per_cluster), count, weight, span)
    lenders = [[a for a in more if a.seeds > 1] for more in borrow] or [[]] * len(arms)
    lenders = [own or [a for a in arms if a.seeds > 1] for own in lenders]
    if any(arm.seeds == 1 and not own for arm, own in zip(arms, lenders, strict=True)):
        raise ValueError("no arm was trained twice, so nothing is known of what another seed would give")
    seeds, rest, freedoms, borrowed = 0.0, 0.0, [], False
    for w, arm, part, own_lenders in zip(weight, arms, parts, lenders, strict=True):
        if arm.seeds > 1:
            own, residual, freedom = _seed_variance(part)
        else:
            borrowed = True
            own, residual, freedom = _lent(own_lenders, w, components, count)
        seeds += own / arm.seeds
        rest += residual / arm.seeds
        freedoms.append((own / arm.seeds, freedom))
    found = Contrast(value, items, seeds, rest, 1.0, clusters, tuple(a.seeds for a in arms), borrowed)
    below = items**2 / (clusters - 1) + sum(v**2 / f for v, f in freedoms)
    freedom = found.total**2 / below if below > 0 else float(clusters - 1)
    return dataclasses.replace(found, freedom=max(1.0, min(freedom, clusters - 1 + sum(f for _, f in freedoms))))


def _item_variance(per_cluster: Floats, count: int, weight: Floats, span: tuple[float, float] | None) -> float:
    n = len(per_cluster)
    plain = n / (n - 1) * float(((per_cluster - per_cluster.mean()) ** 2).sum())
    if span is None or not all(math.isfinite(v) for v in span):
        return plain
    reach = (span[1] - span[0]) * (np.abs(weight).sum() / 2 if len(weight) > 1 else 0.5)
    widened = (float(((per_cluster * count) ** 2).sum()) + 2 * reach**2) / (count + 2) ** 2
    return max(plain, widened)


def _seed_variance(part: Floats) -> tuple[float, float, float]:
    """Of one training's mean, of the rest in it, and the degrees of freedom; `part` is (seeds, clusters)."""
    trained, clusters = part.shape
    own = float(part.sum(axis=1).var(ddof=1))
    residual = part - part.mean(axis=0) - part.mean(axis=1, keepdims=True) + part.mean()
    rest = clusters * float((residual**2).sum()) / ((trained - 1) * (clusters - 1))
    return own, rest, trained - 1


def _lent(
    lenders: Sequence[Scores], weight: float, components: npt.ArrayLike | None, count: int
) -> tuple[float, float, float]:
    """The mean seed variance of other arms, scaled to a weight."""
    found = []
    for arm in lenders:
        u = arm.influence()
        found.append(_seed_variance(cluster_sums((weight * (u - u.mean()) / count).T, components).T))
    freedom = sum(f for *_, f in found)
    own = sum(v * f for v, _, f in found) / freedom
    rest = sum(r * f for _, r, f in found) / freedom
    return own, rest, freedom


@dataclasses.dataclass(frozen=True)
class Needed:
    """What would settle a question: so many seeds with the items at hand, or so many items with the seeds at hand.

    None where that alone cannot; `together` is then so many (seeds, items), both grown by one factor, unless that is
    beyond reason. `limited_by` is the larger part of the uncertainty.
    """

    seeds: int | None
    items: int | None
    limited_by: str
    together: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def needed(found: Contrast, limit: float, *, confidence: float = 0.95, power: float = 0.8) -> Needed:
    """How many seeds, or items, until the bound of a contrast clears a limit with the given chance.

    The truth is taken to be the estimate, but no nearer to the limit than half a standard error, so that an estimate on
    the very limit does not ask for infinitely many; a pilot's estimate is uncertain, and so is this.

    Args:
        found: from the trainings at hand.
        limit: what the interval must leave on one side.
        confidence: of the two-sided interval.
        power: chance to clear it.
    """
    from scipy.special import ndtri, stdtrit

    distance, chance = max(abs(found.value - limit), found.se / 2), float(ndtri(power))
    trained = max(found.trained)

    def settled(seeds: float, items: float) -> bool:
        # few seeds leave few degrees of freedom, and more seeds add to them
        quantile = float(stdtrit(found.freedom * seeds, 0.5 + confidence / 2))
        return (quantile + chance) * found.projected(seeds=seeds, items=items) <= distance

    more_seeds = _fewest(lambda n: settled(n / trained, 1.0), trained + 1)
    more_items = _fewest(lambda n: settled(1.0, n / found.clusters), found.clusters + 1)
    together = None
    if more_seeds is None and more_items is None:
        factors = (1.1**step for step in range(1, 97))  # to a ten-thousandfold, rounded up by a tenth at most
        factor = next((k for k in factors if settled(k, k)), None)
        together = None if factor is None else (math.ceil(factor * trained), math.ceil(factor * found.clusters))
    by = "seeds" if found.seeds - found.rest > found.items - found.rest else "items"
    return Needed(more_seeds, more_items, by, together)


def _fewest(settled: Callable[[int], bool], least: int) -> int | None:
    high = max(MOST, 100 * least)
    if not settled(high):
        return None
    low = least
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle + 1, high)
    return low


def fixed_sequence(p_values: Mapping[int, float], alpha: float) -> list[int]:
    """Sizes that pass when tested from the largest down, each at alpha, up to the first that fails.

    The order is fixed before the data are seen, so the chance that any size is passed wrongly stays at alpha without a
    correction: the first true null hypothesis of the sequence must be rejected for an error to occur. Source: Maurer,
    Hothorn and Lehmacher (1995), in "Biometrie in der chemisch-pharmazeutischen Industrie" 6:3; Westfall and Krishen
    (2001), Journal of Statistical Planning and Inference 99:25. It suits sizes because more rows rarely do worse, and
    nobody wants a size recommended below one that is not enough.

    Returns:
        The passing sizes, largest first.
    """
    passed = []
    for size in sorted(p_values, reverse=True):
        if p_values[size] > alpha:
            break
        passed.append(size)
    return passed
