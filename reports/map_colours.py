"""By what the points of the map are coloured: fate, cluster, label, language, source, a score, or a search."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.reports import written_numbers as written
from tamis.reports.curation_view import REASONS
from tamis.reports.ledger_query import ledger_file, scores
from tamis.run import Run

# Told apart on white and on dark blue, also by most colour-blind readers (after Okabe and Ito).
CYCLE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a7fdc", "#b5a900", "#7a9b76", "#c0678b")
OTHER, KEPT = "#8d99ae", "#1d6ff2"
RAMP = ("#414487", "#365c8d", "#27808e", "#1fa187", "#4ac16d", "#9fda3a", "#fde725")  # viridis, low to high
FIELDS = ("fate", "cluster", "label", "language", "source")


@dataclasses.dataclass(frozen=True)
class Colouring:
    """A class for every point, and what each class is.

    Attributes:
        classes: shape (n,), uint8, index into `names`.
        names: what the legend says.
        colours: `#rrggbb` for each class.
    """

    classes: npt.NDArray[np.uint8]
    names: list[str]
    colours: list[str]

    @property
    def counts(self) -> list[int]:
        return [int(n) for n in np.bincount(self.classes, minlength=len(self.names))]


def choices(run: Run) -> list[str]:
    """What can be coloured by in this run."""
    return [*FIELDS, *(f"score {name}" for name in scores(run))]


def colouring(run: Run, ids: pa.Array, by: str) -> Colouring:
    """Classes of the rows with these ids (ascending), by one of `choices`.

    Raises:
        OSError, pyarrow.ArrowException: the ledger is missing or damaged.
        ValueError: nothing of that name can be coloured by.
    """
    if by not in choices(run):
        raise ValueError(f"{by!r} is none of {choices(run)}")
    score = by.startswith("score ")
    name = f"score_{by.removeprefix('score ')}" if score else {"fate": "reason"}.get(by, by)
    table = pq.read_table(ledger_file(run), columns=["id", name])
    # the ledger has every row, sorted by id as the map is: what is left are the rows of the map in the map's order
    values = table.filter(pc.is_in(table["id"], value_set=ids))[name]
    return by_score(values.to_numpy()) if score else by_value(values, fate=by == "fate")


def by_value(values: pa.ChunkedArray, *, fate: bool = False) -> Colouring:
    """The most frequent values get a colour each, the rest share one. What was kept is always the same blue."""
    none = "kept" if fate else "(none)"
    coded = pc.fill_null(values.cast(pa.string()), none).combine_chunks().dictionary_encode()
    codes, known = coded.indices.to_numpy(), coded.dictionary.to_pylist()
    counts = np.bincount(codes, minlength=len(known))
    order = sorted(range(len(known)), key=lambda i: (fate and known[i] != "kept", -counts[i], known[i]))
    named, rest = order[: len(CYCLE)], order[len(CYCLE) :]
    place = np.full(max(len(known), 1), len(named), np.uint8)
    place[named] = np.arange(len(named), dtype=np.uint8)
    words = [known[i] for i in named]
    names = [REASONS.get(v, v) if fate else v for v in words] + ([f"{len(rest):,} others"] if rest else [])
    colours = [
        KEPT if fate and v == "kept" else OTHER if fate and v == "not_selected" else CYCLE[(i + 5 * fate) % len(CYCLE)]
        for i, v in enumerate(words)
    ]
    return Colouring(place[codes] if len(codes) else np.zeros(0, np.uint8), names, colours + [OTHER] * bool(rest))


def by_score(values: npt.NDArray[np.floating[Any]]) -> Colouring:
    """Seven bins of equal width from low to high; rows without the score (NaN) are grey."""
    numbers = np.asarray(values, np.float64)
    known = numbers[~np.isnan(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, len(RAMP) + 1)
    bins = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(RAMP) - 1)
    classes = np.where(np.isnan(numbers), len(RAMP), bins).astype(np.uint8)
    names = [f"{written.number(a)} – {written.number(b)}" for a, b in itertools.pairwise(edges)]
    return Colouring(classes, [*names, "no score"], [*RAMP, OTHER])


def by_search(run: Run, ids: pa.Array, text: str) -> Colouring:
    """Rows whose messages, key or label hold a text, against the others. Upper and lower case do not matter.

    Raises:
        duckdb.Error: the records are damaged.
    """
    records = [str(f) for f in sorted((run.curate / "records").glob("part-*.parquet"))]
    hits: list[str] = []
    if records:
        found = duckdb.execute(
            "select id from read_parquet(?) where contains(lower(cast(messages as varchar)), lower(?)) "
            "or contains(lower(coalesce(label, '')), lower(?)) or key = ?",
            [records, text, text, text],
        ).fetchall()
        hits = [id_ for (id_,) in found]
    hit = pc.is_in(ids, value_set=pa.array(hits, pa.string())).to_numpy(zero_copy_only=False)
    return Colouring(np.where(hit, 0, 1).astype(np.uint8), ["found", "others"], [CYCLE[5], OTHER])
