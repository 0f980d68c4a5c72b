"""The card of the features scorer on expert revisions, and where its weights come from.

    python benchmarks/scorers_card.py            # 10 seeded splits: fitted on one half, measured on the other
    python benchmarks/scorers_card.py weights    # fitted on all pairs: the weights that curate/quality.py ships

The regression sees differences (better less worse) of the features and of log words. Features weigh no less than 0 in
their own direction. Log words is not held down by the penalty, so that it takes all it can explain, and its weight is
thrown away.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from tamis.curate.quality import BY_HAND, MERITS, WEIGHTS, features, quality
from tamis.curate.scorer_card import Pairs, card, words

DATA = Path(__file__).parents[2] / "shared" / "data" / "coachlm_expert_revisions.json"
PENALTY = 3.0
SPLITS = 10
NAMES = list(WEIGHTS)
LINES = ("spaced", "lines", "edges", "intro", "list")  # what is seen of line breaks, for the ablation


def read(file: Path) -> Pairs:
    rows = json.loads(file.read_text(encoding="utf-8"))

    def side(version: str) -> list[tuple[str, str]]:
        return [
            ("\n".join(t for t in (r[f"{version} Instruction"], r[f"{version} Input"]) if t), r[f"{version} Response"])
            for r in rows
        ]

    return Pairs(side("Raw"), side("Revised"))


def table(rows: list[tuple[str, str]]) -> np.ndarray:
    """(n, features + 1): the last column is log words."""
    return np.array([[*features(p, a).values(), np.log(max(words(a), 1))] for p, a in rows])


def fit(difference: np.ndarray, without: tuple[str, ...] = ()) -> np.ndarray:
    """Weights on the features' own scale."""
    scale = difference.std(0)
    scale[scale == 0] = 1.0
    z = difference / scale
    strength = np.array([PENALTY] * len(NAMES) + [0.0]) * len(z) / 100

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = z @ w
        gradient = -(z * (1 / (1 + np.exp(margin)))[:, None]).sum(0) + strength * w
        return float(np.logaddexp(0, -margin).sum() + (strength * w**2).sum() / 2), gradient

    free = [(None, None)]
    bounds = [(0, 0) if n in without else (0, None) if n in MERITS else (None, 0) for n in NAMES] + free
    found = minimize(loss, np.zeros(z.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    weights = found[:-1] / scale[:-1]
    for name, value in BY_HAND.items():
        weights[NAMES.index(name)] = value
    return weights


def scorer(weights: np.ndarray) -> Callable[[str, str], float]:
    return lambda prompt, answer: float(np.array(list(features(prompt, answer).values())) @ weights)


def part(pairs: Pairs, rows: np.ndarray) -> Pairs:
    return Pairs([pairs.worse[i] for i in rows], [pairs.better[i] for i in rows])


def splits(pairs: Pairs, difference: np.ndarray, without: tuple[str, ...] = ()) -> list[dict]:
    out = []
    for seed in range(SPLITS):
        order = np.random.default_rng(seed).permutation(len(difference))
        half = len(order) // 2
        out.append(card(part(pairs, order[half:]), scorer(fit(difference[order[:half]], without))))
    return out


def told(name: str, cards: list[dict]) -> None:
    for kind in ("raw", "matched"):
        figures = {k: np.mean([c[kind][k]["value"] for c in cards]) for k in ("accuracy", "word_count", "difference")}
        lowest = min(c[kind]["difference"]["lower"] for c in cards)
        rho = np.mean([c["length_rank_correlation"] for c in cards])
        print(
            f"{name:22} {kind:8} pairs {np.mean([c[kind]['pairs'] for c in cards]):6.0f}  "
            + "  ".join(f"{k} {v:.3f}" for k, v in figures.items())
            + f"  lowest lower bound {lowest:+.3f}  rho with words {rho:+.2f}"
        )


if __name__ == "__main__":
    pairs = read(DATA)
    before, after = table(list(pairs.worse)), table(list(pairs.better))
    difference = after - before
    if sys.argv[1:] == ["weights"]:
        weights = fit(difference)
        middle = -float(np.median(np.concatenate([before, after])[:, :-1] @ weights))
        print({n: round(float(w), 3) for n, w in zip(NAMES, weights, strict=True)}, round(middle, 3))
    else:
        told("10 splits", splits(pairs, difference))
        told("no line breaks", splits(pairs, difference, LINES))
        told("shipped (seen)", [card(pairs, quality)])
