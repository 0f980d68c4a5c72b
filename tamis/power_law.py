"""How the shortfall of a metric falls with the number of rows: a + b n^-c, with its uncertainty, inside what was seen.

The shortfall is one less the metric where one is perfect, and the metric itself where less is better; `a` is what no
number of such rows mends. Power laws of this form describe the loss of language models over many orders of magnitude
of data (Hestness et al. 2017, arXiv 1712.00409; Kaplan et al. 2020, arXiv 2001.08361), and of fine-tuning (Zhang et al.
2024, arXiv 2402.17193). A study sees about one order of magnitude, so nothing here reaches outside of it: the curve is
given from the smallest to the largest size measured, and a size that the curve does not reach there is None.

Weighted least squares over a grid of exponents, a and b at least zero; with three points a is taken to be zero, since
three parameters would fit them whatever they are. Intervals: percentiles of a bootstrap that draws items (near-
duplicates together, the same for all sizes) and seeds; drawing both is rather too wide (Owen 2007, Annals of Applied
Statistics 1:386), drawing few seeds rather too narrow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tamis.crossed import Scores
from tamis.intervals import Floats, cluster_sums

DRAWS = 500
EXPONENTS = np.geomspace(0.03, 4.0, 90)
FEWEST = 3
FREE = 4
"""Points from which `a` is fitted too."""
ENDS_IN_ALL = ("random", "stratified", "longest")
"""Methods that draw from the very rows that `all` is: their curve ends there."""
_SEED = 20071


@dataclasses.dataclass(frozen=True)
class Fit:
    """Curves through m sets of points.

    Attributes:
        a, b, c: (m,) each.
    """

    a: Floats
    b: Floats
    c: Floats

    def at(self, sizes: Sequence[float] | Floats) -> Floats:
        """Shortfalls: (m, sizes)."""
        n = np.asarray(sizes, dtype=np.float64)
        return np.asarray(self.a[:, None] + self.b[:, None] * n[None] ** -self.c[:, None])


def fit(sizes: Sequence[int], shortfalls: Floats, weights: Floats, *, free: bool) -> Fit:
    """Fit a + b n^-c.

    Args:
        sizes: rows of p points.
        shortfalls: (m, p), m sets of points that are fitted one by one.
        weights: (p,), the precision of each point.
        free: whether a is fitted; else it is zero.
    """
    n, y = np.asarray(sizes, dtype=np.float64), np.atleast_2d(shortfalls)
    w = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    middle = y @ w
    best: dict[str, Floats] = {"sse": np.full(len(y), np.inf), **{k: np.zeros(len(y)) for k in "abc"}}
    for c in EXPONENTS:
        z = n**-c
        flat = (y * w) @ z / (w @ z**2)
        options = [(np.zeros(len(y)), np.maximum(flat, 0.0))]
        if free:
            spread = w @ (z - w @ z) ** 2
            b = (y * w) @ (z - w @ z) / spread
            a = middle - b * (w @ z)
            options.append((np.where(b < 0, middle, a), np.maximum(b, 0.0)))
        for a, b in options:
            sse = ((y - a[:, None] - b[:, None] * z) ** 2) @ w
            better = (sse < best["sse"]) & (a >= 0)
            for key, value in (("sse", sse), ("a", a), ("b", b), ("c", np.full(len(y), c))):
                best[key] = np.where(better, value, best[key])
    return Fit(best["a"], best["b"], best["c"])


def curves(
    scores: Mapping[tuple[str, int], Scores],
    components: npt.ArrayLike,
    methods: Sequence[str],
    reference: str,
    *,
    up: bool,
    span: tuple[float, float] | None,
    margin: float,
    confidence: float,
) -> dict[str, dict[str, Any]]:
    """The curve of every method that has enough sizes.

    Args:
        scores: of each method and size; one of them is the reference's.
        components: cluster of each item.
        methods: whose curves.
        reference: the method that has all rows.
        up: whether more of the metric is better.
        span: of the metric; without an upper end, more being better, there is no shortfall and no curve.
        margin: the loss against the reference that is acceptable.
        confidence: of the intervals.

    Returns:
        {method: {a, b, c: intervals, points, from, to, line: [{size, value, lower, upper}], reaches}}. `line` is of the
        metric, not of its shortfall. `reaches` is {size, lower, upper}: the rows at which the loss is the margin; None
        where the curve does not come so far between `from` and `to`, its `upper` likewise.
    """
    if up and (span is None or not np.isfinite(span[1])):
        return {}
    top = span[1] if up and span is not None else 0.0
    sign = -1.0 if up else 1.0
    rng = np.random.default_rng(_SEED)
    drawn = _drawn(scores, components, rng)
    short = {key: sign * (values - top) for key, values in drawn.items()}
    whole = next(key for key in scores if key[0] == reference)
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    found = {}
    for method in methods:
        keys = sorted((k for k in scores if k[0] == method), key=lambda k: k[1])
        keys += [whole] if method in ENDS_IN_ALL and keys else []
        if len(keys) < FEWEST:
            continue
        sizes, y = [k[1] for k in keys], np.stack([short[k] for k in keys], axis=1)
        weights = 1 / np.maximum(y[1:].var(axis=0), 1e-8)
        made = fit(sizes, y, weights, free=len(keys) >= FREE)
        n = np.unique(np.geomspace(sizes[0], sizes[-1], 25).round())
        at = top + sign * made.at(n)
        low, high = np.quantile(at[1:], ends, axis=0)
        found[method] = {
            **{key: _interval(getattr(made, key), ends) for key in "abc"},
            "points": len(keys),
            "from": sizes[0],
            "to": sizes[-1],
            "line": [
                {"size": int(s), "value": float(v), "lower": float(a), "upper": float(b)}
                for s, v, a, b in zip(n, at[0], low, high, strict=True)
            ],
            "reaches": _reaches(made, short[whole] + margin, sizes[0], sizes[-1], ends),
        }
    return found


def _drawn(
    scores: Mapping[tuple[str, int], Scores], components: npt.ArrayLike, rng: np.random.Generator
) -> dict[tuple[str, int], Floats]:
    """Values of each arm: (1 + DRAWS,), first as measured, then of draws of clusters and seeds."""
    first = next(iter(scores.values()))
    counts = cluster_sums(np.ones((first.rows.shape[1], 1)), components)[:, 0]
    clusters = len(counts)
    weights = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=DRAWS).astype(np.float64)
    weights = np.vstack([np.ones(clusters), weights])
    found = {}
    for key, arm in scores.items():
        values = []
        for rows in arm.rows:
            sums = weights @ cluster_sums(rows, components)
            values.append(sums[:, 0] / (weights @ counts) if arm.statistic is None else arm.statistic(sums))
        seeds = rng.integers(arm.seeds, size=(DRAWS, arm.seeds))
        seeds = np.vstack([np.arange(arm.seeds), seeds])
        found[key] = np.take_along_axis(np.stack(values, axis=1), seeds, axis=1).mean(axis=1)
    return found


def _interval(values: Floats, ends: Sequence[float]) -> dict[str, float]:
    low, high = np.quantile(values[1:], ends)
    return {"value": float(values[0]), "lower": float(low), "upper": float(high)}


def _reaches(made: Fit, goals: Floats, low: int, high: int, ends: Sequence[float]) -> dict[str, Any] | None:
    """Rows at which each curve has fallen to its goal, between two sizes."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rows = (made.b / (goals - made.a)) ** (1 / made.c)
    rows = np.where(made.at([high])[:, 0] > goals, np.inf, np.where(made.at([low])[:, 0] <= goals, low, rows))
    if not np.isfinite(rows[0]) or rows[0] <= low:
        return None
    bounds = [np.sort(rows[1:])[min(len(rows) - 2, int(e * (len(rows) - 1)))] for e in ends]
    return {
        "size": float(rows[0]),
        "lower": float(bounds[0]) if np.isfinite(bounds[0]) else None,
        "upper": float(bounds[1]) if np.isfinite(bounds[1]) else None,
    }
