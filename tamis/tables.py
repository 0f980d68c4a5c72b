"""From the user's files to Parquet shards of records, one line at a time.

We read lines ourselves because every row needs its place (file, line, byte offset) and its fate, because a bad byte
must cost one row and not the file, and because a schema guessed from a sample drops keys that come later.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import glob
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis import schema
from tamis.edits import Edit, Editing
from tamis.errors import DataError, closest
from tamis.formats import Parsed, Unreadable, parse, relabelled
from tamis.recipe import Columns
from tamis.record import attribute_hash, bytes_hash, canonical_json, content_hash

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv")
# A shard is what one worker holds at a time: small enough for a laptop, large enough for Parquet to compress.
SHARD_ROWS = 50_000
SHARD_BYTES = 128 << 20


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a row stands. `offset` and `length`: bytes of the (decompressed) file, -1 and 0 where it has no lines."""

    file: str
    line: int
    offset: int = -1
    length: int = 0


@dataclasses.dataclass(frozen=True)
class ReadResult:
    """What reading found. `rows + quarantined` is the number of input rows."""

    rows: int
    quarantined: int
    blank: int
    formats: dict[str, int]
    files: list[str]
    bytes: int


@dataclasses.dataclass(frozen=True)
class Source:
    """What to read and how: the parts of the recipe's `data` or `eval` that matter here."""

    paths: list[str]
    format: str = "auto"
    columns: Columns | None = None
    license: str | None = None


def expand(paths: list[str]) -> list[Path]:
    """Files behind paths, folders and globs, sorted, each once.

    Raises:
        DataError: a path names nothing; the closest name in its folder is suggested.
    """
    files: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and _suffix(p) in SUFFIXES)
        elif any(c in text for c in "*?["):
            # Path.glob takes no absolute patterns
            found = sorted(Path(p) for p in glob.glob(text, recursive=True) if Path(p).is_file())  # noqa: PTH207
        else:
            found = [path] if path.is_file() else []
        if not found:
            raise _nothing_at(path)
        files += [f for f in found if f not in files]
    return files


def _nothing_at(path: Path) -> DataError:
    if path.is_dir():
        return DataError("the folder holds no data file", where=str(path), hint=f"Tamis reads {', '.join(SUFFIXES)}")
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    match = closest(path.name, siblings)
    hint = f"did you mean {path.parent / match}?" if match else "tamis demo runs on built-in data"
    return DataError("there is no such file", where=str(path), hint=hint)


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def data_hash(source: Source) -> str:
    """SHA-256 over names and contents of all files (or the hub's name): part of the fingerprint."""
    digest = hashlib.sha256()
    for path in [p for p in source.paths if p.startswith("hf://")]:
        digest.update(path.encode())
    for file in expand([p for p in source.paths if not p.startswith("hf://")]):
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def rows_of(source: Source) -> Iterator[tuple[Place, bytes, Any]]:
    """Every row of every file: its place, its bytes, and its value or the `Unreadable` that says why there is none."""
    for path in source.paths:
        if path.startswith("hf://"):
            yield from _hub_rows(path)
            continue
        for file in expand([path]):
            reader = {".parquet": _parquet_rows, ".csv": _csv_rows, ".tsv": _csv_rows}.get(_suffix(file), _json_rows)
            yield from reader(file)


def open_data(file: Path) -> IO[bytes]:
    """Open a data file for reading, gzip unpacked.

    Raises:
        DataError: it cannot be read, or it is UTF-16.
    """
    try:
        raw = file.open("rb")
    except OSError as error:
        raise DataError("the file cannot be read", where=str(file), why=error.strerror) from None
    head = raw.read(4)
    raw.seek(0)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            "the file is UTF-16, Tamis reads UTF-8",
            where=str(file),
            hint=f"iconv -f UTF-16 -t UTF-8 {file} > {file.with_suffix('')}.utf8{file.suffix}",
        )
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(raw)  # type: ignore[return-value]
    return raw


def _json_rows(file: Path) -> Iterator[tuple[Place, bytes, Any]]:
    with open_data(file) as stream:
        first = stream.readline()
        body = first.removeprefix(b"\xef\xbb\xbf").lstrip()
        if body[:1] == b"[" or (_suffix(file) == ".json" and body[:1] == b"{" and not _is_json(body)):
            yield from _json_document(file, first + stream.read())
            return
        offset, line = 0, 0
        raw = first
        while raw:
            line += 1
            place = Place(str(file), line, offset, len(raw))
            offset += len(raw)
            yield place, raw, _decode(raw)
            raw = stream.readline()


