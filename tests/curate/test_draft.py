"""An evaluation set drafted from the data, reviewed, frozen, and out of training from then on."""

import collections
import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tamis.curate.draft import _shares
from tests.tamis.calling import tamis

TOPICS = ("parcel", "invoice", "refund", "password", "subscription", "voucher")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Sixty questions in two labels, five to one; each has a twin that only greets, in another place of the file."""
    monkeypatch.chdir(tmp_path)
    rows, draw = [], random.Random(1)
    for i in range(60):
        told = " ".join("".join(draw.choices("abcdefghij", k=7)) for _ in range(12))
        text = f"Question {i} on my {TOPICS[i % 6]} with the marks {told}, what should I do about it today please"
        label = "rare" if i % 6 == 0 else "common"
        rows += [{"text": text, "intent": label, "n": i}, {"text": text + " thanks", "intent": label, "n": i}]
    Path("data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows[::2] + rows[1::2]))
    raw = {
        "name": "r",
        "data": {"path": "data.jsonl", "columns": {"prompt": "text", "label": "intent"}},
        "embedder": "lsa",
        "curate": {"decontaminate": {"enabled": False}, "deduplicate": {"enabled": False}},
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(raw))
    return raw


def drafted(items=12):
    done = tamis("evaluate", "recipe.yaml", "--build", "eval.jsonl", "--items", str(items))
    assert done.code == 0, done.err
    return [json.loads(line) for line in Path("eval.jsonl").read_text().splitlines()]


def review(rows, *dropped):
    told = [{**row, "review": "drop" if at in dropped else "ok"} for at, row in enumerate(rows)]
    Path("eval.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in told))
    return tamis("evaluate", "recipe.yaml", "--freeze", "eval.jsonl")


def curated(raw):
    Path("recipe.yaml").write_text(yaml.safe_dump(raw | {"eval": {"path": "eval.jsonl", "frozen": "eval.frozen.json"}}))
    return tamis("curate", "recipe.yaml", "--quiet")


def test_a_draft_has_each_stratum_in_proportion_and_one_row_of_a_component(recipe):
    rows = drafted()

    assert collections.Counter(r["stratum"] for r in rows) == {"common": 10, "rare": 2}
    assert {len(r["leaving"]) for r in rows} == {2}  # the question and its twin
    assert len({id_ for r in rows for id_ in r["leaving"]}) == 24
    first = Path("eval.jsonl").read_bytes()
    again = tamis("evaluate", "recipe.yaml", "--build", "eval.jsonl")
    assert again.code == 2
    assert Path("eval.jsonl").read_bytes() == first  # nobody's review is written over


def test_what_is_not_reviewed_is_not_frozen(recipe):
    rows = drafted()
    Path("eval.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [{**rows[0], "review": "ok"}, *rows[1:]]))

    done = tamis("evaluate", "recipe.yaml", "--freeze", "eval.jsonl")

    assert done.code == 2
    assert "11 of 12 rows are not reviewed" in done.err
    assert "eval.jsonl:2" in done.err


def test_items_and_their_twins_leave_training_and_dropped_ones_come_back(recipe):
    assert review(drafted(), 3, 7).code == 0
    rows = [json.loads(line) for line in Path("eval.jsonl").read_text().splitlines()]
    assert len(rows) == 10

    assert curated(recipe).code == 0

    ledger = pq.read_table("runs/r/curate/ledger.parquet").to_pylist()
    gone = {r["id"] for r in ledger if (r["stage"], r["reason"]) == ("split", "held_out")}
    assert gone == {id_ for r in rows for id_ in r["leaving"]}
    assert len(gone) == 20
    assert pq.read_table("runs/r/curate/eval.parquet").num_rows == 10


def test_a_frozen_set_that_was_changed_is_refused(recipe):
    review(drafted())
    assert curated(recipe).code == 0
    Path("eval.jsonl").write_text(Path("eval.jsonl").read_text().replace("rare", "common", 1))

    done = curated(recipe)

    assert done.code == 2
    assert "not the one that was frozen" in done.err


def test_more_items_than_there_are_components_is_an_error(recipe):
    done = tamis("evaluate", "recipe.yaml", "--build", "eval.jsonl", "--items", "61")

    assert done.code == 2
    assert "holds 60 that are not near-duplicates" in done.err
    assert not Path("eval.jsonl").exists()


@pytest.mark.parametrize(
    ("sizes", "count", "shares"),
    [
        ({"a": 50, "b": 50}, 10, {"a": 5, "b": 5}),
        ({"a": 98, "b": 1, "c": 1}, 10, {"a": 8, "b": 1, "c": 1}),
        ({"a": 3, "b": 3, "c": 3}, 2, {"a": 0, "b": 1, "c": 1}),
        ({"a": 1, "b": 9}, 10, {"a": 1, "b": 9}),
    ],
)
def test_shares_are_whole_and_leave_no_stratum_out(sizes, count, shares):
    found = _shares(sizes, count)

    assert sum(found.values()) == count
    assert sorted(found.values()) == sorted(shares.values())
