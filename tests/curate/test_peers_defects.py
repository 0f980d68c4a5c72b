"""Defects found in peers (survey of curation, section 7), each with the test that keeps it out of here.

Data-Juicer 1.6.1, IFD
  keeps scores of 1 and above, the misleading rows:
    test_scoring.test_ifd_scores_every_row_and_drops_what_its_prompt_misleads
  reads the last turn only: test_ifd.test_all_assistant_turns_count_token_by_token
  joins prompt and answer by a blank, counts the answer by another tokenisation:
    test_ifd.test_the_answer_is_found_by_ids_where_its_text_stands_in_the_prompt_too
    test_ifd.test_the_score_is_the_papers_ratio_over_the_answers_own_tokens
Data-Juicer, MinHash
  rows under five words share one signature:
    test_parts.test_short_rows_do_not_collapse_into_one; through the pipeline here
distilabel, EmbeddingDedup
  both copies go: here
  the threshold is a distance, so that a higher one drops more: here
NeMo Curator, SemDeDup; union-find
  dropped rows without a kept neighbour:
    test_parts.test_a_chain_leaves_no_removal_uncovered; on vectors here
lm-eval, Janitor
  saves the file's name in place of what was found: here
open-instruct
  at most search_size rows of a leak are removed: here
semhash 0.5
  the first in input order is kept, not the best:
    test_parts.test_the_better_copy_is_kept, test_builtin.test_witnesses_are_kept_by_deduplication
  representatives are sought among 1,000 candidates: here
  nothing is saved: test_builtin.test_a_rerun_does_nothing
Superfiltering, DataFlow
  the answer's span is found by its last occurrence in the text:
    test_ifd.test_the_answer_is_found_by_ids_where_its_text_stands_in_the_prompt_too
  exceptions are swallowed and the score is 0:
    test_ifd.test_empty_answers_have_no_score_and_are_counted
    test_ifd.test_numbers_that_are_not_finite_are_no_score
    test_parts.test_a_rule_of_the_user_that_crashes_names_file_and_line
  truncation shortens the answer in silence:
    test_ifd.test_long_rows_are_cut_to_the_window_and_keep_answer_and_prompt
CaR
  one row per cluster, whatever n2 says: here
  its test set gives quality away by escapes:
    test_quality.test_escapes_do_not_give_the_better_version_away
"""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import schema
from tamis.curate import deduplicate, near, sample, similar
from tamis.curate.pipeline import curate
from tamis.errors import UserError
from tamis.recipe import Recipe
from tamis.run import Run


def made(folder, rows, items=None, **curation):
    for name, given_ in (("data", rows), ("eval", items)):
        if given_ is not None:
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in given_))
    raw = {"name": "r", "data": {"path": str(folder / "data.jsonl")}, "embedder": "lsa", "curate": curation}
    if items is not None:
        raw |= {"eval": {"path": str(folder / "eval.jsonl")}}
    run = Run(folder / "run")
    curate(run, Recipe.check(raw), quiet=True)
    return run, {r["key"]: r for r in pq.read_table(run.curate / "ledger.parquet").to_pylist()}


def test_rows_under_five_words_are_not_one_row(tmp_path):
    texts = ["yes", "no", "ok then", "where is it", "stop now", "2 + 2", "2 - 2", "Huế", "huệ", "refund please"]
    _, fates = made(tmp_path, [{"id": t, "prompt": t, "completion": "a"} for t in texts])
    assert [t for t in texts if fates[t]["stage"] is not None] == []


def rows_of(vectors, quality_):
    n = len(vectors)
    texts = [f"row {i}" for i in range(n)]
    return deduplicate.Rows(
        ids=[f"r{i:04d}" for i in range(n)],
        quality=np.round(np.asarray(quality_, float), 4),
        prompts=texts,
        texts=texts,
        answers=["same"] * n,
        labels=[None] * n,
        exact=np.arange(n),
        bands=near.signatures(texts),
        vectors=vectors,
        truncated=np.zeros(n, bool),
    )


def test_of_two_copies_one_stays_whichever_comes_first():
    vectors = np.array([[127, 0, 0], [126, 10, 0], [0, 0, 127]], np.int8)
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        fates = deduplicate.deduplicate(rows_of(vectors[order], [0.5, 0.6, 0.7]), near=None, semantic=0.9, guard=False)
        assert (fates.kind < 0).sum() == 2


@st.composite
def clouds(draw):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    n, d = draw(st.integers(2, 60)), draw(st.integers(2, 4))
    vectors = rng.normal(size=(n, d))
    return np.rint(127 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.int8), rng.random(n)


@given(clouds())
@settings(max_examples=60, deadline=None)
def test_a_threshold_is_a_similarity_a_higher_one_asks_for_more(cloud):
    """Every dropped row has a kept, better witness at the threshold; every pair of kept rows is below it."""
    table = rows_of(*cloud)
    for threshold in (0.6, 0.8, 0.95):
        fates = deduplicate.deduplicate(table, near=None, semantic=threshold, guard=False)
        fallen, kept = np.flatnonzero(fates.kind >= 0), np.flatnonzero(fates.kind < 0)
        witness = fates.witness[fallen]
        assert (fates.kind[witness] < 0).all()
        assert (table.quality[witness] >= table.quality[fallen]).all()
        assert (similar.cosines(table.vectors, np.stack([fallen, witness], 1)) >= threshold).all()
        i, j = np.triu_indices(len(kept), 1)
        assert (similar.cosines(table.vectors, np.stack([kept[i], kept[j]], 1)) < threshold).all()


