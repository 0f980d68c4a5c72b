"""One total order of the surviving rows per method: any size is a prefix of it."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np

from tamis.curate import coverage
from tamis.errors import UserError
from tamis.recipe import Quota, Size

# Quality below which a row is held to be wrong rather than poor.
DOUBTED = 0.5
# Rows that k-means looks at in one group.
SAMPLED = 20_000
# Rows that are given to their centres at a time: a multiple of scikit-learn's 256, so that its products stay the same.
_PREDICTED = 1 << 16


@dataclasses.dataclass
class Pool:
    """The rows to choose from, column by column, sorted by id, all of length n."""

    ids: list[str]
    vectors: np.ndarray
    """(n, d) int8"""
    quality: np.ndarray
    """(n,) float in [0, 1]"""
    tokens: np.ndarray
    """(n,) int"""
    labels: list[str | None]
    fields: dict[str, list[str | None]]
    """label, language, source: what quotas speak about."""


def order(pool: Pool, method: str, seed: int, clusters: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rank all rows.

    Args:
        pool: n rows.
        method: cluster, random, longest or stratified.
        seed: of this stage.
        clusters: number of clusters; default sqrt(n / 2), as CaR (arXiv 2402.18191) has it.

    Returns:
        (n,) positions of rows, best first; (n,) int32 cluster of each row (-1 where the method has none).
    """
    n = len(pool.ids)
    none = np.full(n, -1, np.int32)
    chance = np.array([hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=8).digest() for i in pool.ids])
    if method == "random":
        return np.argsort(chance, kind="stable"), none
    if method == "longest":
        return np.lexsort((np.arange(n), -pool.tokens)), none
    if method == "stratified":
        groups = np.unique(np.array([v or "" for v in pool.labels]), return_inverse=True)[1] if n else none
        return interleave(
            groups, [m[np.argsort(chance[m], kind="stable")] for m in coverage.members(groups)], 1.0
        ), none
    groups = cluster(pool, seed, clusters)
    weight, generic = worth(pool.quality), _from_the_middle(pool.vectors)
    inside = [m[coverage.spread(pool.vectors[m], weight[m], generic[m])] for m in coverage.members(groups)]
    return interleave(groups, inside, 0.5), groups.astype(np.int32)


def cluster(pool: Pool, seed: int, clusters: int | None) -> np.ndarray:
    """k-means inside each label, so that no cluster mixes labels: (n,) cluster numbers.

    Groups above `SAMPLED` rows get their centres from that many of them, drawn by the seed.
    """
    from sklearn.cluster import KMeans

    n = len(pool.ids)
    total = min(clusters or max(1, round(math.sqrt(n / 2))), n)
    out, start = np.zeros(n, np.int64), 0
    names = np.array([label or "" for label in pool.labels])
    for same in coverage.members(np.unique(names, return_inverse=True)[1]):
        wanted = max(1, round(total * len(same) / n))
        k = _distinct(pool.vectors[same], wanted)
        if k > 1:
            draw = np.random.default_rng(seed).permutation(len(same))[: max(SAMPLED, 4 * k)]
            means = KMeans(k, n_init=1, random_state=seed % (1 << 31))
            means.fit(pool.vectors[same[np.sort(draw)]].astype(np.float32))
            for at in range(0, len(same), _PREDICTED):
                part = same[at : at + _PREDICTED]
                out[part] = start + means.predict(pool.vectors[part].astype(np.float32))
        else:
            out[same] = start
        start += k
    return out


def _distinct(vectors: np.ndarray, enough: int) -> int:
    """How many distinct rows there are, up to `enough`: mostly the first few rows will do."""
    found = 0
    for size in (4 * enough, len(vectors)):
        some = np.ascontiguousarray(vectors[:size])
        found = len(np.unique(some.view(f"V{vectors.shape[1]}").ravel()))
        if found >= enough:
            return enough
    return found


def worth(quality: np.ndarray) -> np.ndarray:
    """What the coverage that a row adds is multiplied by.

    In proportion to its quality; below `DOUBTED` it falls off with the fourth power. There stand rows that their
    neighbours contradict: they lie far from the others of their label, so each would add much.
    """
    known = np.clip(np.nan_to_num(quality), 1e-3, 1)
    return np.asarray(known * np.minimum(1, known / DOUBTED) ** 3, np.float64)


