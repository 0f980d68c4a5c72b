"""Where the candidate is worse: gates judged by slice, and counts per label and language."""

import duckdb
import streamlit as st

from tamis.reports import figures, ledger_query, page_state
from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.figures import Dot, Limit
from tamis.reports.section import section
from tamis.reports.slices_view import FEW, slice_counts
from tamis.reports.visible_text import in_html, in_streamlit, visible
from tamis.reports.visible_text import line as one_line

MOST = 40
MOST_LABELS = 10_000  # whose rows are counted

found = page_state.titled("Slices")
view = found.view
main = view.verdict.main if view.verdict else None
judged = [g for a in (view.verdict.arms if view.verdict else ()) if a.arm == view.arm for g in a.gates if g.slices]
tones = {"PASS": "good", "FAIL": "bad", "INCONCLUSIVE": "unsure", "INVALID": "muted"}
for gate in judged:
    st.subheader(f"Gate {in_streamlit(gate.id, 60)}")
    worst = sorted(gate.slices, key=lambda s: (s.measure.lower is None, s.measure.lower or 0.0))[:MOST]
    dots = [
        Dot(
            f"{s.name} (n {written.count(s.measure.n)})",
            s.measure.finite,
            s.measure.lower,
            s.measure.upper,
            s.measure.text,
            tones.get(s.verdict, "muted"),
            f"{s.name}: {s.measure.text}, {s.measure.interval}, {s.verdict.lower()}",
            s.name,
        )
        for s in worst
    ]
    limit = Limit(gate.limit, f"limit {gate.limit_text}") if gate.limit is not None else None
    write = lambda x, g=gate: written.quantity(g.metric, x, g.measure.unit, g.measure.of)  # noqa: E731
    svg = figures.whisker(
        dots, write, f"{gate.label}, worst slices first", limit=limit, zero=gate.measure.of == "delta"
    )
    shown = f"{len(worst)} of {len(gate.slices)} slices, the worst first; Holm-adjusted. Click one."
    st.caption(f"{in_streamlit(gate.label)}; {shown}")
    if picked := section(svg, f"slices-{gate.id}", clickable=True):
        # a key in a page is made visible, as all text is; the label may have held what is not
        name = next((s.name for s in worst if visible(s.name, None) == picked), picked)
        st.switch_page("views/examples.py", query_params={"label": name} if gate.by == "label" else {})
if not judged:
    st.info("No gate of this run judges by slice, so there are no intervals to show. A gate that does:")
    st.code('- {id: slices, metric: accuracy, by: label, min_n: 30, require: "delta.lower > -0.05"}', language="yaml")

examples = page_state.all_examples(found)
if examples is None:
    page_state.nothing("There are no answers to count yet.", view)
    st.stop()
by = st.segmented_control(
    "Count by", ["label", "language"], default="label", key="by", bind="query-params", required=True
)
counts = slice_counts(examples.rows, by)
trained: dict[str, int] | None = None
if by == "label" and page_state.has_ledger(found.run):
    try:
        trained = {s["value"]: s["kept"] for s in ledger_query.shares(found.run, "label", most=MOST_LABELS)}
    except (duckdb.Error, OSError):
        page_state.damaged(found.run.curate, "the ledger or the records", view)
rows, some = [], any(not s.too_few for s in counts)  # where every slice is too small, the caption says so once
for s in counts[:200]:
    instead = "" if s.instead is None else f"{in_html(one_line(s.instead[0], 40))} {parts.muted(f'×{s.instead[1]}')}"
    rows.append(
        [
            in_html(one_line(s.name, 60)),
            written.count(s.items),
            written.count(s.right),
            written.count(s.baseline_right) if s.baseline_right is not None else written.DASH,
            f'<span class="t-good">{s.fixed}</span>',
            f'<span class="t-bad">{s.broken}</span>',
            *([written.count(trained.get(s.name, 0))] if trained is not None else []),
            instead,
            *(['<span class="muted">too few to say</span>' if s.too_few else ""] if some else []),
        ]
    )
head = [by, "items", f"right, {in_html(examples.candidate)}", f"right, {in_html(examples.baseline or 'no baseline')}"]
head += [
    "fixed",
    "broken",
    *(["rows kept"] if trained is not None else []),
    "most often said instead",
    *([""] if some else []),
]
which = "a slice" if some else "these slices, which all have fewer"
caption = f"Counts, no statistics; under {FEW} items nothing can be said of {which}"
caption += ". Rows kept: by curation, of this label" if trained is not None else ""
section(parts.table(head, rows, caption, range(1, 7 if trained is not None else 6), "dense"), f"counts-{by}")
if len(counts) > 200:
    st.caption(f"200 of {len(counts):,} shown")
