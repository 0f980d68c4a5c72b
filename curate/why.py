"""The fate of one row, in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tamis.errors import UserError


def fate(ledger: Path, wanted: str) -> dict[str, Any]:
    """Find a row by id, by the user's key, or by `file:line`.

    Returns:
        Its ledger row, and `detail`: why it could not be read, None where it could.

    Raises:
        UserError: no ledger, or no such row.
    """
    import duckdb

    if not ledger.is_file():
        raise UserError("this run has no ledger", where=str(ledger), hint="tamis curate RECIPE makes one")
    file, _, line = wanted.rpartition(":")
    # One after the other: the ledger is sorted by id, so that the first reads a few thousand rows of a million.
    ways: list[tuple[str, list[str]]] = [("id = ?", [wanted]), ("key = ?", [wanted])]
    if file and line.isdigit():
        ways.append(("(file = ? or ends_with(file, '/' || ?)) and line = ?", [file, file, line]))
    with duckdb.connect() as database:
        for where, values in ways:
            found = _first(database, ledger, where, values)
            if found is not None:
                quarantine = ledger.parent / "records" / "quarantine.parquet"
                unread = found["stage"] == "clean" and quarantine.is_file()
                said = _first(database, quarantine, "id = ?", [found["id"]]) if unread else None
                return found | {"detail": said and said["detail"]}
    raise UserError(f"no row has the id, key or place {wanted!r}", where=str(ledger), hint="a place is FILE:LINE")


def _first(database: Any, file: Path, where: str, values: list[str]) -> dict[str, Any] | None:
    """The first row of a Parquet file, by id, that meets a condition."""
    cursor = database.execute(f"select * from read_parquet(?) where {where} order by id limit 1", [str(file), *values])
    row = cursor.fetchone()
    return None if row is None else dict(zip([d[0] for d in cursor.description], row, strict=True))


def _stand_in(row: dict[str, Any]) -> str:
    """The kept row that stands for one that was not chosen, where one of its cluster is kept."""
    return "; of its cluster {witness} is kept, the nearest (similarity {similarity:.2f})" if row["witness"] else ""


def sentence(row: dict[str, Any]) -> str:
    """What became of a row and why."""
    place = f"row {row['id']} ({row['file']}:{row['line']})"
    if row["verdict"] == "kept":
        return f"{place} was kept: number {row['rank'] + 1} in the selection order."
    how = {
        "exact": "it says exactly what {witness} says",
        "near": "it is a near copy of {witness} (similarity {similarity:.2f})",
        "semantic": "it means what {witness} means (similarity {similarity:.2f})",
        "leak_exact": "it is the evaluation item {witness}",
        "leak_ngram": "it shares {similarity:.0%} of the words of the evaluation item {witness}",
        "leak_rephrased": "it asks what the evaluation item {witness} asks (likeness {similarity:.2f})",
        "held_out": "it was held out for evaluation",
        "not_selected": "it came {rank} in the selection order, {beyond} places too late" + _stand_in(row),
    }.get(row["reason"], "it cannot be read, {reason}: {detail}" if row.get("detail") else "the rule {reason}")
    filled = how.format(
        **{
            **row,
            "similarity": row["similarity"] or 0.0,
            "beyond": int(-(row["slack"] or 0)),
            "rank": (row["rank"] or 0) + 1,
        }
    )
    return f"{place} was dropped by {row['stage']}: {filled}."
