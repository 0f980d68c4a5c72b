"""Which rows say the same as a better row that is kept.

Exact, near and semantic edges feed one greedy pass in (score, id) order. A row falls only to a row that is itself
kept (its witness), so every removal is covered: the rules of SemDeDup and union-find leave up to 69 % of what they
remove without any surviving neighbour (measured; docs/concepts).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tamis.curate.guard import Guard
from tamis.curate.near import near_pairs

KINDS = ("exact", "near", "semantic")


@dataclasses.dataclass
class Rows:
    """The rows to compare, column by column, all of length n."""

    ids: list[str]
    quality: np.ndarray
    """(n,) float, rounded to 1e-4; the better row is kept."""
    prompts: list[str]
    """Raw texts, for the guard."""
    texts: list[str]
    """Normalised texts, for shingles: prompt, answer or both, as the recipe says."""
    answers: list[str]
    """Normalised answers."""
    labels: list[str | None]
    exact: np.ndarray
    """(n,) int64: rows with equal values are exact copies (text, answer and label)."""
    bands: np.ndarray
    """(n, BANDS) uint64 of `texts`."""
    vectors: np.ndarray | None
    """(n, d) int8, or None: no semantic edges."""
    truncated: np.ndarray
    """(n,) bool: longer than the embedder's window, so never dropped by semantics alone."""


@dataclasses.dataclass
class Fates:
    """What the greedy pass decided. `kind` is -1 for kept rows, else an index into KINDS."""

    kind: np.ndarray
    witness: np.ndarray
    similarity: np.ndarray


def deduplicate(rows: Rows, *, near: float | None, semantic: float | None, guard: bool) -> Fates:
    """One greedy pass over all edges.

    Args:
        rows: n rows.
        near: Jaccard threshold, or None.
        semantic: cosine threshold, or None.
        guard: whether near and semantic edges must pass the guard.

    Returns:
        The fate of each row.
    """
    n = len(rows.ids)
    order = np.lexsort((np.array(rows.ids), -rows.quality))
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    fates = Fates(np.full(n, -1, np.int8), np.full(n, -1, np.int64), np.zeros(n, np.float32))
    first = _drop_exact(rows, place, fates)
    alive = np.flatnonzero(fates.kind < 0)
    edges = _edges(rows, alive, near, semantic, guard)
    _greedy(edges, place, fates)
    # An exact copy of a row that fell to another one is witnessed by that other one: witnesses are kept rows.
    for i in np.flatnonzero(fates.kind == 0).tolist():
        if fates.kind[first[i]] > 0:
            fates.witness[i] = fates.witness[first[i]]
    return fates


def _drop_exact(rows: Rows, place: np.ndarray, fates: Fates) -> np.ndarray:
    """Keep the first of each group of exact copies; returns for each row the first of its group."""
    by_group = np.lexsort((place, rows.exact))
    groups = rows.exact[by_group]
    is_first = np.concatenate([[True], groups[1:] != groups[:-1]]) if len(groups) else np.zeros(0, bool)
    first = np.empty(len(groups), np.int64)
    first[by_group] = by_group[is_first][np.cumsum(is_first) - 1] if len(groups) else by_group
    copies = by_group[~is_first]
    fates.kind[copies], fates.witness[copies], fates.similarity[copies] = 0, first[copies], 1.0
    return first


def _edges(
    rows: Rows, alive: np.ndarray, near: float | None, semantic: float | None, guard: bool
) -> list[tuple[int, int, float, int]]:
    """(i, j, similarity, kind) of all edges that count, between rows that are no exact copies."""
    found: dict[tuple[int, int], tuple[float, int]] = {}
    if near is not None and len(alive):
        pairs, similarity = near_pairs([rows.texts[i] for i in alive.tolist()], rows.bands[alive], near)
        for (i, j), s in zip(alive[pairs].tolist(), similarity.tolist(), strict=True):
            found[i, j] = (s, 1)
    if semantic is not None and rows.vectors is not None and len(alive):
        pairs, similarity = cosine_pairs(rows.vectors[alive], semantic)
        for (i, j), s in zip(alive[pairs].tolist(), similarity.tolist(), strict=True):
            if (i, j) not in found and not (rows.truncated[i] or rows.truncated[j]):
                found[i, j] = (s, 2)
    if guard:
        judge = Guard([rows.prompts[i] for i in alive.tolist()])
        found = {
            (i, j): e
            for (i, j), e in found.items()
            if _agree(rows, i, j) and judge.same(rows.prompts[i], rows.prompts[j])
        }
    return [(i, j, s, kind) for (i, j), (s, kind) in sorted(found.items())]


def _agree(rows: Rows, i: int, j: int) -> bool:
    if rows.labels[i] is not None and rows.labels[j] is not None:
        return rows.labels[i] == rows.labels[j]
    return rows.answers[i] == rows.answers[j]


def cosine_pairs(vectors: np.ndarray, threshold: float, block: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows at or above a cosine similarity, exactly; O(n^2 d) in blocks.

    Args:
        vectors: (n, d) int8, unit length times 127.
        threshold: cosine.
        block: rows compared at a time.

    Returns:
        pairs (m, 2) int64 with i < j, and their cosines (m,), rounded to 1e-4. Dot products of int8 are integers
        below 2^24 in magnitude, hence exact in float32 in any order of summation.
    """
    wide = vectors.astype(np.float32)
    norms = np.sqrt((wide.astype(np.float64) ** 2).sum(1))
    norms[norms == 0] = np.inf  # an empty text is like nothing
    pairs, similarity = [], []
    for start in range(0, len(wide), block):
        dots = wide[start : start + block] @ wide[start:].T
        cosine = np.round(dots / norms[start : start + block, None] / norms[None, start:], 4)
        i, j = np.nonzero(cosine >= threshold)
        upper = j > i
        i, j = i[upper], j[upper]
        pairs.append(np.stack([i, j], 1) + start)
        similarity.append(cosine[i, j])
    if not pairs:
        return np.zeros((0, 2), np.int64), np.zeros(0)
    return np.concatenate(pairs), np.concatenate(similarity)


def _greedy(edges: list[tuple[int, int, float, int]], place: np.ndarray, fates: Fates) -> None:
    """Walk rows from best to worst; a row falls to its most similar kept neighbour that comes before it."""
    before: dict[int, list[tuple[float, int, int, int]]] = {}
    for i, j, similarity, kind in edges:
        better, worse = (i, j) if place[i] < place[j] else (j, i)
        # sorted by: higher similarity, then the better witness
        before.setdefault(worse, []).append((-similarity, int(place[better]), better, kind))
    for row in sorted(before, key=lambda r: place[r]):
        for similarity, _, witness, kind in sorted(before[row]):
            if fates.kind[witness] < 0:
                fates.kind[row], fates.witness[row], fates.similarity[row] = kind, witness, -similarity
                break
