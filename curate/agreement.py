"""How far a row's label is borne out by the rows around it."""

from __future__ import annotations

import numpy as np

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
    k = min(k, len(first) - 1)
    # Votes of a prompt that stands in several rows: each label's share among them.
    votes = np.zeros((len(first), len(names)), np.float32)
    np.add.at(votes, (group, codes), 1)
    votes /= votes.sum(1, keepdims=True)
    wide = vectors[first].astype(np.float32)
    norms = np.linalg.norm(wide.astype(np.float64), axis=1)
    norms[norms == 0] = np.inf
    support = np.zeros((len(first), len(names)))
    for start in range(0, len(first), 2048):
        cosine = np.round((wide[start : start + 2048] @ wide.T) / norms[start : start + 2048, None] / norms, 4)
        cosine[np.arange(len(cosine)), np.arange(start, start + len(cosine))] = -1
        near = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        weight = np.maximum(np.take_along_axis(cosine, near, 1), 0) ** 2
        total = np.maximum(weight.sum(1), 1e-9)
        support[start : start + 2048] = np.einsum("ik,ikl->il", weight, votes[near]) / total[:, None]
    labelled = np.array([label is not None for label in labels])
    out[labelled] = np.round(support[group[labelled], codes[labelled]], 4)
    others = support[group]
    others[np.arange(len(labels)), codes] = -1
    rival[labelled] = np.round(others.max(1)[labelled], 4)
    return out, rival
