"""Which rows say the same as a better row that is kept.

Exact, near and semantic edges feed one greedy pass in (score, id) order. A row falls only to a row that is itself
kept (its witness), so every removal is covered: the rules of SemDeDup and union-find leave up to 69 % of what they
remove without any surviving neighbour (measured; docs/concepts).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tamis.curate.guard import FILLERS, Guard
from tamis.curate.near import near_pairs
from tamis.curate.similar import cosine_pairs
from tamis.curate.texts import Texts, taken
from tamis.curate.vietnamese import fold

KINDS = ("exact", "near", "semantic")
# Of many rows that differ in frames only each is compared with so many: if these are not kept, they fell to others.
_FIRST = 8


@dataclasses.dataclass
class Rows:
    """The rows to compare, column by column, all of length n."""

    ids: list[str]
    quality: np.ndarray
    """(n,) float, rounded to 1e-4; the better row is kept."""
    prompts: Sequence[str] | Texts
    """Raw texts, for the guard."""
    texts: Sequence[str] | Texts
    """Normalised texts, for shingles: prompt, answer or both, as the recipe says."""
    answers: Sequence[str] | Sequence[int]
    """Normalised answers, or hashes of them."""
    labels: list[str | None]
    exact: np.ndarray
    """(n,) int64: rows with equal values are exact copies (text, answer and label)."""
    bands: np.ndarray
    """(n, BANDS) uint64 of `texts`."""
    vectors: np.ndarray | None
    """(n, d) integers, or None: no semantic edges."""
    truncated: np.ndarray
    """(n,) bool: longer than the embedder's window, so never dropped by semantics alone."""
    contents: np.ndarray | None = None
    """(n,) int64, equal where prompts differ in frames only (features.content_hash); 0 is like nothing."""
    unaccented: tuple[np.ndarray, np.ndarray] | None = None
    """Pairs (m, 2) that are near once accents are taken off, and their similarities (curate/vietnamese.py)."""
    settled: np.ndarray | None = None
    """(n,) bool, or None: rows that an earlier run kept. They fall to nothing; others may fall to them."""


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
    # Best first, so that what the pair finders must leave out of huge groups is between the worst.
    alive = order[fates.kind[order] < 0]
    edges = _edges(rows, alive, near, semantic, guard)
    judge = _Judge(rows.prompts, alive) if guard and len(edges.pairs) else None
    _greedy(rows, edges, place, fates, judge)
    # An exact copy of a row that fell to another one shares its fate: witnesses are kept rows.
    copies = np.flatnonzero(fates.kind == 0)
    copies = copies[fates.kind[first[copies]] > 0]
    for column in (fates.kind, fates.witness, fates.similarity):
        column[copies] = column[first[copies]]
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


@dataclasses.dataclass
class _Edges:
    """Pairs (m, 2) of rows, their similarities (m,) and kinds (m,), each pair once."""

    pairs: np.ndarray
    similarity: np.ndarray
    kind: np.ndarray


def _edges(rows: Rows, alive: np.ndarray, near: float | None, semantic: float | None, guard: bool) -> _Edges:
    """All edges between `alive` rows; with the guard, those only whose labels or answers agree."""
    found = [_Edges(np.zeros((0, 2), np.int64), np.zeros(0), np.zeros(0, np.int8))]
    groupings = _groupings(rows, alive) if guard else [None]
    if near is not None:
        texts, bands = taken(rows.texts, alive), rows.bands[alive]
        for groups in groupings:
            pairs, similarity = near_pairs(texts, bands, near, groups)
            found.append(_Edges(alive[pairs], similarity, np.full(len(pairs), 1, np.int8)))
    if near is not None and guard and rows.contents is not None:
        pairs = _framed(rows.contents, alive)
        found.append(_Edges(pairs, np.ones(len(pairs)), np.full(len(pairs), 1, np.int8)))
    if rows.unaccented is not None:
        pairs, similarity = rows.unaccented
        living = np.isin(pairs, alive).all(1)
        found.append(_Edges(pairs[living], similarity[living], np.full(int(living.sum()), 1, np.int8)))
    if semantic is not None and rows.vectors is not None:
        whole = alive[~rows.truncated[alive]]
        for groups in _groupings(rows, whole) if guard else [None]:
            pairs, similarity = cosine_pairs(rows.vectors, semantic, groups, rows=whole)
            found.append(_Edges(pairs, similarity, np.full(len(pairs), 2, np.int8)))
    pairs = np.sort(np.concatenate([e.pairs for e in found]), axis=1)
    # The first of each pair stays: a near copy is called near even if it is also semantically alike.
    _, first = np.unique(pairs[:, 0] * max(len(rows.ids), 1) + pairs[:, 1], return_index=True)
    if guard:
        first = first[_agree(rows, pairs[first])]
    similarity, kind = np.concatenate([e.similarity for e in found]), np.concatenate([e.kind for e in found])
    return _Edges(pairs[first], similarity[first], kind[first])


