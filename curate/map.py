"""A place in the plane for every row, so that a person can look at a data set: t-SNE of centres, rows among them.

t-SNE (van der Maaten and Hinton 2008) keeps neighbours together and says nothing by the distance between groups. It is
too slow for a million rows, so it places about a thousand k-means centres, and a row lies among the centres it is
closest to, in proportion to how close, and off that place by what sets it apart from its centre, so that a thousand
rows do not hide behind one dot. That is linear in the rows: one matrix product with the centres.
"""

from __future__ import annotations

import numpy as np

CENTRES = 1000
SAMPLED = 20_000  # rows that the centres are fitted on; more would only cost time
NEAR = 6  # centres that a row lies among
CHUNK = 32_768  # rows whose likeness to all centres is in memory at a time
FEWEST = 30  # below this there is nothing for t-SNE to keep: the two widest axes are drawn

# How fast a centre's pull falls with its cosine: at 0.05 less likeness it pulls a third as strongly. Sharper draws
# every row onto a centre, so that a thousand dots are all one sees; softer blurs groups into each other.
SHARPNESS = 0.05
OFFSET = 0.6  # of the step from a centre to its neighbour: how far rows lie from their place on the average


def places(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Coordinates for vectors; equal vectors get equal places, the same input the same map.

    Args:
        vectors: shape (n, d), int8, in the order of the rows' ids: which rows the centres are fitted on hangs on it.
        seed: of k-means and t-SNE.

    Returns:
        Shape (n, 2), float32, no unit, rounded to 0.001; a zero vector lies at the origin.
    """
    n = len(vectors)
    if n < FEWEST or vectors.shape[1] < 3:
        return _widest(_unit(vectors)).astype(np.float32)
    rows = _unit(vectors[np.linspace(0, n - 1, min(n, SAMPLED)).astype(np.int64)])
    centres = _centres(rows, seed)
    if len(centres) < FEWEST:
        return _widest(_unit(vectors)).astype(np.float32)
    plane = _tsne(centres, seed)
    spread = _spread(rows, centres, plane)
    # of the centre that is nearest to a row, the centres nearest to it: those are what the row may lie among
    among = np.argsort(-(centres @ centres.T), axis=1, kind="stable")[:, :NEAR]
    out = np.zeros((n, 2), np.float32)
    for start in range(0, n, CHUNK):
        part = _unit(vectors[start : start + CHUNK])
        likeness = part @ centres.T
        nearest = likeness.argmax(axis=1)
        near = among[nearest]
        close = np.take_along_axis(likeness, near, axis=1)
        weight = np.exp((close - close.max(axis=1, keepdims=True)) / SHARPNESS)
        weight /= weight.sum(axis=1, keepdims=True)
        out[start : start + CHUNK] = np.einsum("ij,ijk->ik", weight, plane[near])
        out[start : start + CHUNK] += (part - centres[nearest]) @ spread
    out[~vectors.any(axis=1)] = 0
    return np.round(out, 3)  # the last bits of a matrix product hang on where in it a row stands


def _unit(vectors: np.ndarray) -> np.ndarray:
    rows = vectors.astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)


def _centres(rows: np.ndarray, seed: int) -> np.ndarray:
    """Unit vectors of at most `CENTRES` groups, no two alike."""
    from sklearn.cluster import MiniBatchKMeans

    distinct = np.unique(np.round(rows, 4), axis=0)
    wanted = min(CENTRES, max(FEWEST, len(rows) // 6))
    if len(distinct) <= wanted:
        return distinct
    # Begun from rows drawn at random: k-means++ would take longer than all else here and make the map no better.
    means = MiniBatchKMeans(
        wanted, init="random", n_init=1, random_state=seed % (1 << 31), batch_size=4096, max_iter=20
    ).fit(rows)
    return np.unique(np.round(_unit(means.cluster_centers_), 4), axis=0)


def _tsne(centres: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    start = _widest(centres)
    start /= max(float(start[:, 0].std()), 1e-9) * 1e4  # the usual beginning: the widest axes, tiny
    model = TSNE(
        perplexity=min(30, (len(centres) - 1) / 3),
        init=start,
        learning_rate="auto",
        max_iter=500,
        random_state=seed % (1 << 31),
    )
    placed: np.ndarray = model.fit_transform(centres)
    return placed.astype(np.float32)


def _spread(rows: np.ndarray, centres: np.ndarray, plane: np.ndarray) -> np.ndarray:
    """Where a row goes by its difference from its centre: (d, 2), of a size that stays among the neighbours."""
    rest = rows - centres[(rows @ centres.T).argmax(axis=1)]
    axes = np.linalg.eigh(rest.T @ rest)[1][:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    size = float(np.sqrt((np.square(rest @ axes)).sum(axis=1).mean()))
    apart = np.square(plane[:, None] - plane[None]).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    step = float(np.median(np.sqrt(apart.min(axis=1))))
    out: np.ndarray = (axes * (OFFSET * step / size) if size > 1e-6 else np.zeros_like(axes)).astype(np.float32)
    return out


def _widest(rows: np.ndarray) -> np.ndarray:
    """Coordinates on the two widest axes, of a direction that does not hang on the solver."""
    out = np.zeros((len(rows), 2), np.float32)
    if len(rows) < 2:
        return out
    centred = rows - rows.mean(axis=0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    out[:, : axes.shape[1]] = centred @ axes
    return out
