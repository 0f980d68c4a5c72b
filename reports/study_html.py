"""The study's section of the report and its page in the app, as HTML."""

from __future__ import annotations

from tamis.reports import figures, html_parts
from tamis.reports import written_numbers as written
from tamis.reports.figures import Curve, Limit
from tamis.reports.metric_names import named
from tamis.reports.study_view import StudyPoint, StudyView
from tamis.reports.view import ReportView
from tamis.reports.visible_text import in_html
from tamis.reports.visible_text import line as one_line

WIDE = 20  # sizes that span more than this factor are drawn in powers of ten
MOST = len(figures.SERIES)
TONES = {"enough": "good", "too few": "bad", "open": "unsure", "reference": "muted"}


def studies(view: ReportView) -> str:
    """Every study of the run, that by training first."""
    return "".join(f'<section id="study">{study(found)}</section>' for found in view.studies)


def study(found: StudyView) -> str:
    """The recommendation, the curve, the table, the sentences."""
    figure = curve(found)
    drawn = f"<figure>{figure}</figure>" if figure else ""
    said = "".join(f"<li>{in_html(s, None)}</li>" for s in found.sentences)
    return (
        f"<h2>How few rows are enough: {in_html(found.headline)}</h2>"
        f'<p class="muted">Judged by {found.judged_by}.</p>{drawn}{table(found)}<ul>{said}</ul>'
    )


def curve(found: StudyView) -> str | None:
    """Quality against size, with intervals, the value of all rows less the margin, and the fitted law between."""
    methods = list(dict.fromkeys(p.method for p in found.points))[: MOST - 1]
    curves = []
    for method, role in zip(methods, figures.SERIES, strict=False):
        points = [p for p in found.points if p.method == method and p.value.finite is not None]
        curves.append(_dots(one_line(method, 20), points, role))
    curves.append(_dots("all", [found.reference], figures.SERIES[len(curves)]))
    curves = [c for c in curves if c.xs]
    if not curves:
        return None
    sizes = [x for c in curves for x in c.xs]
    label = named(found.metric).label
    limit = found.limit
    return figures.lines(
        curves, written.count, lambda y: written.measured(found.metric, y),
        f"{label} against the number of rows, {found.confidence * 100:g}% intervals", x_name="rows", y_name=label,
        log=max(sizes) > WIDE * min(sizes), dots=True,
        limit=None if limit is None else Limit(limit, "all less the margin"),
    )  # fmt: skip


def _dots(label: str, points: list[StudyPoint], role: str) -> Curve:
    return Curve(
        label,
        [p.size for p in points],
        [p.value.finite for p in points if p.value.finite is not None],
        role,
        [(p.value.lower, p.value.upper) for p in points],
    )


def table(found: StudyView) -> str:
    """Every size of every method against all rows."""
    label, per_cent = named(found.metric).label, f"{found.confidence * 100:g}% interval"
    trained = found.reference.read is not None
    priced = found.reference.cost is not None
    head = ["method", "rows", "seeds", in_html(label), per_cent, "less all", per_cent, "verdict"]
    head += (["tokens read, of all's"] if trained else []) + (["cost"] if priced else [])
    body = []
    for p in (*found.points, found.reference):
        tone = TONES.get(p.verdict, "muted")
        row = [
            in_html(one_line(p.method, 20)),
            written.count(p.size),
            written.count(p.seeds),
            in_html(p.value.text),
            html_parts.nowrap(in_html(p.value.interval)),
            in_html(p.loss.text) if p.loss else "",
            html_parts.nowrap(in_html(p.loss.interval)) if p.loss else "",
            f'<span class="t-{tone}">{in_html(p.verdict)}</span>',
        ]
        row += [written.share(p.read)] if trained else []
        body.append([*row, *([in_html(written.money(p.cost, found.currency))] if priced else [])])
    margin = written.difference(found.metric, -found.margin if found.up else found.margin)
    caption = f"Each size less all rows; the margin is {in_html(margin)}, below zero is worse"
    return html_parts.table(head, body, caption, numeric=(1, 2, 3, 5), kind="dense")