def _framed(contents: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Pairs (m, 2) of rows with one content: each row with the `_FIRST` best of its group, `alive` being best first."""
    rows = alive[contents[alive] != 0]
    rows = rows[np.argsort(contents[rows], kind="stable")]
    new = np.concatenate([[True], np.diff(contents[rows]) != 0]) if len(rows) else np.zeros(0, bool)
    head = np.flatnonzero(new)[np.cumsum(new) - 1] if len(rows) else np.zeros(0, np.int64)
    place = np.arange(len(rows))
    found = [np.zeros((0, 2), np.int64)]
    for step in range(_FIRST):
        later = place[place - head > step]
        found.append(np.stack([rows[head[later] + step], rows[later]], 1))
    return np.concatenate(found)


def _codes(values: Sequence[str | int | None]) -> np.ndarray:
    """A number per distinct value: (n,) int64; -1 for None."""
    known: dict[str | int, int] = {}
    return np.array([-1 if v is None else known.setdefault(v, len(known)) for v in values], np.int64)


def _groupings(rows: Rows, chosen: np.ndarray) -> list[np.ndarray]:
    """Groups of rows that may agree: by label, and where a row has none, by answer. No pair that agrees is missed."""
    labels = _codes([rows.labels[i] for i in chosen.tolist()])
    if (labels >= 0).all():
        return [labels]
    answers = _codes([rows.answers[i] for i in chosen.tolist()])
    if (labels < 0).all():
        return [answers]
    alone = labels.max() + 1 + np.arange(len(labels))
    return [np.where(labels < 0, alone, labels), answers]


def _agree(rows: Rows, pairs: np.ndarray) -> np.ndarray:
    """Whether the labels of each pair are equal, or, where a row has none, the answers: (m,) bool."""
    out = np.zeros(len(pairs), bool)
    for at, (i, j) in enumerate(pairs.tolist()):
        a, b = rows.labels[i], rows.labels[j]
        out[at] = a == b if a is not None and b is not None else rows.answers[i] == rows.answers[j]
    return out


def _greedy(rows: Rows, edges: _Edges, place: np.ndarray, fates: Fates, judge: _Judge | None) -> None:
    """Walk rows from best to worst; a row falls to its most similar kept neighbour that comes before it.

    The guard is asked last, of pairs that would decide a row's fate: it reads both texts, and most pairs decide
    nothing.
    """
    first, second = place[edges.pairs].T
    worse, better = np.maximum(first, second), np.minimum(first, second)
    # Higher similarity first, then the better witness.
    walk = np.lexsort((better, -edges.similarity, worse))
    row_at = np.argsort(place)
    columns = row_at[worse[walk]], row_at[better[walk]], edges.similarity[walk], edges.kind[walk]
    for row, witness, similarity, kind in zip(*(c.tolist() for c in columns), strict=True):
        if fates.kind[row] >= 0 or fates.kind[witness] >= 0 or (rows.settled is not None and rows.settled[row]):
            continue
        if judge is None or judge.same(row, witness):
            fates.kind[row], fates.witness[row], fates.similarity[row] = kind, witness, similarity


class _Judge:
    """The guard with a quick refusal before it, for the guard aligns two texts word by word.

    Args:
        prompts: raw texts of all rows.
        alive: the rows whose words count for the guard's frequencies.
    """

    def __init__(self, prompts: Sequence[str] | Texts, alive: np.ndarray):
        self.prompts = prompts
        self.guard = Guard(taken(prompts, alive))
        self.content = functools.lru_cache(maxsize=1 << 16)(self._content)

    def same(self, i: int, j: int) -> bool:
        """Whether the prompts of two rows ask the same."""
        return not self._plainly_other(i, j) and self.guard.same(self.prompts[i], self.prompts[j])

    def _plainly_other(self, i: int, j: int) -> bool:
        """Whether one text has a word that the guard cannot explain, whatever the order of words.

        A word of one side only is harmless if it is a filler, a typo of a word of the other side, or cut elsewhere
        (then it stands in the other text once spaces are taken out).
        """
        (a, joined_a), (b, joined_b) = self.content(i), self.content(j)
        if (fold(joined_a) == joined_a) != (fold(joined_b) == joined_b):
            return False  # accents may have been left out
        return self._unexplained(a, b, joined_b) or self._unexplained(b, a, joined_a)

    def _unexplained(self, mine: frozenset[str], other: frozenset[str], joined: str) -> bool:
        return any(
            word not in joined and not any(x[0] == word[0] and self.guard.typo(word, x) for x in other)
            for word in mine - other
            if word not in FILLERS
        )

    def _content(self, row: int) -> tuple[frozenset[str], str]:
        found = self.guard.content(self.prompts[row])
        return frozenset(found), "".join(found)
