"""Where likeness ends and leaking begins, for one benchmark and one data set, without a label.

Best scores of the training rows are a mixture of three: rows that have nothing to do with the benchmark, rows that are
like it as its own items are like each other, and leaks. On the log-odds of the score each is close to normal.

* *alike* is known beforehand: every item against all the others (leave one out), by median and spread, so that a few
  twins inside the evaluation set do not shift it;
* *leaked* starts from rewordings of the items (`injection`), which say how high this embedder scores copies of these
  texts, and is then fitted to the data, the start counting as `PRIOR` rows;
* *unrelated* is fitted to the data as `BULK` curves, since the bulk of a data set is no one normal curve and its upper
  tail must not be taken for leaks; it stays below *alike*.

Expectation-maximisation (Dempster, Laird, Rubin 1977) finds how many rows are of each kind; the false-discovery rate
of a threshold is the mean probability of not being a leak over the rows above it (Efron 2010, Large-Scale Inference,
section 5). A second opinion needs no shape at all: the items among themselves tell how often an innocent row reaches
the threshold, and what is flagged must be at least twice that.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

# Fewer items than this do not show what innocent likeness looks like.
FEWEST = 20
PRIOR = 10
BULK = 3
# Standard deviation of a leak's log-odds at the start: paraphrases range from two words changed to all of them.
WIDTH = 0.7
_ROUNDS = 200
# No curve is narrower than this, in log-odds.
_NARROWEST = 0.1
# Log-odds of scores are taken between these: a copy scores 1, and its log-odds are infinite.
_LOWEST, _HIGHEST = 0.02, 0.985
# Innocent rows are counted between these tail probabilities of the items. Unrelated rows reach into the first window,
# leaks into the second, so the smaller count is the better one.
_WINDOWS = ((0.3, 0.8), (0.1, 0.3))


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A threshold and what is known of it."""

    threshold: float | None
    """Score from which a row counts as a leak; None: no score would be evidence enough."""
    fdr: float | None
    """Estimated share of innocent rows among those flagged; None where nothing is."""
    fdr_by_items: float | None
    """The second opinion on that share: from how often an item reaches the threshold with another item."""
    flagged: int
    alike: float
    """Median score of an item's likest other item."""
    leaked: float
    """Median score of a leak as estimated."""
    shares: tuple[float, float, float]
    """Estimated shares of rows that are unrelated, alike, leaked."""

    def report(self) -> dict[str, Any]:
        """As it is written in `decontamination.json`."""
        names = ("unrelated", "alike", "leaked")
        shares = {n: round(s, 6) for n, s in zip(names, self.shares, strict=True)}
        return {**dataclasses.asdict(self), "shares": shares}


