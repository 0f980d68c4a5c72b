"""A system under load: throughput and latency at every measured level, as `comparison.json` has them."""

import math

import pyarrow.parquet as pq
import pytest
from make_run import write_loads
from pages import opened, sections

from tamis.evaluate.compare import compare
from tamis.recipe import Recipe
from tamis.reports import drawings
from tamis.reports.load_view import levels
from tamis.reports.page_html import page
from tamis.reports.view import load
from tamis.schema import read_json, write_json


@pytest.fixture
def loaded(copy):
    items = pq.read_table(copy.curate / "eval.parquet", columns=["id"]).to_pylist()
    write_loads(copy.evaluate("chosen", "tuned"), items, 0.4)
    compare(copy, Recipe.load(copy.recipe_file))
    return copy


def raw_of(run) -> dict:
    return next(s for s in read_json(run.comparison)["systems"] if (s["arm"], s["system"]) == ("chosen", "tuned"))


def changed(run, **parts) -> None:
    """Write the tuned system of the comparison anew with other parts."""
    raw = read_json(run.comparison)
    for s in raw["systems"]:
        if (s["arm"], s["system"]) == ("chosen", "tuned"):
            s |= parts
    write_json(run.comparison, raw)


def test_every_level_is_the_one_of_the_comparison_the_lightest_first(loaded):
    raw = sorted(raw_of(loaded)["loads"], key=lambda x: x["concurrency"])
    found = load(loaded).systems.find("chosen", "tuned").loads
    assert [x.at for x in found] == [1, 2, 4, 8] == [x["concurrency"] for x in raw]
    assert [x.requests for x in found] == [20, 40, 80, 160], "warm-up is no measurement"
    for level, told in zip(found, raw, strict=True):
        assert level.throughput.value == told["metrics"]["load.throughput"]["value"]
        assert level.p95.value == told["metrics"]["latency.e2e.p95"]["value"]
    assert found[0].throughput.value < found[1].throughput.value, "two are worked on at a time"


def test_a_failed_load_is_infinitely_slow_and_a_level_without_a_load_is_none():
    raw = {
        "arrival": "poisson", "rate": 2.0, "concurrency": None, "requests": {"timed": 10, "failed": 9},
        "invalid": "the client was late",
        "metrics": {"latency.e2e.p50": {"value": math.inf, "unit": "ms"}},
    }  # fmt: skip
    (found,) = levels([raw, {"arrival": "closed"}, 7])
    assert (found.by, found.at, found.failed, found.invalid) == ("rate", 2.0, 9, "the client was late")
    assert found.p50.text == "infinite"
    assert not found.throughput.known
    assert drawings.throughputs([("x", [found])], "rate") is None
    assert levels(None) == levels({"a": 1}) == ()


def test_page_and_report_draw_the_loads_and_their_numbers(monkeypatch, loaded):
    told = {x["concurrency"]: x["metrics"]["load.throughput"]["value"] for x in raw_of(loaded)["loads"]}
    for text in (sections(opened(monkeypatch, loaded.path, "compare")), page(load(loaded))):
        assert "requests answered a second against requests in flight" in text
        assert "8 in flight" in text
        assert f"{told[8]:.3g}" in text
    assert page(load(loaded)).count("<h2>Under load</h2>") == 1


def test_every_level_is_a_dot_of_its_own(loaded):
    found = load(loaded).systems.find("chosen", "tuned").loads
    assert drawings.throughputs([("tuned", found)], "concurrency").count("<circle") == 4
    assert drawings.throughputs([("tuned", found)], "rate") is None


def test_a_level_that_is_no_evidence_says_why_and_its_words_are_text(monkeypatch, loaded):
    raw = raw_of(loaded)["loads"]
    raw[0] |= {"invalid": "<script>x</script> answers fell behind", "arrival": "<img>"}
    changed(loaded, loads=raw)
    for text in (sections(opened(monkeypatch, loaded.path, "compare")), page(load(loaded))):
        assert "no evidence: &lt;script&gt;" in text
        assert "answers fell behind" in text
        assert "<img" not in text


def test_requests_that_were_sent_again_are_told(loaded):
    assert not [n for n in load(loaded).notes if "sent again" in n]
    changed(loaded, retries=1234)
    assert "1,234 requests of chosen / tuned were sent again" in page(load(loaded))


@pytest.mark.parametrize("odd", ["many", [None, {"concurrency": "two"}], {"concurrency": 1}])
def test_loads_of_another_shape_leave_the_rest_of_the_page(monkeypatch, loaded, odd):
    changed(loaded, loads=odd)
    assert "What changed per item" in sections(opened(monkeypatch, loaded.path, "compare"))
