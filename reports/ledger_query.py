"""Questions to a run's ledger and records, answered by DuckDB page by page: a million rows never travel at once."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import duckdb

from tamis.record import answer_of, prompt_of
from tamis.run import Run
from tamis.schema import STAGES

PAGE = 50
# Of a list; the names of witnesses, as many as there are rows, take as long to read as all the rest.
LISTED = "id, key, verdict, stage, reason, label, language, source, similarity, slack, cluster, rank"
SHOWN = f"{LISTED}, witness"
NEAR = 1000  # rows closest to a limit that are found at once: twenty pages
# Columns a reader may filter or group by. Names go into SQL, so they come from here and from nowhere else.
FIELDS = ("label", "language", "source", "license")


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which rows. None means any.

    Attributes:
        verdict: `kept` or `dropped`.
        stage: of the stage that dropped the row.
        reason: why it was dropped.
        label: the row's own label.
        text: part of the id, the user's key, the label or the file's name.
        near_limit: only rows whose distance to a limit is known, the closest first.
    """

    verdict: str | None = None
    stage: str | None = None
    reason: str | None = None
    label: str | None = None
    text: str | None = None
    near_limit: bool = False

    def sql(self) -> tuple[str, list[Any]]:
        """A WHERE clause and its values."""
        tests, values = [], []
        for name in ("verdict", "stage", "reason", "label"):
            if (value := getattr(self, name)) is not None:
                tests.append(f"{name} = ?")
                values.append(value)
        if self.text:
            tests.append("(contains(id, ?) or contains(key, ?) or contains(label, ?) or contains(file, ?))")
            values += [self.text] * 4
        if self.near_limit:
            # In selection slack counts ranks, not similarity; and a copy letter for letter is not doubtful.
            tests.append("slack is not null and stage <> 'select' and reason not in ('exact', 'leak_exact')")
        return (f"where {' and '.join(tests)}" if tests else ""), values


@dataclasses.dataclass(frozen=True)
class Fate:
    """One row: what it says, what became of it, and the row that decided it."""

    row: dict[str, Any]
    prompt: str | None
    answer: str | None
    witness: dict[str, Any] | None
    witness_prompt: str | None
    witness_answer: str | None


def ledger_file(run: Run) -> Path:
    """Where the ledger lies."""
    return run.curate / "ledger.parquet"


def count(run: Run, where: Filter = Filter()) -> int:
    """Rows that pass a filter.

    Raises:
        duckdb.Error: the ledger is missing or damaged; so do all functions here.
    """
    clause, values = where.sql()
    return int(ask(run, f"select count(*) n from ledger {clause}", values)[0]["n"])


def nearest(run: Run, where: Filter) -> tuple[int, list[dict[str, Any]]]:
    """Of the rows that pass a filter and have a distance to a limit: how many, and the `NEAR` closest, in order.

    They lie all over the file, so that a thousand of them take as long to read as a page of them.
    """
    clause, values = dataclasses.replace(where, near_limit=True).sql()
    closest = f"min_by(file_row_number, (abs(slack), file_row_number), {NEAR}) places"
    found = ask(run, f"select count(*) n, {closest} from ledger_places {clause}", values)[0]
    return int(found["n"]), _at(run, found["places"] or [])


def page(run: Run, where: Filter, number: int = 1, size: int = PAGE) -> list[dict[str, Any]]:
    """One page of rows, in order of id, or closest to the limit first. `number` counts from 1."""
    clause, values = where.sql()
    some = f"limit {int(size)} offset {int(size) * (int(number) - 1)}"
    if not where.near_limit:
        return ask(run, f"select {LISTED} from ledger {clause} {some}", values)  # the file is sorted by id already
    query = f"select file_row_number n from ledger_places {clause} order by abs(slack), n {some}"
    return _at(run, [r["n"] for r in ask(run, query, values)])


def _at(run: Run, places: list[int]) -> list[dict[str, Any]]:
    """Rows by their places, the closest to a limit first: what decides the order is read of every row, the rest not."""
    if not places:
        return []
    these = f"where file_row_number in ({', '.join(str(int(p)) for p in places)})"
    return ask(run, f"select {LISTED} from ledger_places {these} order by abs(slack), file_row_number", [])


def rows_of(run: Run, ids: list[str]) -> list[dict[str, Any]]:
    """The rows with these ids, in order of id; for a page of them, not for all."""
    if not ids:
        return []
    marks = ", ".join("?" * len(ids))
    return ask(run, f"select {SHOWN} from ledger where id in ({marks}) order by id", ids)


def reasons(run: Run) -> list[dict[str, Any]]:
    """How many rows fell at which stage for which reason, in the order of the stages."""
    found = ask(run, "select stage, reason, count(*) n from ledger where stage is not null group by all", [])
    place = {s: i for i, s in enumerate(STAGES)}
    return sorted(found, key=lambda r: (place.get(r["stage"], len(place)), -r["n"], r["reason"] or ""))


def scores(run: Run) -> list[str]:
    """The score columns that this ledger has, without their prefix."""
    return [c.removeprefix("score_") for c in _columns(run) if c.startswith("score_")]


