"""All runs of the folder, newest first, with their verdicts and numbers."""

import streamlit as st

from tamis.reports import page_state
from tamis.reports import written_numbers as written
from tamis.reports.metric_names import named
from tamis.reports.systems_view import LATENCY
from tamis.reports.verdict_view import SIGNS
from tamis.reports.visible_text import line as one_line
from tamis.run import Run

MOST = 200

page_state.chosen()
st.title("Runs")
runs = st.session_state["runs"]
st.caption(f"{len(runs)} in {page_state.root().resolve()}")
rows = []
for path in runs[:MOST]:
    view = page_state.current(Run(path), None, None)
    row = view.candidate_row
    primary = view.systems.primary if view.systems else None
    verdict = (
        f"{SIGNS.get(view.verdict.verdict, '!')} {view.headline}" if view.verdict else page_state.STATES[view.state]
    )
    rows.append(
        {
            "run": one_line(path.name),
            "verdict": verdict,
            "model": one_line(view.model, 40),
            "rows read": view.funnel.read if view.funnel else None,
            "rows kept": view.funnel.kept if view.funnel else None,
            "metric": named(primary).label if primary else None,
            "value": row.get(primary).text if row and primary else None,
            "interval": row.get(primary).interval if row and primary else None,
            "p95 latency": row.get(LATENCY).text if row else None,
            "cost per 1,000": row.cost.text if row and row.cost else None,
            "arms": ", ".join(one_line(a.name) for a in view.arms) or None,
            "training": written.duration(row.train_seconds) if row and row.train_seconds else None,
            "finished": view.made,
        }
    )
choice = st.dataframe(rows, hide_index=True, on_select="rerun", selection_mode="single-row", key="runs-table")
clicked = choice["selection"]["rows"]
if clicked and clicked[0] < len(runs):
    name = runs[clicked[0]].name

    def choose() -> None:
        """Widgets can only be changed before they are drawn."""
        st.session_state["run"] = name

    if st.button(f"Open {one_line(name)}", on_click=choose):
        st.switch_page("views/overview.py")
else:
    st.caption("Click a run to open it.")
if len(runs) > MOST:
    st.caption(f"{MOST} of {len(runs):,} shown")
