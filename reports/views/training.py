"""How training went: loss first, then what it cost and why it was set up so."""

import streamlit as st

from tamis.reports import figures, page_state
from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.figures import Curve
from tamis.reports.folder import Folder
from tamis.reports.section import section
from tamis.reports.training_view import CURVES, training_view
from tamis.reports.tries_parts import tries_html
from tamis.reports.visible_text import in_html, in_streamlit

found = page_state.titled("Training")
view, run = found.view, found.run
if view.state == "running":
    page_state.progress()
folder = Folder(run)
arms = [training_view(folder, arm) for arm in folder.arms()[:5]]
arms = [a for a in arms if a.curves or a.choices or a.summary]
for tried in view.tries:
    section(tries_html(tried), tried.kind)
if not arms and not view.tries:
    page_state.nothing("Nothing has been trained in this run yet.", view)
    st.stop()
if not arms:
    st.stop()

head = ["arm", "final loss", "steps", "rows", "tokens trained on", "time", "peak memory"]
rows = []
for a in arms:
    s = a.summary
    rows.append(
        [
            in_html(a.arm),
            written.number(s.get("final_loss")),
            written.count(s.get("steps")),
            written.count(s.get("rows")),
            written.count(s.get("trained_tokens")),
            written.duration(s.get("seconds")),
            written.megabytes(s.get("peak_mb")),
        ]
    )
section(parts.table(head, rows, "What was trained", range(1, 7)), "summary")
for a in arms:
    if a.bad_step is not None:
        st.error(
            f"{in_streamlit(a.arm)}: the loss was not a number at step {a.bad_step:,.0f}. Likeliest cause: a learning "
            f"rate too high for this model, or a row with no token to train on.",
        )
    if a.unread_lines:
        st.caption(f"{in_streamlit(a.arm)}: {a.unread_lines} lines of the log could not be read and are left out.")

have = [name for name in CURVES if any(a.curves.get(name) for a in arms)]
if have:
    curve = st.segmented_control("Curve", have, default=have[0], key="curve", bind="query-params", required=True)
    smooth = st.slider("Smooth over steps", 1, 50, 1, key="smooth", bind="query-params")

    def smoothed(values: list[float]) -> list[float]:
        """Mean over the last `smooth` values."""
        return [sum(values[max(0, i - smooth + 1) : i + 1]) / min(i + 1, smooth) for i in range(len(values))]

    lines = [
        Curve(a.arm, [x for x, _ in pairs], smoothed([y for _, y in pairs]), figures.SERIES[i])
        for i, a in enumerate(arms)
        if (pairs := a.curves.get(curve))
    ]
    svg = figures.lines(lines, written.count, written.number, f"{curve} by step", x_name="step", y_name=curve)
    section(svg, "curve")

for a in arms:
    if a.choices:
        body = [[in_html(n), in_html(v), in_html(why)] for n, v, why in a.choices]
        section(parts.table(["setting", "value", "why"], body, f"The plan of arm {in_html(a.arm)}"), f"plan-{a.arm}")
if folder.problems:
    section(parts.problem_list(folder.problems), "problems")
