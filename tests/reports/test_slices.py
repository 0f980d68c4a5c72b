"""What is counted per label: right and wrong, what was said instead, and the rows of it that curation kept."""

import dataclasses
import re

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pages import html_of, opened

from tamis.reports.slices_view import slice_counts
from tamis.reports.view import load


@pytest.fixture
def wrong(finished):
    """An item that the candidate has wrong."""
    found = next(e for e in load(finished).examples.rows if e.candidate_right is False)
    return dataclasses.replace(found, label="card")


def test_the_answer_said_instead_is_the_commonest_wrong_one_and_no_long_text(wrong):
    answers = ["loan", "fees", "loan", "x" * 41, "x" * 41, "x" * 41]
    items = tuple(dataclasses.replace(wrong, candidate_answer=a) for a in answers)
    right = dataclasses.replace(wrong, candidate_answer="card", candidate_right=True, label="other")

    card, other = sorted(slice_counts((*items, right), "label"), key=lambda s: s.name)

    assert card.instead == ("loan", 2)
    assert other.instead is None


def test_of_answers_said_equally_often_the_alphabet_decides(wrong):
    items = tuple(dataclasses.replace(wrong, candidate_answer=a) for a in ("loan", "fees"))
    for order in (items, items[::-1]):
        assert slice_counts(order, "label")[0].instead == ("fees", 1)


def test_the_page_says_how_many_rows_of_each_label_were_kept(monkeypatch, finished):
    ledger = pq.read_table(finished.curate / "ledger.parquet", columns=["label", "verdict"])
    kept = ledger.filter(pc.equal(ledger["verdict"], "kept"))["label"].to_pylist()

    html = html_of(opened(monkeypatch, finished.path, "slices"))

    table = html[html.index("most often said instead") :]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    shown = {row[0]: row[6] for row in rows if len(row) in (8, 9)}
    assert len(shown) > 5
    assert shown == {label: f"{kept.count(label):,}" for label in shown}
    assert sum(int(n) for n in shown.values()) > 0


def test_by_language_there_are_no_rows_to_count(monkeypatch, finished):
    html = html_of(opened(monkeypatch, finished.path, "slices", by="language"))
    assert "most often said instead" in html
    assert "rows kept" not in html
