"""Budgeted scoring: score a sample, predict the rest, and say with an interval how wrong the prediction may be.

The sample is stratified by cluster and proportional, so every row is about as likely to be in it as any other. A ridge
regression on embeddings and row features predicts the other scores; the intervals are CV+ (Barber, Candès, Ramdas and
Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 2021, section 3): every scored row serves
both the fit and the calibration. With 200 of them the intervals are a tenth narrower than those of split-conformal (Lei
et al., JASA 2018), and their coverage scatters less (benchmarks/scorers.md). It holds over all rows together, not
within any one cluster.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tamis.curate import quality
from tamis.curate.normal import words

FOLDS = 10
LEAST = 50  # scored rows, below which ten folds fit noise
CLUSTERED = 20_000  # rows that clusters are fitted on; the others go to the nearest centre
RESIDUALS = 200  # kept of each fold, evenly spaced in rank: bounds the work at a million rows
CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Predicted:
    """Scores of n rows, measured or predicted.

    Attributes:
        values: (n,) score; measured where `scored`.
        low, high: (n,) interval; equal to the value where it was measured.
        scored: (n,) bool.
        about: rows scored, rank correlation out of fold, mean width, why scoring stopped.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    scored: np.ndarray
    about: dict[str, Any]


def draw(ids: list[str], vectors: np.ndarray, sample: int, seed: int) -> np.ndarray:
    """The order in which rows are scored: every prefix holds each cluster in proportion to its size.

    Args:
        ids: of n rows, sorted.
        vectors: (n, d).
        sample: rows that are likely to be scored; sets the number of clusters (one per four of them, at most 100).
        seed: of this scorer.

    Returns:
        (n,) positions.
    """
    n = len(ids)
    groups = _clusters(ids, vectors, min(max(sample // 4, 1), 100), seed)
    chance = np.array([_chance(seed, i) for i in ids])
    turn = np.empty(n)
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        members = members[np.lexsort((members, chance[members]))]
        # a systematic sample with its own start in each cluster; without one, small clusters would never be drawn
        turn[members] = (np.arange(len(members)) + _chance(seed, f"cluster {group}")) / len(members)
    return np.lexsort((chance, np.round(turn, 9)))


def _chance(seed: int, name: str) -> float:
    """A number in [0, 1) that belongs to a name."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def _clusters(ids: list[str], vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    points = vectors.astype(np.float64)
    if k <= 1:
        return np.zeros(len(ids), np.int64)
    some = np.sort(np.argsort([_chance(seed, f"fit {i}") for i in ids], kind="stable")[:CLUSTERED])
    k = min(k, len(np.unique(points[some], axis=0)))
    return np.asarray(KMeans(k, n_init=1, random_state=seed % (1 << 31)).fit(points[some]).predict(points))


def row_features(prompts: list[str], answers: list[str]) -> np.ndarray:
    """What predicts a score beside the embedding: (n, 22) signs of quality, lengths, and how much is copied."""
    out = []
    for prompt, answer in zip(prompts, answers, strict=True):
        asked, said = words(prompt[:4000]), words(answer[:4000])
        known = set(asked)
        copied = sum(w in known for w in said) / max(len(said), 1)
        signs = list(quality.features(prompt, answer).values())
        out.append(
            [
                *signs,
                math.log1p(len(asked)),
                math.log1p(len(said)),
                copied,
                len(set(said)) / max(len(said), 1),
                sum(map(len, said)) / max(len(said), 1),
            ]
        )
    return np.array(out, np.float64).reshape(len(prompts), -1)


def predictors(vectors: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Embeddings beside row features: (n, d + p).

    Features are standardised, embeddings are unit vectors: all of an embedding then weighs as much as one feature.
    With every column standardised, hundreds of them drown the features (rank correlation 0.72 against 0.85,
    benchmarks/scorers.md).
    """
    if not len(features):
        return np.zeros((0, vectors.shape[1] + features.shape[1]))
    scale = features.std(0)
    scale[scale == 0] = 1.0
    unit = vectors / np.maximum(np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True), 1e-9)
    return np.concatenate([unit, (features - features.mean(0)) / scale], axis=1)


def predict(
    measure: Callable[[np.ndarray], np.ndarray],
    order: np.ndarray,
    x: np.ndarray,
    budget: int,
    *,
    confidence: float = 0.9,
    tolerance: float | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Predicted:
    """Score rows until the budget is spent, or until the rest is known well enough; predict the rest.

    Args:
        measure: positions to scores, NaN where a row has none. Rows without a score take no part in the fit.
        order: (n,) positions, from `draw`.
        x: (n, p), from `predictors`.
        budget: most rows scored.
        confidence: of the intervals.
        tolerance: stop once half the mean interval is at most this wide; looked at after each quarter of the budget.
            None spends the budget.
        bounds: no score lies outside of them; intervals are cut there.

    Returns:
        The scores; where fewer than 50 rows could be scored no prediction is made and the rest is NaN.
    """
    n = len(order)
    budget = min(budget, n)
    values, done = np.full(n, np.nan), 0
    steps = sorted(
        {math.ceil(budget * share) for share in (0.25, 0.5, 0.75, 1.0)} if tolerance is not None else {budget}
    )
    rounds: list[dict[str, float]] = []
    for step in steps:
        values[order[done:step]] = measure(order[done:step])
        done = step
        scored = np.zeros(n, bool)
        scored[order[:done]] = True
        found = _fit(values, scored, x, confidence, bounds)
        rounds.append({"rows": done, "half_width": round(found[3], 4)})
        if tolerance is not None and found[3] <= tolerance:
            break
    value, low, high, width, rank = found
    about = {
        "rows": n,
        "scored": done,
        "share": round(done / n, 4) if n else 0.0,
        "without_score": int(np.isnan(values[scored]).sum()) if n else 0,
        "confidence": confidence,
        "half_width": round(width, 4),
        "rank_correlation": round(rank, 4),
        "rounds": rounds,
        "stopped": "precise enough" if done < budget else "budget spent",
    }
    return Predicted(value, low, high, scored, about)


def _fit(
    values: np.ndarray, scored: np.ndarray, x: np.ndarray, confidence: float, bounds: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Predictions for the rows not scored: values, low, high, mean half width, and Spearman's rho out of fold."""
    from scipy.stats import spearmanr

    value, low, high = values.copy(), values.copy(), values.copy()
    rows = np.flatnonzero(scored & np.isfinite(values))
    rest = np.flatnonzero(~scored)
    if len(rows) < LEAST:
        return value, low, high, math.inf if len(rest) else 0.0, math.nan
    y = values[rows]
    known = x[rows]
    fold = np.arange(len(rows)) % FOLDS  # rows are in the order of their ids, which are hashes
    models = [_ridge(known[fold != k], y[fold != k]) for k in range(FOLDS)]
    guess = np.empty(len(rows))
    for k, model in enumerate(models):
        guess[fold == k] = model(known[fold == k])
    residuals = np.abs(y - guess)
    rank = float(spearmanr(guess, y).statistic) if len(np.unique(y)) > 1 else math.nan
    if len(rest):
        whole = _ridge(known, y)
        kept = [_evenly(np.sort(residuals[fold == k])) for k in range(FOLDS)]
        for start in range(0, len(rest), CHUNK):
            some = rest[start : start + CHUNK]
            value[some] = whole(x[some])
            both = _cv_plus([m(x[some]) for m in models], kept, confidence)
            low[some], high[some] = np.clip(both, *bounds)
    width = float(np.mean(high[rest] - low[rest]) / 2) if len(rest) else 0.0
    return np.round(value, 4), np.round(low, 4), np.round(high, 4), width, rank


def _evenly(ranked: np.ndarray) -> np.ndarray:
    if len(ranked) <= RESIDUALS:
        return ranked
    return np.asarray(ranked[np.linspace(0, len(ranked) - 1, RESIDUALS).round().astype(int)])


def _cv_plus(
    guesses: list[np.ndarray], residuals: list[np.ndarray], confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds from the fold models' predictions for new rows and the residuals they left on their own folds."""
    down = np.concatenate([g[:, None] - r[None] for g, r in zip(guesses, residuals, strict=True)], axis=1)
    up = np.concatenate([g[:, None] + r[None] for g, r in zip(guesses, residuals, strict=True)], axis=1)
    m = down.shape[1]
    place = min(math.ceil(confidence * (m + 1)), m) - 1
    low, high = np.partition(down, m - 1 - place, axis=1), np.partition(up, place, axis=1)
    return low[:, m - 1 - place], high[:, place]


def _ridge(x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression, its penalty chosen by leave-one-out (generalised cross-validation)."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(alphas=np.logspace(-2, 4, 19)).fit(x, y)
    low, high = y.min(), y.max()  # outside of what was seen a linear prediction is a guess

    def run(rows: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(model.predict(rows), low, high))

    return run
