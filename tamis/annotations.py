"""What people decided about rows: one JSON object a line, written by the review page and read by the next curation.

    {"content": "3f9c0a71d2e4b856", "decision": "relabel", "label": "refund", "reviewer": "lan"}

`content` is the first part of a row's id, the hash of its messages (16 hex digits; a whole id is taken for its first
part). So a decision holds for every row that says the same, and survives splitting, shuffling and extending the data.
Of several decisions about one content the last line counts. What each decision does: `tamis.curate.review`.

A recipe names the file (`curate.annotations`). Where it names none, the file of that name in the run folder counts, so
that what was reviewed there holds when the run is made again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from tamis.errors import DataError, did_you_mean

FILE = "annotations.jsonl"
DECISIONS = ("keep", "drop", "relabel")
_CONTENT = re.compile(r"([0-9a-f]{16})(?:-[0-9a-f]{4}-[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What one reviewer decided about one content. `label` is the new one of a `relabel`, else None."""

    content: str
    decision: str
    reviewer: str
    label: str | None = None


def file_of(run: Path, named: str | None) -> Path:
    """Where the decisions about a run's rows lie: the file its recipe names, else the one in its folder."""
    return Path(named) if named else run / FILE


def adopted(run: Path, named: str | None) -> str | None:
    """What `curate.annotations` is for a run to be made again: the recipe's file, else that of the folder if there."""
    return named or (str(run / FILE) if (run / FILE).is_file() else None)


def decided(content: object, decision: object, reviewer: object, label: object = None, *, where: str) -> Decision:
    """A decision of fields that somebody wrote; `where` is the place that an error names.

    Raises:
        DataError: the fields make no decision.
    """
    found = _CONTENT.fullmatch(str(content or ""))
    if found is None:
        raise DataError(
            f"content {content!r} names no row",
            where=where,
            hint="content is the id of a row, or its first 16 hex digits (tamis why RUN FILE:LINE shows it)",
        )
    if decision not in DECISIONS:
        raise DataError(
            f"decision {decision!r} is not one of the choices", where=where, hint=did_you_mean(str(decision), DECISIONS)
        )
    if not isinstance(reviewer, str) or not reviewer.strip():
        raise DataError("a review decision names its reviewer", where=where, hint='add "reviewer": "NAME"')
    if decision == "relabel" and (not isinstance(label, str) or not label.strip()):
        raise DataError("relabel needs a label", where=where, hint='add "label": "LABEL"')
    new = label.strip() if decision == "relabel" and isinstance(label, str) else None
    return Decision(found[1], str(decision), reviewer.strip(), new)


def read(path: Path) -> list[Decision]:
    """Every decision of a file, in its order.

    Raises:
        OSError: the file cannot be read.
        DataError: a line is no decision; names file and line.
    """
    lines = path.read_bytes().splitlines()
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]


def append(path: Path, decisions: Iterable[Decision]) -> None:
    """Add decisions to a file, making it where there is none; they are on the disk when this returns.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = "".join(_line(d) + "\n" for d in decisions).encode("utf-8", "replace")
    with _held(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        # a hand-written file may end without a line end
        file.write((b"" if not size or file.read(1) == b"\n" else b"\n") + new)


def withdraw(path: Path, content: str) -> None:
    """Take every decision about a content out of a file; all other lines stay byte for byte.

    Raises:
        OSError: the file cannot be written.
        DataError: a line is no decision; names file and line.
    """
    with _held(path) as file:
        lines = file.read().splitlines(keepends=True)
        parsed = [_parse(line, f"{path}:{n}") if line.strip() else None for n, line in enumerate(lines, 1)]
        kept = b"".join(line for line, d in zip(lines, parsed, strict=True) if d is None or d.content != content)
        file.seek(0)
        file.truncate()
        file.write(kept)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[IO[bytes]]:
    """A file open for reading and writing that no other reviewer's page writes to meanwhile."""
    import fcntl

    with path.open("a+b" if not path.exists() else "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
        file.flush()
        os.fsync(file.fileno())


def _line(decision: Decision) -> str:
    fields = {"content": decision.content, "decision": decision.decision, "reviewer": decision.reviewer}
    if decision.label is not None:
        fields["label"] = decision.label
    return json.dumps(fields, ensure_ascii=False)


def _parse(line: bytes, where: str) -> Decision:
    try:
        row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise DataError("a review decision is not JSON", where=where, why=str(error)) from None
    if not isinstance(row, dict):
        raise DataError("a review decision is an object", where=where, why=f"this is {type(row).__name__}")
    fields = (row.get(name) for name in ("content", "decision", "reviewer", "label"))
    return decided(*fields, where=where)
