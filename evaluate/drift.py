"""Whether recent prompts still come from where the curated ones did: a permutation test on two samples of vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

# Draws of the permutation test: p-values are multiples of 1/1000.
PERMUTATIONS = 999
# Prompts of each side that are looked at: the test takes the square of it.
MOST = 1000
# Fewer prompts than this say nothing.
FEWEST = 20


@dataclasses.dataclass(frozen=True)
class Drift:
    """Recent prompts against curated ones.

    Attributes:
        n: recent prompts that were looked at, and `reference` curated ones.
        distance: energy distance, 0 where both come from one distribution.
        p: chance of such a distance, or a larger one, if nothing had changed; None where n is too small.
        drifted: p is at most alpha.
        farthest: (k,) positions of the recent prompts farthest from any curated one, the farthest first: the rows to
            write or label next.
    """

    n: int
    reference: int
    distance: float
    p: float | None
    drifted: bool
    farthest: list[int]


def drift(recent: np.ndarray, curated: np.ndarray, seed: int, *, alpha: float = 0.01, shown: int = 10) -> Drift:
    """Energy distance (Székely and Rizzo 2013) of two samples, its chance by permutation.

    Under the null hypothesis the two are exchangeable, so the test is exact: false alarms are at most alpha.

    Args:
        recent: (n, d) vectors, any scale.
        curated: (m, d) vectors, any scale.
        seed: of the draws.
        alpha: share of false alarms.
        shown: how many of the farthest prompts to name.
    """
    rng = np.random.default_rng(seed)
    new, old = _some(recent, rng), _some(curated, rng)
    n, m = len(new), len(old)
    if n < FEWEST or m < FEWEST:
        return Drift(n, m, float("nan"), None, False, [])
    points = _unit(np.concatenate([recent[new], curated[old]]))
    between = np.sqrt(np.maximum(2 - 2 * points @ points.T, 0)).astype(np.float64)
    np.fill_diagonal(between, 0)
    total, sums = between.sum(), between.sum(1)

    def energy(chosen: np.ndarray) -> np.ndarray:
        """(k, n + m) 0/1 rows to (k,) distances."""
        inside = np.einsum("ij,ij->i", chosen @ between, chosen)
        across = chosen @ sums - inside
        rest = total - inside - 2 * across
        return np.asarray(2 * across / (n * m) - inside / n**2 - rest / m**2)

    mine = np.zeros((1, n + m))
    mine[0, :n] = 1
    found = float(energy(mine)[0])
    draws = np.zeros((PERMUTATIONS, n + m))
    for row in draws:
        row[rng.permutation(n + m)[:n]] = 1
    # summing in another order gives other last bits, which must not decide between equal distances
    as_far = int((energy(draws) >= found - 1e-12).sum())
    p = (1 + as_far) / (1 + PERMUTATIONS)
    away = between[:n, n:].min(1)
    far = new[np.argsort(-away, kind="stable")[:shown]]
    return Drift(n, m, found, p, p <= alpha, far.tolist())


@dataclasses.dataclass(frozen=True)
class Change:
    """A category whose share is another one now.

    Attributes:
        name: of the category.
        recent, known: its shares.
        p: chance that any category at all would part as far if nothing had changed.
    """

    name: str
    recent: float
    known: float
    p: float


@dataclasses.dataclass(frozen=True)
class Mix:
    """Shares of categories (languages, clusters) in recent prompts and in known ones.

    Attributes:
        recent, curated: share by category, the largest first.
        distance: total variation, 0 to 1: the share that would have to change category.
        p: as in `Drift`.
        drifted: p is at most alpha.
        changes: the categories whose adjusted p is at most alpha, the largest change first.
    """

    recent: dict[str, float]
    curated: dict[str, float]
    distance: float
    p: float | None
    drifted: bool
    changes: list[Change]


def mix(recent: Sequence[str], curated: Sequence[str], seed: int, *, alpha: float = 0.01) -> Mix:
    """Total variation distance of two samples of categories, its chance by permutation (exact, as in `drift`).

    What a permutation leaves on the side of the recent ones is a draw without replacement, so only counts are drawn.
    The same draws adjust the categories' own p-values for their number: the smallest of a draw is what each is held
    against (Westfall and Young 1993, single-step minP), so the chance of any false change is at most alpha too.
    """
    n, m = len(recent), len(curated)
    names, codes = np.unique([*recent, *curated], return_inverse=True)
    counts = np.bincount(codes, minlength=len(names))
    ours = np.bincount(codes[:n], minlength=len(names))

    def told(of: np.ndarray) -> dict[str, float]:
        order = np.argsort(-of, kind="stable")
        return {str(names[i]): float(of[i] / of.sum()) for i in order if of[i] > 0}

    def distance(some: np.ndarray) -> np.ndarray:
        """(k, categories) counts on the one side to (k,) distances."""
        return np.asarray(np.abs(some / max(1, n) - (counts - some) / max(1, m)).sum(1) / 2)

    found = float(distance(ours[None])[0])
    if n < FEWEST or m < FEWEST:
        return Mix(told(ours), told(counts - ours), found, None, False, [])
    draws = np.random.default_rng(seed).multivariate_hypergeometric(counts, n, size=PERMUTATIONS)
    p = (1 + int((distance(draws) >= found - 1e-12).sum())) / (1 + PERMUTATIONS)
    own = _chances(np.concatenate([ours[None], draws]), counts, n)
    smallest = own[1:].min(1)
    adjusted = (1 + (smallest[:, None] <= own[0] + 1e-12).sum(0)) / (1 + PERMUTATIONS)
    changes = [
        Change(str(names[i]), float(ours[i] / n), float((counts[i] - ours[i]) / m), float(adjusted[i]))
        for i in np.flatnonzero(adjusted <= alpha)
    ]
    changes.sort(key=lambda c: (-abs(c.recent - c.known), c.name))
    return Mix(told(ours), told(counts - ours), found, p, p <= alpha, changes)


def _chances(some: np.ndarray, counts: np.ndarray, n: int) -> np.ndarray:
    """Two-sided p of each count alone, twice the smaller tail of the hypergeometric: (k, categories) to the same."""
    from scipy.stats import hypergeom

    # few pairs of count and size are distinct, however many the draws
    pairs, at = np.unique(
        np.stack([some, np.broadcast_to(counts, some.shape)], -1).reshape(-1, 2), axis=0, return_inverse=True
    )
    got, size = pairs.T
    total = int(counts.sum())
    tail = np.minimum(hypergeom.cdf(got, total, size, n), hypergeom.sf(got - 1, total, size, n))
    return np.asarray(np.minimum(1.0, 2 * tail)[at.ravel()].reshape(some.shape))


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(n,) the centre that each point is most like by cosine, of (n, d) points and (k, d) centres of any scale."""
    return np.asarray((_unit(points) @ _unit(centres).T).argmax(1))


def _some(vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.sort(rng.permutation(len(vectors))[:MOST])


def _unit(vectors: np.ndarray) -> np.ndarray:
    rows = vectors.astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))
