"""The model in production: the last check against its release, and how its numbers went."""

import streamlit as st

from tamis.reports import figures, page_state
from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.figures import Curve
from tamis.reports.folder import Folder
from tamis.reports.metric_names import named
from tamis.reports.monitor_view import Series, Watched, monitor_view
from tamis.reports.section import section
from tamis.reports.verdict_view import SIGNS
from tamis.reports.visible_text import in_html, in_streamlit
from tamis.reports.visible_text import line as one_line

MOST = 50

found = page_state.titled("Monitor")
folder = Folder(found.run)
watched = monitor_view(folder)
if folder.problems:
    section(parts.problem_list(folder.problems), "problems")
if not watched:
    page_state.nothing("No live model has been checked against this run yet.", found.view)
    st.code(f"tamis monitor {page_state.quoted(found.run.path)} --endpoint http://127.0.0.1:8000/v1", language="bash")
    st.stop()


def label(metric: str) -> str:
    """What a followed number is called."""
    return "distance of the prompts" if metric == "drift" else named(metric).label


def spoken(metric: str) -> str:
    """The same where Streamlit would read Markdown."""
    return in_streamlit(label(metric))


def write(metric: str, value: float) -> str:
    """A followed number as it is written."""
    return written.number(value) if metric == "drift" else written.quantity(metric, value, named(metric).unit)


def drawn(one: Series) -> str:
    """A number over the checks, with what it was at release."""
    xs, ys = [x for x, _ in one.points], [y for _, y in one.points]
    curves = [Curve("live", xs, ys, "candidate")]
    if one.released is not None:
        curves.append(Curve("at release", [xs[0], xs[-1]], [one.released, one.released], "baseline"))
    title = f"{label(one.metric)} by check" + (f": {one.direction}" if one.direction else "")
    return figures.lines(
        curves,
        written.count,
        lambda y: write(one.metric, y),
        title,
        x_name="check",
        y_name=label(one.metric),
        dots=True,
    )


def shown(one: Watched) -> None:
    """An endpoint: verdict, what to do, every row, the trend, the checks before."""
    last = one.last
    st.subheader(in_streamlit(one.endpoint))
    same = ""
    if last.agreement is not None:
        same = f", {written.share(last.agreement)} of the items answered as at release"
    tone = parts.TONES.get(last.verdict, "bad")
    section(
        f'<section class="banner {tone}" aria-label="verdict"><p class="verdict"><strong>'
        f'<span aria-hidden="true">{SIGNS.get(last.verdict, "!")} </span>{in_html(last.verdict)}</strong> '
        f"<span>{in_html(last.model or 'no model')}, {in_html(last.at)} UTC{same}</span></p>"
        f"<ul>{''.join(f'<li>{in_html(t)}</li>' for t in last.next)}</ul></section>",
        f"last-{one.endpoint}",
    )
    rows = sorted(last.rows, key=lambda r: r.verdict == "PASS")
    body = [[in_html(r.id), in_html(f"{SIGNS.get(r.verdict, '!')} {r.verdict}"), in_html(r.said)] for r in rows]
    section(parts.table(["row", "verdict", "what was found"], body, "The last check"), f"rows-{one.endpoint}")
    for note in last.notes:
        st.caption(in_streamlit(note, 300))
    moving = [s for s in one.series if len(s.points) > 1]
    if moving:
        names = [s.metric for s in moving]
        metric = st.segmented_control(
            "Over the checks", names, default=names[0], key=f"metric-{one.endpoint}", format_func=spoken, required=True
        )
        section(drawn(moving[names.index(metric)]), f"trend-{one.endpoint}-{metric}")
    head = ["check, UTC", "verdict", "model", "did not pass", *[in_html(label(s.metric)) for s in one.series]]
    numeric = range(4, 4 + len(one.series))
    body = [
        [
            in_html(c.at),
            in_html(f"{SIGNS.get(c.verdict, '!')} {c.verdict}"),
            in_html(one_line(c.model or written.DASH, 40)),
            in_html(", ".join(r.id for r in c.failed) or written.DASH),
            *[_cell(s.metric, c.drift if s.metric == "drift" else c.measured.get(s.metric)) for s in one.series],
        ]
        for c in list(reversed(one.checks))[:MOST]
    ]
    section(parts.table(head, body, "Checks, the newest first", numeric, "dense"), f"checks-{one.endpoint}")
    if len(one.checks) > MOST:
        st.caption(f"{MOST} of {len(one.checks):,} shown")


def _cell(metric: str, value: float | None) -> str:
    return written.DASH if value is None else in_html(write(metric, value))


for one in watched:
    shown(one)