def test_a_higher_threshold_never_drops_more_of_two():
    vectors = np.array([[127, 0], [120, 42]], np.int8)  # cosine 0.944
    dropped = [
        int((deduplicate.deduplicate(rows_of(vectors, [1, 0]), near=None, semantic=t, guard=False).kind >= 0).sum())
        for t in (0.5, 0.9, 0.94, 0.95, 1.0)
    ]
    assert dropped == [1, 1, 1, 0, 0]


def test_what_is_saved_of_a_leak_is_the_leak(tmp_path):
    item = "please cancel the order of the blue lamp today"
    rows = [{"id": "l", "prompt": f"Hello, {item}, thanks", "completion": "cancel"}]
    rows += [{"id": f"o{i}", "prompt": f"what about the {w} chair", "completion": "c"} for i, w in enumerate("abc")]
    run, fates = made(tmp_path, rows, [{"id": "e1", "prompt": item, "completion": "cancel"}])
    saved = schema.read_json(run.curate / "decontamination.json")
    assert saved["leaks"] == 1
    assert saved["leaks_by_reason"] == {"leak_ngram": 1}
    (stored,) = pq.read_table(run.curate / "eval.parquet").to_pylist()
    assert fates["l"]["witness"] == stored["id"]
    assert stored["messages"][0]["content"] == item


def test_every_row_of_a_leak_is_removed_however_many_there_are(tmp_path):
    item = "please cancel the order of the blue lamp today"
    rows = [{"id": f"l{i}", "prompt": f"case {i}: {item}", "completion": "cancel"} for i in range(400)]
    _, fates = made(
        tmp_path,
        [*rows, {"id": "o", "prompt": "hello", "completion": "x"}],
        [{"id": "e1", "prompt": item, "completion": "cancel"}],
    )
    assert {r["stage"] for k, r in fates.items() if k != "o"} == {"decontaminate"}


def pool(n, seed=0, groups=None):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups or n, 16))
    vectors = centres[np.arange(n) % len(centres)] + 0.05 * rng.normal(size=(n, 16))
    vectors = np.rint(127 * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.int8)
    return sample.Pool([f"r{i:05d}" for i in range(n)], vectors, np.full(n, 0.5), np.ones(n, int), [None] * n, {})


def test_every_row_is_a_candidate_beyond_the_first_thousand():
    rows = pool(3000)
    rows.quality[2500:2510] = 1.0  # the best rows come late
    ranked, _ = sample.order(rows, "cluster", 7)
    assert sorted(ranked.tolist()) == list(range(3000))
    assert (ranked[:300] >= 1000).sum() >= 100
    assert np.isin(np.arange(2500, 2510), ranked[:300]).all()


def test_a_cluster_gives_as_many_rows_as_its_share():
    rows = pool(200, groups=4)
    ranked, clusters = sample.order(rows, "cluster", 7, clusters=4)
    taken = np.bincount(clusters[ranked[:40]], minlength=4)
    assert taken.tolist() == [10, 10, 10, 10]


def test_every_test_named_above_is_there():
    here = Path(__file__).parent
    for file, name in re.findall(r"(test_\w+)\.(test_\w+)", __doc__):
        assert f"def {name}(" in (here / f"{file}.py").read_text(encoding="utf-8"), f"{file}.{name}"


GREETING = "Hello and welcome to the help desk of Blue Lamp, I am your assistant. How can I help you today?"


def chat(key, *said):
    roles = ("assistant", "user")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate((GREETING, *said))]
    return {"id": key, "messages": [*turns, {"role": "assistant", "content": "Let me see."}]}


def test_a_turn_that_all_chats_share_is_no_leak(tmp_path):
    """Peers' n-gram rules count it: here it has 20 of an item's 30 words."""
    asked = ["my parcel has not come since Monday", "the tap in the kitchen drips all night",
             "which of the two beds is wider", "cancel the chair that I ordered"]  # fmt: skip
    others = ["the lamp flickers when it rains", "is the shop open on Sunday", "the invoice names a wrong street"]
    items = [chat(f"e{i}", text) for i, text in enumerate(asked)]
    rows = [chat(f"o{i}", text) for i, text in enumerate(others)]
    rows += [chat("leak", f"{asked[1]} and I cannot sleep"), chat("copy", asked[0])]

    _, fates = made(tmp_path, rows, items)

    assert {k: r["reason"] for k, r in fates.items() if r["stage"] == "decontaminate"} == {
        "leak": "leak_ngram",
        "copy": "leak_exact",
    }


def test_where_nothing_is_left_it_says_what_took_the_rows(tmp_path):
    rows = [
        {"id": f"r{i}", "prompt": f"where is parcel number {i} of {i + 7}", "completion": "track"} for i in range(5)
    ]
    with pytest.raises(UserError) as raised:
        made(tmp_path, rows, rows, select={"size": 2})

    assert "no row is left to select from" in str(raised.value)
    assert "5 fell as leak_exact (decontaminate)" in str(raised.value)
    assert "eval" in str(raised.value.hint)
