"""Two curated versions side by side: the page shows what `tamis diff` counts, and the rows behind each number."""

import re

import pytest
from pages import opened, sections

from tamis import diff
from tamis.reports import written_numbers as written


@pytest.fixture(scope="module")
def versions(build, tmp_path_factory):
    """The same 600 rows, once 60 and once 100 kept. Not to be changed."""
    folder = tmp_path_factory.mktemp("versions")
    small = {"read": 600, "items": 10, "requests": 5, "arms": ("chosen",)}
    return [build(folder / name, kept=kept, **small) for name, kept in (("first", 60), ("second", 100))]


@pytest.fixture(scope="module")
def counted(versions):
    return diff.diff(*(run.curate / "ledger.parquet" for run in versions))


def test_every_count_of_the_page_is_that_of_the_command(monkeypatch, versions, counted):
    app = opened(monkeypatch, versions[0].path.parent, "diff", run="first", against="second")
    text = sections(app)
    cells = [int(n.replace(",", "")) for n in re.findall(r'"num\\">(?:<b[^>]*>)?([\d,]+)', text)]
    fates = [
        counted.fates.get(f"{a} in A, {b} in B", 0) for a in ("kept", "dropped") for b in ("kept", "dropped", "absent")
    ]
    assert cells[:6] == fates
    assert sum(fates) == 600
    assert f"{written.count(counted.moved)} of those dropped by both" in text
    for reason, n in (counted.only_a | counted.only_b).items():
        assert f'data-key=\\"{reason}\\"' in text, reason
        assert written.count(n) in text


def test_a_click_on_a_reason_shows_its_rows_and_stays_in_the_address(monkeypatch, versions, counted):
    reason, n = next(iter(counted.only_b.items()))
    app = opened(monkeypatch, versions[0].path.parent, "diff", run="first", against="second")
    app.session_state["section-only-b"] = {"picked": reason}
    app.run()
    assert not app.exception
    assert (app.query_params["kept_in"], app.query_params["reason"]) == ("b", reason)
    assert f"{n:,} rows kept by B only" in app.subheader[-1].value
    ids = [e["id"] for e in counted.examples if e["kept_in"] == "b" and e["reason"] == reason]
    assert re.findall(r'<b data-key=\\"([0-9a-f-]{20,})', sections(app)) == ids[:25]


def test_a_row_shows_its_fate_in_both(monkeypatch, versions, counted):
    row = next(e for e in counted.examples if e["kept_in"] == "b")
    asked = {"run": "second", "against": "first", "kept_in": "a", "row": row["id"]}
    text = sections(opened(monkeypatch, versions[0].path.parent, "diff", **asked))
    assert text.count("<h2>The row</h2>") == 2
    assert "<dd>kept</dd>" in text
    assert f"dropped by {row['reason'].partition(': ')[0]}" in text


def test_pages_of_rows_add_up_to_all_of_them(versions, counted):
    files = [run.curate / "ledger.parquet" for run in versions]
    some = [diff.page(*files, number=n, size=40) for n in range(1, 2 + len(counted.examples) // 40)]
    assert [row for page in some for row in page] == counted.examples


def test_one_run_alone_is_told_what_it_takes(monkeypatch, versions):
    app = opened(monkeypatch, versions[0].path, "diff")
    assert "Two are needed" in app.info[0].value
