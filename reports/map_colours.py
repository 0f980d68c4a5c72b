"""By what the points of the map are coloured: fate, cluster, label, language, source, a score, or a search."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

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


def colouring(run: Run, ids: Sequence[str], by: str) -> Colouring:
    """Classes of the rows with these ids (ascending), by one of `choices`.

    Raises:
        duckdb.Error: the ledger is missing or damaged.
        ValueError: nothing of that name can be coloured by.
    """
    if by not in choices(run):
        raise ValueError(f"{by!r} is none of {choices(run)}")
    columns = {"fate": "coalesce(reason, 'kept')", "cluster": "cluster"}
    score = by.startswith("score ")
    name = '"score_' + by.removeprefix("score ").replace('"', '""') + '"' if score else columns.get(by, by)
    found = dict(duckdb.execute(f"select id, {name} from read_parquet(?)", [str(ledger_file(run))]).fetchall())
    values = [found.get(id_) for id_ in ids]
    return by_score(values) if score else by_value(values, fate=by == "fate")


def by_value(values: Sequence[Any], *, fate: bool = False) -> Colouring:
    """The most frequent values get a colour each, the rest share one. What was kept is always the same blue."""
    counted = Counter("(none)" if v is None else str(v) for v in values)
    order = [v for v, _ in sorted(counted.items(), key=lambda x: (fate and x[0] != "kept", -x[1], x[0]))]
    named, rest = order[: len(CYCLE)], order[len(CYCLE) :]
    place = {v: i for i, v in enumerate(named)} | dict.fromkeys(rest, len(named))
    classes = np.array([place["(none)" if v is None else str(v)] for v in values], np.uint8)
    names = [REASONS.get(v, v) if fate else v for v in named] + ([f"{len(rest):,} others"] if rest else [])
    colours = [
        KEPT if fate and v == "kept" else CYCLE[(i + (5 if fate else 0)) % len(CYCLE)] for i, v in enumerate(named)
    ]
    if fate:
        colours = [OTHER if v == "not_selected" else c for v, c in zip(named, colours, strict=True)]
    return Colouring(classes, names, colours + ([OTHER] if rest else []))


def by_score(values: Sequence[float | None]) -> Colouring:
    """Seven bins of equal width from low to high; rows without the score are grey."""
    numbers = np.array([np.nan if v is None else v for v in values], np.float64)
    known = numbers[~np.isnan(numbers)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, len(RAMP) + 1)
    bins = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(RAMP) - 1)
    classes = np.where(np.isnan(numbers), len(RAMP), bins).astype(np.uint8)
    names = [f"{written.number(a)} – {written.number(b)}" for a, b in itertools.pairwise(edges)]
    return Colouring(classes, [*names, "no score"], [*RAMP, OTHER])


def by_search(run: Run, ids: Sequence[str], text: str) -> Colouring:
    """Rows whose messages, key or label hold a text, against the others. Upper and lower case do not matter."""
    records = [str(f) for f in sorted((run.curate / "records").glob("part-*.parquet"))]
    hits: set[str] = set()
    if records:
        found = duckdb.execute(
            "select id from read_parquet(?) where contains(lower(cast(messages as varchar)), lower(?)) "
            "or contains(lower(coalesce(label, '')), lower(?)) or key = ?",
            [records, text, text, text],
        ).fetchall()
        hits = {id_ for (id_,) in found}
    classes = np.array([0 if id_ in hits else 1 for id_ in ids], np.uint8)
    return Colouring(classes, ["found", "others"], [CYCLE[5], OTHER])
