"""Which system is better, by how much, and at what price: pairs, trade-off, latency, cost."""

import math

import streamlit as st

from tamis.reports import drawings, figures, page_state
from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.examples_view import CHANGES
from tamis.reports.folder import Folder
from tamis.reports.latency_view import curve, durations_ms
from tamis.reports.metric_names import named
from tamis.reports.section import section
from tamis.reports.systems_view import LATENCY
from tamis.reports.visible_text import in_html

MOST_SYSTEMS = 5  # more lines than this cannot be told apart

found = page_state.titled("Compare")
view, systems = found.view, found.view.systems
if systems is None:
    page_state.nothing("There is no comparison yet.", view)
    st.stop()

picked = section(parts.changes(view, forest=False), "changes", clickable=True)
if picked:
    st.switch_page("views/examples.py", query_params={"change": CHANGES[picked]})

pairs = [p for p in systems.pairs if p.candidate == (view.arm, view.candidate)]
metrics = list(dict.fromkeys(p.metric for p in pairs))
if metrics:
    st.subheader("Paired differences")
    metric = st.segmented_control(
        "Metric", metrics, default=systems.primary if systems.primary in metrics else metrics[0],
        format_func=lambda m: named(m).label, key="metric", bind="query-params", required=True,
    )  # fmt: skip
    section(drawings.differences(view, metric) or "", f"forest-{metric}")
    head = ["candidate against", "difference", "interval", "fixed", "broken", "McNemar", "items still needed"]
    rows = [
        [
            in_html(systems.label(*p.baseline)),
            parts.nowrap(in_html(p.delta.text)),
            parts.nowrap(in_html(p.delta.interval)),
            written.count(p.fixed) if p.fixed is not None else written.DASH,
            written.count(p.broken) if p.broken is not None else written.DASH,
            in_html(written.p_value(p.mcnemar_p)) if p.mcnemar_p is not None else written.DASH,
            written.count(p.examples_needed) if p.examples_needed else written.DASH,
        ]
        for p in pairs
        if p.metric == metric
    ]
    items = f"paired on the same {written.count(systems.items)} items"
    section(parts.table(head, rows, f"{named(metric).label}, {items}", range(1, 7)), f"pairs-{metric}")

figure = drawings.trade_off(view)
if figure:
    st.subheader("Accuracy, latency and cost")
    st.caption(
        "Area: cost of 1,000 requests. Dashed line: systems that no faster one equals. Green: all such gates met."
    )
    section(figure, "pareto")

names = [systems.label(s.arm, s.system) for s in systems.systems]
default = names[:2]
shown = st.multiselect(
    "Systems in the curves below",
    names,
    default=default,
    key="systems",
    bind="query-params",
    max_selections=MOST_SYSTEMS,
)
rows_shown = [s for s in systems.systems if systems.label(s.arm, s.system) in shown]
folder = Folder(found.run)
timed = [(s, durations_ms(folder, s.arm, s.system)) for s in rows_shown]
timed = [(s, values) for s, values in timed if any(math.isfinite(v) and v > 0 for v in values)]
if timed:
    st.subheader("How long requests take")
    finite = [v for _, values in timed for v in values if math.isfinite(v) and v > 0]
    curves = [curve(systems.label(s.arm, s.system), values, figures.SERIES[i]) for i, (s, values) in enumerate(timed)]
    log = max(finite) > drawings.WIDE * min(finite)
    section(
        figures.ecdf(curves, written.milliseconds, "share of requests answered within a time", x_name="time", log=log),
        "ecdf",
    )
    head = ["system", "requests", "p50", "p95", "p99"]
    percentiles = ("latency.e2e.p50", LATENCY, "latency.e2e.p99")
    body = [
        [in_html(systems.label(s.arm, s.system)), written.count(len(values))]
        + [f"{in_html(s.get(p).text)}<br>{parts.muted(in_html(s.get(p).interval))}" for p in percentiles]
        for s, values in timed
    ]
    section(parts.table(head, body, "One request at a time, after warm-up", range(1, 5)), "percentiles")

loads = [(systems.label(s.arm, s.system), s.loads) for s in rows_shown if s.loads]
if loads:
    section(parts.under_load(loads), "loads")

costs = [m for m in systems.metrics if m.startswith("cost.")]
priced = [s for s in systems.systems if any(s.get(m).known for m in costs)]
if costs and priced:
    st.subheader("What answers cost")
    body = [
        [in_html(systems.label(s.arm, s.system))]
        + [f"{in_html(s.get(m).text)}<br>{parts.muted(in_html(s.get(m).interval))}" for m in costs]
        for s in priced
    ]
    head = ["system", *(in_html(named(m).label) for m in costs)]
    section(parts.table(head, body, "At the recipe's prices and the measured capacity", range(1, len(head))), "costs")
if systems.spending:
    section(parts.spending(systems), "spending")
for problem in folder.problems:
    section(parts.problem_list([problem]), f"problem-{problem.where}")
