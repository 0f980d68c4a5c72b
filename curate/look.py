"""What is in a data file and what is wrong with it, before anything is decided. No torch."""

from __future__ import annotations

import collections
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tamis import engine
from tamis.curate import features, near
from tamis.recipe import Curate
from tamis.tables import Source, read_records, read_shards


@dataclasses.dataclass(frozen=True)
class Look:
    """Counts over one data set."""

    rows: int
    quarantined: dict[str, int]
    first_bad: list[str]
    formats: dict[str, int]
    languages: dict[str, int]
    labels: dict[str, int]
    tokens: dict[str, int]
    problems: dict[str, int]
    exact_copies: int
    near_copies: int
    conflicts: int


def look(source: Source) -> Look:
    """Read everything once and count.

    Args:
        source: what to look at.

    Raises:
        DataError: nothing can be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder)
        read = read_records(source, records)
        quarantine = pq.read_table(records / "quarantine.parquet")
        found = engine.map_records(records, features.extractor(Curate()), features.FEATURES)
        labels = read_shards(records, ["label"])["label"].to_pylist()
    tokens = np.array(found["tokens"])
    rows, prompts = np.array(found["row_hash"]), np.array(found["prompt_hash"])
    distinct, first = np.unique(rows, return_index=True)
    bands = found["bands"].combine_chunks().flatten().to_numpy().reshape(-1, near.BANDS)[first]
    pairs = collections.Counter(zip(prompts.tolist(), rows.tolist(), strict=True))
    return Look(
        rows=read.rows + read.quarantined,
        quarantined=_top(quarantine["reason"].to_pylist()),
        first_bad=[
            f"{r['file']}:{r['line']}: {r['reason']}: {r['detail']}" for r in quarantine.slice(0, 3).to_pylist()
        ],
        formats=read.formats,
        languages=_top(found["language"].to_pylist()),
        labels=_top([v for v in labels if v is not None]),
        tokens={name: int(np.quantile(tokens, q)) for name, q in (("median", 0.5), ("p99", 0.99), ("max", 1))},
        problems=_top([r for r in found["reason"].to_pylist() if r is not None]),
        exact_copies=len(rows) - len(distinct),
        near_copies=_same_band(bands),
        conflicts=sum(n > 1 for n in collections.Counter(p for p, _ in pairs).values()),
    )


def _same_band(bands: np.ndarray) -> int:
    """Rows that share half of their bands or more with earlier rows: an estimate, without reading texts again."""
    hits = np.zeros(len(bands), np.int8)
    for column in bands.T:
        order = np.argsort(column, kind="stable")
        again = np.concatenate([[False], column[order][1:] == column[order][:-1]])
        hits[order[again]] += 1
    return int((hits >= near.BANDS // 2).sum())


def _top(values: list[Any]) -> dict[str, int]:
    return {str(k): n for k, n in collections.Counter(values).most_common()}
