"""Writing the kept rows back in the user's own shape: unedited JSON lines byte for byte."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import DataError, UserError
from tamis.schema import write_atomic
from tamis.tables import Source, open_data, rows_of, take_records


def write_rows(records: Path, ids: list[str], source: Source, out: Path) -> int:
    """Write rows of the source, in source order.

    Args:
        records: the run's record shards.
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
    places = sorted(zip(*(table[c].to_pylist() for c in ("file", "line", "offset", "length")), strict=True))
    if out.suffix == ".jsonl":
        if all(offset >= 0 for _, _, offset, _ in places):
            write_atomic(out, b"".join(_lines(places)))
        else:
            rows = _values(source, {(f, n) for f, n, _, _ in places})
            write_atomic(out, "".join(json.dumps(r, ensure_ascii=False, default=str) + "\n" for r in rows).encode())
    elif out.suffix == ".parquet":
        out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(_values(source, {(f, n) for f, n, _, _ in places})), out)
    else:
        raise UserError("rows are written as .jsonl or .parquet", where=str(out))
    return len(places)


def _lines(places: list[tuple[str, int, int, int]]) -> list[bytes]:
    out: list[bytes] = []
    for file, rows in itertools.groupby(places, key=lambda place: place[0]):
        with open_data(Path(file)) as stream:
            for _, line, offset, length in rows:
                stream.seek(offset)
                raw = stream.read(length)
                if len(raw) != length:
                    raise DataError("the source has changed since it was read", where=f"{file}:{line}")
                out.append(raw if raw.endswith(b"\n") else raw + b"\n")
    return out


def _values(source: Source, wanted: set[tuple[str, int]]) -> list[dict[str, Any]]:
    return [v for place, _, v in rows_of(source) if (place.file, place.line) in wanted and isinstance(v, dict)]
