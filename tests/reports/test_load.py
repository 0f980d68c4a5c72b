"""A system under load: throughput and latency at every measured level, from the requests alone."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from make_run import write_loads
from pages import opened, sections

from tamis import schema
from tamis.reports import drawings
from tamis.reports.folder import Folder
from tamis.reports.load_view import levels


@pytest.fixture
def loaded(copy):
    items = pq.read_table(copy.curate / "eval.parquet", columns=["id"]).to_pylist()
    write_loads(copy.evaluate("chosen", "tuned"), items, 0.4)
    return copy


def test_throughput_rises_until_the_machine_is_full_and_latency_after(loaded):
    found = levels(Folder(loaded), "chosen", "tuned")
    assert [x.at for x in found] == [1, 2, 4, 8]
    assert [x.throughput for x in found] == pytest.approx([2.5, 5.0, 5.0, 5.0])
    assert [x.p95.value for x in found] == pytest.approx([400, 400, 800, 1600])
    assert [x.requests for x in found] == [20, 40, 80, 160], "warm-up is no measurement"


def test_a_failed_request_is_infinitely_slow_and_in_an_open_loop_waiting_counts(copy):
    folder = copy.evaluate("chosen", "tuned")
    rows = [
        {"id": "x", "warmup": False, "scheduled_s": i * 1.0, "sent_s": i + 0.5, "first_s": None, "last_s": i + 0.7,
         "prompt_tokens": None, "output_tokens": None, "status": "error" if i == 9 else "ok"}
        for i in range(10)
    ]  # fmt: skip
    schema.write_parquet(folder / "load-0.parquet", pa.Table.from_pylist(rows, schema.REQUESTS))
    level = {"arrival": "poisson", "rate": 1.0, "concurrency": None, "file": "load-0.parquet"}
    schema.write_json(folder / "load.json", {"levels": [level, {**level, "file": "../../elsewhere.parquet"}]})
    (found,) = levels(Folder(copy), "chosen", "tuned")
    assert (found.by, found.at, found.failed) == ("rate", 1.0, 1)
    assert found.p50.value == pytest.approx(700)
    assert found.p95.value == math.inf
    assert found.throughput == pytest.approx(9 / (8.7 - 0.5))


def test_the_page_draws_the_loads_and_their_numbers(monkeypatch, loaded):
    text = sections(opened(monkeypatch, loaded.path, "compare"))
    assert "requests answered a second against requests in flight" in text
    assert "8 in flight" in text
    assert ">5.00/s<" in text or ">5/s<" in text


def test_every_level_is_a_dot_of_its_own(loaded):
    found = levels(Folder(loaded), "chosen", "tuned")
    assert drawings.throughputs([("tuned", found)], "concurrency").count("<circle") == 4
    assert drawings.throughputs([("tuned", found)], "rate") is None


def test_a_load_that_cannot_be_read_is_said_and_the_page_stays(monkeypatch, loaded):
    (loaded.evaluate("chosen", "tuned") / "load-1.parquet").write_bytes(b"PAR1")
    app = opened(monkeypatch, loaded.path, "compare")
    assert "a load of chosen / tuned cannot be read" in sections(app)
    assert "4 in flight" in sections(app)
