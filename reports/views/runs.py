"""All runs of the folder, newest first, with their verdicts and numbers."""

import streamlit as st

from tamis.reports import html_parts as parts
from tamis.reports import page_state
from tamis.reports import written_numbers as written
from tamis.reports.metric_names import named
from tamis.reports.section import section
from tamis.reports.systems_view import LATENCY
from tamis.reports.verdict_view import SIGNS
from tamis.reports.view import ReportView
from tamis.reports.visible_text import in_html, in_streamlit
from tamis.reports.visible_text import line as one_line
from tamis.run import Run

MOST = 200

page_state.titled("Runs")
runs = st.session_state["runs"]
st.caption(f"{written.count(len(runs))} in {in_streamlit(page_state.root().resolve(), 200)}; click one to open it")


def result(view: ReportView) -> str:
    """The number a run is judged by, with its interval."""
    row = view.candidate_row
    if row is None or view.systems is None:
        return written.DASH
    measure = row.get(view.systems.primary)
    name = in_html(named(view.systems.primary).label)
    return f"{in_html(measure.text)} {name}<br>{parts.muted(parts.nowrap(in_html(measure.interval)))}"


def cells(number: int, name: str, view: ReportView) -> list[str]:
    """One run as a row of ready HTML."""
    row, judged = view.candidate_row, view.verdict
    word = f"{SIGNS.get(judged.verdict, '!')} {view.headline}" if judged else page_state.STATES[view.state]
    kept = f"{written.count(view.funnel.kept)} of {written.count(view.funnel.read)}" if view.funnel else written.DASH
    took = written.duration(row.train_seconds) if row and row.train_seconds else written.DASH
    model = one_line(view.model or written.DASH, 60).rsplit("/", 1)[-1]
    return [
        f'<b data-key="{number}">{in_html(one_line(name, 60))}</b><br>{parts.muted(in_html(model))}',
        in_html(word),
        kept,
        result(view),
        in_html(row.get(LATENCY).text) if row else written.DASH,
        in_html(row.cost.text) if row and row.cost else written.DASH,
        took,
        in_html(view.made.removesuffix(" UTC")[:16]),
    ]


head = ["run", "verdict", "rows kept", "result", "p95 latency", "cost / 1,000", "training", "finished, UTC"]
body = [cells(i, path.name, page_state.current(Run(path), None, None)) for i, path in enumerate(runs[:MOST])]
picked = section(parts.table(head, body, "The newest first", range(2, 7), "dense"), "runs", clickable=True)
if picked is not None and picked.isdigit() and int(picked) < len(runs):
    st.session_state[page_state.WANTED] = runs[int(picked)].name
    st.switch_page("views/overview.py")
if len(runs) > MOST:
    st.caption(f"{MOST} of {len(runs):,} shown")