def _is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def _decode(raw: bytes) -> Any:
    """The JSON value of a line, None for a blank line, or the reason it has none."""
    text = raw.strip().removeprefix(b"\xef\xbb\xbf")
    if not text:
        return None
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        detail = f"byte 0x{text[error.start]:02X} at column {error.start + 1} is not UTF-8"
        return Unreadable("bad_encoding", detail)
    except (ValueError, RecursionError) as error:
        return Unreadable("bad_json", str(error) or "nested too deeply")


def _json_document(file: Path, raw: bytes) -> Iterator[tuple[Place, bytes, Any]]:
    value = _decode(raw)
    if isinstance(value, Unreadable):
        raise DataError("the file is not JSON", where=str(file), why=str(value), hint="one object per line is JSONL")
    if isinstance(value, dict):
        lists = {k: v for k, v in value.items() if isinstance(v, list) and v and isinstance(v[0], dict)}
        if len(lists) != 1:
            raise DataError(
                "the JSON file is one object and does not say which list holds the rows",
                where=str(file),
                why=f"its keys are {sorted(value)[:12]}",
                hint="write one row per line (JSONL), or one list of objects",
            )
        value = next(iter(lists.values()))
    for i, row in enumerate(value):
        yield Place(str(file), i + 1), canonical_json(row).encode("utf-8", "replace"), row


