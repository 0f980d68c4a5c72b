"""Questions to the ledger, against what plain Python finds in the same file."""

import duckdb
import pyarrow.parquet as pq
import pytest

from tamis.reports import ledger_query as query
from tamis.reports.ledger_query import Filter
from tamis.run import Run


@pytest.fixture(scope="module")
def rows(finished):
    return pq.read_table(query.ledger_file(finished)).to_pylist()


FILTERS = [
    (Filter(), lambda r: True),
    (Filter(verdict="kept"), lambda r: r["verdict"] == "kept"),
    (Filter(stage="deduplicate", reason="near"), lambda r: r["reason"] == "near"),
    (Filter(label="block card"), lambda r: r["label"] == "block card"),
    (Filter(text="t-29"), lambda r: "t-29" in r["key"]),
    (Filter(text="' or 1=1 --"), lambda r: False),
    (Filter(near_limit=True), lambda r: r["slack"] is not None and r["stage"] != "select"),
]


@pytest.mark.parametrize(("where", "passes"), FILTERS)
def test_a_filter_finds_the_rows_it_names(finished, rows, where, passes):
    assert query.count(finished, where) == sum(map(passes, rows))


def test_pages_joined_are_the_whole_in_order_of_id(finished, rows):
    where = Filter(verdict="kept")
    pages = [query.page(finished, where, n, 70) for n in range(1, 7)]
    assert [len(p) for p in pages] == [70, 70, 70, 70, 20, 0]
    assert [r["id"] for p in pages for r in p] == [r["id"] for r in rows if r["verdict"] == "kept"]


def test_the_rows_nearest_to_their_limit_come_first(finished):
    slack = [abs(r["slack"]) for r in query.page(finished, Filter(near_limit=True), 1, 50)]
    assert slack == sorted(slack)


def test_reasons_add_up_to_the_dropped_rows_in_the_order_of_the_stages(finished, rows):
    found = query.reasons(finished)
    assert sum(r["n"] for r in found) == sum(r["verdict"] == "dropped" for r in rows)
    assert list(dict.fromkeys(r["stage"] for r in found)) == [
        "clean",
        "score",
        "decontaminate",
        "deduplicate",
        "select",
    ]


def test_a_histogram_counts_every_row_once_and_what_if_agrees_with_it(finished, rows):
    bins = query.histogram(finished, "quality", 20)
    assert sum(bins["kept"]) == 300
    assert sum(bins["kept"]) + sum(bins["dropped"]) + bins["missing"] == len(rows)
    would = query.what_if(finished, "quality", 0.5)
    assert would["kept"] == sum(r["verdict"] == "kept" and r["score_quality"] < 0.5 for r in rows)


def test_shares_and_coverage(finished, rows):
    shares = query.shares(finished, "source")
    assert sum(s["read"] for s in shares) == len(rows)
    assert sum(s["kept"] for s in shares) == 300
    curve = query.coverage(finished, 10)
    assert [p["covered"] for p in curve] == sorted(p["covered"] for p in curve)
    assert curve[-1]["covered"] == 1.0


def test_a_fate_names_the_witness_and_quotes_both(finished, rows):
    row = next(r for r in rows if r["reason"] == "near")
    fate = query.fate(finished, row["key"])
    assert fate.row["id"] == row["id"]
    assert fate.witness["verdict"] == "kept"
    assert fate.prompt
    assert fate.witness_answer == fate.witness["label"]
    assert query.fate(finished, "no such row") is None


def test_columns_are_never_taken_from_the_reader(finished):
    with pytest.raises(ValueError, match="none of"):
        query.shares(finished, "label; drop table x")
    with pytest.raises(ValueError, match="no score"):
        query.histogram(finished, 'quality" from ledger --')


def test_a_missing_ledger_is_an_error_that_pages_know(tmp_path):
    with pytest.raises(duckdb.Error):
        query.count(Run(tmp_path))
