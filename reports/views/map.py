"""All rows on a map: what was kept, what fell and why, and the rows inside a lasso."""

from collections import Counter

import duckdb
import pyarrow as pa
import streamlit as st

from tamis.reports import html_parts as parts
from tamis.reports import ledger_query, map_colours, page_state, projection
from tamis.reports import written_numbers as written
from tamis.reports.map_component import row_map
from tamis.reports.section import section
from tamis.reports.visible_text import in_csv, in_html
from tamis.reports.visible_text import line as one_line

PAGE = 50

found = page_state.chosen()
view, run = found.view, found.run
st.title("Map")
if not projection.has_map(run) or not ledger_query.ledger_file(run).is_file():
    page_state.nothing("There are no vectors to draw a map from: nothing has been curated yet.", view)
    st.stop()


@st.cache_resource(max_entries=4, show_spinner="Placing the rows")
def placed(path, at):
    return projection.project(found.run)


@st.cache_resource(max_entries=16, show_spinner=False)
def coloured(path, by, text, at):
    ids = placed(path, at).ids
    return map_colours.by_search(found.run, ids, text) if text else map_colours.colouring(found.run, ids, by)


def show() -> None:
    """The map and what lies inside the lasso."""
    at = page_state.signature(run)
    points = placed(str(run.path), at)
    if not len(points):
        st.info("No row has a vector.")
        return
    left, right = st.columns([3, 2])
    choices = map_colours.choices(run)
    by = left.selectbox("Colour by", choices, key="colour", bind="query-params", format_func=one_line)
    text = right.text_input("Search in texts and labels", key="map_q", bind="query-params")
    colours = coloured(str(run.path), by, text, at)
    axes = (
        f"The two widest axes of the vectors; they show {written.share(points.explained)} of the variance, so rows "
        "that lie together may still differ."
        if points.explained is not None
        else "Places from curate/map.parquet."
    )
    absent = f" {written.count(points.absent)} rows fell before they had one." if points.absent else ""
    st.caption(f"{written.count(len(points))} rows. {axes}{absent} Shift and drag draws a lasso, the wheel zooms.")
    picked = row_map(points, colours)
    if picked.without:
        st.info("This browser has no WebGL2, so the map is a picture: darker where more rows lie.")
        st.image(projection.density(points.xy), alt="density of rows on the map")
    if picked.row is not None and picked.row < len(points):
        st.session_state["map_row"] = points.ids[picked.row]
    inside(points, colours, picked.polygon)
    if row := st.session_state.get("map_row"):
        one(row)


def inside(points, colours, polygon) -> None:
    """How many rows of which class lie in the lasso, the first of them, and their ids to take away."""
    if len(polygon) < 3:
        return
    chosen = projection.inside(points.xy, polygon)
    st.subheader(f"{written.count(len(chosen))} rows inside the lasso", anchor=False)
    if not len(chosen):
        return
    counts = Counter(colours.classes[chosen].tolist())
    rows = [
        [in_html(one_line(colours.names[k], 40)), written.count(n), written.share(n / len(chosen))]
        for k, n in counts.most_common()
    ]
    section(parts.table(["class", "rows", "share"], rows, "Inside the lasso", [1, 2], "dense"), "lasso-counts")
    pages = -(-len(chosen) // PAGE)
    number = st.pagination(pages, key="lasso_page") if pages > 1 else 1
    ids = [points.ids[i] for i in chosen[(number - 1) * PAGE : number * PAGE]]
    texts = ledger_query.said(run, ids)
    body = [
        [
            f"<bdi>{in_html(one_line(texts.get(id_, ('', ''))[0], 120))}</bdi>",
            in_html(one_line(texts.get(id_, ("", ""))[1], 60)),
            in_html(one_line(colours.names[colours.classes[i]], 40)),
        ]
        for id_, i in zip(ids, chosen[(number - 1) * PAGE :], strict=False)
    ]
    section(parts.table(["prompt", "answer", "class"], body, f"Rows {(number - 1) * PAGE + 1:,} and on"), "lasso-rows")
    st.download_button(
        "Download the ids",
        lambda: "\n".join(["id", *(in_csv(points.ids[i]) for i in chosen)]) + "\n",
        file_name="rows.csv",
        mime="text/csv",
    )


def one(id_: str) -> None:
    """The row that was clicked."""
    fate = ledger_query.fate(run, id_)
    if fate is None:
        return
    why = fate.row["reason"] or "kept"
    facts = [
        ("fate", in_html(map_colours.REASONS.get(why, why))),
        ("prompt", parts.quoted(fate.prompt)),
        ("answer", parts.quoted(fate.answer)),
        ("id", in_html(id_)),
    ]
    section(f"<h2>The row</h2>{parts.facts(facts)}", "map-row")
    st.page_link("views/curation.py", label="→ Its whole fate", query_params={**page_state.kept_choices(), "row": id_})


try:
    show()
except (duckdb.Error, pa.ArrowException, OSError, ValueError):
    page_state.damaged(run.curate, "the vectors or the ledger", view)
