"""A scorer's card: how often it prefers the better of two versions, raw and where length cannot tell them apart.

Word count alone is right on 83 % of expert revisions, so a scorer's accuracy says little until it is measured on pairs
of like length, beside word count on the very same pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tamis import intervals

MATCHED = 0.1  # pairs whose word counts differ by at most this share of the longer one

Row = tuple[str, str]
"""Prompt and answer."""


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of rows of which people prefer the second.

    Attributes:
        worse, better: n rows each.
        clusters: of each pair (the prompt it is about), or None; intervals count clusters, not pairs.
    """

    worse: Sequence[Row]
    better: Sequence[Row]
    clusters: Sequence[int] | None = None


def card(pairs: Pairs, scorer: Callable[[str, str], float]) -> dict[str, Any]:
    """Measure a scorer on preference pairs.

    Args:
        pairs: n of them; with none, every figure is missing and says so.
        scorer: (prompt, answer) to a score, higher is better; NaN is no preference. Its ties count one half.

    Returns:
        `raw` and `matched`, each with the scorer's accuracy, that of word count, and their paired difference, as
        intervals; `length_rank_correlation`, Spearman's rho between score and words of the answer over all rows.
    """
    from scipy.stats import spearmanr

    scores = np.array([[scorer(*row) for row in side] for side in (pairs.worse, pairs.better)], np.float64)
    lengths = np.array([[words(answer) for _, answer in side] for side in (pairs.worse, pairs.better)], np.float64)
    scores, lengths = (a.reshape(2, -1) for a in (scores, lengths))
    clusters = None if pairs.clusters is None else np.asarray(pairs.clusters)
    every = np.ones(scores.shape[1], bool)
    finite = np.isfinite(scores).ravel()
    varied = finite.any() and len(np.unique(scores.ravel()[finite])) > 1
    rho = float(spearmanr(scores.ravel()[finite], lengths.ravel()[finite]).statistic) if varied else None
    return {
        "raw": _measured(scores, lengths, clusters, every),
        "matched": _measured(scores, lengths, clusters, matched(lengths)),
        "matched_within": MATCHED,
        "length_rank_correlation": None if rho is None else round(rho, 3),
    }


def words(text: str) -> int:
    """Words of a text, by white space."""
    return len(text.split())


def matched(lengths: np.ndarray) -> np.ndarray:
    """(n,) bool: pairs of (2, n) word counts that differ by at most a tenth of the longer one."""
    shorter, longer = lengths.min(0), lengths.max(0)
    return np.asarray((longer - shorter) <= MATCHED * longer)


def preferred(values: np.ndarray) -> np.ndarray:
    """(n,) 1 where the better of (2, n) values is higher, 0 where it is lower, one half for ties and NaN."""
    worse, better = values
    return np.where(better > worse, 1.0, np.where(better < worse, 0.0, 0.5))


def _measured(scores: np.ndarray, lengths: np.ndarray, clusters: np.ndarray | None, rows: np.ndarray) -> dict[str, Any]:
    right, by_length = preferred(scores)[rows], preferred(lengths)[rows]
    among = None if clusters is None else clusters[rows]
    figures = {
        "accuracy": intervals.mean(right, among, pseudo=(0, 1)),
        "word_count": intervals.mean(by_length, among, pseudo=(0, 1)),
        "difference": intervals.mean(right - by_length, among, pseudo=(-1, 1)),
    }
    return {"pairs": int(rows.sum()), **{name: _figure(i) for name, i in figures.items()}}


def _figure(found: intervals.Interval) -> dict[str, Any]:
    return {"value": found.value, "lower": found.lower, "upper": found.upper, "method": found.method}
