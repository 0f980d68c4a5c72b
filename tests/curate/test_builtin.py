"""Curation against the planted truth of the built-in data: recall and precision, not "it ran"."""

import collections
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamis import data
from tamis.curate.pipeline import curate
from tamis.recipe import Recipe
from tamis.run import Run

DATA = Path(next(iter(data.__path__)))


def rows(name):
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def recipe(path=DATA / "tickets.jsonl", **curation):
    return Recipe.check(
        {
            "name": "tickets",
            "data": {"path": str(path)},
            "eval": {"path": str(DATA / "eval.jsonl")},
            "embedder": "lsa",
            "evaluate": {"task": {"kind": "classify"}},
            "curate": {"select": {"size": 300, "quota": {"label": {"min": 5}}}, **curation},
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = Run(tmp_path_factory.mktemp("run"))
    curate(folder, recipe(), quiet=True)
    return folder


@pytest.fixture(scope="module")
def ledger(run):
    return {row["key"]: row for row in pq.read_table(run.curate / "ledger.parquet").to_pylist()}


@pytest.fixture(scope="module")
def truth():
    kinds = collections.defaultdict(list)
    for row in rows("truth.jsonl"):
        kinds[row["kind"]].append(row)
    return kinds


def merged(ledger, copy):
    """Whether a copy or its original fell to the other, or both to a third row of the same group."""
    return any(ledger[k]["stage"] == "deduplicate" for k in (copy["key"], copy["of"]))


def test_every_row_has_one_fate(run, ledger):
    funnel = json.loads((run.curate / "funnel.json").read_text())
    dropped = sum(n for reasons in funnel["dropped"].values() for n in reasons.values())
    assert funnel["read"] == len(rows("tickets.jsonl")) == len(ledger) == funnel["kept"] + dropped


def test_every_exact_copy_is_found(ledger, truth):
    assert all(merged(ledger, copy) for copy in truth["exact"])


def test_near_copies_are_found(ledger, truth):
    found = sum(merged(ledger, copy) for copy in truth["near"])
    assert found / len(truth["near"]) >= 0.95


def test_near_and_semantic_removals_are_copies(ledger, truth):
    """Precision: who falls as a near copy belongs to the same ticket as its witness."""
    original = {copy["key"]: copy["of"] for kind in ("exact", "near") for copy in truth[kind]}
    of_id = {row["id"]: key for key, row in ledger.items()}
    pairs = [(k, of_id[r["witness"]]) for k, r in ledger.items() if r["reason"] in ("near", "semantic")]
    right = sum(original.get(a, a) == original.get(b, b) for a, b in pairs)
    assert pairs
    assert right / len(pairs) >= 0.98


def test_every_junk_row_has_the_planted_reason(ledger, truth):
    wrong = [
        (r["key"], r["reason"], ledger[r["key"]]["reason"])
        for r in truth["junk"]
        if ledger[r["key"]]["reason"] != r["reason"]
    ]
    assert wrong == []


def test_no_honest_row_falls_to_a_rule(ledger, truth):
    junk = {r["key"] for r in truth["junk"]}
    assert [k for k, r in ledger.items() if r["stage"] == "score" and k not in junk] == []


def test_every_opposite_survives(ledger, truth):
    assert [r["key"] for r in truth["opposite"] if ledger[r["key"]]["stage"] not in (None, "select")] == []


def test_every_leak_is_found_and_names_its_item(ledger, truth):
    items = {row["id"]: row["text"] for row in rows("eval.jsonl")}
    for leak in truth["leak"]:
        assert leak["of"] in items
        assert ledger[leak["key"]]["stage"] == "decontaminate"
    assert all(r["witness"] for r in ledger.values() if r["stage"] == "decontaminate")


def test_witnesses_are_kept_by_deduplication(ledger):
    by_id = {row["id"]: row for row in ledger.values()}
    for row in ledger.values():
        if row["stage"] == "deduplicate":
            assert by_id[row["witness"]]["stage"] in (None, "select")
            assert by_id[row["witness"]]["score_quality"] >= row["score_quality"]


def test_wrong_labels_are_rarely_chosen(ledger, truth):
    """Random drawing would keep about 8 % of them; choosing by neighbour agreement keeps next to none."""
    kept = sum(ledger[r["key"]]["verdict"] == "kept" for r in truth["wrong_label"])
    assert kept <= 0.02 * 300


def test_quotas_and_size_hold(ledger):
    kept = collections.Counter(r["label"] for r in ledger.values() if r["verdict"] == "kept")
    assert sum(kept.values()) == 300
    assert len(kept) == 28
    assert min(kept.values()) >= 5


def test_a_rerun_does_nothing(run):
    before = (run.curate / "ledger.parquet").stat().st_mtime_ns
    assert curate(run, recipe(), quiet=True)["skipped"]
    assert (run.curate / "ledger.parquet").stat().st_mtime_ns == before


def test_data_is_what_its_generator_makes():
    from tamis.data.generate import build

    assert [json.loads(json.dumps(rows_)) for rows_ in build()] == [
        rows("tickets.jsonl"),
        rows("eval.jsonl"),
        rows("truth.jsonl"),
    ]
