"""Every row as a point: what lies together, what was kept of it, and the rows of a region drawn around."""

import csv
import hashlib
import io

import duckdb
import numpy as np
import pyarrow as pa
import streamlit as st

from tamis.reports import html_parts as parts
from tamis.reports import ledger_query, map_colours, page_state, projection
from tamis.reports import written_numbers as written
from tamis.reports.curation_view import REASONS
from tamis.reports.fate_view import fate_html
from tamis.reports.ledger_query import PAGE
from tamis.reports.map_canvas import canvas, packed
from tamis.reports.section import section
from tamis.reports.visible_text import in_csv, in_html
from tamis.reports.visible_text import line as one_line

MOST_IDS = 100_000  # rows of one download

found = page_state.titled("Map")
view, run = found.view, found.run
if not projection.has_map(run) or not page_state.has_ledger(run):
    page_state.nothing("There is no map to show.", view)
    st.stop()


@st.cache_resource(max_entries=4, show_spinner="Placing the rows")
def places(path: str, at: object) -> projection.Projection:
    return projection.project(run)


@st.cache_resource(max_entries=12, show_spinner="Colouring the rows")
def colours(path: str, at: object, by: str, text: str) -> map_colours.Colouring:
    ids = places(path, at).ids
    return map_colours.by_search(run, ids, text) if text else map_colours.colouring(run, ids, by)


def from_url(text: str | None) -> list[list[float]]:
    """The lasso of the URL: corners as `x.y_x.y`. What is no lasso is none."""
    try:
        return [[float(x), float(y)] for x, y in (c.split(".") for c in (text or "").split("_") if c)]
    except ValueError:
        return []


def to_url(polygon: list[list[float]]) -> str:
    """At most 40 corners: an address is to be sent to somebody."""
    every = -(-len(polygon) // 40) or 1
    return "_".join(f"{int(x)}.{int(y)}" for x, y in polygon[::every])


def digest(*parts: object) -> str:
    """A short name for what the parts say."""
    return hashlib.blake2b(repr(parts).encode("utf-8", "replace"), digest_size=8).hexdigest()


def region(chosen: np.ndarray, colouring: map_colours.Colouring, ids: pa.Array) -> None:
    """The rows of a region: how many of each class, a page of them, all of their ids to take away."""
    counts = np.bincount(colouring.classes[chosen], minlength=len(colouring.names))
    st.subheader(f"{written.count(len(chosen))} rows in the region")
    body = [
        [in_html(one_line(name, 60)), written.count(here), written.count(of), written.share(here / of if of else None)]
        for name, here, of in zip(colouring.names, counts.tolist(), colouring.counts, strict=True)
        if here
    ]
    section(parts.table([in_html(by), "in the region", "on the map", "share"], body, "By colour", [1, 2, 3]), "classes")
    pages = -(-len(chosen) // PAGE)
    number = st.pagination(pages, key="map_page", bind="query-params") if pages > 1 else 1
    here = ledger_query.rows_of(run, ids.take(pa.array(chosen[(number - 1) * PAGE : number * PAGE])).to_pylist())
    texts = ledger_query.said(run, [r["id"] for r in here])
    rows = [
        [
            f'<b data-key="{in_html(r["id"])}">{in_html(one_line(r["key"] or r["id"], 40))}</b>',
            f"<bdi>{in_html(one_line(texts.get(r['id'], ('', ''))[0], 120))}</bdi>",
            in_html(one_line(r["label"], 40)),
            in_html("kept" if r["verdict"] == "kept" else REASONS.get(r["reason"] or "", one_line(r["reason"]))),
        ]
        for r in here
    ]
    caption = f"Page {number} of {written.count(pages)}; click a row to see its fate"
    table = parts.table(["row", "prompt", "label", "fate"], rows, caption, kind="dense")
    if picked := section(table, f"region-{number}", clickable=True):
        st.query_params["row"] = picked

    def as_csv() -> bytes:
        """Ids of the region's rows, for a must-keep list or a review."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["id"])
        writer.writerows([in_csv(i)] for i in ids.take(pa.array(chosen[:MOST_IDS])).to_pylist())
        return text.getvalue().encode("utf-8", "replace")

    cut = f", the first {MOST_IDS:,}" if len(chosen) > MOST_IDS else ""
    st.download_button(f"Download the ids{cut} (CSV)", as_csv, "rows.csv", "text/csv")


try:
    stamp = page_state.signature(run)
    shown = places(str(run.path), stamp)
    left, right = st.columns([1, 2])
    by = left.selectbox("Colour by", map_colours.choices(run), key="colour", bind="query-params", format_func=one_line)
    text = right.text_input("Find text in prompt, answer or label", key="find", bind="query-params")
    colouring = colours(str(run.path), stamp, by, text)
    before = from_url(st.query_params.get("lasso"))
    mark = f"{digest(run.path, stamp)}-{digest(by, text)}"
    picked = canvas(packed(shown.xy, colouring, before, mark))
    if shown.explained is not None:
        st.caption(
            f"The two widest directions of the vectors, {written.share(shown.explained)} of their variance: what is "
            "far apart here is so in truth, what lies together may not be. A new `tamis curate` writes a better map."
        )
    else:
        st.caption(
            "t-SNE of cluster centres, each row among those it is closest to: neighbours here are neighbours in truth; "
            "distances between groups, and their sizes, mean nothing."
        )
    if shown.absent:
        st.caption(f"{written.count(shown.absent)} rows fell before they were embedded and have no place.")
    if picked.no_webgl2:
        st.image(projection.density(shown.xy), caption="Darker: more rows")
    polygon = before if picked.polygon is None else picked.polygon
    if picked.polygon is not None:
        st.query_params["lasso"] = to_url(polygon)
        if not polygon:
            del st.query_params["lasso"]
    if picked.point is not None and st.session_state.get("map_point") != picked.point < len(shown):
        st.session_state["map_point"] = picked.point
        st.query_params["row"] = shown.ids[picked.point].as_py()
    chosen = projection.inside(shown.xy, polygon)
    if len(chosen):
        region(chosen, colouring, shown.ids)
    elif polygon:
        st.info("No row lies inside. Draw around some points, or press Clear.")
    else:
        st.caption("Draw around points to see their rows. Click a point for its fate.")
    if wanted := st.query_params.get("row"):
        section(fate_html(ledger_query.fate(run, wanted)), "fate")
except (duckdb.Error, OSError, pa.ArrowException):
    page_state.damaged(run.curate, "the ledger, the vectors or the map", view)
