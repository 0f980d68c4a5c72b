"""Where likeness ends and leaking begins, for one benchmark and one data set, without a label.

Best scores of the training rows are a mixture of three: rows that have nothing to do with the benchmark, rows that are
like it as its own items are like each other, and leaks. On the log-odds of the score each is close to normal.

* *alike* is known beforehand: every item against all the others (leave one out), by median and spread, so that a few
  twins inside the evaluation set do not shift it;
* *leaked* starts halfway between that and rewordings of the items (`injection`), which say how high this embedder
  scores these texts when words are lost and none exchanged; it is then fitted to the data, the start counting as `PRIOR`
  rows;
* *unrelated* is fitted to the data, and stays below *alike*.

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
# Standard deviation of a leak's log-odds at the start: paraphrases range from two words changed to all of them.
WIDTH = 0.7
_ROUNDS = 200
# Log-odds of scores are taken between these: a copy scores 1, and its log-odds are infinite.
_LOWEST, _HIGHEST = 0.02, 0.985
# Innocent rows are counted where most of them and few leaks are: between these tail probabilities of the items.
_WINDOW = (0.3, 0.8)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A threshold and what is known of it."""

    threshold: float | None
    """Score from which a row counts as a leak; None: no score would be evidence enough."""
    fdr: float | None
    """Estimated share of innocent rows among those flagged; None where nothing is."""
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
    chosen: tuple[float | None, float | None] = (None, None)
    for step, sure in zip(steps, certain, strict=True):
        above = scores >= step
        count = weights[above].sum()
        rate = float((weights[above] * (1 - own[above])).sum() / count) if count else None
        shown = innocent * (null >= step).mean() <= count / 2
        if sure >= 0.5 and shown and (1 - sure if rate is None else rate) <= fdr:
            chosen = (float(step), rate)
            break
    threshold, rate = chosen
    return Calibration(
        threshold=threshold,
        fdr=None if rate is None else round(rate, 4),
        flagged=int((scores >= threshold).sum()) if threshold is not None else 0,
        alike=round(float(np.median(null)), 4),
        leaked=round(float(1 / (1 + np.exp(-mixture.means[2]))), 4),
        shares=(float(mixture.shares[0]), float(mixture.shares[1]), float(mixture.shares[2])),
    )


@dataclasses.dataclass
class _Mixture:
    """Three normal curves: unrelated, alike, leaked."""

    means: np.ndarray
    spreads: np.ndarray
    shares: np.ndarray

    def each(self, y: np.ndarray) -> np.ndarray:
        """(3, n) probability of each kind."""
        away = (y[None] - self.means[:, None]) / self.spreads[:, None]
        density = np.log(self.shares / self.spreads)[:, None] - away**2 / 2
        density = np.exp(density - density.max(0))
        return density / density.sum(0)

    def leaked(self, y: np.ndarray) -> np.ndarray:
        return self.each(y)[2]


def _fit(x: np.ndarray, y: np.ndarray, z: np.ndarray, weights: np.ndarray) -> _Mixture:
    alike, spread = float(np.median(x)), max(_spread(x), 0.1)
    start = max((alike + float(np.median(z))) / 2, alike + spread)
    width = max(_spread(z), WIDTH)
    low = min(_median(y, weights), alike - spread)
    mixture = _Mixture(np.array([low, alike, start]), np.array([spread, spread, width]), np.array([0.4, 0.4, 0.2]))
    for _ in range(_ROUNDS):
        part = mixture.each(y) * weights
        n = part.sum(1)
        mixture.shares = (n + 1) / (n.sum() + 3)
        mixture.means[0] = min((part[0] @ y + low) / (n[0] + 1), alike - spread / 2)
        mixture.spreads[0] = np.sqrt((part[0] @ (y - mixture.means[0]) ** 2 + spread**2) / (n[0] + 1))
        mixture.means[2] = max((part[2] @ y + PRIOR * start) / (n[2] + PRIOR), alike + spread)
        mixture.spreads[2] = np.sqrt((part[2] @ (y - mixture.means[2]) ** 2 + PRIOR * width**2) / (n[2] + PRIOR))
    return mixture


def _innocent(null: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float:
    """How many rows are like the benchmark and innocent (Storey 2002, with the window for the tail)."""
    lowest, highest = np.quantile(null, [1 - _WINDOW[1], 1 - _WINDOW[0]])
    return float(weights[(scores > lowest) & (scores < highest)].sum()) / (_WINDOW[1] - _WINDOW[0])


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
