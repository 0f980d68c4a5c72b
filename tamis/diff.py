"""What two runs make of the same rows: kept by one and not by the other, and why."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.errors import StageFailed, UserError

if TYPE_CHECKING:
    import duckdb

# Keyed by id. Two rows that could not be read and hold the same bytes have one id; their order tells them apart.
_PAIRED = """
with a as (select *, row_number() over (partition by id order by file, line) as twin from read_parquet($a)),
     b as (select *, row_number() over (partition by id order by file, line) as twin from read_parquet($b)),
     paired as (
        select id, a.id is not null as in_a, b.id is not null as in_b,
               coalesce(a.key, b.key) as key, coalesce(a.file, b.file) as file, coalesce(a.line, b.line) as line,
               coalesce(a.verdict, 'absent') as verdict_a, a.stage as stage_a, a.reason as reason_a,
               coalesce(b.verdict, 'absent') as verdict_b, b.stage as stage_b, b.reason as reason_b
        from a full join b using (id, twin))
"""
_WHY = "case verdict_{other} when 'absent' then 'absent' else stage_{other} || ': ' || reason_{other} end"
_ONE_KEEPS = (
    f"select id, key, file, line, case verdict_a when 'kept' then 'a' else 'b' end as kept_in, "
    f"case verdict_a when 'kept' then {_WHY.format(other='b')} else {_WHY.format(other='a')} end as reason "
    "from paired where (verdict_a = 'kept') <> (verdict_b = 'kept')"
)


@dataclasses.dataclass(frozen=True)
class Diff:
    """How two runs differ.

    Attributes:
        rows: {a, b}: rows in each ledger.
        fates: how many rows have each pair of fates, as "VERDICT in A, VERDICT in B"; `absent` where a run never saw
            the row. The numbers add up to every row of both.
        only_a: reason in B ("STAGE: REASON" or "absent") -> rows that A keeps and B does not.
        only_b: reason in A -> rows that B keeps and A does not.
        moved: rows that both drop, for another reason.
        examples: the rows kept by one only: id, key, file, line, kept_in (a or b), reason (in the other). At most as
            many as asked for; by id.
    """

    rows: dict[str, int]
    fates: dict[str, int]
    only_a: dict[str, int]
    only_b: dict[str, int]
    moved: int
    examples: list[dict[str, Any]]


def diff(a: Path, b: Path, most: int | None = None) -> Diff:
    """Compare two ledgers row by row.

    Args:
        a: a ledger.parquet.
        b: another.
        most: examples to return; None returns every row that one run keeps and the other does not.

    Raises:
        UserError: one of them is missing.
        StageFailed: the numbers do not add up, which is a defect of Tamis.
    """
    files = {"a": str(a), "b": str(b)}
    with _joined(a, b) as db:

        def counts(query: str) -> dict[str, int]:
            return dict(db.execute(query).fetchall())

        rows = {side: db.execute(f"select count(*) from paired where in_{side}").fetchall()[0][0] for side in "ab"}
        fates = counts(
            "select verdict_a || ' in A, ' || verdict_b || ' in B', count(*) from paired group by 1 order by 1"
        )
        only = {
            side: counts(
                f"select {_WHY.format(other=other)}, count(*) n from paired "
                f"where verdict_{side} = 'kept' and verdict_{other} <> 'kept' group by 1 order by n desc, 1"
            )
            for side, other in ("ab", "ba")
        }
        moved = db.execute(
            "select count(*) from paired where verdict_a = 'dropped' and verdict_b = 'dropped' "
            "and (stage_a, reason_a) is distinct from (stage_b, reason_b)"
        ).fetchall()[0][0]
        examples = _records(
            db, f"{_ONE_KEEPS} order by id, kept_in " + ("" if most is None else f"limit {int(most)}"), []
        )
        sizes = {
            s: db.execute(f"select count(*) from read_parquet(${s})", {s: f}).fetchall()[0][0] for s, f in files.items()
        }
    by_side = {
        side: sum(n for fate, n in fates.items() if f"absent in {side.upper()}" not in fate) for side in ("a", "b")
    }
    if not rows == sizes == by_side:
        raise StageFailed(f"the ledgers hold {sizes} rows, the comparison {rows} and {by_side}")
    return Diff(rows, fates, only["a"], only["b"], moved, examples)


def page(
    a: Path, b: Path, kept_in: str | None = None, reason: str | None = None, number: int = 1, size: int = 50
) -> list[dict[str, Any]]:
    """Some of the rows that one run keeps and the other does not, by id: what `diff` gives as `examples`.

    Args:
        a: a ledger.parquet.
        b: another.
        kept_in: `a` or `b`; None takes both.
        reason: why the other does not keep it, as `diff` writes it; None takes any.
        number: which page, from 1.
        size: rows of a page.

    Raises:
        UserError: one of the ledgers is missing.
    """
    tests = {"kept_in = ?": kept_in, "reason = ?": reason}
    asked = {test: value for test, value in tests.items() if value is not None}
    where = f"where {' and '.join(asked)}" if asked else ""
    query = (
        f"select * from ({_ONE_KEEPS}) {where} order by id, kept_in limit {int(size)} offset {int(size * (number - 1))}"
    )
    with _joined(a, b) as db:
        return _records(db, query, list(asked.values()))


@contextlib.contextmanager
def _joined(a: Path, b: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database whose table `paired` has every row of both ledgers.

    Raises:
        UserError: one of them is missing.
    """
    import duckdb

    for file in (a, b):
        if not file.is_file():
            raise UserError("this run has no ledger", where=str(file), hint="tamis curate RECIPE makes one")
    with duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"}) as db:
        db.execute(f"create temp table paired as {_PAIRED} select * from paired", {"a": str(a), "b": str(b)})
        yield db


def _records(db: duckdb.DuckDBPyConnection, query: str, values: list[Any]) -> list[dict[str, Any]]:
    found = db.execute(query, values)
    names = [d[0] for d in found.description or []]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
