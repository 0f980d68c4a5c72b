"""How alike a training row and an evaluation item are: characters, words, names, meaning and numbers in one score.

Each channel is a cosine from 0 to 1, the largest over the views of both texts. Their weighted mean loses up to
`DISAGREE` where both texts have numbers and those differ: "the generator of Z_7" is no rephrasing of "the generator of
Z_11". The weights are fixed. What a score means is found anew for every benchmark (`calibrate`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from tamis import embed
from tamis.curate.leak_text import names, numbers, shared_lines, views
from tamis.curate.normal import normalise, words

# Meaning counts most where there is a model of it: of rephrasings it finds what shares no rare word. `lsa` is the
# character channel with fewer dimensions, so it is not asked twice.
WITH_MEANING = {"embedding": 10.0, "characters": 1.0, "words": 1.0}
WITHOUT = {"characters": 2.0, "words": 2.0, "names": 1.0}
DISAGREE = 0.1
# Cosine of names that is assumed where one of the two texts has none: neither for nor against.
NEUTRAL = 0.3
_BLOCK = 2048


@dataclasses.dataclass(frozen=True)
class Likeness:
    """Scores rounded to 1e-4, float32."""

    rows: np.ndarray
    """(rows, items)."""
    items: np.ndarray
    """(items, items); the diagonal is an item against itself."""
    rewordings: np.ndarray
    """(rewordings, items)."""
    embedder: str
    channels: tuple[str, ...]


def likeness(
    rows: list[str], items: list[str], rewordings: list[str], embedder: str, cache: Path | None = None
) -> Likeness:
    """Score every row, item and rewording against every item.

    Args:
        rows: training prompts, distinct and in an order that does not depend on the input's.
        items: evaluation prompts.
        rewordings: of items; they do not take part in what rarity means.
        embedder: `lsa`, or any other that `tamis.embed` knows.
        cache: folder that keeps vectors.
    """
    shared = shared_lines(items)
    seen = [views(t, shared) for t in items]
    left = [*seen, *map(views, rows), *map(views, rewordings)]
    fitted = len(items) + len(rows)
    weights = WITHOUT if embedder == "lsa" else WITH_MEANING
    tables = [(weight, _channel(name, left, fitted, embedder, cache)) for name, weight in weights.items()]
    agree = [_agreement([numbers(v[k]) for v in left], [numbers(v[k]) for v in seen]) for k in (0, 1)]
    out = np.zeros((len(left), len(items)), np.float32)
    total = sum(weights.values())
    for start in range(0, len(left), _BLOCK):
        part = slice(start, start + _BLOCK)
        mean = sum(weight * table(part, len(items)) for weight, table in tables) / total
        out[part] = np.round(mean - DISAGREE * (1 - np.maximum(agree[0](part), agree[1](part))), 4)
    n = len(items)
    return Likeness(out[n:fitted], out[:n], out[fitted:], embedder, (*weights, "numbers"))


Table = Callable[[slice, int], np.ndarray]


def _channel(name: str, left: list[tuple[str, str]], fitted: int, embedder: str, cache: Path | None) -> Table:
    if name == "embedding":
        values = embed.quantised([t for pair in left for t in pair], embedder, cache).values.astype(np.float32) / 127
        return _largest([values[0::2], values[1::2]])
    matrices = _tfidf(name, left, fitted)
    table = _largest(matrices)
    if name != "names":
        return table
    none = [np.asarray(m.getnnz(1)) == 0 for m in matrices]
    empty = none[0] & none[1]

    def neutral(part: slice, n: int) -> np.ndarray:
        return np.where(empty[part, None] | empty[None, :n], NEUTRAL, table(part, n))

    return neutral


def _tfidf(name: str, left: list[tuple[str, str]], fitted: int) -> list[sparse.csr_matrix]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    options: dict[str, dict[str, Any]] = {
        "characters": {"analyzer": "char_wb", "ngram_range": (3, 5), "preprocessor": normalise, "sublinear_tf": True},
        "words": {"analyzer": words, "sublinear_tf": True},
        "names": {"analyzer": names},
    }
    vectorizer = TfidfVectorizer(**options[name])
    try:
        vectorizer.fit([whole for whole, _ in left[:fitted]])
    except ValueError:  # no text has any
        return [sparse.csr_matrix((len(left), 1))] * 2
    return [vectorizer.transform([pair[k] for pair in left]) for k in (0, 1)]


def _largest(matrices: list[np.ndarray] | list[sparse.csr_matrix]) -> Table:
    """Cosines of a part of the texts with the first n of them, the largest over both views of both."""

    def table(part: slice, n: int) -> np.ndarray:
        return np.asarray(np.maximum.reduce([_dense(a[part] @ b[:n].T) for a in matrices for b in matrices]))

    return table


def _dense(product: Any) -> np.ndarray:
    return np.asarray(product.toarray() if sparse.issparse(product) else product)


def _agreement(left: list[frozenset[str]], right: list[frozenset[str]]) -> Callable[[slice], np.ndarray]:
    """Jaccard similarity of number sets; 1 where one of the two has no number."""
    place = {n: i for i, n in enumerate(sorted(frozenset().union(*left, *right)))}

    def matrix(sets: list[frozenset[str]]) -> sparse.csr_matrix:
        owner = [i for i, s in enumerate(sets) for _ in s]
        column = [place[n] for s in sets for n in sorted(s)]
        return sparse.csr_matrix((np.ones(len(owner)), (owner, column)), shape=(len(sets), max(len(place), 1)))

    a, b = matrix(left), matrix(right)
    sizes_a, sizes_b = np.array([len(s) for s in left]), np.array([len(s) for s in right])

    def table(part: slice) -> np.ndarray:
        common = (a[part] @ b.T).toarray()
        size = sizes_a[part, None]
        union = np.maximum(size + sizes_b[None] - common, 1)
        return np.where((size > 0) & (sizes_b[None] > 0), common / union, 1.0)

    return table