def calibrate(
    null: np.ndarray, scores: np.ndarray, reworded: np.ndarray, fdr: float, weights: np.ndarray | None = None
) -> Calibration:
    """Choose the threshold.

    Args:
        null: (items,) best score of each item against the others.
        scores: (n,) best score of each row.
        reworded: scores of rewordings against the item they were made of.
        fdr: highest false-discovery rate.
        weights: (n,) how many rows of the data each score stands for.

    Returns:
        The lowest threshold (in steps of 0.001) at which a row is likelier a leak than not and that keeps to `fdr`.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    x, y, z = _log_odds(null), _log_odds(scores), _log_odds(reworded)
    mixture = _fit(x, y, z, weights)
    steps = np.round(np.arange(0, 1.0005, 0.001), 4)
    # A row that is likelier than another is no less a leak: normal curves of unlike width cross a second time far out.
    certain = np.maximum.accumulate(np.where(steps >= np.median(null), mixture.leaked(_log_odds(steps)), 0))
    own = certain[np.clip(np.floor(scores * 1000 + 1e-6).astype(int), 0, 1000)]
    innocent = _innocent(null, scores, weights)
    chosen: tuple[float | None, float | None, float | None] = (None, None, None)
    for step, sure in zip(steps, certain, strict=True):
        above = scores >= step
        count = weights[above].sum()
        rate = float((weights[above] * (1 - own[above])).sum() / count) if count else None
        other = float(min(innocent * (null >= step).mean() / count, 1)) if count else None
        if sure >= 0.5 and (other or 0) <= 0.5 and (1 - sure if rate is None else rate) <= fdr:
            chosen = (float(step), rate, other)
            break
    threshold, rate, other = chosen
    return Calibration(
        threshold=threshold,
        fdr=None if rate is None else round(rate, 4),
        fdr_by_items=None if other is None else round(other, 4),
        flagged=int((scores >= threshold).sum()) if threshold is not None else 0,
        alike=round(float(np.median(null)), 4),
        leaked=round(float(1 / (1 + np.exp(-mixture.means[-1]))), 4),
        shares=(float(mixture.shares[:BULK].sum()), float(mixture.shares[-2]), float(mixture.shares[-1])),
    )


@dataclasses.dataclass
class _Mixture:
    """Normal curves: `BULK` of unrelated rows, then alike, then leaked."""

    means: np.ndarray
    spreads: np.ndarray
    shares: np.ndarray

    def each(self, y: np.ndarray) -> np.ndarray:
        """(curves, n) probability of each."""
        away = (y[None] - self.means[:, None]) / self.spreads[:, None]
        density = np.log(self.shares / self.spreads)[:, None] - away**2 / 2
        density = np.exp(density - density.max(0))
        return np.asarray(density / density.sum(0))

    def leaked(self, y: np.ndarray) -> np.ndarray:
        """(n,) probability of being a leak."""
        return np.asarray(self.each(y)[-1])


def _fit(x: np.ndarray, y: np.ndarray, z: np.ndarray, weights: np.ndarray) -> _Mixture:
    alike, spread = float(np.median(x)), max(_spread(x), _NARROWEST)
    start, width = max(float(np.median(z)), alike + spread), max(_spread(z), WIDTH)
    low = min(_median(y, weights), alike - spread)
    bulk = np.linspace(low, alike, BULK, endpoint=False)
    mixture = _Mixture(
        means=np.array([*bulk, alike, start]),
        spreads=np.array([spread] * (BULK + 1) + [width]),
        shares=np.array([0.4 / BULK] * BULK + [0.4, 0.2]),
    )
    for _ in range(_ROUNDS):
        part = mixture.each(y) * weights
        n = part.sum(1)
        mixture.shares = (n + 1) / (n + 1).sum()
        for i in range(BULK):
            mixture.means[i] = min((part[i] @ y + bulk[i]) / (n[i] + 1), alike - spread / 2)
            variance = (part[i] @ (y - mixture.means[i]) ** 2 + spread**2) / (n[i] + 1)
            mixture.spreads[i] = max(np.sqrt(variance), _NARROWEST)
        mixture.means[-1] = max((part[-1] @ y + PRIOR * start) / (n[-1] + PRIOR), alike + spread)
        mixture.spreads[-1] = np.sqrt((part[-1] @ (y - mixture.means[-1]) ** 2 + PRIOR * width**2) / (n[-1] + PRIOR))
    return mixture


def _innocent(null: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """How many rows are like the benchmark and innocent (after Storey 2002, with windows in place of a tail)."""
    counts = []
    for smallest, largest in _WINDOWS:
        low, high = np.quantile(null, [1 - largest, 1 - smallest])
        counts.append(float(weights[(scores > low) & (scores < high)].sum()) / (largest - smallest))
    return min(counts)


def _log_odds(scores: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(scores, np.float64), _LOWEST, _HIGHEST)
    return np.log(p / (1 - p))


def _spread(values: np.ndarray) -> float:
    """Standard deviation of the middle: 1.683 of it lie between the 20th and the 80th percentile of a normal curve."""
    low, high = np.quantile(values, [0.2, 0.8])
    return float(high - low) / 1.683


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
