"""Rows for a person to judge: keep, drop or relabel them here or in a spreadsheet; the next curation does as told."""

import duckdb
import streamlit as st

from tamis import annotations
from tamis.annotations import Decision
from tamis.errors import DataError
from tamis.reports import html_parts as parts
from tamis.reports import ledger_query, page_state, review_queue
from tamis.reports import written_numbers as written
from tamis.reports.fate_view import fate_html
from tamis.reports.folder import Folder
from tamis.reports.review_csv import decisions_of, queue_csv
from tamis.reports.review_queue import KINDS, Item
from tamis.reports.section import section
from tamis.reports.visible_text import in_html, in_streamlit
from tamis.reports.visible_text import line as one_line

PAGE = 25
MOST_LABELS = 1000  # to choose from; any other can be typed
SIGNS = {"keep": "✓ keep", "drop": "✗ drop", "relabel": "→ "}
FAILED = "review_failed"

found = page_state.titled("Review")
view, run = found.view, found.run
if view.funnel is None or not page_state.has_ledger(run):
    page_state.nothing("There are no curated rows to review.", view)
    st.stop()
funnel = view.funnel
folder = Folder(run)
file = review_queue.file_of(run, folder.recipe())
try:
    known = review_queue.decisions(file)
except (OSError, DataError) as error:
    st.error("The decisions so far cannot be read. Mend the line, or move the file away to begin anew.")
    st.code(str(error), language=None)
    st.stop()


def decide(item: Item, decision: str, label: str | None, following: str | None) -> None:
    """Write a decision down at once, and go on to the next row that has none."""
    try:
        new = annotations.decided(
            item.id, decision, st.session_state.get("reviewer"), label, where=f"row {item.row['key'] or item.id}"
        )
        annotations.append(file, [new])
    except (OSError, DataError) as error:
        st.session_state[FAILED] = str(error)
        return
    if following:
        st.query_params["row"] = following


def withdraw(item: Item) -> None:
    """Take back what was decided about a row."""
    try:
        annotations.withdraw(file, item.content)
    except (OSError, DataError) as error:
        st.session_state[FAILED] = str(error)


def said(decision: Decision | None) -> str:
    """A decision as it stands in the table."""
    if decision is None:
        return ""
    return in_html(SIGNS[decision.decision] + one_line(decision.label, 40)) + f"<br>{parts.muted(_by(decision))}"


def _by(decision: Decision) -> str:
    return in_html(one_line(decision.reviewer, 40))