def _from_the_middle(vectors: np.ndarray) -> np.ndarray:
    """Distance of each row to the middle of all, at most 1: what any row says anyway needs no row of its own."""
    if not len(vectors):
        return np.zeros(0, np.float32)
    # whole numbers, whose sum is the same in any order; their mean would not be
    far: np.ndarray = coverage.nearest_kept(vectors, vectors.sum(0, dtype=np.int64)[None])[0]
    return np.asarray(np.minimum(far, 1))


def interleave(groups: np.ndarray, inside: list[np.ndarray], alpha: float) -> np.ndarray:
    """Merge groups so that every prefix holds them in proportion to size^alpha.

    Highest averages with divisors j + 1/2 (Sainte-Laguë 1910): growing the size never takes a row away from a group.
    """
    if not len(groups):
        return np.zeros(0, np.int64)
    rows = np.concatenate(inside)
    turn = np.concatenate([(np.arange(len(m)) + 0.5) / len(m) ** alpha for m in inside])
    return rows[np.lexsort((rows, turn))]


def take(
    pool: Pool, ranked: np.ndarray, size: Size | None, quota: dict[str, Quota], must: set[str]
) -> tuple[np.ndarray, int]:
    """Bring must-keep rows and minimum quotas to the front, rows above a maximum to the back, and cut at the size.

    Args:
        pool: n rows.
        ranked: order of all of them.
        size: how much to keep; None keeps all.
        quota: per field (label, language, source).
        must: ids that are kept whatever happens.

    Returns:
        the final order, and how many of its rows are kept.

    Raises:
        UserError: more is asked for than there is, or the minimums do not fit the size; says which numbers clash.
    """
    limit = _rows_for(pool, ranked, size)
    front = [i for i in ranked.tolist() if pool.ids[i] in must]
    picked = set(front)
    for field, bounds in quota.items():
        values = pool.fields[field]
        have: dict[str | None, int] = {}
        for i in front:
            have[values[i]] = have.get(values[i], 0) + 1
        for i in ranked.tolist():
            if i not in picked and have.get(values[i], 0) < bounds.min:
                front.append(i)
                picked.add(i)
                have[values[i]] = have.get(values[i], 0) + 1
    if size is not None and size.unit == "rows" and len(front) > limit:
        raise UserError(
            f"must-keep rows and minimum quotas need {len(front)} rows, the size is {limit}",
            where="curate.select",
            hint=f"set curate.select.size to {len(front)} or more, or lower quota.min",
        )
    rest: list[int] = []
    back: list[int] = []
    counts = {field: {} for field in quota}  # type: dict[str, dict[str | None, int]]
    for i in front:
        for field in quota:
            counts[field][pool.fields[field][i]] = counts[field].get(pool.fields[field][i], 0) + 1
    for i in ranked.tolist():
        if i in picked:
            continue
        over = any(b.max is not None and counts[f].get(pool.fields[f][i], 0) >= b.max for f, b in quota.items())
        (back if over else rest).append(i)
        if not over:
            for field in quota:
                counts[field][pool.fields[field][i]] = counts[field].get(pool.fields[field][i], 0) + 1
    final = np.array(front + rest + back, np.int64)
    kept = _rows_for(pool, final, size)
    if back and kept > len(front) + len(rest):
        raise UserError(
            f"maximum quotas leave {len(front) + len(rest)} rows, the size asks for {kept}",
            where="curate.select.quota",
            hint=f"set curate.select.size to {len(front) + len(rest)}, or raise quota.max",
        )
    return final, kept


def _rows_for(pool: Pool, ranked: np.ndarray, size: Size | None) -> int:
    n = len(ranked)
    if size is None:
        return n
    if size.unit == "share":
        return max(1, round(size.amount * n)) if n else 0
    if size.unit == "tokens":
        return int(np.searchsorted(np.cumsum(pool.tokens[ranked]), size.amount, side="right"))
    if size.amount > n:
        raise UserError(
            f"the size is {size.amount:,.0f} rows, but only {n:,} survive the earlier stages",
            where="curate.select.size",
            hint=f"set it to {n} or less, or leave it out to keep all survivors",
        )
    return int(size.amount)
