"""Which rows bring the kept set closer to all rows: how far rows lie from it, and by how much each one would help."""

from __future__ import annotations

import heapq

import numpy as np

# Rows of one block that are compared with each other: above it a block is cut, so that ranking n rows takes O(n).
BLOCK = 2048
CHUNK = 4096


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
    (Cornuéjols, Fisher, Nemhauser 1977), whose greedy order is within 1 - 1/e of the best choice of each size; lazy
    evaluation by Minoux (1978). Groups share nothing, so their gains, merged from large to small, are the greedy order
    of all.

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
        order, found = _greedy(unit(vectors[block]), weight[block], distance[block].astype(np.float64))
        gains[block[order]] = found
        turn[block[order]] = np.arange(len(block))
    gains = np.round(gains, 6)
    return np.lexsort((np.arange(n), turn, -gains)), gains


def _blocks(groups: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    parts = np.split(order, cuts) if len(groups) else []
    # rows stand in the order of their hashes, so that every slice is a draw from its group
    return [p[start :: -(-len(p) // BLOCK)] for p in parts for start in range(-(-len(p) // BLOCK))]


def _greedy(points: np.ndarray, weight: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Greedy order of one block and the gain of each place; `left` are the distances to what is kept."""
    between = np.maximum(1 - points @ points.T, 0).astype(np.float64)

    def gain(i: int) -> float:
        return float(np.maximum(left - between[i], 0).sum() * weight[i])

    heap = [(-gain(i), i) for i in range(len(points))]
    heapq.heapify(heap)
    order: list[int] = []
    found: list[float] = []
    while heap:
        _, i = heapq.heappop(heap)
        now = -gain(i)
        if heap and (now, i) > heap[0]:
            heapq.heappush(heap, (now, i))
            continue
        order.append(i)
        # float sums may rise in the last bits, gains never do
        found.append(min(-now, found[-1]) if found else -now)
        left = np.minimum(left, between[i])
    return np.array(order, np.int64), found