def table(items: tuple[Item, ...]) -> None:
    """A page of the queue; a click chooses a row."""
    pages = -(-len(items) // PAGE)
    number = st.pagination(pages, key="queue_page", bind="query-params") if pages > 1 else 1
    here = items[(number - 1) * PAGE : number * PAGE]
    texts = ledger_query.said(run, [i.id for i in here])
    body = []
    for item in here:
        prompt, answer = texts.get(item.id, ("", ""))
        label = item.row["label"]
        answered = [one_line(answer, 80), f"label: {one_line(label, 40)}" if label and label != answer else ""]
        body.append(
            [
                f'<b data-key="{in_html(item.id)}">{in_html(one_line(item.row["key"] or item.id, 24))}</b>',
                f"<bdi>{in_html(one_line(prompt, 140))}</bdi>",
                "<br>".join(f"<bdi>{in_html(a)}</bdi>" for a in answered if a),
                in_html(item.fate),
                in_html(item.why),
                said(known.get(item.content)),
            ]
        )
    head = ["row", "prompt", "answer", "now", "why look", "decision"]
    caption = f"Page {number} of {written.count(pages)}; click a row to decide about it"
    if picked := section(parts.table(head, body, caption, kind="dense"), f"queue-{kind}-{number}", clickable=True):
        st.query_params["row"] = picked


def judgement(item: Item, following: str | None) -> None:
    """The row with its fate, and what can be done with it."""
    section(fate_html(ledger_query.fate(run, item.id)), "fate")
    keep, drop, label, relabel, back = st.columns([1, 1, 3, 1, 1], vertical_alignment="bottom")
    keep.button("✓ Keep", on_click=decide, args=(item, "keep", None, following), width="stretch")
    drop.button("✗ Drop", on_click=decide, args=(item, "drop", None, following), width="stretch")
    labels = [s["value"] for s in ledger_query.shares(run, "label", MOST_LABELS) if s["value"] != "(none)"]
    # the label that curation finds likelier is one click away; any other can be chosen or typed
    if item.likelier is not None and item.likelier not in labels:
        labels.insert(0, item.likelier)
    likelier = labels.index(item.likelier) if item.likelier is not None else None
    new = label.selectbox(
        "Right label", labels, index=likelier, key=f"label-{item.id}", accept_new_options=True, format_func=one_line,
        placeholder="choose, or type another",
    )  # fmt: skip
    relabel.button(
        "→ Relabel", on_click=decide, args=(item, "relabel", new, following), disabled=not new, width="stretch"
    )
    back.button("Undo", on_click=withdraw, args=(item,), disabled=item.content not in known, width="stretch")


def table_of(items: tuple[Item, ...]) -> str:
    return queue_csv(items, ledger_query.said(run, [i.id for i in items]), known)


def by_csv(items: tuple[Item, ...]) -> None:
    """The queue to take away, and decisions to bring back."""
    st.subheader("In a spreadsheet")
    st.caption(
        "Download the rows, fill in decision (keep, drop or relabel), new_label and reviewer, and bring the table back."
    )
    st.download_button(
        "Download this queue (CSV)",
        lambda: ("\ufeff" + queue_csv(items, ledger_query.said(run, [i.id for i in items]), known)).encode(
            "utf-8", "replace"
        ),
        file_name=f"review_{kind}.csv",
        mime="text/csv",
    )
    brought = st.file_uploader("Bring back a filled-in table", type="csv", key="review_table")
    if brought is None:
        return
    try:
        new = decisions_of(brought.getvalue(), known, st.session_state.get("reviewer") or "", one_line(brought.name))
    except DataError as error:
        st.error("The table was not taken; nothing of it is saved.")
        st.code(str(error), language=None)
        return
    if not new:
        st.info("The table holds no decision that is not saved already.")
        return
    counts = ", ".join(f"{sum(d.decision == w for d in new)} to {w}" for w in annotations.DECISIONS)
    st.caption(f"{written.count(len(new))} new decisions: {counts}")
    if st.button(f"Save {written.count(len(new))} decisions", type="primary"):
        try:
            annotations.append(file, new)
        except OSError as error:
            st.error(f"They cannot be saved: {in_streamlit(error)}")
            return
        st.rerun()


try:
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    word = left.segmented_control(
        "Rows", list(KINDS.values()), default=KINDS["limits"], key="queue", bind="query-params", required=True
    )
    kind = next(k for k, w in KINDS.items() if w == word)
    right.text_input("Reviewer", key="reviewer", bind="query-params", placeholder="your name, saved with each decision")
    queue = review_queue.queue(run, kind, funnel)
    items = queue.items
    done = sum(i.content in known for i in items)
    cut = f" of {written.count(queue.total)}, the most doubtful first" if queue.total > len(items) else ""
    st.caption(f"{written.count(len(items))} rows{cut}; {written.count(done)} of them decided")
    if message := st.session_state.pop(FAILED, None):
        st.error("Nothing was saved.")
        st.code(message, language=None)
    if known:
        st.caption(f"{written.count(len(known))} decisions in {in_streamlit(file, 200)}. They hold once you type:")
        st.code(folder.rerun, language="bash")
    if items:
        above = st.container()  # the row and the buttons, so that judging many rows needs no scrolling
        table(items)
        open_ = [i.id for i in items if i.content not in known]
        asked = st.query_params.get("row")
        item = next((i for i in items if i.id == asked), None)
        item = item or next((i for i in items if i.id in open_[:1]), items[0])
        at = items.index(item)
        later = [i.id for i in (*items[at + 1 :], *items[:at]) if i.content not in known and i.content != item.content]
        with above:
            judgement(item, later[0] if later else None)
        by_csv(items)
    else:
        st.info(
            {
                "limits": "No row was dropped for being near a limit.",
                "conflicts": "No prompt has two different answers.",
                "labels": "No label is contradicted by the rows around it, or the rows have no labels.",
            }[kind]
        )
except (duckdb.Error, OSError):
    page_state.damaged(run.curate, "the ledger, the records or the conflicts", view)
