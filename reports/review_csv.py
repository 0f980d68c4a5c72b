"""The review queue as a table for a spreadsheet, and the decisions that come back in it."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Mapping

from tamis.annotations import Decision, decided
from tamis.errors import DataError
from tamis.reports.review_queue import KINDS, Item
from tamis.reports.visible_text import from_csv, in_csv

# Rows are named by their whole id: of its first part alone a spreadsheet may make a number.
GIVEN = ("id", "queue", "why", "prompt", "answer", "label", "likelier", "fate")
ASKED = ("decision", "new_label", "reviewer")


def queue_csv(items: Iterable[Item], texts: Mapping[str, tuple[str, str]], known: Mapping[str, Decision]) -> str:
    """Rows to decide about, as RFC 4180 text; the last three columns are to be filled in.

    Args:
        items: the rows.
        texts: prompt and answer by id.
        known: what was decided so far, by content.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*GIVEN, *ASKED])
    for item in items:
        prompt, answer = texts.get(item.id, ("", ""))
        d = known.get(item.content)
        said = (d.decision, d.label or "", d.reviewer) if d else ("", "", "")
        labels = (item.row["label"], item.likelier or "")
        cells = (item.id, KINDS[item.kind], item.why, prompt, answer, *labels, item.fate, *said)
        writer.writerow([in_csv(cell) for cell in cells])
    return text.getvalue()


def decisions_of(data: bytes, known: Mapping[str, Decision], reviewer: str, name: str) -> list[Decision]:
    """The decisions that a filled-in table adds; rows without one, and what is decided already, are passed over.

    Args:
        data: UTF-8 CSV with the columns id and decision; commas, semicolons or tabs between cells.
        known: what was decided so far, by content.
        reviewer: who decided, where the column `reviewer` is empty.
        name: of the file, for errors.

    Raises:
        DataError: it is no such table, or a row of it makes no decision: then none is taken.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            "the table is not UTF-8", where=name, why=str(error), hint='save it as "CSV UTF-8" in the spreadsheet'
        ) from None
    first = text.split("\n", 1)[0]
    between = max(",;\t", key=first.count)
    csv.field_size_limit(sys.maxsize)  # of the whole process, so never lowered: other readers live by it too
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=between)
    if lacking := {"id", "decision"} - set(reader.fieldnames or ()):
        raise DataError(
            f"the table has no column {min(lacking)!r}",
            where=f"{name}:1",
            hint="fill in the table that the review page downloads; it has id, decision, new_label, reviewer",
        )
    found: dict[str, Decision] = {}
    for row in reader:
        cell = {column: from_csv(row.get(column)).strip() for column in ("id", *ASKED)}
        if not cell["decision"]:
            continue
        where = f"{name}:{reader.line_num}"
        new = decided(
            cell["id"], cell["decision"].lower(), cell["reviewer"] or reviewer, cell["new_label"], where=where
        )
        if (before := known.get(new.content)) is None or (before.decision, before.label) != (new.decision, new.label):
            found[new.content] = new
    return list(found.values())