def histogram(run: Run, score: str, bins: int = 40) -> dict[str, Any]:
    """Counts of a score for kept and dropped rows.

    Returns:
        `edges` (bins + 1 numbers), `kept` and `dropped` (counts per bin), `missing` (rows without the score).
    """
    column = _score_column(run, score)
    low, high, missing = ask(
        run, f"select min({column}) a, max({column}) b, count(*) - count({column}) m from ledger", []
    )[0].values()
    if low is None:
        return {"edges": [0.0, 1.0], "kept": [0], "dropped": [0], "missing": missing}
    width = (high - low) / bins or 1.0
    found = ask(
        run,
        f"select least(floor(({column} - ?) / ?), ?)::int b, verdict, count(*) n from ledger "
        f"where {column} is not null group by all",
        [low, width, bins - 1],
    )
    counts = {(r["b"], r["verdict"]): r["n"] for r in found}
    return {
        "edges": [low + width * i for i in range(bins + 1)],
        "kept": [counts.get((b, "kept"), 0) for b in range(bins)],
        "dropped": [counts.get((b, "dropped"), 0) for b in range(bins)],
        "missing": missing,
    }


def what_if(run: Run, score: str, threshold: float) -> dict[str, int]:
    """How many kept and how many dropped rows have a score below a threshold; nothing is run again."""
    column = _score_column(run, score)
    row = ask(
        run,
        f"select count(*) filter (verdict = 'kept' and {column} < ?) kept, "
        f"count(*) filter (verdict = 'dropped' and {column} < ?) dropped from ledger",
        [threshold, threshold],
    )[0]
    return {"kept": int(row["kept"]), "dropped": int(row["dropped"])}


def shares(run: Run, field: str, most: int = 30) -> list[dict[str, Any]]:
    """Rows read and rows kept by value of a field, the most frequent first."""
    if field not in FIELDS:
        raise ValueError(f"{field!r} is none of {FIELDS}")
    return ask(
        run,
        f"select coalesce({field}, '(none)') \"value\", count(*) \"read\", count(*) filter (verdict = 'kept') kept "
        f'from ledger group by all order by "read" desc, "value" limit {int(most)}',
        [],
    )


def coverage(run: Run, points: int = 200) -> list[dict[str, Any]]:
    """Share of clusters that have a row among the first k of the selection order, for up to `points` values of k."""
    return ask(
        run,
        "with firsts as (select cluster, min(rank) r from ledger where cluster is not null and rank is not null "
        "group by cluster), numbered as (select r + 1 k, row_number() over (order by r) n, count(*) over () total "
        "from firsts), thinned as (select *, ntile(?) over (order by k) part from numbered) "
        "select max(k) k, max(n) / max(total) covered from thinned group by part order by k",
        [points],
    )


def fate(run: Run, id_: str) -> Fate | None:
    """One row with its texts and its witness; None where the ledger has no such id or key."""
    found = ask(run, "select * from ledger where id = ? or key = ? order by id limit 1", [id_, id_])
    if not found:
        return None
    row = found[0]
    witness = ask(run, "select * from ledger where id = ?", [row["witness"]]) if row.get("witness") else []
    texts = said(run, [i for i in (row["id"], row.get("witness")) if i])
    prompt, answer = texts.get(row["id"], (None, None))
    witness_prompt, witness_answer = texts.get(row.get("witness") or "", (None, None))
    return Fate(row, prompt, answer, witness[0] if witness else None, witness_prompt, witness_answer)


def said(run: Run, ids: list[str]) -> dict[str, tuple[str, str]]:
    """Prompt and answer of training rows and evaluation items by id; quarantined rows have none."""
    files = [*sorted((run.curate / "records").glob("part-*.parquet")), run.curate / "eval.parquet"]
    files = [f for f in files if f.is_file()]
    if not files or not ids:
        return {}
    marks = ", ".join("?" * len(ids))
    found = _rows(f"select id, messages from read_parquet(?) where id in ({marks})", [[str(f) for f in files], *ids])
    return {r["id"]: (prompt_of(r["messages"]), answer_of(r["messages"])) for r in found}


def ask(run: Run, query: str, values: list[Any]) -> list[dict[str, Any]]:
    """Rows of a query to the table `ledger`; `values` fill its question marks.

    `ledger_places` is the same table with the place of each row in the file, as `file_row_number`, from 0.
    """
    file = _literal(ledger_file(run))
    source = f"with ledger as (from read_parquet('{file}'))"
    if " ledger_places " in query:
        source += f", ledger_places as (from read_parquet('{file}', file_row_number = true))"
    joined = f"{source}, {query.removeprefix('with ')}" if query.startswith("with ") else f"{source} {query}"
    return _rows(joined, values)


def _rows(query: str, values: list[Any]) -> list[dict[str, Any]]:
    try:
        with _database().cursor() as db:
            cursor = db.execute(query, values)
            names = [d[0] for d in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except (duckdb.FatalException, duckdb.InternalException):
        _database.cache_clear()  # after such an error it answers nobody, not even about files that are whole
        raise


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")


def _columns(run: Run) -> list[str]:
    return [str(r["name"]) for r in _rows("select name from parquet_schema(?)", [str(ledger_file(run))])]


def _score_column(run: Run, score: str) -> str:
    column = f"score_{score}"
    if column not in _columns(run):
        raise ValueError(f"the ledger has no score {score!r}")
    return '"' + column.replace('"', '""') + '"'


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    """One for the whole process: opening one takes as long as counting a million rows. It holds no data."""
    # extensions are never fetched: everything needed is built in
    return duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"})
