"""Writing the kept rows back in the user's own shape: unedited JSON lines byte for byte."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis.errors import DataError, UserError
from tamis.schema import write_atomic
from tamis.tables import Source, rows_of, take_records


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
    last, stream = None, None
    for file, line, offset, length in places:
        if file != last:
            with Path(file).open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
            stream = gzip.open(file) if packed else Path(file).open("rb")  # noqa: SIM115 -- closed with the process
            last = file
        assert stream is not None
        stream.seek(offset)
        raw_line = stream.read(length)
        if len(raw_line) != length:
            raise DataError("the source has changed since it was read", where=f"{file}:{line}")
        out.append(raw_line if raw_line.endswith(b"\n") else raw_line + b"\n")
    return out


def _values(source: Source, wanted: set[tuple[str, int]]) -> list[dict[str, Any]]:
    return [v for place, _, v in rows_of(source) if (place.file, place.line) in wanted and isinstance(v, dict)]
