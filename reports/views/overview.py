"""First page: the verdict, the numbers behind it, the gates, and how the systems compare."""

from typing import Literal

import streamlit as st

from tamis.reports import html_parts as parts
from tamis.reports import page_state
from tamis.reports import written_numbers as written
from tamis.reports.drawings import systems_metrics
from tamis.reports.metric_names import named
from tamis.reports.page_html import page
from tamis.reports.section import section
from tamis.reports.tries_parts import tries_html
from tamis.reports.visible_text import in_streamlit

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
        arrow: Literal["up", "down", "off"] = "off"
        colour: Literal["gray", "green", "red"] = "gray"
        if other is not None and other.finite is not None and mine.finite is not None:
            change = mine.finite - other.finite
            delta = written.difference(metric, change, mine.unit)
            # Streamlit reads the way from an ASCII minus, which is not how a number is written here
            if change:
                arrow = "up" if change > 0 else "down"
                colour = "gray" if not name.direction else "green" if arrow == name.direction else "red"
        with column, st.container(border=True):
            how = in_streamlit(mine.how, 300) or None
            st.metric(in_streamlit(name.label), mine.text, delta, colour, delta_arrow=arrow, help=how)
            span = f"{mine.per_cent} interval {mine.interval}" if mine.interval != written.DASH else "no interval"
            st.caption(
                f"against {in_streamlit(view.baseline, 40)}; {in_streamlit(span)}" if delta else in_streamlit(span)
            )


cards()
section(parts.gates(view), "gates")
section(parts.arms(view), "arms")
section(parts.systems(view), "systems")
section(parts.pictures(view), "pictures")
section(parts.loads(view), "loads")
for tried in view.tries:
    section(tries_html(tried), tried.kind)
section(parts.rows_and_changes(view), "rows")
section(parts.method(view), "method")
st.download_button(
    "Download this report (HTML)",
    lambda: page(view).encode("utf-8", "replace"),
    file_name=f"report_{view.name}_{(view.verdict.verdict if view.verdict else view.state).lower()}.html",
    mime="text/html",
)
