"""What a judge said of a system's answers, as the metrics and the gate read it. No endpoint, no model.

`judge.parquet` holds one row per item, `judge.json` what was asked of whom and how far people agree with the judge.
Both lie beside the answers they are about, and name them by hash: other answers were not judged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tamis import intervals
from tamis.errors import EvidenceError
from tamis.intervals import Floats, Interval
from tamis.run import file_sha256
from tamis.schema import read_json

TABLE, TOLD = "judge.parquet", "judge.json"
METRICS = ("judge.win_rate", "judge.consistency")
CHOICES = ("first", "second", "tie")

JUDGED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("judge_forward", pa.string()),  # candidate, rival, tie; null: unreadable. The candidate stood first
        pa.field("judge_backward", pa.string()),  # the rival stood first
        pa.field(
            "judge_win", pa.float64()
        ),  # 1 won, 0 lost, 0.5 tie or another winner in the other order; null: no reply
        pa.field("judge_consistent", pa.bool_()),  # the same in both orders
    ]
)


def joined(answers: pa.Table, judged: pa.Table) -> pa.Table:
    """Answers with the judge's columns; null where it said nothing."""
    by_id = {row["id"]: row for row in judged.to_pylist()}
    for field in list(JUDGED)[1:]:
        column = [by_id.get(id, {}).get(field.name) for id in answers.column("id").to_pylist()]
        answers = answers.append_column(field, pa.array(column, field.type))
    return answers


def not_to_be_trusted(folder: Path, least: float, *, uncalibrated: bool) -> str | None:
    """Why a gate may not rest on a judge's numbers; None where it may.

    Args:
        folder: of the judged system.
        least: what the lower bound of kappa between judge and people must reach.
        uncalibrated: the policy takes a judge that nobody has compared with people.
    """
    try:
        told = read_json(folder / TOLD)
        about, read, unread = told["samples_sha256"], told["counts"]["judged"], told["counts"]["nonsense"]
        found = told["agreement"]
        lower = found and found["kappa"]["lower"]
    except (OSError, ValueError, KeyError, TypeError):
        return "no judge has compared these answers (evaluate.judge)"
    if about != file_sha256(folder / "samples.parquet"):
        return "the judge was asked about other answers: tamis evaluate RECIPE"
    if unread and not read:
        return "no reply of the judge could be read"
    if uncalibrated:
        return None
    if found is None:
        return "the judge is not calibrated: name what people preferred as evaluate.judge.human, or uncalibrated: true"
    if lower is None or not lower >= least:
        low = "not known" if lower is None else f"{lower:.2f}"
        return f"judge and people agree too little: the lower bound of kappa is {low}, wanted {least:g} (min_kappa)"
    return None


def kappa(judge: Sequence[str], human: Sequence[str], confidence: float = 0.95) -> Interval:
    """Cohen's kappa of two raters of the same pairs: agreement beyond what their habits alone would give.

    (observed - expected) / (1 - expected), Cohen (1960), with bounds from `intervals.bootstrap`. Its pseudo rows are
    two pairs of average habits, one agreed on and one not: without them raters who never differ on 30 pairs would get
    an interval of no width.

    Args:
        judge: one of `CHOICES` per pair.
        human: the same of the same pairs.
        confidence: of the two-sided interval.

    Returns:
        An interval over pairs; `n` is 0 where there is none.

    Raises:
        EvidenceError: a rating that is no choice.
    """
    if unknown := sorted({*judge, *human} - set(CHOICES)):
        raise EvidenceError(f"{unknown[0]!r} is no choice", hint=f"one of {', '.join(CHOICES)}")
    rows = np.zeros((len(judge), 9))
    for at, (said, right) in enumerate(zip(judge, human, strict=True)):
        rows[at, 3 * CHOICES.index(said) + CHOICES.index(right)] = 1
    if not len(rows):
        return intervals.missing("cluster bootstrap", "no labelled pairs", over="pairs", confidence=confidence)
    pseudo = _imagined(rows.mean(axis=0).reshape(3, 3))
    found = intervals.bootstrap(rows, _kappas, None, confidence, seed=7, pseudo=pseudo)
    return dataclasses.replace(found, over="pairs")


def _kappas(sums: Floats) -> Floats:
    table = sums.reshape(-1, 3, 3)
    n = table.sum(axis=(1, 2))
    agreed = np.trace(table, axis1=1, axis2=2) / n
    chance = (table.sum(axis=2) * table.sum(axis=1)).sum(axis=1) / n**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((agreed - chance) / (1 - chance))


def _imagined(table: Floats) -> Floats:
    """A pair agreed on and one not, each spread over the cells as the raters' habits are."""
    judge, human = table.sum(axis=1), table.sum(axis=0)
    apart = np.outer(judge, human) * (1 - np.eye(3))
    apart = apart / apart.sum() if apart.sum() > 0 else (1 - np.eye(3)) / 6
    return np.stack([np.diag((judge + human) / 2).ravel(), apart.ravel()])


def wins(table: pa.Table, column: str) -> Floats | None:
    """A column of judgements as (items, 1); None where an item has none."""
    if column not in table.column_names:
        return None
    values: list[Any] = table.column(column).to_pylist()
    if not values or any(v is None for v in values):
        return None
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)
