"""Near copies: MinHash-LSH proposes pairs, the true Jaccard similarity decides.

Shingles are 5-grams of characters of the normalised text; a text shorter than that is padded to one shingle, so short
rows are compared like all others (Data-Juicer gives all of them one signature, text-dedup drops them).
Source of the method: Broder (1997), "On the resemblance and containment of documents"; the sketch, which hashes each
shingle once where it can instead of once per number, is Dahlgaard, Knudsen, Thorup (FOCS 2017), "Fast similarity
sketching"; banding as in Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import sparse

from tamis.curate.texts import Texts
from tamis.machine import cores

SHINGLE = 5
# P(pair proposed | similarity s) = 1 - (1 - s^ROWS)^BANDS: 0.9995 at s = 0.85, 0.97 at 0.75, 0.01 at 0.3.
BANDS, ROWS = 16, 6
# A bucket above this size (a template, a thousand copies) is compared with its first rows only, not all with all.
BUCKET = 256
_CHUNK = 1 << 15  # shingles hashed at a time: what a processor's cache holds of them
# Characters signed, and characters of pairs compared, at a time by each core. With fewer signed, cores wait for one
# another: 300,000 short rows take 2.0 s on two cores at 2^15, 1.4 s on one, 1.0 s on two from 2^17 on.
_SIGNED, _COMPARED = 1 << 18, 1 << 22
_ROUNDS = 16  # throws of every shingle before the empty places of short texts are filled one by one
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


def shingles(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashed character 5-grams of many texts at once.

    Args:
        texts: normalised texts, n of them.

    Returns:
        hashes: (total,) uint64, text after text, repeats included.
        starts: (n + 1,) int64, where each text's shingles begin.
    """
    padded = [t if len(t) >= SHINGLE else t + " " * (SHINGLE - len(t)) for t in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.cumsum([0, *map(len, padded)])
    starts = ends - (SHINGLE - 1) * np.arange(len(ends))
    if not len(texts):
        return np.zeros(0, np.uint64), starts
    mixed = np.zeros(len(codes) - SHINGLE + 1, np.uint64)
    for start in range(0, len(mixed), _CHUNK):  # a stretch that stays in the processor's cache
        part = mixed[start : start + _CHUNK]
        for k in range(SHINGLE):
            part *= np.uint64(0x9E3779B97F4A7C15)
            part += codes[start + k : start + k + len(part)]
    # Windows that cross from one text into the next are left out.
    inside = np.ones(len(mixed), bool)
    for k in range(1, SHINGLE):
        inside[ends[1:-1] - k] = False
    return _mix(mixed[inside]), starts


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit."""
    flat = np.ravel(x)
    out = np.empty_like(flat)
    for start in range(0, len(flat), _CHUNK):
        part = flat[start : start + _CHUNK]
        part = part ^ (part >> np.uint64(30))
        part *= np.uint64(0xBF58476D1CE4E5B9)
        part ^= part >> np.uint64(27)
        part *= np.uint64(0x94D049BB133111EB)
        part ^= part >> np.uint64(31)
        out[start : start + _CHUNK] = part
    return out.reshape(np.shape(x))


def signatures(texts: list[str]) -> np.ndarray:
    """Band hashes of many texts: (n, BANDS) uint64. Two texts are a candidate pair if any band is equal."""
    out = np.zeros((len(texts), BANDS), np.uint64)

    def sign(part: slice) -> None:
        hashes, starts = shingles(texts[part])
        numbers = _sketch(hashes, np.diff(starts)).reshape(-1, BANDS, ROWS)
        key = np.zeros((len(numbers), BANDS), np.uint64)
        for k in range(ROWS):
            key = _mix(key ^ numbers[:, :, k]) + np.uint64(k)
        out[part] = key

    _each(sign, _chunks(np.array([len(t) + 1 for t in texts]), _SIGNED))
    return out


def _sketch(hashes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """BANDS * ROWS numbers per text, each equal in two texts with the probability of their Jaccard similarity.

    Each round throws every shingle into one place; a place keeps the smallest of the first round that reached it. Long
    texts fill all places in a round or two. What `_ROUNDS` leave empty gets the minimum of a hash of its own.

    Args:
        hashes: shingles, text after text.
        counts: (n,) shingles of each text, all above 0.

    Returns:
        (n, BANDS * ROWS) uint64.
    """
    places = BANDS * ROWS
    flat = np.full(len(counts) * places, _EMPTY)
    owners = np.repeat(np.arange(len(counts)) * places, counts)
    for turn in range(_ROUNDS):
        thrown = _mix(hashes + np.uint64(turn * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF))
        place = thrown >> np.uint64(32)
        place *= np.uint64(places)
        place >>= np.uint64(32)
        place = place.view(np.int64)
        place += owners
        if turn:  # most places are taken by then
            free = np.flatnonzero(flat[place] == _EMPTY)
            place, thrown = place[free], thrown[free]
        thrown &= np.uint64(0xFFFFFFFF)
        thrown |= np.uint64(turn << 32)
        np.minimum.at(flat, place, thrown)
        open_ = (flat.reshape(-1, places) == _EMPTY).any(1)
        if not open_.any():
            return flat.reshape(-1, places)
        kept = open_[owners // places]
        hashes, owners = hashes[kept], owners[kept]
    numbers = flat.reshape(-1, places)
    owners //= places
    first = np.flatnonzero(np.concatenate([[True], np.diff(owners) != 0]))
    texts = owners[first]
    for k in range(places):
        lowest = np.minimum.reduceat(_mix(hashes + np.uint64((k + 1) << 40)) >> np.uint64(8), first)
        empty = numbers[texts, k] == _EMPTY
        numbers[texts[empty], k] = lowest[empty] | np.uint64(1 << 63)
    return numbers


def candidates(bands: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Pairs of rows that share a band: (m, 2) int64, i < j, each once, sorted.

    Args:
        bands: (n, BANDS) uint64.
        groups: (n,) integers; only rows of equal groups are proposed. None: one group.
    """
    n = len(bands)
    salt = np.uint64(0) if groups is None else _mix(groups.astype(np.uint64))
    found = [np.zeros(0, np.int64)]
    for column in (bands ^ np.reshape(salt, (-1, 1))).T:
        order = np.argsort(column, kind="stable")
        new = np.concatenate([[True], np.diff(column[order]) != 0]) if n else np.zeros(0, bool)
        head = np.flatnonzero(new)[np.cumsum(new) - 1] if n else np.zeros(0, np.int64)
        depth = np.arange(n) - head
        deep = np.flatnonzero(depth)
        step = 1
        while len(deep):
            # The row `step` places before in the bucket; far down in a large bucket, its row number `step - 1`.
            other = np.where(depth[deep] <= BUCKET, deep - step, head[deep] + step - 1)
            found.append(order[other] * n + order[deep])
            step += 1
            deep = deep[np.minimum(depth[deep], BUCKET) >= step]
    keys = _unique(np.concatenate(found))
    return np.stack([keys // max(n, 1), keys % max(n, 1)], 1)


def _unique(keys: np.ndarray) -> np.ndarray:
    keys = np.sort(keys)
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys


def jaccard(texts: Sequence[str] | Texts, pairs: np.ndarray) -> np.ndarray:
    """True Jaccard similarity of the shingle sets of pairs of texts: (m,) float64.

    Shingles of one chunk of pairs are compared by 44 bits of their hashes: two of two thousand that differ share them
    once in ten million pairs.
    """
    out = np.zeros(len(pairs))
    rows, at = np.unique(pairs, return_inverse=True)
    chosen, at = [texts[i] for i in rows.tolist()], at.reshape(-1, 2)
    lengths = np.array([len(t) + 1 for t in chosen], np.int64)

    def compare(part: slice) -> None:
        used, inverse = np.unique(at[part], return_inverse=True)
        sets = _sets([chosen[i] for i in used.tolist()])
        sizes = np.diff(sets.indptr)
        left, right = inverse.reshape(-1, 2).T
        common = np.asarray(sets[left].multiply(sets[right]).sum(1)).ravel()
        out[part] = common / (sizes[left] + sizes[right] - common)

    _each(compare, _chunks(lengths[at].sum(1), _COMPARED))
    return out


def _sets(texts: list[str]) -> sparse.csr_matrix:
    """The shingle sets of under 2^20 texts as rows of ones; a column is a hash, so no table of shingles is needed."""
    hashes, starts = shingles(texts)
    owners = np.repeat(np.arange(len(texts), dtype=np.uint64) << np.uint64(44), np.diff(starts))
    keys = _unique(owners | (hashes >> np.uint64(20)))  # repeats of a shingle count once
    rows = np.searchsorted(keys, np.arange(len(texts) + 1, dtype=np.uint64) << np.uint64(44))
    columns = (keys & np.uint64((1 << 44) - 1)).astype(np.int64)
    ones = np.ones(len(keys), np.int32)
    sets = sparse.csr_matrix((ones, columns, rows.astype(np.int64)), shape=(len(texts), 1 << 44))
    sets.has_canonical_format = True
    return sets


def _each(do: Callable[[slice], None], parts: Iterator[slice]) -> None:
    """Do every part, on all cores: numpy lets go of the interpreter in its loops, and no part knows of another."""
    with ThreadPoolExecutor(cores()) as threads:
        for _ in threads.map(do, parts):
            pass


def _chunks(weights: np.ndarray, most: int) -> Iterator[slice]:
    """Stretches whose weights sum to about `most`."""
    ends = np.cumsum(weights)
    start = 0
    while start < len(weights):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + most, side="right")), start + 1)
        yield slice(start, min(stop, start + (1 << 18)))
        start = min(stop, start + (1 << 18))


def near_pairs(
    texts: Sequence[str] | Texts, bands: np.ndarray, threshold: float, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of texts at or above a Jaccard similarity.

    Args:
        texts: n normalised texts.
        bands: their signatures.
        threshold: of the Jaccard similarity.
        groups: (n,) integers; only rows of equal groups are compared. None: one group.

    Returns:
        pairs: (m, 2) int64, i < j.
        similarity: (m,) float64, rounded to 1e-4.
    """
    pairs = candidates(bands, groups)
    similarity = np.round(jaccard(texts, pairs), 4)
    keep = similarity >= threshold
    return pairs[keep], similarity[keep]


def components(n: int, pairs: np.ndarray) -> np.ndarray:
    """Connected components of `n` rows under pairs, numbered by their smallest member: (n,) int32."""
    graph = sparse.coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    first: dict[int, int] = {}
    return np.array([first.setdefault(int(label), len(first)) for label in labels], np.int32)
