"""How far a row's label is borne out by the rows around it, and which labels are probably wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from tamis.curate.similar import nearest

NEIGHBOURS = 10
# How far another label must lead for a label to be suspected, on the scale of probabilities. Set where precision
# reaches 0.95 on CLINC150's training part with MiniLM; its validation part would give 0.216 (benchmarks/labels.md).
MARGIN = 0.25
# Weight of the penalty on unit vectors; a tenfold of it changes the result by a point (benchmarks/labels.md).
PENALTY = 1.0
# A label of fewer prompts is not learned: nothing it says about the others would be more than chance.
FEWEST = 3
_CHUNK = 1 << 22  # predictions held at a time


def label_agreement(
    vectors: np.ndarray, labels: list[str | None], copies: np.ndarray, k: int = NEIGHBOURS
) -> np.ndarray:
    """Similarity-weighted share of a row's nearest neighbours that carry its label.

    Exact copies of a row do not count among its neighbours: a wrong label would vouch for itself. The nearest-neighbour
    test of label noise goes back to Wilson (1972), "Asymptotic properties of nearest neighbor rules using edited data".

    Args:
        vectors: (n, d) int8.
        labels: n labels; None where there is none.
        copies: (n,) int64, equal for rows with the same prompt.
        k: neighbours.

    Returns:
        (n,) float64 in [0, 1], rounded to 1e-4; NaN where the row has no label or nothing to compare with.
    """
    out = np.full(len(labels), np.nan)
    first, group, votes, codes = _votes(labels, copies)
    if votes is None:
        return out
    near, cosine = nearest(vectors[first], min(k, len(first) - 1))
    weight = np.maximum(cosine, 0) ** 2
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-9)
    rows = np.repeat(np.arange(len(first)), near.shape[1])
    support = (sparse.csr_matrix((weight.ravel(), (rows, near.ravel())), shape=(len(first),) * 2) @ votes).tocsr()
    labelled = np.array([label is not None for label in labels])
    out[labelled] = np.round(np.asarray(support[group[labelled], codes[labelled]]).ravel(), 4)
    return out


class Challenge(NamedTuple):
    """What speaks against each label.

    Attributes:
        margin: (n,) float64, rounded to 1e-4: the strongest other label's prediction less that of the row's own, both
            about 0 to 1. NaN where the row has no label, or one of fewer than `FEWEST` prompts, or all have the same.
        rival: (n,) that other label; None where the margin is NaN.
    """

    margin: np.ndarray
    rival: np.ndarray


def label_margin(vectors: np.ndarray, labels: list[str | None], copies: np.ndarray) -> np.ndarray:
    """The margins of `challenge`."""
    return challenge(vectors, labels, copies).margin


def challenge(vectors: np.ndarray, labels: list[str | None], copies: np.ndarray) -> Challenge:
    """How far which other label leads a row's own, to a model that never saw the row; above `MARGIN`, suspect.

    The model is ridge regression from vectors to labels, whose leave-one-out predictions have a closed form (Allen
    1974, PRESS): one solution gives what n trainings would. Comparing given labels with out-of-sample predictions is
    confident learning (Northcutt, Jiang, Chuang 2021). All rows with one prompt are left out together.

    Args:
        vectors: (n, d) int8, unit vectors times 127. Sums are of integers, so their order changes nothing.
        labels: n labels; None where there is none.
        copies: (n,) int64, equal for rows with the same prompt.
    """
    out, rival = np.full(len(labels), np.nan), np.full(len(labels), None, object)
    first, group, votes, codes = _votes(labels, copies)
    if votes is None:
        return Challenge(out, rival)
    known = np.flatnonzero(np.asarray((votes > 0).sum(0)).ravel() >= FEWEST)
    known = known[known != _none(labels, codes)]
    if len(known) < 2:
        return Challenge(out, rival)
    names = np.array([labels[i] for i in np.unique(codes, return_index=True)[1]], object)[known]
    votes = votes.tocsc()[:, known].tocsr()
    column = np.full(int(codes.max()) + 1, -1)
    column[known] = np.arange(len(known))
    # Prompts without a label that is learned teach nothing.
    taught = np.asarray(votes.sum(1)).ravel() > 0
    x = np.hstack([vectors[first], np.full((len(first), 1), 127, np.int8)])
    gram, right = np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1], len(known)))
    step = max(1, _CHUNK // max(len(known), x.shape[1]))
    for start in range(0, len(x), step):
        part = x[start : start + step][taught[start : start + step]].astype(np.float64)
        gram += part.T @ part
        right += (votes[start : start + step][taught[start : start + step]].T @ part).T
    solved = np.linalg.inv(gram / 127**2 + PENALTY * np.eye(len(gram)))
    weights = solved @ (right / 127)
    asked = np.flatnonzero(np.array([label is not None for label in labels]) & (column[codes] >= 0))
    for start in range(0, len(asked), step):
        rows = asked[start : start + step]
        at, own = group[rows], column[codes[rows]]
        part = x[at].astype(np.float64) / 127
        leverage = np.einsum("ij,jk,ik->i", part, solved, part, optimize=True)[:, None]
        left_out = (part @ weights - leverage * votes[at].toarray()) / (1 - leverage)
        mine = left_out[np.arange(len(rows)), own].copy()
        left_out[np.arange(len(rows)), own] = -np.inf
        out[rows] = np.round(left_out.max(1) - mine, 4)
        rival[rows] = names[left_out.argmax(1)]
    return Challenge(out, rival)


def _votes(
    labels: list[str | None], copies: np.ndarray
) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix | None, np.ndarray]:
    """Rows by prompt.

    Returns:
        first: (m,) a row of each prompt.
        group: (n,) the prompt of each row.
        votes: (m, labels) each label's share among the rows of a prompt; None where there is nothing to compare.
        codes: (n,) column of each row's label; rows without one share a column.
    """
    if not any(label is not None for label in labels):
        none = np.zeros(0, np.int64)
        return none, none, None, none
    _, first, group = np.unique(copies, return_index=True, return_inverse=True)
    names, codes = np.unique(np.array([label or "" for label in labels]), return_inverse=True)
    if len(first) < 3 or (len(names) == 1 and names[0] == ""):
        return first, group, None, codes
    votes = sparse.csr_matrix((np.ones(len(group)), (group, codes)), shape=(len(first), len(names)))
    return first, group, sparse.diags_array(1 / np.bincount(group)) @ votes, codes


def _none(labels: list[str | None], codes: np.ndarray) -> int:
    """The column of rows without a label, or -1."""
    return next((int(code) for label, code in zip(labels, codes, strict=True) if label is None), -1)
