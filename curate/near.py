"""Near copies: MinHash-LSH proposes pairs, the true Jaccard similarity decides.

Shingles are 5-grams of characters of the normalised text; a text shorter than that is padded to one shingle, so short
rows are compared like all others (Data-Juicer gives all of them one signature, text-dedup drops them).
Source of the method: Broder (1997), "On the resemblance and containment of documents"; banding as in Leskovec,
Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse

SHINGLE = 5
# P(pair proposed | similarity s) = 1 - (1 - s^ROWS)^BANDS: 0.9995 at s = 0.85, 0.97 at 0.75, 0.01 at 0.3.
BANDS, ROWS = 16, 6
_CHUNK = 1 << 18  # shingles hashed at a time: (96 x 2^18 x 4 bytes) = 100 MB


def shingles(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashed character 5-grams of many texts at once.

    Args:
        texts: normalised texts, n of them.

    Returns:
        hashes: (total,) uint64, text after text, repeats included.
        starts: (n + 1,) int64, where each text's shingles begin.
    """
    padded = [t if len(t) >= SHINGLE else t + " " * (SHINGLE - len(t)) for t in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.array([len(t) for t in padded], np.int64)
    counts = lengths - SHINGLE + 1
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if not len(texts):
        return np.zeros(0, np.uint64), starts
    mixed = np.zeros(max(len(codes) - SHINGLE + 1, 0), np.uint64)
    for k in range(SHINGLE):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + codes[k : k + len(mixed)]
    # Windows that cross from one text into the next are left out.
    text_starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    inside = np.arange(starts[-1]) - np.repeat(starts[:-1], counts) + np.repeat(text_starts, counts)
    return _mix(mixed[inside]), starts


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _permutations() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1997)
    a = rng.integers(0, 1 << 64, BANDS * ROWS, dtype=np.uint64) | np.uint64(1)
    return a, rng.integers(0, 1 << 64, BANDS * ROWS, dtype=np.uint64)


def signatures(texts: list[str]) -> np.ndarray:
    """Band hashes of many texts: (n, BANDS) uint64. Two texts are a candidate pair if any band is equal."""
    hashes, starts = shingles(texts)
    a, b = _permutations()
    out = np.zeros((len(texts), BANDS), np.uint64)
    row = 0
    while row < len(texts):
        stop = max(int(np.searchsorted(starts, starts[row] + _CHUNK, side="right")) - 1, row + 1)
        part = hashes[starts[row] : starts[stop]]
        at = (starts[row:stop] - starts[row]).astype(np.int64)
        for band in range(BANDS):
            key = np.zeros(stop - row, np.uint64)
            for k in range(band * ROWS, (band + 1) * ROWS):
                # multiply-shift: the high 32 bits of a*x + b are close to 2-universal (Dietzfelbinger et al. 1997)
                lowest = np.minimum.reduceat((part * a[k] + b[k]) >> np.uint64(32), at)
                key = _mix(key ^ lowest) + np.uint64(k)
            out[row:stop, band] = key
        row = stop
    return out


def candidates(bands: np.ndarray) -> np.ndarray:
    """Pairs of rows that share a band: (m, 2) int64, i < j, each once, sorted."""
    n = len(bands)
    found = []
    for band in range(bands.shape[1]):
        column = bands[:, band]
        order = np.argsort(column, kind="stable")
        sorted_ = column[order]
        edges = np.flatnonzero(np.concatenate([[True], sorted_[1:] != sorted_[:-1], [True]]))
        sizes = np.diff(edges)
        for start, size in zip(edges[:-1][sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            members = np.sort(order[start : start + size])
            i, j = np.triu_indices(size, 1)
            found.append(members[i] * n + members[j])
    if not found:
        return np.zeros((0, 2), np.int64)
    keys = np.unique(np.concatenate(found))
    return np.stack([keys // n, keys % n], 1)


def jaccard(texts: list[str], pairs: np.ndarray) -> np.ndarray:
    """True Jaccard similarity of the shingle sets of pairs of texts: (m,) float64."""
    if not len(pairs):
        return np.zeros(0)
    used, inverse = np.unique(pairs, return_inverse=True)
    hashes, starts = shingles([texts[i] for i in used.tolist()])
    owners = np.repeat(np.arange(len(used)), np.diff(starts))
    vocabulary, columns = np.unique(hashes, return_inverse=True)
    matrix = sparse.csr_matrix(
        (np.ones(len(columns), np.int32), (owners, columns)), shape=(len(used), len(vocabulary)), dtype=np.int32
    )
    matrix.data[:] = 1  # repeats of a shingle count once
    sizes = np.asarray(matrix.sum(1)).ravel()
    inverse = inverse.reshape(pairs.shape)
    out = np.zeros(len(pairs))
    for part in _slices(len(pairs), 50_000):
        left, right = inverse[part, 0], inverse[part, 1]
        common = np.asarray(matrix[left].multiply(matrix[right]).sum(1)).ravel()
        out[part] = common / (sizes[left] + sizes[right] - common)
    return out


def _slices(total: int, size: int) -> Iterator[slice]:
    return (slice(i, min(i + size, total)) for i in range(0, total, size))


def near_pairs(texts: list[str], bands: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of texts at or above a Jaccard similarity.

    Returns:
        pairs: (m, 2) int64, i < j.
        similarity: (m,) float64, rounded to 1e-4.
    """
    pairs = candidates(bands)
    similarity = np.round(jaccard(texts, pairs), 4)
    keep = similarity >= threshold
    return pairs[keep], similarity[keep]


def components(n: int, pairs: np.ndarray) -> np.ndarray:
    """Connected components of `n` rows under pairs, numbered by their smallest member: (n,) int32."""
    graph = sparse.coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    first: dict[int, int] = {}
    return np.array([first.setdefault(int(label), len(first)) for label in labels], np.int32)
