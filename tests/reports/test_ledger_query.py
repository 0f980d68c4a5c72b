"""Pages of the ledger: which rows stand on them, in which order, and on the page of the app."""

import pyarrow.parquet as pq
import pytest
from pages import html_of, opened

from tamis.reports import ledger_query
from tamis.reports.ledger_query import Filter, nearest, page


def slacks(run) -> dict[str, float]:
    """Distance to its limit of every row that is near one, by id."""
    rows = pq.read_table(run.curate / "ledger.parquet").to_pylist()
    return {
        r["id"]: abs(r["slack"])
        for r in rows
        if r["slack"] is not None and r["stage"] != "select" and r["reason"] not in (None, "exact", "leak_exact")
    }


def test_the_rows_closest_to_a_limit_come_first_known_at_once_or_page_by_page(finished, monkeypatch):
    monkeypatch.setattr(ledger_query, "NEAR", 25)
    wanted, where = slacks(finished), Filter(near_limit=True)

    total, rows = nearest(finished, where)
    paged = [r for n in (1, 2, 3) for r in page(finished, where, n, 10)]

    assert total == len(wanted) == ledger_query.count(finished, where)
    assert len({r["id"] for r in paged}) == 30 <= total
    assert [wanted[r["id"]] for r in paged] == sorted(wanted.values())[:30]
    assert rows == paged[:25]


def test_a_filter_holds_for_what_is_nearest_too(finished):
    total, rows = nearest(finished, Filter(stage="deduplicate"))
    assert 0 < total < nearest(finished, Filter())[0]
    assert {r["stage"] for r in rows} == {"deduplicate"}
    assert nearest(finished, Filter(text="no such row")) == (0, [])


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_page_of_the_app_is_that_of_the_ledger_also_beyond_what_is_known(monkeypatch, finished, number):
    monkeypatch.setattr(ledger_query, "NEAR", 100)
    app = opened(monkeypatch, finished.path, "curation", near="true", rows_page=str(number))
    listed = [part.split('"')[0] for part in html_of(app).split('<b data-key="')[1:]]
    assert listed == [r["id"] for r in page(finished, Filter(near_limit=True), number)]
    assert listed


def test_the_page_lists_the_rows_of_its_filter_and_shows_the_fate_of_the_one_that_is_clicked(monkeypatch, finished):
    wanted = slacks(finished)
    app = opened(monkeypatch, finished.path, "curation", near="true")
    html = html_of(app)
    closest = min(wanted, key=lambda i: (wanted[i], i))
    listed = [part.split('"')[0] for part in html.split('<b data-key="')[1:]]
    assert len(listed) == ledger_query.PAGE
    assert wanted[listed[0]] == wanted[closest]
    assert any(f"{len(wanted):,} rows; click one" in c.value for c in app.caption)

    app.session_state["section-rows"] = {"picked": listed[7]}
    app.run()

    assert app.query_params["row"] in (listed[7], [listed[7]])
    assert "<h2>The row</h2>" in html_of(app)
    assert listed[7] in html_of(app).split("<h2>The row</h2>")[1]


def test_another_filter_is_read_from_its_first_page(monkeypatch, finished):
    app = opened(monkeypatch, finished.path, "curation", rows_page="3")
    assert "Page 3 of" in html_of(app)
    next(box for box in app.checkbox if box.key == "near").check().run()
    assert "Page 1 of" in html_of(app)
