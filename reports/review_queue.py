"""The rows that a person should look at first, and what was decided about them so far."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from tamis.annotations import Decision
from tamis.annotations import file_of as decisions_file
from tamis.annotations import read as read_decisions
from tamis.reports import ledger_query
from tamis.reports.curation_view import REASONS, Funnel
from tamis.reports.ledger_query import SHOWN, Filter
from tamis.reports.visible_text import line as one_line
from tamis.run import Run

MOST = 200  # rows of one queue: what a person looks through in an hour
Kind = Literal["limits", "conflicts", "labels"]
KINDS: dict[Kind, str] = {
    "limits": "nearest a limit",
    "conflicts": "conflicting answers",
    "labels": "suspected labels",
}


@dataclasses.dataclass(frozen=True)
class Item:
    """A row to look at.

    Attributes:
        row: its columns of the ledger (`ledger_query.SHOWN`).
        kind: which queue it is in.
        why: what makes it doubtful, in words, with the number.
        likelier: the label that curation finds likelier; None where it has none to offer.
    """

    row: dict[str, Any]
    kind: Kind
    why: str
    likelier: str | None = None

    @property
    def id(self) -> str:
        return str(self.row["id"])

    @property
    def content(self) -> str:
        """What decisions are keyed by: the same for every row that says the same."""
        return self.id[:16]

    @property
    def fate(self) -> str:
        """`kept`, or the reason why not."""
        reason = str(self.row["reason"] or "")
        return "kept" if self.row["verdict"] == "kept" else REASONS.get(reason, reason)


@dataclasses.dataclass(frozen=True)
class Queue:
    """At most `MOST` rows of one kind, the most doubtful first, and of how many."""

    items: tuple[Item, ...]
    total: int


def queue(run: Run, kind: Kind, funnel: Funnel) -> Queue:
    """One of the queues.

    Raises:
        duckdb.Error: the ledger or the conflicts are damaged.
    """
    return {"limits": _limits, "conflicts": _conflicts, "labels": _labels}[kind](run, funnel)


def _limits(run: Run, funnel: Funnel) -> Queue:
    """Dropped rows that missed the limit by least. What selection left out missed no limit, only others were better."""
    where = Filter(near_limit=True)
    rows = ledger_query.page(run, where, 1, MOST)
    return Queue(tuple(Item(r, "limits", _beyond(r)) for r in rows), ledger_query.count(run, where))


def _beyond(row: dict[str, Any]) -> str:
    likeness = f"similarity {row['similarity']:.3f}, " if row["similarity"] is not None else ""
    return f"{likeness}{abs(row['slack']):.3f} beyond the limit"


def _conflicts(run: Run, funnel: Funnel) -> Queue:
    """Rows that ask the same as another and are answered or labelled otherwise; those of one question together."""
    file = run.curate / "conflicts.parquet"
    if not file.is_file():
        return Queue((), 0)
    source = "read_parquet(?)"
    total = ledger_query.ask(run, f"select count(*) n from {source}", [str(file)])[0]["n"]
    rows = ledger_query.ask(
        run,
        f'with c as (select "group" as question, id, count(*) over (partition by "group") rows from {source}), '
        f"first as (select * from c order by question, id limit {MOST}) "
        f"select {SHOWN}, question, rows from first join ledger using (id) order by question, id",
        [str(file)],
    )
    items = [Item(r, "conflicts", f"question {r['question'] + 1}: {r['rows']} rows, answers differ") for r in rows]
    return Queue(tuple(items), int(total))


def _labels(run: Run, funnel: Funnel) -> Queue:
    """Rows whose label the rows around them contradict, the worst first, with the label they would have."""
    file = run.curate / "suspects.parquet"
    if not file.is_file():
        return _labels_of_old(run, funnel)
    total = ledger_query.ask(run, "select count(*) n from read_parquet(?)", [str(file)])[0]["n"]
    shown = ", ".join(f"ledger.{column.strip()}" for column in SHOWN.split(","))
    rows = ledger_query.ask(
        run,
        f"select {shown}, likelier, margin from (select * from read_parquet(?) order by margin desc, id limit {MOST}) "
        "s join ledger using (id) order by margin desc, id",
        [str(file)],
    )
    return Queue(tuple(_doubtful(r) for r in rows), int(total))


def _doubtful(row: dict[str, Any]) -> Item:
    why = f"{one_line(row['likelier'], 40)} leads by {row['margin']:.2f}"
    return Item(row, "labels", why, row["likelier"])


def _labels_of_old(run: Run, funnel: Funnel) -> Queue:
    """The same of a run whose curation did not note which label is likelier; how many are suspected it counted."""
    if not funnel.suspects or "label_margin" not in ledger_query.scores(run):
        return Queue((), 0)
    rows = ledger_query.ask(
        run,
        f"select {SHOWN}, score_label_margin margin from ledger where score_label_margin is not null "
        f"order by margin desc, id limit {min(MOST, funnel.suspects)}",
        [],
    )
    items = [Item(r, "labels", f"another label leads by {r['margin']:.2f}") for r in rows]
    return Queue(tuple(items), funnel.suspects)


def file_of(run: Run, recipe: dict[str, Any]) -> Path:
    """Where decisions about this run's rows are kept; `recipe` as it lies in the run folder."""
    curate = recipe.get("curate")
    named = curate.get("annotations") if isinstance(curate, dict) else None
    return decisions_file(run.path, named if isinstance(named, str) else None)


def decisions(file: Path) -> dict[str, Decision]:
    """What holds so far, by content; nothing where there is no file.

    Raises:
        OSError: the file cannot be read.
        DataError: a line of it is no decision.
    """
    return {d.content: d for d in read_decisions(file)} if file.is_file() else {}
