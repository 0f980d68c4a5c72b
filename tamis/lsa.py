"""Character TF-IDF and its axes: fitted once to a run's prompts, kept beside them, other texts are projected onto them.

Deerwester et al. 1990, "Indexing by Latent Semantic Analysis", on character 2- to 4-grams within words.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tamis.schema import write_atomic

DIMENSIONS = 256
FEATURES = 1 << 15
# Rows that the axes are fitted to: more make no better ones, and the decomposition takes what there is.
FITTED_ROWS = 30_000


@dataclasses.dataclass(frozen=True)
class Axes:
    """What texts are projected onto.

    Attributes:
        grams: f n-grams, in the order of the columns; none where all texts were empty.
        idf: (f,) float64, their weights.
        components: (d, f) float32; (0, f) where there are too few texts to decompose and the weights themselves are
            the vectors.
    """

    grams: tuple[str, ...]
    idf: np.ndarray
    components: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[str]) -> tuple[Axes, np.ndarray]:
        """The axes of n texts, the same on every run, and the texts on them, as `project` has them."""
        from sklearn.decomposition import TruncatedSVD

        vectorizer = _vectorizer(max_features=FEATURES)
        try:
            matrix = vectorizer.fit_transform([t.casefold() for t in texts])
        except ValueError:  # nothing but empty texts: no vocabulary
            return cls((), np.zeros(0), np.zeros((0, 0), np.float32)), np.zeros((len(texts), 1))
        grams = tuple(vectorizer.get_feature_names_out().tolist())
        d = min(DIMENSIONS, matrix.shape[1] - 1, matrix.shape[0] - 1)
        if d < 2:
            axes = cls(grams, vectorizer.idf_, np.zeros((0, len(grams)), np.float32))
            return axes, axes._projected(matrix)
        fitted = np.unique(np.linspace(0, len(texts) - 1, min(len(texts), FITTED_ROWS)).astype(np.int64))
        svd = TruncatedSVD(d, algorithm="randomized", n_iter=2, random_state=0).fit(matrix[fitted])
        # rounded before anything is projected: a text gets the same vector from fresh axes and from kept ones
        axes = cls(grams, vectorizer.idf_, svd.components_.astype(np.float32))
        return axes, axes._projected(matrix)

    def project(self, texts: Iterable[str]) -> np.ndarray:
        """(n, d) float64 vectors of n texts, of no particular length."""
        folded = [t.casefold() for t in texts]
        if not self.grams:
            return np.zeros((len(folded), 1))
        vectorizer = _vectorizer(vocabulary=self.grams)
        vectorizer.idf_ = self.idf
        return self._projected(vectorizer.transform(folded))

    def _projected(self, matrix: Any) -> np.ndarray:
        """(n, f) sparse weights to (n, d)."""
        return np.asarray(matrix @ self.components.T.astype(np.float64) if len(self.components) else matrix.toarray())

    def save(self, file: Path) -> None:
        """Write a NumPy archive, atomically. Readable without Tamis; nothing in it is pickled."""
        out = io.BytesIO()
        grams = np.frombuffer(json.dumps(self.grams, ensure_ascii=False).encode("utf-8", "surrogatepass"), np.uint8)
        np.savez(out, grams=grams, idf=self.idf, components=self.components)
        write_atomic(file, out.getvalue())

    @classmethod
    def load(cls, file: Path) -> Axes:
        """Read what `save` wrote.

        Raises:
            OSError, ValueError, KeyError: there is no such file, or it is another.
        """
        with np.load(file) as found:
            grams = json.loads(found["grams"].tobytes().decode("utf-8", "surrogatepass"))
            return cls(tuple(grams), found["idf"], found["components"])


def _vectorizer(**options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    # float32 would take half the time, but its SVD differs in the last bits from run to run, and int8 values flip.
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, dtype=np.float64, **options)
