"""Where every number comes from: methods, machine, versions, stages, recipe, and the command that makes it again."""

import streamlit as st

from tamis.reports import html_parts as parts
from tamis.reports import page_state
from tamis.reports import written_numbers as written
from tamis.reports.section import section
from tamis.reports.visible_text import in_html, visible
from tamis.reports.visible_text import line as one_line

VERDICTS = (
    ("Ship", "PASS: of every required gate the whole interval is on the good side of the limit."),
    ("Do not ship", "FAIL: of at least one required gate the whole interval is on the bad side."),
    ("Not certain", "INCONCLUSIVE: the limit lies inside an interval; the gate says how many more items would tell."),
    ("Cannot be trusted", "INVALID: the evidence does not meet what the policy requires of it; the gate says why."),
)

found = page_state.titled("Method")
view = found.view
section(parts.method(view, titled=False), "method")
section(parts.table(["verdict", "what it means"], [[a, b] for a, b in VERDICTS], "The four verdicts"), "verdicts")
rows = [
    [
        in_html(one_line(s.name)),
        in_html(s.state),
        written.duration(s.summary.get("seconds")) if s.summary.get("seconds") is not None else written.DASH,
        in_html(one_line(s.summary.get("finished"))) or written.DASH,
        f"<code>{in_html(str(s.summary.get('fingerprint') or '')[:12])}</code>",
    ]
    for s in view.stages[:100]
]
section(parts.table(["stage", "state", "time", "finished", "fingerprint"], rows, "Stages of this run"), "stages")
try:
    recipe = visible(found.run.recipe_file.read_text(encoding="utf-8", errors="replace"), 20_000)
    with st.expander("The recipe with every default written out"):
        st.code(recipe, language="yaml")
except OSError:
    st.caption("This run holds no recipe.")
