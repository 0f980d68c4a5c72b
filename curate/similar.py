"""Which vectors are alike: all pairs above a cosine, and each row's nearest neighbours.

Vectors are of integers, so a dot product is an integer and the same in any order of summation. Floats only propose;
what is returned is computed from the integers, so the block size changes nothing.

Up to `EXACT` rows everything is compared with everything. Beyond that, rows are sorted into cells around centroids
(an inverted file: Jégou, Douze, Schmid 2011, "Product quantization for nearest neighbor search") and a row is compared
with its own cell and with every cell whose centroid is almost as near. `benchmarks/coverage.md` has the recall.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tamis.embed import coarse

# All pairs of 40,000 rows of 256 dimensions take 4 s on two cores; cells cost that much before they save anything.
EXACT = 40_000
# Groups up to this size are compared pair by pair in one go: a matrix product each would be all overhead.
SMALL = 32
_BLOCK = 1024
_PAIRS = 1024  # pairs of vectors at a time: what a processor's cache holds of them
# How much farther a centroid may be than the nearest one, in standard deviations of what two rows at the threshold
# can differ by. Measured on a million rows and on CLINC150 and T0 (benchmarks/coverage.md).
_MARGIN = 3.0
_DECIMALS = 4
# Cells searched for the neighbours of a row.
_PROBES = 16


def cosine_pairs(
    vectors: np.ndarray,
    threshold: float,
    groups: np.ndarray | None = None,
    exact: int = EXACT,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows of one group at or above a cosine similarity.

    Args:
        vectors: (m, d) int8 or int16, all of about one length. A row of zeros is like nothing.
        threshold: cosine.
        groups: (n,) integers; only rows of equal groups are compared. None: one group.
        exact: groups up to this size are compared exhaustively, larger ones by cells.
        rows: (n,) the rows of `vectors` to compare, each once; default all.

    Returns:
        pairs (m, 2) int64 with i < j, sorted, and their cosines (m,) float64, rounded to 1e-4.
    """
    found = [np.zeros((0, 2), np.int64)]
    rows = np.arange(len(vectors)) if rows is None else rows
    for members in _groups(len(rows), groups):
        if isinstance(members, list):
            found += _small(vectors, [rows[table] for table in members], threshold)
            continue
        compare = _all_pairs if len(members) <= exact else _cell_pairs
        found += [rows[members[p]] for p in compare(vectors[rows[members]], threshold)]
    pairs = np.concatenate(found)
    pairs.sort(axis=1)
    key = np.unique(pairs[:, 0] * max(len(vectors), 1) + pairs[:, 1])
    pairs = np.stack([key // max(len(vectors), 1), key % max(len(vectors), 1)], 1)
    similarity = cosines(vectors, pairs)
    keep = similarity >= threshold
    return pairs[keep], similarity[keep]


def cosines(vectors: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Cosines of pairs of rows, from integers: (m,) float64, rounded to 1e-4."""
    norms = _norms(vectors)
    out = np.zeros(len(pairs))
    for start in range(0, len(pairs), _PAIRS):
        i, j = pairs[start : start + _PAIRS].T
        dots = np.einsum("ij,ij->i", vectors[i].astype(np.float64), vectors[j].astype(np.float64))  # exact below 2^53
        out[start : start + _PAIRS] = np.round(dots / norms[i] / norms[j], _DECIMALS)
    return out


def nearest(vectors: np.ndarray, k: int, exact: int = EXACT) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other rows of each row.

    Args:
        vectors: (n, d) int8, unit vectors times 127, n > k: float32 holds their dot products exactly.
        k: neighbours.
        exact: up to so many rows all are compared; beyond, each with the rows of the `_PROBES` cells around its own.

    Returns:
        (n, k) row numbers, nearest first, ties by row number; (n, k) cosines rounded to 1e-4. Where a neighbourhood of
        cells holds fewer rows than k, the rest are -1 in cosine and repeat the row itself.
    """
    n = len(vectors)
    rows, values = np.repeat(np.arange(n)[:, None], k, 1), np.full((n, k), -1.0)
    norms = _norms(vectors)
    for asking, asked in _neighbourhoods(vectors, exact):
        wide, scale = vectors[asked].astype(np.float32).T, norms[asked]
        m = min(k, len(asked) - 1)
        for start in range(0, len(asking) if m else 0, _BLOCK):
            some = asking[start : start + _BLOCK]
            cosine = np.round(vectors[some].astype(np.float32) @ wide / norms[some, None] / scale, _DECIMALS)
            cosine[some[:, None] == asked] = -2
            least = np.partition(cosine, len(asked) - m, axis=1)[:, len(asked) - m, None]
            row, column = np.nonzero(cosine >= least)
            best = np.lexsort((asked[column], -cosine[row, column], row))
            row, column = row[best], column[best]
            rank = np.arange(len(row)) - np.searchsorted(row, np.arange(len(some)))[row]
            kept = rank < m
            row, column, rank = row[kept], column[kept], rank[kept]
            rows[some[row], rank], values[some[row], rank] = asked[column], cosine[row, column]
    return rows, values


def _neighbourhoods(vectors: np.ndarray, exact: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that ask for neighbours, and the rows they may find."""
    n = len(vectors)
    if n <= exact:
        yield np.arange(n), np.arange(n)
        return
    centroids = _centroids(vectors, max(2, round(np.sqrt(n))))
    home = _nearest(vectors, centroids)
    by_cell = np.argsort(home, kind="stable")
    edges = np.searchsorted(home[by_cell], np.arange(len(centroids) + 1))
    around = np.argsort(-(centroids.astype(np.float32) @ centroids.astype(np.float32).T), axis=1, kind="stable")
    for c in range(len(centroids)):
        members = by_cell[edges[c] : edges[c + 1]]
        if len(members):
            cells = [by_cell[edges[a] : edges[a + 1]] for a in {c, *around[c, :_PROBES].tolist()}]
            yield members, np.sort(np.concatenate(cells))


def _norms(vectors: np.ndarray) -> np.ndarray:
    """Lengths of vectors, infinite for a row of zeros: (n,) float64."""
    out = np.empty(len(vectors))
    for start in range(0, len(vectors), 1 << 14):
        wide = vectors[start : start + (1 << 14)].astype(np.float64)
        out[start : start + (1 << 14)] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    out[out == 0] = np.inf
    return out


def _unit(vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    norms[norms == 0] = np.inf
    wide /= norms[:, None]
    return wide


def _groups(n: int, groups: np.ndarray | None) -> Iterator[np.ndarray | list[np.ndarray]]:
    """Members of each group above SMALL rows, ascending; then all smaller ones together, by size."""
    if groups is None:
        yield np.arange(n)
        return
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(groups[order]) != 0])) if n else np.zeros(0, np.int64)
    sizes = np.diff(np.append(starts, n))
    for start, size in zip(starts[sizes > SMALL].tolist(), sizes[sizes > SMALL].tolist(), strict=True):
        yield order[start : start + size]
    yield [order[starts[sizes == m][:, None] + np.arange(m)] for m in range(2, SMALL + 1) if (sizes == m).any()]


def _small(vectors: np.ndarray, tables: list[np.ndarray], threshold: float) -> list[np.ndarray]:
    """Pairs inside many small groups. Each table is (groups, size) of row numbers."""
    found = []
    for table in tables:
        size = table.shape[1]
        i, j = np.triu_indices(size, 1)
        step = max(1, (1 << 22) // (size * vectors.shape[1]))
        for start in range(0, len(table), step):
            part = table[start : start + step]
            rows = _unit(vectors[part.ravel()]).reshape(*part.shape, -1)
            group, pair = np.nonzero((rows @ rows.transpose(0, 2, 1))[:, i, j] >= threshold - 1e-4)
            found.append(np.stack([part[group, i[pair]], part[group, j[pair]]], 1))
    return found


def _all_pairs(vectors: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    """Candidate pairs i < j of one group, block by block. 1e-4 of slack: floats propose, integers decide."""
    unit, n = _unit(vectors), len(vectors)
    for start in range(0, n, _BLOCK):
        dots = unit[start : start + _BLOCK] @ unit[start:].T
        i, j = np.divmod(np.flatnonzero(dots >= threshold - 1e-4), n - start)
        upper = j > i
        yield np.stack([i[upper], j[upper]], 1) + start


@np.errstate(divide="ignore", invalid="ignore")
def _centroids(vectors: np.ndarray, k: int) -> np.ndarray:
    """K centroids as int8 unit vectors times 127: Lloyd's algorithm (1982) on a sample, all sums of integers."""
    n = len(vectors)
    sample = vectors[np.unique(np.linspace(0, n - 1, min(n, 40 * k)).astype(np.int64))]
    centroids = sample[np.unique(np.linspace(0, len(sample) - 1, k).astype(np.int64))]
    for _ in range(4):
        near = _nearest(sample, centroids)
        order = np.argsort(near, kind="stable")
        edges = np.flatnonzero(np.concatenate([[True], np.diff(near[order]) != 0]))
        sums = np.add.reduceat(sample[order].astype(np.int32), edges, axis=0).astype(np.float64)
        norms = np.sqrt((sums**2).sum(1, keepdims=True))
        centroids = np.rint(np.where(norms > 0, sums / norms, 0) * 127).astype(np.int8)
    return centroids


def _nearest(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    wide = centroids.astype(np.float32).T
    return np.concatenate(
        [np.argmax(vectors[s : s + _BLOCK].astype(np.float32) @ wide, axis=1) for s in range(0, len(vectors), _BLOCK)]
    )


def _cell_pairs(vectors: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    """Candidate pairs of one large group.

    Two rows at the threshold are sqrt(2 - 2t) apart. Their difference, seen along the line between two centroids, has
    a standard deviation of that length over the square root of the dimensions that the data really fill; a row visits
    each cell whose centroid is not farther than the nearest by `_MARGIN` of those. A pair is met if either row visits
    the cell of the other.
    """
    n, small = len(vectors), _coarse(vectors)
    centroids = _centroids(small, max(2, round(2 * np.sqrt(n))))
    wide = centroids.astype(np.float32).T
    spread = np.float32(_MARGIN * np.sqrt((2 - 2 * threshold) / _dimensions(vectors)) * 127 * 127)
    home = np.empty(n, np.int64)
    visitors, visited = [], []
    for start in range(0, n, _BLOCK):
        dots = small[start : start + _BLOCK].astype(np.float32) @ wide
        best = dots.argmax(1)
        home[start : start + _BLOCK] = best
        row, cell = np.nonzero(dots >= dots[np.arange(len(dots)), best][:, None] - spread)
        other = cell != best[row]
        visitors.append(row[other] + start)
        visited.append(cell[other].astype(np.int32))
    rows, cells = np.concatenate(visitors), np.concatenate(visited)
    by_cell = np.argsort(cells, kind="stable")
    rows, cells = rows[by_cell], cells[by_cell]
    inside = np.argsort(home, kind="stable")
    k = len(centroids)
    own = np.searchsorted(home[inside], np.arange(k + 1))
    guests = np.searchsorted(cells, np.arange(k + 1))
    for c in range(k):
        members = inside[own[c] : own[c + 1]]
        if not len(members):
            continue
        for pairs in _all_pairs(vectors[members], threshold):
            yield members[pairs]
        others, target = rows[guests[c] : guests[c + 1]], _unit(vectors[members]).T
        for start in range(0, len(others), _BLOCK):
            some = others[start : start + _BLOCK]
            i, j = np.nonzero(_unit(vectors[some]) @ target >= threshold - 1e-4)
            yield np.stack([some[i], members[j]], 1)


def _coarse(vectors: np.ndarray) -> np.ndarray:
    return vectors if vectors.dtype == np.int8 else coarse(vectors)


def _dimensions(vectors: np.ndarray) -> float:
    """How many dimensions the data fill: the participation ratio (sum l)^2 / sum l^2 of the covariance's spectrum."""
    n = len(vectors)
    some = vectors[np.unique(np.linspace(0, n - 1, min(n, 4096)).astype(np.int64))].astype(np.float64)
    centred = some - some.mean(0)
    covariance = centred.T @ centred
    return max(1.0, float(np.trace(covariance) ** 2 / max((covariance**2).sum(), 1e-12)))
