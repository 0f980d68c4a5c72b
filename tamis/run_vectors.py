"""A curated run's prompts as vectors: those on disk, and those of other texts in the same space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis import embed
from tamis.embed import Vectors
from tamis.lsa import Axes
from tamis.record import prompt_of
from tamis.tables import take_records

AXES = "axes.npz"


def stored(curated: Path) -> tuple[list[str], np.ndarray]:
    """Ids of the embedded rows, and (n, d) int8: unit vectors times 127.

    Args:
        curated: the `curate` folder of a run.

    Raises:
        OSError, pyarrow.ArrowInvalid: the files cannot be read.
    """
    parts = sorted((curated / "vectors").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(part) for part in parts])
    ids = table["id"].to_pylist()
    flat = table["vector"].combine_chunks().flatten().to_numpy()
    return ids, flat.reshape(len(ids), -1).astype(np.int8) if ids else np.zeros((0, 1), np.int8)


def axes_of(curated: Path) -> Axes:
    """The axes of a run whose embedder is `lsa`; fitted again where a version that did not keep them made the run."""
    try:
        return Axes.load(curated / AXES)
    except (OSError, ValueError, KeyError):
        ids, _ = stored(curated)
        prompts = {prompt_of(m) for m in take_records(curated / "records", ids)["messages"].to_pylist()}
        return Axes.fit(sorted(prompts, key=lambda t: (len(t), t)))[0]


def beside(curated: Path, texts: list[str], embedder: str) -> Vectors:
    """Vectors of n texts, to be compared with those on disk.

    Args:
        curated: the `curate` folder of a run.
        texts: n texts.
        embedder: that of the run, as its funnel names it.

    Raises:
        MissingExtra, UserError: see `embed.quantised`.
    """
    return embed.onto(texts, axes_of(curated) if embedder == "lsa" else None, embedder)
