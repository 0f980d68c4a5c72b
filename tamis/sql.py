"""A run folder as tables that DuckDB answers questions about: read-only, and nothing outside the run can be reached.

    ledger     the fate of every row                 records     the rows as they were read
    order      rows by selection method and rank     quarantine  rows that could not be read
    eval       the evaluation items                  edits       what masking and relabelling changed
    conflicts  one prompt, several answers           vectors     id, int8 embedding
    samples    one row per item, arm and system      requests    timed requests, per arm and system
    tokens     what training made of a row, per arm  map         places on the map
    suspects   rows whose label is likelier another

`order` is a word of SQL and wants quotes; `orders` is the same table. A table whose file the run does not hold (yet) is
missing. The files are handed over as Arrow data sets, so DuckDB itself needs no access to any file and has none.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.errors import UserError, closest
from tamis.run import Run

if TYPE_CHECKING:
    import duckdb
    import pyarrow.dataset as ds

# Table name -> files of the run folder. Where a pattern names an arm or a system, they become columns.
TABLES = {
    "ledger": "curate/ledger.parquet",
    "order": "curate/order.parquet",
    "eval": "curate/eval.parquet",
    "conflicts": "curate/conflicts.parquet",
    "suspects": "curate/suspects.parquet",
    "records": "curate/records/part-*.parquet",
    "quarantine": "curate/records/quarantine.parquet",
    "edits": "curate/records/edits.parquet",
    "vectors": "curate/vectors/*.parquet",
    "map": "curate/map.parquet",
    "samples": "arms/{arm}/evaluate/{system}/samples.parquet",
    "requests": "arms/{arm}/evaluate/{system}/requests.parquet",
    "tokens": "arms/{arm}/train/tokens.parquet",
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a query gave: names of the columns and the rows, in order."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def records(self) -> list[dict[str, Any]]:
        """One mapping per row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def ask(run: Run, query: str) -> Answer:
    """Answer one SELECT (DESCRIBE, SUMMARIZE and SHOW count as such) over the tables of a run.

    Raises:
        UserError: the run holds no table; more than one statement, or one that does not only read; or DuckDB refuses
            the query, with its own words.
    """
    import duckdb

    with duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"}) as db:
        names = _tables(db, run)
        if not names:
            raise UserError("this folder holds no tables", where=str(run.path), hint="tamis curate RECIPE makes some")
        # The order matters: once locked, nothing a query says opens the door again.
        for setting in ("python_enable_replacements", "enable_external_access"):
            db.execute(f"set {setting} = false")
        db.execute("set lock_configuration = true")
        hint = f"tables: {', '.join(names)}"
        try:
            statements = db.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise UserError(
                    "tamis sql answers one SELECT",
                    why=f"this is {', '.join(s.type.name for s in statements) or 'empty'}",
                    hint=hint,
                )
            cursor = db.execute(statements[0])
            return Answer([d[0] for d in cursor.description], cursor.fetchall())
        except duckdb.Error as error:
            unknown = re.search(r"Table with name (\S+) does not exist", str(error))
            near = closest(unknown[1], names) if unknown else None
            raise UserError(
                "the query cannot be answered",
                why=str(error).strip(),
                hint=f"did you mean {near!r}? {hint}" if near else hint,
            ) from None


def _tables(db: duckdb.DuckDBPyConnection, run: Run) -> list[str]:
    """Make a view of every table whose files are there; returns their names."""
    import pyarrow.dataset as ds

    made = []
    for table, pattern in TABLES.items():
        parts = []
        for number, (files, where) in enumerate(_files(run.path, pattern)):
            source: ds.Dataset = ds.dataset([str(f) for f in files])
            db.register(f"_{table}_{number}", source)
            told = "".join(f"{_text(value)} as {name}, " for name, value in where.items())
            parts.append(f'select {told}* from "_{table}_{number}"')
        if parts:
            db.execute(f'create view "{table}" as {" union all by name ".join(parts)}')
            made.append(table)
    if "order" in made:
        db.execute('create view orders as select * from "order"')
        made.append("orders")
    return made


def _files(folder: Path, pattern: str) -> list[tuple[list[Path], dict[str, str]]]:
    """The files of a table, grouped by what their path says (arm, system)."""
    groups: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    told = [(i, part[1:-1]) for i, part in enumerate(pattern.split("/")) if part.startswith("{")]
    for file in sorted(folder.glob(re.sub(r"\{\w+\}", "*", pattern))):
        parts = file.relative_to(folder).parts
        groups.setdefault(tuple((name, parts[i]) for i, name in told), []).append(file)
    return [(files, dict(where)) for where, files in groups.items()]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
