"""First page: the verdict, the numbers behind it, the gates, and how the systems compare."""

import streamlit as st

from tamis.reports import html_parts as parts
from tamis.reports import page_state
from tamis.reports import written_numbers as written
from tamis.reports.drawings import systems_metrics
from tamis.reports.examples_view import CHANGES
from tamis.reports.metric_names import named
from tamis.reports.page_html import page
from tamis.reports.section import section
from tamis.schema import STAGES

found = page_state.chosen()
view = found.view

section(parts.heading(view), "heading")
if view.state == "running":
    page_state.progress()
section(parts.banner(view), "banner")
section(parts.problems(view), "problems")


def cards() -> None:
    """The numbers a release is decided on, each with its interval and the distance to the baseline."""
    ours, theirs = view.candidate_row, view.baseline_row
    if ours is None or view.systems is None:
        return
    metrics = [
        m for m in systems_metrics(view.systems) if m not in ("parse_rate", "latency.e2e.p50") and ours.get(m).known
    ]
    if not metrics:
        return
    for column, metric in zip(st.columns(len(metrics)), metrics, strict=True):
        mine, other, name = ours.get(metric), theirs.get(metric) if theirs else None, named(metric)
        delta = None
        if other is not None and other.finite is not None and mine.finite is not None:
            change = written.difference(metric, mine.finite - other.finite, mine.unit)
            # Streamlit looks for an ASCII minus to know which way the arrow points
            delta = f"{change.replace(written.MINUS, '-')} to {view.baseline}"
        with column, st.container(border=True):
            colour = "inverse" if name.direction == "down" else "normal" if name.direction == "up" else "off"
            st.metric(name.label, mine.text, delta, delta_color=colour, help=mine.how or None)
            st.caption(f"{mine.per_cent} interval {mine.interval}" if mine.interval != written.DASH else "no interval")


def ways() -> None:
    """From the verdict to the rows behind it in one click."""
    links = [
        ("views/examples.py", f"{CHANGES[c]}: {n:,} items", {"change": c})
        for c, n in (view.examples.counts.items() if view.examples else ())
        if c in ("broken", "failed", "both_wrong", "fixed")
    ]
    if view.funnel:
        links.append(
            ("views/curation.py", f"{view.funnel.read - view.funnel.kept:,} rows dropped", {"verdict": "dropped"})
        )
    for column, (target, label, query) in zip(st.columns(max(1, len(links))), links, strict=False):
        column.page_link(target, label=f"→ {label}", query_params={**page_state.kept_choices(), **query})


cards()
ways()
section(parts.gates(view), "gates")
section(parts.arms(view), "arms")
section(parts.systems(view), "systems")
section(parts.pictures(view), "pictures")
if picked := section(parts.rows_and_changes(view), "rows", clickable=True):
    # a cell of the fourfold table, a stage of the funnel, or a system of the forest
    if picked in CHANGES:
        st.switch_page("views/examples.py", query_params={**page_state.kept_choices(), "change": picked})
    if picked in STAGES:
        st.switch_page("views/curation.py", query_params={**page_state.kept_choices(), "stage": picked})
    st.switch_page("views/compare.py", query_params=page_state.kept_choices())
section(parts.method(view), "method")
st.download_button(
    "Download this report (HTML)",
    lambda: page(view).encode("utf-8", "replace"),
    file_name=f"report_{view.name}_{(view.verdict.verdict if view.verdict else view.state).lower()}.html",
    mime="text/html",
)
