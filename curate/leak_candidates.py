"""Which training rows are worth a closer look: a cheap pass over all of them.

The likeness of a row to an item is the cosine of their character 5-grams, each counted once and weighted by rarity. It
is one sparse product per morsel, so a million rows against a thousand items stay affordable; the channels of
`leak_channels` then see some thousand rows.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse

from tamis.curate import near
from tamis.curate.leak_text import shared_lines, views
from tamis.curate.normal import normalise

# Rows looked at closely: this many, or so many per item if that is more; the nearest few of every item come on top.
LEAST, PER_ITEM, NEAREST = 2000, 3, 5
# Rows drawn at random from the others, so that the calibration knows what the bulk of the data looks like.
SAMPLE = 500
# 5-grams that a larger share of the items has ("which of the following") say nothing and cost the most.
COMMON = 0.1
# The line that asks, taken out of a longer row, counts a little less: instructions that many rows share look like
# questions ("Given the above document, write one sentence").
INSIDE = 0.85
# Look-up by the last bits of a hash: three times as fast as a search. Where two grams share a slot (one in a hundred,
# with 50,000 grams) one of them is not seen.
SLOTS = 1 << 21


@dataclasses.dataclass(frozen=True)
class Proposer:
    """The 5-grams of the evaluation items."""

    vocabulary: np.ndarray
    """(v,) uint64, sorted hashes."""
    rarity: np.ndarray
    """(v,) inverse document frequency over the items."""
    weights: sparse.csr_matrix
    """(v, m): the rarity of each gram in each view of an item."""
    totals: np.ndarray
    """(m,) summed rarity of each view."""
    owners: np.ndarray
    """(m,) the item that each view belongs to."""
    unseen: float
    """Rarity of a gram that no item has; every occurrence counts."""
    slots: np.ndarray
    """(SLOTS,) int32: where in the vocabulary the hash with these last bits is."""

    def likeness(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """How much each text looks like its nearest item.

        Returns:
            likeness: (n,) float64 from 0 to 1, rounded to 1e-4.
            nearest: (n,) int64, index of that item; the lowest one of equals.
        """
        best, nearest = np.zeros(len(texts)), np.zeros(len(texts), np.int64)
        if not len(self.totals):
            return best, nearest
        for start in range(0, len(texts), 1024):
            part = slice(start, start + 1024)
            seen = [views(t) for t in texts[part]]
            score = self._cosines([whole for whole, _ in seen])
            inner = [i for i, (whole, focus) in enumerate(seen) if whole != focus]
            score[inner] = np.maximum(score[inner], INSIDE * self._cosines([seen[i][1] for i in inner]))
            score = np.round(score, 4)
            at = score.argmax(1)
            best[part], nearest[part] = score[np.arange(len(at)), at], self.owners[at]
        return np.minimum(best, 1.0), nearest

    def _cosines(self, texts: list[str]) -> np.ndarray:
        """(n, m) float64."""
        has, total = self._grams([normalise(t) for t in texts])
        size = np.sqrt(np.maximum(total[:, None] * self.totals[None], 1))
        return np.asarray((has @ self.weights).toarray() / size)

    def _grams(self, texts: list[str]) -> tuple[sparse.csr_matrix, np.ndarray]:
        """Which grams of the vocabulary each text has (n, v), and the summed rarity of all its grams (n,)."""
        hashes, starts = near.shingles(texts)
        at = self.slots[hashes & np.uint64(SLOTS - 1)]
        known = np.flatnonzero(self.vocabulary[at] == hashes)
        owner, at = np.repeat(np.arange(len(texts)), np.diff(starts))[known], at[known]
        has = sparse.csr_matrix((np.ones(len(at), np.float32), (owner, at)), shape=(len(texts), len(self.vocabulary)))
        unknown = np.diff(starts) - has.getnnz(1)
        has.sum_duplicates()
        has.data[:] = 1
        return has, has @ self.rarity + unknown * self.unseen


def proposer(items: list[str]) -> Proposer:
    """Prepare the evaluation prompts.

    Args:
        items: n prompts.
    """
    shared = shared_lines(items)
    parts = [(i, normalise(v)) for i, text in enumerate(items) for v in dict.fromkeys(views(text, shared))]
    parts = [(i, text) for i, text in parts if text]
    owner, hashes = _distinct([text for _, text in parts])
    vocabulary, column = np.unique(hashes, return_inverse=True)
    seen = np.bincount(column, minlength=len(vocabulary))
    rarity = np.log((1 + len(parts)) / (1 + seen)) + 1
    used = seen <= max(COMMON * len(parts), 2)
    matrix = sparse.csr_matrix(
        (np.where(used, rarity, 0.0)[column], (column, owner)), shape=(len(vocabulary), len(parts))
    )
    matrix.eliminate_zeros()
    slots = np.zeros(SLOTS, np.int32)
    slots[vocabulary & np.uint64(SLOTS - 1)] = np.arange(len(vocabulary))
    return Proposer(
        vocabulary=vocabulary,
        rarity=np.where(used, rarity, 0.0),
        weights=matrix,
        totals=np.asarray(matrix.sum(0)).ravel(),
        owners=np.array([i for i, _ in parts], np.int64),
        unseen=float(np.log(1 + len(parts)) + 1),
        slots=slots,
    )


def _distinct(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The different 5-grams of each text: owners and hashes, both (total,)."""
    hashes, starts = near.shingles(texts)
    owner = np.repeat(np.arange(len(texts)), np.diff(starts))
    order = np.lexsort((hashes, owner))
    owner, hashes = owner[order], hashes[order]
    first = np.ones(len(hashes), bool)
    first[1:] = (owner[1:] != owner[:-1]) | (hashes[1:] != hashes[:-1])
    return owner[first], hashes[first]


def choose(likeness: np.ndarray, nearest: np.ndarray, hashes: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows to look at closely: the likest, the nearest few of every item, and a sample of the others.

    Args:
        likeness: (n,) of distinct texts.
        nearest: (n,) item of each.
        hashes: (n,) int64 of the texts; decides between equals and draws the sample, so order does not matter.
        items: how many there are.

    Returns:
        rows: (k,) int64, indices.
        weights: (k,) float64: how many rows each stands for.
    """
    order = np.lexsort((hashes, -likeness))
    taken = np.zeros(len(likeness), bool)
    taken[order[: max(LEAST, PER_ITEM * items)]] = True
    by_item = order[np.argsort(nearest[order], kind="stable")]
    place = np.arange(len(by_item)) - np.searchsorted(nearest[by_item], nearest[by_item])
    taken[by_item[place < NEAREST]] = True
    rest = np.flatnonzero(~taken)
    drawn = rest[np.argsort(hashes[rest], kind="stable")[:SAMPLE]]
    rows = np.concatenate([np.flatnonzero(taken), drawn])
    weights = np.ones(len(rows))
    weights[len(rows) - len(drawn) :] = len(rest) / max(len(drawn), 1)
    return rows, weights
