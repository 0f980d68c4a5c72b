"""The section on the choice of a base, for the HTML report and the app."""

from __future__ import annotations

from tamis.reports import figures
from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.choose_view import CandidateRow, Choosing
from tamis.reports.figures import Point
from tamis.reports.measures import Measure
from tamis.reports.metric_names import named
from tamis.reports.visible_text import in_html
from tamis.reports.visible_text import line as one_line

MOST = 40
KINDS = {"base": "", "endpoint": "endpoint", "encoder": "encoder, no language model"}
WIDE = 20  # a latency axis that spans more than this factor is drawn in powers of ten


def choosing(found: Choosing | None, *, titled: bool = True) -> str:
    """What was chosen and why, everyone's numbers, the trade-off, who was ruled out; nothing where no base was chosen.

    Args:
        found: the view's.
        titled: begin with a heading.
    """
    if found is None:
        return ""
    title = "<h2>Which base</h2>" if titled else ""
    said = f'<p class="finding"><b>{in_html(found.name)}</b>: {in_html(found.why, 1000)}.</p>'
    drawn = trade_off(found)
    what = "Area: cost of 1,000 requests. Dashed line: candidates that no faster one equals."
    figure = f'<figure><figcaption class="muted">{what}</figcaption>{drawn}</figure>' if drawn else ""
    return f'<section id="base">{title}{said}{_table(found)}{figure}{_how(found)}{_ruled_out(found)}</section>'


def _table(found: Choosing) -> str:
    metric = named(found.metric).label
    head = ["candidate", metric, "items", "bits per byte", "p95 latency", "cost / 1,000", "memory to serve", "fate"]
    body = [
        [
            _name(c, found),
            _with_interval(c.value),
            written.count(c.items),
            _text(c.bits),
            _text(c.p95),
            _text(c.cost),
            written.DASH if c.memory_gb is None else f"{c.memory_gb:.1f} GB",
            in_html(c.fate),
        ]
        for c in found.asked[:MOST]
    ]
    return parts.table(head, body, "Candidates that were asked, untuned, at their best", range(1, 7), "dense")


def _name(c: CandidateRow, found: Choosing) -> str:
    name = in_html(one_line(c.name, 60))
    name = f"<b>{name}</b>" if c.name == found.name else name
    return name + (f"<br><small>{parts.muted(KINDS.get(c.kind, in_html(c.kind)))}</small>" if KINDS.get(c.kind) else "")


def _with_interval(m: Measure | None) -> str:
    return written.DASH if m is None or not m.known else f"{in_html(m.text)}<br>{parts.muted(in_html(m.interval))}"


def _text(m: Measure | None) -> str:
    return written.DASH if m is None or not m.known else in_html(m.text)


def trade_off(found: Choosing) -> str | None:
    """Quality against p95 latency, area the cost of 1,000 requests, the front as a line; those of the last round."""
    points = [
        Point(
            c.name,
            c.p95.finite,
            c.value.finite,
            c.cost.finite if c.cost else None,
            f"{c.value.text}, {c.p95.text}",
            "candidate" if c.name == found.name else "baseline",
            c.name,
        )
        for c in found.asked[:MOST]
        if c.value is not None and c.p95 is not None and c.p95.finite
    ]
    if len(points) < 2:
        return None
    xs = [p.x for p in points if p.x]
    label = named(found.metric).label
    return figures.pareto(
        points,
        written.milliseconds,
        lambda y: written.measured(found.metric, y),
        f"{label} against p95 latency of {len(points)} candidates, area is the cost of 1,000 requests",
        x_name="p95 latency",
        y_name=label,
        log=max(xs) > WIDE * min(xs),
    )


def _how(found: Choosing) -> str:
    ends = ", ".join(written.count(n) for n in found.rounds)
    said = (
        f"Successive halving ({in_html(found.method)}): rounds ended at {ends} items. "
        f"{written.count(found.calls)} model calls, where asking everyone everything takes "
        f"{written.count(found.everything)}; {written.count(found.timed)} more were timed. "
        "One that fell with the weaker half was not shown to be worse; one that was shown to be, says so. "
        f"On the Pareto front of quality, p95 latency, cost and memory: {in_html(', '.join(found.front), 500)}."
    )
    return f'<p class="note">{said}</p>'


def _ruled_out(found: Choosing) -> str:
    lines = [
        f"<li>{in_html(one_line(c.name, 60))}: {in_html('; '.join(c.rejected), 400)}</li>"
        for c in found.ruled_out[:MOST]
    ]
    more = len(found.ruled_out) - len(lines)
    rest = f"<li>and {written.count(more)} more</li>" if more > 0 else ""
    absent = (
        f'<p class="note">Would fit, not on this machine: {in_html(", ".join(found.absent[:MOST]), 500)}.</p>'
        if found.absent
        else ""
    )
    if not lines:
        return absent
    return (
        f"<details><summary>Ruled out before they were asked</summary><ul>{''.join(lines)}{rest}</ul></details>{absent}"
    )
