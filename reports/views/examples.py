"""Evaluation items one by one: broken first, with the words that differ and the training rows nearest to them."""

import functools

import duckdb
import streamlit as st

from tamis.reports import html_parts as parts
from tamis.reports import nearest, page_state
from tamis.reports import written_numbers as written
from tamis.reports.curation_view import REASONS
from tamis.reports.examples_csv import rows_csv
from tamis.reports.examples_view import CHANGES, MEANING, Example
from tamis.reports.section import section
from tamis.reports.visible_text import in_html, in_streamlit
from tamis.reports.visible_text import line as one_line

PAGE = 25

found = page_state.titled("Examples")
view, run = found.view, found.run


@st.cache_resource(max_entries=4, show_spinner="Indexing the training rows")
def index(path: str, verdict: str, at: object) -> nearest.Index:
    return nearest.build(found.run, verdict)


examples = page_state.all_examples(found)
if examples is None or not examples.total:
    page_state.nothing("There are no answers to look at yet.", view)
    st.stop()

against = f"{examples.candidate} against {examples.baseline}" if examples.baseline else examples.candidate
st.caption(f"{in_streamlit(against)}, {written.count(examples.total)} items")
kinds = [c for c in CHANGES if examples.counts.get(c)]
st.caption(", ".join(f"{examples.counts[c]:,} {CHANGES[c]}" for c in kinds))
first_page = functools.partial(page_state.turn_back, "page")  # another filter is read from its beginning
# Streamlit writes what is displayed into the URL: words that stay the same, so no counts in them
word = st.segmented_control(
    "What changed", [CHANGES[c] for c in kinds], key="change", bind="query-params",
    help="; ".join(f"{CHANGES[c]}: {MEANING[c]}" for c in kinds), on_change=first_page,
)  # fmt: skip
change = next((c for c in kinds if CHANGES[c] == word), None)
left, right = st.columns(2)
labels = sorted({e.label for e in examples.rows if e.label})
label = left.selectbox(
    "Expected label", labels, index=None, key="label", bind="query-params", format_func=one_line, placeholder="any",
    on_change=first_page,
)  # fmt: skip
text = right.text_input("Text in prompt or answer", key="q", bind="query-params", on_change=first_page)


def passes(e: Example) -> dict[str, bool]:
    """Each filter's own judgement, so that the page can say which one empties it."""
    haystack = " ".join(x for x in (e.prompt, e.candidate, e.baseline, e.expected) if x).casefold()
    return {
        "What changed": not change or e.change == change,
        "Expected label": not label or e.label == label,
        "Text": not text or text.casefold() in haystack,
    }


judged = [(e, passes(e)) for e in examples.rows]
rows = [e for e, tests in judged if all(tests.values())]
if not rows:
    removed = {name: sum(not tests[name] for _, tests in judged) for name in ("What changed", "Expected label", "Text")}
    worst = max(removed, key=lambda n: removed[n])
    st.info(f"No item passes. The filter “{worst}” removes the most, {removed[worst]:,} of {examples.total:,}.")

    def clear() -> None:
        """Forget all filters; widgets can only be changed before they are drawn."""
        st.session_state["change"], st.session_state["label"], st.session_state["q"] = None, None, ""

    st.button("Clear the filters", on_click=clear)
    st.stop()

pages = max(1, -(-len(rows) // PAGE))
number = st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1
here = rows[(number - 1) * PAGE : number * PAGE]
st.caption(f"{written.count(len(rows))} items; click one to see it")
table = [
    {
        "change": CHANGES[e.change],
        "prompt": one_line(e.prompt, 120),
        "expected": one_line(e.expected, 40),
        "said": one_line(e.candidate if e.error is None else e.error, 60),
        "before": one_line(e.baseline, 60),
    }
    for e in here
]
name = f"list-{number}-{change}-{label}-{text}"
choice = st.dataframe(table, hide_index=True, on_select="rerun", selection_mode="single-row", key=name)
st.download_button(
    "Download these items (CSV)",
    lambda: ("\ufeff" + rows_csv(rows)).encode("utf-8", "replace"),
    file_name="items.csv",
    mime="text/csv",
)
# The item is in the URL, so that it can be sent to somebody; a click wins over it.
clicked = page_state.newly_clicked(choice, name)
if clicked is not None and clicked < len(here):
    st.query_params["item"] = here[clicked].id
wanted = st.query_params.get("item")
item = next((e for e in examples.rows if e.id == wanted), here[0])

verdicts = {True: "right", False: "wrong", None: "not judged"}


def taken_as(answer: str | None, right: bool | None) -> str:
    """What was made of an output, and whether that is right."""
    return f"{parts.quoted(answer)} {parts.muted(f'({verdicts[right]})')}"


lines = [
    ("change", f"{CHANGES[item.change]}: {MEANING[item.change]}"),
    ("asked", parts.quoted(item.prompt)),
    ("expected", parts.quoted(item.expected)),
    (f"{examples.candidate} said", parts.said(item.candidate, item.error, item.expected)),
    ("taken as", taken_as(item.candidate_answer, item.candidate_right)),
]
if examples.baseline:
    lines += [
        (f"{examples.baseline} said", parts.said(item.baseline, None, item.expected)),
        ("taken as", taken_as(item.baseline_answer, item.baseline_right)),
    ]
where = [x for x in (item.label, item.language, item.finish and f"finish: {item.finish}", item.key, item.id) if x]
lines.append(("item", " · ".join(in_html(one_line(x, 60)) for x in where)))
marks = "Struck through: expected and not said; underlined: said and not expected."
section(f'<h2>The item</h2>{parts.facts(lines)}<p class="muted">{marks}</p>', "item-detail")

at = rows.index(item) if item in rows else 0
previous, following = st.columns([1, 1])


def go(to: int) -> None:
    """Show another item."""
    st.query_params["item"] = rows[to].id


previous.button("← previous", disabled=at == 0, on_click=go, args=(at - 1,))
following.button("next →", disabled=at >= len(rows) - 1, on_click=go, args=(at + 1,))

st.subheader("Nearest training rows")
try:
    for verdict, word in (("kept", "trained on"), ("dropped", "left out")):
        side = index(str(run.path), verdict, page_state.signature(run))
        near = side.nearest(item.prompt)
        body = [
            [
                f"<bdi>{in_html(one_line(n.prompt, 140))}</bdi>",
                in_html(one_line(n.answer, 60)),
                in_html(REASONS.get(n.reason, n.reason) if n.reason else "kept"),
                f"{n.similarity:.2f}",
            ]
            for n in near
        ]
        some = f" (searched {len(side.rows):,} of {side.total:,})" if side.total > len(side.rows) else ""
        if body:
            head = ["prompt", "answer", "fate", "likeness"]
            section(parts.table(head, body, f"Nearest rows {word}{some}, by shared characters", [3]), f"near-{verdict}")
        else:
            st.caption(f"No row {word} shares wording with this item.")
except (duckdb.Error, OSError):
    page_state.damaged(run.curate, "the ledger or the records", view)
