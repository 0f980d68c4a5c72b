"""Which rows bring the kept set closer to all rows: how far rows lie from it, and by how much each one would help."""

from __future__ import annotations

import numpy as np

# Rows of one block that are compared with each other: above it a block is cut, so that ranking n rows takes O(n).
BLOCK = 2048
CHUNK = 4096
# Steps of a distance of one.
STEPS = 10_000
# Rows of one block that are chosen one by one.
PLACES = 256
_ROWS = 256


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one: (n, d) float32; a row of zeros stays one."""
    rows = vectors.astype(np.float32)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))


def nearest_kept(vectors: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kept row nearest to each row.

    Args:
        vectors: (n, d), any scale.
        kept: (k, d), any scale.

    Returns:
        (n,) float32 cosine distance, 0 to 2, rounded to 1e-4, and (n,) int64 which kept row. Without a kept row the
        distance is 1, that of an unrelated text, and the row -1.
    """
    n = len(vectors)
    distance, at = np.ones(n, np.float32), np.full(n, -1, np.int64)
    if not len(kept):
        return distance, at
    points = unit(kept)
    for start in range(0, n, CHUNK):
        likeness = unit(vectors[start : start + CHUNK]) @ points.T
        at[start : start + CHUNK] = likeness.argmax(1)
        distance[start : start + CHUNK] = np.round(1 - likeness.max(1), 4)
    return np.maximum(distance, 0), at


def members(groups: np.ndarray) -> list[np.ndarray]:
    """The rows of each group, in the order of the groups."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(groups) else []


def nearest_in_groups(vectors: np.ndarray, groups: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The kept row of its own group nearest to each row that is not kept.

    Args:
        vectors: (n, d), any scale.
        groups: (n,) integers.
        kept: (n,) bool.

    Returns:
        (n,) int64 row, -1 where the row is kept or its group keeps none, and (n,) float32 cosine, rounded to 1e-4.
    """
    at, likeness = np.full(len(vectors), -1, np.int64), np.zeros(len(vectors), np.float32)
    for rows in members(groups):
        ours, others = rows[kept[rows]], rows[~kept[rows]]
        if len(ours) and len(others):
            distance, near = nearest_kept(vectors[others], vectors[ours])
            at[others], likeness[others] = ours[near], np.round(1 - distance, 4)
    return at, likeness


def summary(distance: np.ndarray) -> dict[str, float | int | None]:
    """{rows, mean, p95} of distances to the nearest kept row; null without rows."""
    if not len(distance):
        return {"rows": 0, "mean": None, "p95": None}
    return {
        "rows": len(distance),
        "mean": round(float(distance.mean()), 4),
        "p95": round(float(np.percentile(distance, 95)), 4),
    }


