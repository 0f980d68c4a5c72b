"""How far a row's label is borne out by the rows around it."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from tamis.curate.similar import nearest

NEIGHBOURS = 10


def label_agreement(
    vectors: np.ndarray, labels: list[str | None], copies: np.ndarray, k: int = NEIGHBOURS
) -> tuple[np.ndarray, np.ndarray]:
    """Similarity-weighted share of a row's nearest neighbours that carry its label.

    Exact copies of a row do not count among its neighbours: a wrong label would vouch for itself. The nearest-neighbour
    test of label noise goes back to Wilson (1972), "Asymptotic properties of nearest neighbor rules using edited data".

    Args:
        vectors: (n, d) int8.
        labels: n labels; None where there is none.
        copies: (n,) int64, equal for rows with the same prompt.
        k: neighbours.

    Returns:
        agreement: (n,) float64 in [0, 1], rounded to 1e-4; NaN where the row has no label or nothing to compare with.
        rival: (n,) likewise, the share of the strongest other label.
    """
    out, rival = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    _, first, group = np.unique(copies, return_index=True, return_inverse=True)
    names, codes = np.unique(np.array([label or "" for label in labels]), return_inverse=True)
    if len(first) < 3 or (len(names) == 1 and names[0] == ""):
        return out, rival
    # Votes of a prompt that stands in several rows: each label's share among them.
    votes = sparse.csr_matrix((np.ones(len(group)), (group, codes)), shape=(len(first), len(names)))
    votes = sparse.diags_array(1 / np.bincount(group)) @ votes
    near, cosine = nearest(vectors[first], min(k, len(first) - 1))
    weight = np.maximum(cosine, 0) ** 2
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-9)
    rows = np.repeat(np.arange(len(first)), near.shape[1])
    support = (sparse.csr_matrix((weight.ravel(), (rows, near.ravel())), shape=(len(first),) * 2) @ votes).tocsr()
    labelled = np.array([label is not None for label in labels])
    own = np.asarray(support[group[labelled], codes[labelled]]).ravel()
    out[labelled] = np.round(own, 4)
    rival[labelled] = np.round(_strongest_other(support, group[labelled], codes[labelled]), 4)
    return out, rival


def _strongest_other(support: sparse.csr_matrix, rows: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The largest value of each row outside its own column."""
    chosen = support[rows].tocoo()
    chosen.data[chosen.col == own[chosen.row]] = 0
    return np.asarray(chosen.tocsr().max(axis=1).todense()).ravel()
