"""The report in the form that a file's name asks for: one view, four ways to write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tamis.errors import UserError, closest
from tamis.reports.examples_csv import examples_csv
from tamis.reports.markdown import markdown
from tamis.reports.page_html import page
from tamis.reports.redact import redacted
from tamis.reports.report_json import json_text
from tamis.reports.view import EXAMPLES, ReportView, load
from tamis.run import Run
from tamis.schema import write_atomic

# A spreadsheet takes a file for UTF-8 only if it begins with the mark.
FORMS: dict[str, Callable[[ReportView], str]] = {
    ".html": page,
    ".md": markdown,
    ".json": json_text,
    ".csv": lambda view: "\ufeff" + examples_csv(view),
}


def write_report(run: Run, path: Path | None = None, *, form: str | None = None, redact: bool = False) -> ReportView:
    """Write the report of a run.

    Args:
        run: a run folder, half-written and damaged ones too: the report says what is wrong and what mends it.
        path: where to; default `report/report.html` in the run folder, `report/redacted.html` for a redacted one.
        form: a key of `FORMS`; default by the path's ending.
        redact: leave out personal data and raw text.

    Returns:
        What was written, as a view.

    Raises:
        UserError: there is no such folder, or nothing is written to files of this ending.
    """
    if not run.path.is_dir():
        raise _no_run(run.path)
    path = path or default_path(run, redact)
    form = form or path.suffix.lower()
    if form not in FORMS:
        raise UserError(
            f"a report cannot be written as {form or 'a file without an ending'}",
            where=str(path),
            hint=f"name a file that ends in {', '.join(FORMS)}",
        )
    view = load(run, examples=None if form == ".csv" else EXAMPLES)
    if redact:
        view = redacted(view)
    write_atomic(path, FORMS[form](view).encode("utf-8", "replace"))
    return view


def default_path(run: Run, redact: bool = False) -> Path:
    """Where a report lies if nobody says otherwise."""
    return run.report / ("redacted.html" if redact else "report.html")


def _no_run(path: Path) -> UserError:
    try:
        match = closest(path.name, [p.name for p in path.parent.iterdir() if p.is_dir()])
    except OSError:
        match = None
    hint = f"did you mean {path.parent / match}?" if match else "tamis demo makes one within minutes, offline"
    return UserError("there is no such run folder", where=str(path), hint=hint)