def _csv_rows(file: Path) -> Iterator[tuple[Place, bytes, Any]]:
    csv.field_size_limit(sys.maxsize)
    separator = "\t" if _suffix(file) == ".tsv" else ","
    with io.TextIOWrapper(open_data(file), encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.DictReader(stream, delimiter=separator, strict=False)
        start = reader.line_num + 1
        for row in reader:
            place = Place(str(file), start + 1)
            start = reader.line_num
            raw = canonical_json(row if None not in row else {str(k): v for k, v in row.items()})
            data = raw.encode("utf-8", "surrogateescape")
            if None in row:
                yield place, data, Unreadable("ragged", f"more fields than the {len(row) - 1} columns of the header")
            elif any("\udc80" <= c <= "\udcff" for c in raw):
                yield place, data, Unreadable("bad_encoding", "a byte of this row is not UTF-8")
            else:
                yield place, data, dict(row)


def _parquet_rows(file: Path) -> Iterator[tuple[Place, bytes, Any]]:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("the file is not Parquet", where=str(file), why=str(error).splitlines()[0]) from None
    line = 0
    for batch in parquet.iter_batches(batch_size=8192):
        for row in batch.to_pylist():
            line += 1
            yield Place(str(file), line), json.dumps(row, default=str, sort_keys=True).encode("utf-8", "replace"), row


def _hub_rows(path: str) -> Iterator[tuple[Place, bytes, Any]]:
    import datasets

    owner, name, *split = path.removeprefix("hf://").split("/")
    try:
        rows = datasets.load_dataset(f"{owner}/{name}", split=split[0] if split else "train", streaming=True)
        for i, row in enumerate(rows):
            yield Place(path, i + 1), json.dumps(row, default=str, sort_keys=True).encode(), row
    except Exception as error:  # datasets raises a dozen kinds; each means that the rows cannot be had
        raise DataError(
            "the data set cannot be loaded from the hub",
            where=path,
            why=str(error).splitlines()[0],
            hint="download it once while online, or give the path of a local file",
        ) from error


def read_records(
    source: Source,
    folder: Path,
    on_rows: Callable[[int], None] = lambda _: None,
    editing: Editing | None = None,
) -> ReadResult:
    """Read all rows into `folder/part-*.parquet` (schema.RECORD) and `folder/quarantine.parquet`.

    Args:
        source: what to read.
        folder: made if needed; earlier shards in it are replaced.
        on_rows: called with the number of rows read so far, now and then.
        editing: what is changed in the rows before anything of them is written; the changes are listed in
            `folder/edits.parquet` (schema.EDITS). A label changed by review leaves the row its id.

    Raises:
        DataError: no file, an empty file, no readable row, or most rows in another encoding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    shard, quarantine = _Shards(folder), _Columns(schema.QUARANTINE)
    formats: collections.Counter[str] = collections.Counter()
    blank = size = 0
    for count, (place, raw, value) in enumerate(rows_of(source)):
        size += place.length or len(raw)
        if value is None:
            blank += 1
            continue
        try:
            if isinstance(value, Unreadable):
                raise value
            edits: list[Edit] = []
            if editing:
                value, edits = editing.row(raw, value)
            parsed = parse(value, source.format, source.columns, source.license)
            content = content_hash(parsed.messages)
            base = f"{content}-{attribute_hash(parsed.label, parsed.source, parsed.license, parsed.meta)}"
            if editing and (new := editing.labels.get(content)):
                parsed, more = relabelled(parsed, value, source.columns, new)
                edits = edits + more
            shard.add(place, parsed, base, edits)
            formats[parsed.format] += 1
        except Unreadable as problem:
            quarantine.add(
                id=bytes_hash(_safe(raw, editing)),
                file=place.file,
                line=place.line,
                offset=place.offset,
                length=place.length,
                reason=problem.reason,
                detail=editing.text(str(problem)) if editing else str(problem),
            )
        if count % 10_000 == 0:
            on_rows(count)
    shard.finish()
    _refuse_useless(source, shard.rows, quarantine)
    schema.write_parquet(folder / "quarantine.parquet", _unique_ids(quarantine.table()))
    files = sorted({str(f) for f in expand([p for p in source.paths if not p.startswith("hf://")])})
    return ReadResult(shard.rows, quarantine.rows, blank, dict(formats), files, size)


def _safe(raw: bytes, editing: Editing | None) -> bytes:
    """The bytes of an unreadable row, masked: what its id is made of."""
    if editing is None:
        return raw
    return editing.text(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _refuse_useless(source: Source, rows: int, quarantine: _Columns) -> None:
    where = ", ".join(source.paths)
    if rows == 0 and quarantine.rows == 0:
        raise DataError("there are no rows", where=where, why="the file is empty")
    if rows == 0:
        first = {name: values[0] for name, values in quarantine.values.items()}
        raise DataError(
            f"none of the {quarantine.rows:,} rows can be read",
            where=f"{first['file']}:{first['line']}",
            why=f"{first['reason']}: {first['detail']}",
            hint=_HINTS.get(first["reason"], _NAME_COLUMNS),
        )
    bad = sum(r == "bad_encoding" for r in quarantine.values["reason"])
    if bad > rows:
        raise DataError(
            f"{bad:,} of {rows + quarantine.rows:,} rows are not UTF-8", where=where, hint=_HINTS["bad_encoding"]
        )


_NAME_COLUMNS = "say which column is what, under data or eval: {columns: {prompt: ..., completion or label: ...}}"
_HINTS = {
    "bad_encoding": "iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW   (Vietnamese: WINDOWS-1258)",
    "bad_json": f"one JSON object per line; Tamis reads {', '.join(SUFFIXES)}, each also as .gz",
    "ragged": "quote fields that hold a comma or a line end",
}


def read_shards(folder: Path, columns: list[str] | None = None) -> pa.Table:
    """All records of a run, or some columns of them, in reading order."""
    shards = sorted(folder.glob("part-*.parquet"))
    return pa.concat_tables([pq.read_table(s, columns=columns) for s in shards])


def take_records(folder: Path, ids: list[str]) -> pa.Table:
    """The records with these ids, in this order; one shard in memory at a time."""
    wanted = {id_: i for i, id_ in enumerate(ids)}
    parts, positions = [], []
    for shard in sorted(folder.glob("part-*.parquet")):
        table = pq.read_table(shard)
        at = [wanted.get(id_, -1) for id_ in table["id"].to_pylist()]
        here = [i for i, p in enumerate(at) if p >= 0]
        if here:
            parts.append(table.take(pa.array(here, pa.int64())))
            positions += [at[i] for i in here]
    if len(positions) < len(wanted):
        raise DataError(
            f"{len(wanted) - len(positions)} of {len(wanted)} rows are not in the run's records", where=str(folder)
        )
    if not parts:
        return schema.RECORD.empty_table()
    order = np.argsort(np.asarray(positions), kind="stable")
    return pa.concat_tables(parts).take(pa.array(order))


class _Columns:
    """Rows gathered column by column."""

    def __init__(self, of: pa.Schema):
        self.schema = of
        self.values: dict[str, list[Any]] = {name: [] for name in of.names}
        self.rows = 0

    def add(self, **row: Any) -> None:
        for name, value in row.items():
            self.values[name].append(value)
        self.rows += 1

    def table(self) -> pa.Table:
        return pa.table(self.values, schema=self.schema)


class _Shards:
    """Writes records in shards, and numbers wholly identical rows once all are known."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.rows = 0
        self.bases: list[bytes] = []
        self.keys: list[str | None] = []
        self.edits: dict[int, list[Edit]] = {}
        self.values: dict[int, str] = {}
        self.paths: list[Path] = []
        self._clear()

    def _clear(self) -> None:
        self.columns = _Columns(pa.schema([f for f in schema.RECORD if f.name != "messages"]))
        self.turns: list[Any] = []
        self.ends = [0]
        self.bytes = 0

    def add(self, place: Place, parsed: Parsed, base: str, edits: list[Edit]) -> None:
        if edits:
            self.edits[self.rows] = edits
            # Rows that differ in their masked values only have one base: what tells them apart must not be their place.
            self.values[self.rows] = canonical_json([e.value for e in edits])
        self.columns.add(
            id=base,
            key=parsed.key,
            label=parsed.label,
            source=parsed.source,
            license=parsed.license,
            file=place.file,
            line=place.line,
            offset=place.offset,
            length=place.length,
            meta=parsed.meta,
        )
        self.turns += parsed.messages
        self.ends.append(len(self.turns))
        self.bases.append(base.encode())
        self.keys.append(parsed.key)
        self.rows += 1
        self.bytes += place.length
        if self.columns.rows >= SHARD_ROWS or self.bytes >= SHARD_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self.columns.rows:
            return
        roles, contents, rests = zip(*self.turns, strict=True)
        struct = pa.StructArray.from_arrays(
            [pa.array(roles, pa.string()), pa.array(contents, pa.string()), pa.array(rests, pa.string())],
            names=["role", "content", "rest"],
        )
        messages = pa.ListArray.from_arrays(pa.array(self.ends, pa.int32()), struct)
        columns = {**self.columns.values, "messages": messages.cast(schema.MESSAGES)}
        path = self.folder / f"part-{len(self.paths):05d}.parquet"
        # Left uncompressed: `finish` reads it back to set the ids.
        pq.write_table(pa.table({n: columns[n] for n in schema.RECORD.names}, schema.RECORD), path, compression="none")
        self.paths.append(path)
        self._clear()

    def finish(self) -> None:
        self._flush()
        ordinals = self._ordinals()
        start = 0
        for path in self.paths:
            table = pq.read_table(path)
            ids = table["id"].to_pylist()
            numbered = [f"{id_}-{n}" for id_, n in zip(ids, ordinals[start : start + len(ids)].tolist(), strict=True)]
            start += len(ids)
            schema.write_parquet(path, table.set_column(0, schema.RECORD.field("id"), pa.array(numbered)))
        self._write_edits(ordinals)

    def _write_edits(self, ordinals: np.ndarray) -> None:
        out = _Columns(schema.EDITS)
        for row, edits in self.edits.items():
            for edit in edits:
                out.add(
                    id=f"{self.bases[row].decode()}-{ordinals[row]}",
                    kind=edit.kind,
                    path=json.dumps(edit.path, ensure_ascii=False),
                    value=json.dumps(edit.value, ensure_ascii=False),
                    was=edit.was,
                    reviewer=edit.reviewer,
                )
        schema.write_parquet(
            self.folder / "edits.parquet", out.table().sort_by([("id", "ascending"), ("path", "ascending")])
        )

    def _ordinals(self) -> np.ndarray:
        """Ordinal of each row among its identical rows: by the user's key, its masked values, then by place."""
        ordinals = np.zeros(self.rows, np.int64)
        if not self.rows:
            return ordinals
        bases = np.array(self.bases)
        order = np.argsort(bases, kind="stable")
        same = np.concatenate([[False], bases[order][1:] == bases[order][:-1]])
        edges = np.append(np.flatnonzero(~same), self.rows)
        several = np.flatnonzero(np.diff(edges) > 1)
        for start, stop in zip(edges[several].tolist(), edges[several + 1].tolist(), strict=True):
            run = order[start:stop].tolist()
            ranked = sorted(run, key=lambda i: (self.keys[i] or "", self.values.get(i, ""), i))
            ordinals[ranked] = np.arange(len(run))
        return ordinals


def _unique_ids(table: pa.Table) -> pa.Table:
    """Number quarantined rows of equal bytes, so that the ledger's ids stay unique."""
    seen: collections.Counter[str] = collections.Counter()
    ids = []
    for id_ in table["id"].to_pylist():
        ids.append(f"{id_}-{seen[id_]}")
        seen[id_] += 1
    return table.set_column(0, schema.QUARANTINE.field("id"), pa.array(ids, pa.string()))
