"""Where the rows went, why, and by how little."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import duckdb
import streamlit as st

from tamis.reports import drawings, figures, ledger_query, page_state
from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.curation_view import REASONS
from tamis.reports.fate_view import fate_html
from tamis.reports.figures import Curve, Limit
from tamis.reports.ledger_query import PAGE, Filter
from tamis.reports.section import section
from tamis.reports.visible_text import in_html
from tamis.reports.visible_text import line as one_line

found = page_state.titled("Curation")
view, run = found.view, found.run
if view.funnel is None or not page_state.has_ledger(run):
    page_state.nothing("There are no curated rows to show.", view)
    st.stop()
funnel = view.funnel


@st.cache_data(max_entries=64, show_spinner=False)
def reasons_of(path: str, at: object) -> list[dict[str, Any]]:
    return ledger_query.reasons(run)


@st.cache_resource(max_entries=32, show_spinner=False)
def nearest(path: str, at: object, where: Filter) -> tuple[int, list[dict[str, Any]]]:
    return ledger_query.nearest(run, where)


@st.cache_data(max_entries=64, show_spinner=False)
def passing(path: str, at: object, where: Filter) -> int:
    return nearest(path, at, where)[0] if where.near_limit else ledger_query.count(run, where)


@st.cache_data(max_entries=256, show_spinner=False)
def page_of(path: str, at: object, where: Filter, number: int) -> list[dict[str, Any]]:
    if where.near_limit and number * PAGE <= ledger_query.NEAR:
        return nearest(path, at, where)[1][(number - 1) * PAGE : number * PAGE]
    return ledger_query.page(run, where, number)


first_page = functools.partial(page_state.turn_back, "rows_page")  # another filter is read from its beginning


def part(draw: Callable[[], None]) -> Callable[[], None]:
    """A part of the page that is drawn anew alone: what is asked of a million rows elsewhere is not asked again."""

    @st.fragment
    @functools.wraps(draw)
    def drawn() -> None:
        try:
            draw()
        except (duckdb.Error, OSError):
            page_state.damaged(run.curate, "the ledger or the records", view, draw.__name__)

    return drawn


def overview() -> None:
    """Funnel, time and memory."""
    took = f" in {written.duration(funnel.seconds)}" if funnel.seconds is not None else ""
    peak = f", at most {written.megabytes(funnel.peak_mb)} of memory" if funnel.peak_mb else ""
    st.subheader(f"{written.count(funnel.kept)} of {written.count(funnel.read)} rows kept{took}{peak}", anchor=False)
    left, right = st.columns([3, 2])
    with left:
        picked = section(drawings.funnel_figure(funnel), "funnel", clickable=True)
        if picked:
            st.session_state["stage"], st.session_state["reason"] = picked, None
            first_page()
        st.caption("Click a bar to see the rows that fell there.")
    with right:
        rows = [
            [in_html(step.label), in_html(loss.label), written.count(loss.rows)]
            for step in funnel.steps
            for loss in step.losses
        ]
        section(parts.table(["stage", "reason", "rows"], rows, "Rows dropped", [2], "dense"), "reasons")


@part
def rows_table() -> None:
    """The rows behind an aggregate, page by page, and one row's fate."""
    st.subheader("Rows")
    known_as = str(run.path), page_state.signature(run)
    reasons = reasons_of(*known_as)
    stages = list(dict.fromkeys(r["stage"] for r in reasons))
    a, b, c, d = st.columns(4)
    verdict = a.selectbox(
        "Verdict", ["kept", "dropped"], index=None, key="verdict", bind="query-params", placeholder="any",
        on_change=first_page,
    )  # fmt: skip
    stage = b.selectbox(
        "Stage", stages, index=None, key="stage", bind="query-params", placeholder="any", on_change=first_page
    )
    known = [r["reason"] for r in reasons if r["reason"] and (stage is None or r["stage"] == stage)]
    reason = c.selectbox(
        "Reason", known, index=None, key="reason", bind="query-params", placeholder="any",
        format_func=lambda r: REASONS.get(r, one_line(r)), on_change=first_page,
    )  # fmt: skip
    text = d.text_input("Id, key, label or file contains", key="rows_q", bind="query-params", on_change=first_page)
    near = st.checkbox("Closest to a limit first", key="near", bind="query-params", on_change=first_page)
    where = Filter(verdict, stage, reason, None, text or None, near)
    total = passing(*known_as, where)
    if not total:
        st.info("No row passes these filters.")
        return
    pages = -(-total // PAGE)
    number = st.pagination(pages, key="rows_page", bind="query-params") if pages > 1 else 1
    here = page_of(*known_as, where, number)
    st.caption(f"{written.count(total)} rows; click one to see its fate")
    head = ["row", "verdict", "reason", "label", "language", "source", "similarity", "to the limit", "rank"]
    body = [
        [
            f'<b data-key="{in_html(r["id"])}">{in_html(one_line(r["key"] or r["id"], 40))}</b>',
            in_html(r["verdict"]),
            in_html(REASONS.get(r["reason"] or "", one_line(r["reason"]))),
            in_html(one_line(r["label"], 40)),
            in_html(one_line(r["language"])),
            in_html(one_line(r["source"], 30)),
            "" if r["similarity"] is None else f"{r['similarity']:.3f}",
            "" if r["slack"] is None or r["stage"] == "select" else written.said(f"{r['slack']:,.3f}"),
            "" if r["rank"] is None else written.count(r["rank"]),
        ]
        for r in here
    ]
    # a table of our own: the next page of Streamlit's takes the browser a tenth of a second more
    table = parts.table(head, body, f"Page {number} of {written.count(pages)}", range(6, 9), "dense")
    if picked := section(f'<div class="tall">{table}</div>', "rows", clickable=True):
        st.query_params["row"] = picked
    if wanted := st.query_params.get("row"):
        section(fate_html(ledger_query.fate(run, wanted)), "fate")


@part
def score_figure() -> None:
    """Kept against dropped by score, and what another threshold would have done."""
    names = ledger_query.scores(run)
    if not names:
        st.info("No scorer ran. To add one, in the recipe:")
        st.code("curate: {scorers: [features]}", language="yaml")
        return
    st.subheader("Scores")
    name = st.selectbox("Score", names, index=len(names) - 1, key="score", bind="query-params", format_func=one_line)
    bins = ledger_query.histogram(run, name)
    low, high = bins["edges"][0], bins["edges"][-1]
    threshold = None
    if high > low:
        threshold = st.slider(
            "What if rows below this were dropped?", low, high, low, format="%.3f", key=f"below-{name}"
        )
    limit = Limit(threshold, f"{threshold:.3f}") if threshold is not None and threshold > low else None
    stacks = [("kept", "bar", bins["kept"]), ("dropped", "baseline", bins["dropped"])]
    svg = figures.histogram(bins["edges"], stacks, written.number, f"rows by score {name}", limit=limit)
    section(svg, "histogram")
    if threshold is not None and limit is not None:
        would = ledger_query.what_if(run, name, threshold)
        st.caption(
            f"Below {threshold:.3f} lie {written.count(would['kept'])} of the {written.count(funnel.kept)} kept rows "
            f"and {written.count(would['dropped'])} dropped ones. Counted from stored scores; nothing was run again."
        )
    if bins["missing"]:
        st.caption(f"{written.count(bins['missing'])} rows fell before they were scored.")


@part
def diversity() -> None:
    """Share of clusters that the first k rows of the order cover."""
    curve = ledger_query.coverage(run)
    if len(curve) < 2:
        return
    st.subheader("Diversity")
    line = Curve("clusters covered", [float(p["k"]) for p in curve], [float(p["covered"]) for p in curve], "candidate")
    svg = figures.lines(
        [line], written.count, lambda y: f"{y * 100:.0f}%", "share of clusters covered by the first k rows",
        x_name="first k rows of the order", y_name="clusters covered", y_range=(0.0, 1.0),
    )  # fmt: skip
    section(svg, "coverage")


@part
def before_and_after() -> None:
    """Share of each source, label and language before and after."""
    st.subheader("Before and after")
    field = st.segmented_control(
        "By", list(ledger_query.FIELDS), default="label", key="field", bind="query-params", required=True
    )
    found_shares = ledger_query.shares(run, field)
    read, kept = funnel.read or 1, funnel.kept or 1
    rows = [
        [
            in_html(one_line(s["value"], 60)),
            written.count(s["read"]),
            written.share(s["read"] / read),
            written.count(s["kept"]),
            written.share(s["kept"] / kept),
            written.points(s["kept"] / kept - s["read"] / read),
        ]
        for s in found_shares
    ]
    head = [field, "rows read", "share", "rows kept", "share", "change of the share"]
    section(parts.table(head, rows, "The most frequent values first", range(1, 6)), f"shares-{field}")


overview()
try:
    ledger_query.count(run)
except (duckdb.Error, OSError):
    page_state.damaged(run.curate, "the ledger or the records", view)
    st.stop()
rows_table()
score_figure()
diversity()
before_and_after()
# What is asked next of the rows more often than anything else is known before it is asked.
with contextlib.suppress(duckdb.Error, OSError):  # said above, where it is damaged
    nearest(str(run.path), page_state.signature(run), Filter(near_limit=True))
