"""The evaluation items as a table for a spreadsheet: no cell of it is a formula, whatever data or model said."""

from __future__ import annotations

import csv
import io

from tamis.reports.examples_view import Example
from tamis.reports.view import ReportView
from tamis.reports.visible_text import in_csv

COLUMNS = (
    "id", "key", "change", "label", "language", "prompt", "expected", "candidate", "candidate_answer",
    "candidate_right", "baseline", "baseline_answer", "baseline_right", "parsed", "finish", "error",
)  # fmt: skip


def examples_csv(view: ReportView) -> str:
    """All items that the view holds, broken ones first: UTF-8 text of RFC 4180, one line of names before them."""
    return rows_csv(view.examples.rows if view.examples else ())


def rows_csv(rows: tuple[Example, ...] | list[Example]) -> str:
    """Items as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([in_csv(getattr(row, c)) for c in COLUMNS] for row in rows)
    return text.getvalue()
