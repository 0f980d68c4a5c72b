"""The report as one HTML file: no script, no request, light and dark, small enough for a ticket.

Everything that comes from data, models or recipes goes through `visible_text`. A content-security policy in the page
forbids what the page does not need, in case something was missed.
"""

from __future__ import annotations

from pathlib import Path

from tamis.reports import choose_parts, look, study_html
from tamis.reports import html_parts as parts
from tamis.reports.tries_parts import tries_html
from tamis.reports.view import ReportView, load
from tamis.reports.visible_text import in_html
from tamis.reports.visible_text import line as one_line
from tamis.run import Run
from tamis.schema import write_atomic

LARGEST = 300_000  # bytes; DESIGN section 7


def write_html(run: Run, path: Path | None = None) -> Path:
    """Write the report of a run.

    Args:
        run: the run; a half-written or damaged one gives a report that says so.
        path: default `report/report.html` in the run folder.

    Returns:
        The file's path. It is at most `LARGEST` bytes.
    """
    path = path or run.report / "report.html"
    write_atomic(path, page(load(run)).encode("utf-8", "replace"))
    return path


def page(view: ReportView) -> str:
    """The whole page. Examples are added while there is room; how many there are in all is always said."""
    before = "".join(
        [
            _head(view),
            "<main>",
            parts.heading(view),
            parts.banner(view),
            parts.problems(view),
            parts.gates(view),
            parts.arms(view),
            parts.systems(view),
            parts.pictures(view),
            parts.loads(view),
            *map(tries_html, view.tries),
            parts.rows_and_changes(view),
            study_html.studies(view),
            choose_parts.choosing(view.choosing),
        ]
    )
    after = f"{parts.method(view)}</main></body></html>\n"
    room = LARGEST - len((before + after).encode("utf-8", "replace")) - 1000
    return before + parts.examples_section(view.examples, room, redacted=view.redacted) + after


def _head(view: ReportView) -> str:
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f"<title>{in_html(view.headline)}: {in_html(one_line(view.name))}</title>"
        f"<style>{look.page_css()}</style></head><body>"
    )
