"""Writing the kept rows back in the user's own shape: unedited JSON lines byte for byte, edited rows as edited."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.edits import Edit, apply
from tamis.errors import DataError, UserError
from tamis.schema import write_atomic
from tamis.tables import Source, open_data, rows_of, take_records


def write_rows(records: Path, ids: list[str], source: Source, out: Path) -> int:
    """Write rows of the source, in source order.

    Args:
        records: the run's record shards, with the list of edits beside them.
        ids: of the rows to write.
        source: where the rows came from.
        out: `.jsonl` or `.parquet`.

    Returns:
        Rows written.

    Raises:
        UserError: an unknown suffix.
        DataError: the source has changed since it was read.
    """
    table = take_records(records, ids)
    columns = (table[c].to_pylist() for c in ("file", "line", "offset", "length", "id"))
    places = sorted(_Row(*values) for values in zip(*columns, strict=True))
    edits = _edits(records / "edits.parquet", set(ids))
    if out.suffix == ".jsonl":
        if all(place.offset >= 0 for place in places):
            write_atomic(out, b"".join(_lines(places, edits)))
        else:
            rows = _values(source, places, edits)
            write_atomic(out, b"".join(_json_line(r) for r in rows))
    elif out.suffix == ".parquet":
        out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(_one_type(_values(source, places, edits), edits)), out)
    else:
        raise UserError("rows are written as .jsonl or .parquet", where=str(out))
    return len(places)


class _Row(NamedTuple):
    file: str
    line: int
    offset: int
    length: int
    id: str


def _edits(file: Path, wanted: set[str]) -> dict[str, list[Edit]]:
    out: dict[str, list[Edit]] = {}
    for row in pq.read_table(file, filters=[("id", "in", wanted)]).to_pylist() if wanted else ():
        path = tuple(json.loads(row["path"]))
        out.setdefault(row["id"], []).append(Edit(row["kind"], path, json.loads(row["value"])))
    # What was masked comes before a new label in the same place.
    return {id_: sorted(edits, key=lambda e: e.kind) for id_, edits in out.items()}


def _lines(places: list[_Row], edits: dict[str, list[Edit]]) -> list[bytes]:
    out: list[bytes] = []
    for file, rows in itertools.groupby(places, key=lambda place: place.file):
        with open_data(Path(file)) as stream:
            for row in rows:
                stream.seek(row.offset)
                raw = stream.read(row.length)
                if len(raw) != row.length:
                    raise _changed(row)
                if row.id in edits:
                    raw = _json_line(_applied(row, raw, edits[row.id]))
                out.append(raw if raw.endswith(b"\n") else raw + b"\n")
    return out


def _applied(row: _Row, value: Any, edits: list[Edit]) -> Any:
    try:
        return apply(json.loads(value.removeprefix(b"\xef\xbb\xbf")) if isinstance(value, bytes) else value, edits)
    except (ValueError, KeyError, IndexError, TypeError):
        raise _changed(row) from None


def _changed(row: _Row) -> DataError:
    return DataError("the source has changed since it was read", where=f"{row.file}:{row.line}")


def _json_line(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, default=str) + "\n").encode("utf-8", "surrogatepass")


def _values(source: Source, places: list[_Row], edits: dict[str, list[Edit]]) -> list[dict[str, Any]]:
    wanted = {(row.file, row.line): row for row in places}
    return [
        _applied(row, value, edits.get(row.id, []))
        for place, _, value in rows_of(source)
        if (row := wanted.get((place.file, place.line))) and isinstance(value, dict)
    ]


def _one_type(rows: list[dict[str, Any]], edits: dict[str, list[Edit]]) -> list[dict[str, Any]]:
    """A column of numbers in which one was masked becomes a column of text: Parquet has one type per column."""
    made = [e for of_row in edits.values() for e in of_row if len(e.path) == 1 and isinstance(e.value, str)]
    for name in {str(e.path[0]) for e in made}:
        if any(not isinstance(row.get(name), str) for row in rows):
            for row in rows:
                row[name] = None if row.get(name) is None else str(row[name])
    return rows
