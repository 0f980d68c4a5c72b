"""Evaluation items one by one: what was asked, what was right, what each side said. Broken ones first."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, Literal

import pyarrow as pa

from tamis.record import prompt_of
from tamis.reports.folder import Folder

Change = Literal["broken", "both_wrong", "fixed", "both_right", "different", "failed"]
ORDER: tuple[Change, ...] = ("failed", "broken", "both_wrong", "different", "fixed", "both_right")
CHANGES: dict[str, str] = {
    "broken": "broken",
    "fixed": "fixed",
    "both_wrong": "both wrong",
    "both_right": "both right",
    "different": "answers differ",
    "failed": "request failed",
}
MEANING = {
    "broken": "the candidate is wrong where the baseline was right",
    "fixed": "the candidate is right where the baseline was wrong",
    "both_wrong": "neither is right",
    "both_right": "both are right",
    "different": "the task has no single right answer and the outputs differ",
    "failed": "the candidate's request failed",
}

_COLUMNS = ["id", "prompt", "output", "answer", "expected", "correct", "parsed", "finish", "error", "label", "language"]


@dataclasses.dataclass(frozen=True)
class Example:
    """One evaluation item answered by the candidate and, where there is one, the baseline."""

    id: str
    key: str | None
    change: Change
    prompt: str
    expected: str | None
    candidate: str | None
    baseline: str | None
    candidate_answer: str | None
    baseline_answer: str | None
    candidate_right: bool | None
    baseline_right: bool | None
    parsed: bool
    finish: str | None
    error: str | None
    label: str | None
    language: str | None

    @property
    def said(self) -> str:
        """What the candidate said; a failed request said nothing."""
        return self.candidate if self.candidate is not None else ""


@dataclasses.dataclass(frozen=True)
class Examples:
    """The first of them, in the order of `ORDER`, and how many there are of each kind in all.

    Attributes:
        counts: items of each kind over the whole evaluation set.
        rows: the ones that are shown.
    """

    candidate: str
    baseline: str | None
    counts: dict[str, int]
    rows: tuple[Example, ...]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def examples_view(
    folder: Folder, candidate: tuple[str, str], baseline: tuple[str, str] | None, limit: int | None = 50
) -> Examples | None:
    """Join the answers of two systems.

    Args:
        folder: the run.
        candidate: arm and system.
        baseline: arm and system it is compared with; None where there is none.
        limit: most rows; None for all of them.

    Returns:
        None where the candidate's answers cannot be read (the folder's problems say why).
    """
    ours = _samples(folder, candidate)
    if ours is None:
        return None
    theirs_table = _samples(folder, baseline) if baseline else None
    theirs = {row["id"]: row for row in theirs_table.to_pylist()} if theirs_table is not None else {}
    mine = ours.to_pylist()
    changes = {row["id"]: _change(row, theirs.get(row["id"])) for row in mine}
    counts = Counter(changes.values())
    first = sorted(mine, key=lambda r: (ORDER.index(changes[r["id"]]), r["id"]))[: limit if limit is not None else None]
    asked = _asked(folder, {row["id"] for row in first})
    shown = tuple(_example(row, theirs.get(row["id"]), changes[row["id"]], asked) for row in first)
    name = baseline[1] if baseline and theirs else None
    return Examples(candidate[1], name, {c: counts[c] for c in ORDER if counts[c]}, shown)


def _samples(folder: Folder, system: tuple[str, str]) -> pa.Table | None:
    part = folder.run.evaluate(*system)
    return folder.table(part / "samples.parquet", f"the answers of {' / '.join(system)}", _COLUMNS, part=part)


def _change(ours: dict[str, Any], theirs: dict[str, Any] | None) -> Change:
    if ours["error"] is not None:
        return "failed"
    right = ours["correct"]
    if right is None:
        return "different" if theirs is not None and theirs["output"] != ours["output"] else "both_right"
    before = None if theirs is None else theirs["correct"]
    if right:
        return "fixed" if before is False else "both_right"
    return "broken" if before else "both_wrong"


def _asked(folder: Folder, ids: set[str]) -> dict[str, tuple[str | None, str]]:
    """Key and prompt of items as they stand in the evaluation set, without any chat template."""
    path = folder.run.curate / "eval.parquet"
    table = folder.table(path, "the evaluation items", ["id", "key", "messages"], part=folder.run.curate)
    if table is None:
        return {}
    wanted = [i for i, id_ in enumerate(table["id"].to_pylist()) if id_ in ids]
    return {r["id"]: (r["key"], prompt_of(r["messages"])) for r in table.take(pa.array(wanted, pa.int64())).to_pylist()}


def _example(
    ours: dict[str, Any], theirs: dict[str, Any] | None, change: Change, asked: dict[str, tuple[str | None, str]]
) -> Example:
    key, prompt = asked.get(ours["id"], (None, ours["prompt"]))
    other = theirs or {}
    return Example(
        id=ours["id"],
        key=key,
        change=change,
        prompt=prompt,
        expected=ours["expected"],
        candidate=ours["output"],
        baseline=other.get("output"),
        candidate_answer=ours["answer"],
        baseline_answer=other.get("answer"),
        candidate_right=ours["correct"],
        baseline_right=other.get("correct"),
        parsed=bool(ours["parsed"]),
        finish=ours["finish"],
        error=ours["error"],
        label=ours["label"],
        language=ours["language"],
    )