def rank(
    vectors: np.ndarray, weight: np.ndarray, distance: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rank rows by the coverage that each adds to what is kept and to the rows ranked before it.

    A row's gain is how much nearer it brings the rows of its group, summed, times its weight: facility location
    (Cornuéjols, Fisher, Nemhauser 1977), whose greedy order is within 1 - 1/e of the best choice of each size. Groups
    share nothing, so their gains, merged from large to small, are the greedy order of all.

    Args:
        vectors: (n, d), any scale, in the order of the rows' ids.
        weight: (n,) how good each row is, above 0.
        distance: (n,) to the nearest kept row.
        groups: (n,) integers; a row covers rows of its own group only.

    Returns:
        (n,) positions, best first, and (n,) float64 gains by row, rounded to 1e-6. O(n x BLOCK).
    """
    n = len(vectors)
    gains = np.zeros(n)
    turn = np.zeros(n, np.int64)
    for block in _blocks(groups):
        order, found = _greedy(apart(vectors[block]), weight[block], _steps(distance[block]), False)
        # a row that follows without being chosen would add less by the time it comes than it would now
        gains[block[order]] = np.minimum.accumulate(found)
        turn[block[order]] = np.arange(len(block))
    gains = np.round(gains, 6)
    return np.lexsort((np.arange(n), turn, -gains)), gains


def spread(vectors: np.ndarray, weight: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Order one group so that every prefix stands for the group and its rows stand apart.

    Each place goes to the row with the largest product of weight, facility-location gain (see `rank`) and distance to
    the rows before it. The gain alone takes rows from the middle, the distance alone (Gonzalez 1985, farthest first)
    takes the odd ones out; benchmarks/selection.md has both beside their product.

    Args:
        vectors: (n, d), any scale, in the order of the rows' ids.
        weight: (n,) how good each row is, above 0.
        distance: (n,) how far each row lies from what is known without the group; a row nearer than that gains nothing.

    Returns:
        (n,) positions, best first. Groups above `BLOCK` rows are ordered in slices that take turns.
    """
    orders = [
        block[_greedy(apart(vectors[block]), weight[block], _steps(distance[block]), True)[0]]
        for block in _blocks(np.zeros(len(vectors), np.int64))
    ]
    turn = np.concatenate([(np.arange(len(o)) + 0.5) / len(o) for o in orders]) if orders else np.zeros(0)
    rows = np.concatenate(orders) if orders else np.zeros(0, np.int64)
    return rows[np.lexsort((rows, turn))]


def _blocks(groups: np.ndarray) -> list[np.ndarray]:
    # rows stand in the order of their hashes, so that every slice is a draw from its group
    return [p[start :: -(-len(p) // BLOCK)] for p in members(groups) for start in range(-(-len(p) // BLOCK))]


def _steps(distance: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(distance, np.float64) * STEPS).astype(np.int16)


def apart(vectors: np.ndarray) -> np.ndarray:
    """Cosine distances between all rows in steps of 1 / `STEPS`: (n, n) int16, symmetric, 0 to 2 x `STEPS`.

    Whole numbers, so that sums of them are the same in any order; float32 holds dot products of int8 unit vectors
    exactly.
    """
    rows = vectors.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    norms[norms == 0] = np.inf
    cosine = rows @ rows.T
    cosine /= np.outer(norms, norms)
    np.subtract(1, cosine, out=cosine)
    cosine *= STEPS
    steps: np.ndarray = np.maximum(np.rint(cosine, out=cosine), 0, out=cosine).astype(np.int16)
    return steps


def _greedy(
    between: np.ndarray, weight: np.ndarray, left: np.ndarray, apart_too: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy order of one block and what the rows added when their place was given, in its order.

    `left` are the distances to what is kept; `apart_too` multiplies gains by a row's distance to the rows before it.
    After `PLACES` rows the others follow by what they would add then. The gains are kept up to date: a chosen row
    changes only what concerns the rows that it comes nearer to, which soon are few: a block costs about n^2 log n.
    """
    n = len(between)
    gains = np.zeros(n, np.int64)
    for start in range(0, n, _ROWS):
        gains[start : start + _ROWS] = np.maximum(left - between[start : start + _ROWS], 0).sum(1, dtype=np.int64)
    weight, free = np.asarray(weight, np.float64), np.ones(n, bool)
    own = np.full(n, STEPS, np.int16)

    def worth() -> np.ndarray:
        return weight * gains * own if apart_too else weight * gains

    order: list[int] = []
    found: list[float] = []
    for _ in range(min(n, PLACES)):
        i = int(np.where(free, worth(), -1.0).argmax())
        order.append(i)
        found.append(float(weight[i] * gains[i]) / STEPS)
        free[i] = False
        near = between[i]
        nearer = np.flatnonzero(near < left)
        for start in range(0, len(nearer), _ROWS):
            rows = nearer[start : start + _ROWS]
            lost = np.maximum(between[rows], near[rows, None])
            np.subtract(left[rows, None], lost, out=lost)
            gains -= np.maximum(lost, 0, out=lost).sum(0, dtype=np.int32)
        left, own = np.minimum(left, near), np.minimum(own, near)
    rest = np.flatnonzero(free)
    rest = rest[np.argsort(-worth()[rest], kind="stable")]
    return np.concatenate([np.array(order, np.int64), rest]), np.array([*found, *(weight[rest] * gains[rest] / STEPS)])
