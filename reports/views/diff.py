"""Two curated versions of the data, row by row: what one keeps and the other does not, and why."""

from pathlib import Path

import duckdb
import streamlit as st

from tamis import diff
from tamis.errors import TamisError
from tamis.reports import figures, ledger_query, page_state
from tamis.reports import html_parts as parts
from tamis.reports import written_numbers as written
from tamis.reports.curation_view import REASONS, STAGE_WORDS
from tamis.reports.fate_view import fate_html
from tamis.reports.figures import Bar
from tamis.reports.folder import Folder
from tamis.reports.section import section
from tamis.reports.visible_text import in_html, in_streamlit
from tamis.reports.visible_text import line as one_line
from tamis.run import Run
from tamis.schema import LEDGER

PAGE = 25
MOST_REASONS = 12

found = page_state.titled("Diff")
view, run = found.view, found.run
if not page_state.has_ledger(run):
    page_state.nothing("There are no curated rows to compare.", view)
    st.stop()
others: dict[str, Run] = {}
for path in st.session_state["runs"]:
    beside = Folder(Run(path))
    file = ledger_query.ledger_file(beside.run)
    if path != run.path and beside.check(file, f"the ledger of {one_line(path.name)}", LEDGER.names):
        others[path.name] = beside.run
    elif file.exists():  # one that was never made is no loss
        section(parts.problem_list(beside.problems), f"unread-{path.name}")
if not others:
    st.info("There is one curated run here. Two are needed: show a folder that holds several.")
    st.code("tamis report FOLDER --serve", language="bash")
    st.stop()


@st.cache_resource(max_entries=8, show_spinner="Comparing every row")
def compared(a: str, b: str, at: object) -> diff.Diff:
    return diff.diff(Path(a), Path(b), 0)


def words(reason: str) -> str:
    """`STAGE: REASON` or `absent` as a reader says it."""
    stage, colon, why = reason.partition(": ")
    if not colon:
        return "not among its rows" if stage == "absent" else one_line(stage)
    return f"{STAGE_WORDS.get(stage, stage)}: {REASONS.get(why, one_line(why))}"


def fates(result: diff.Diff) -> str:
    """How many rows have which fate in both versions, as a square."""
    names = ("kept", "dropped", "absent")
    said = {"kept": "kept in", "dropped": "dropped in", "absent": "absent from"}

    def cell(a: str, b: str) -> str:
        n = result.fates.get(f"{a} in A, {b} in B", 0)
        side = "a" if a == "kept" != b else "b" if b == "kept" != a else None
        return f'<b data-key="{side}">{written.count(n)}</b>' if side and n else written.count(n)

    body = [[f"{said[a]} A", *("" if a == b == "absent" else cell(a, b) for b in names)] for a in names]
    caption = f"Each row of both; {written.count(result.moved)} of those dropped by both fell for another reason"
    return parts.table(["", *(f"{said[b]} B" for b in names)], body, caption, range(1, 4))


def losses(side: str, other: str, reasons: dict[str, int]) -> str | None:
    """Why the other version does not keep what this one keeps, as bars to click; what was clicked."""
    total = sum(reasons.values())
    st.markdown(f"**{written.count(total)} kept by {side.upper()} only**")
    if not total:
        return None
    bars = [Bar(words(r), n, written.count(n), r) for r, n in list(reasons.items())[:MOST_REASONS]]
    picked = section(
        figures.bars(bars, f"why {other.upper()} does not keep them", "bar"),
        f"only-{side}",
        clickable=True,
    )
    if len(reasons) > MOST_REASONS:
        st.caption(f"{MOST_REASONS} of {len(reasons)} reasons shown")
    return picked


def rows_of(a: Path, b: Path, side: str, reason: str | None, total: int) -> None:
    """The rows behind a number, page by page, and one row's fate in both versions."""
    why = f", {words(reason)} in {'B' if side == 'a' else 'A'}" if reason else ""
    st.subheader(f"{written.count(total)} rows kept by {side.upper()} only{in_streamlit(why)}", anchor=False)
    pages = -(-total // PAGE)
    number = st.pagination(pages, key="diff_page", bind="query-params") if pages > 1 else 1
    here = diff.page(a, b, side, reason, number, PAGE)
    texts = ledger_query.said(run, [r["id"] for r in here])
    missing = [r["id"] for r in here if r["id"] not in texts]
    texts |= ledger_query.said(others[name], missing)
    body = [
        [
            f'<b data-key="{in_html(r["id"])}">{in_html(one_line(r["key"] or r["id"], 40))}</b>',
            *(f"<bdi>{in_html(one_line(t, 120))}</bdi>" for t in texts.get(r["id"], ("", ""))),
            in_html(words(r["reason"])),
        ]
        for r in here
    ]
    head = ["row", "prompt", "answer", f"in {'B' if side == 'a' else 'A'}"]
    caption = f"Page {number} of {written.count(pages)}; click a row to see its fate in both"
    if picked := section(parts.table(head, body, caption, kind="dense"), f"rows-{side}-{number}", clickable=True):
        st.query_params["row"] = picked
    if wanted := st.query_params.get("row"):
        left, right = st.columns(2)
        for column, letter, at in ((left, "A", run), (right, "B", others[name])):
            with column:
                st.markdown(f"**In {letter}**")
                section(fate_html(ledger_query.fate(at, wanted)), f"fate-{letter}")


try:
    name = st.selectbox(
        "Compare with", list(others), key="against", bind="query-params", format_func=one_line,
        help="A is the run of the sidebar, B this one",
    )  # fmt: skip
    a, b = ledger_query.ledger_file(run), ledger_query.ledger_file(others[name])
    result = compared(str(a), str(b), (a.stat().st_mtime, b.stat().st_mtime))
    st.caption(
        f"A: {in_streamlit(run.path.name)}, {written.count(result.rows['a'])} rows. "
        f"B: {in_streamlit(name)}, {written.count(result.rows['b'])} rows. Rows are matched by what they say."
    )
    if side := section(fates(result), "fates", clickable=True):
        st.query_params["kept_in"], st.query_params["reason"] = side, ""
    left, right = st.columns(2)
    for column, here, there, reasons in ((left, "a", "b", result.only_a), (right, "b", "a", result.only_b)):
        with column:
            if picked := losses(here, there, reasons):
                st.query_params["kept_in"], st.query_params["reason"] = here, picked
    side = st.query_params.get("kept_in") or ""
    asked = {"a": result.only_a, "b": result.only_b}.get(side)
    reason = st.query_params.get("reason") or None
    total = asked.get(reason, 0) if asked and reason else sum(asked.values()) if asked else 0
    if total:
        rows_of(a, b, side, reason, total)
    elif result.only_a or result.only_b:
        st.caption("Click a number or a bar to see its rows.")
    else:
        st.success("Both keep the very same rows.")
    st.caption("The same at the command line:")
    st.code(f"tamis diff {page_state.quoted(run.path)} {page_state.quoted(others[name].path)}", language="bash")
except TamisError as error:
    st.error("The two ledgers cannot be compared.")
    st.code(str(error), language=None)
except (duckdb.Error, OSError):
    for at in (run, others[name]):
        try:
            ledger_query.reasons(at)
            ledger_query.fate(at, "")
        except (duckdb.Error, OSError):
            page_state.damaged_in(at, at.curate, f"the ledger or the records of {one_line(at.path.name)}")
