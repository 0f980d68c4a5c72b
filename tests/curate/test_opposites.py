"""Opposites survive with every embedder, and paraphrases are found.

`opposites.jsonl`: 100 hand-written pairs of opposites and near-misses (negation, number, direction, entity; English and
Vietnamese), all under one label, so that nothing but the guard keeps them apart. `paraphrases.jsonl`: pairs that say
the same. Both were committed before the guard was run on them (benchmarks/opposites.md has the first results).
"""

import collections
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamis.curate.guard import Guard, one_slip
from tamis.curate.pipeline import curate
from tamis.embed import MINILM
from tamis.recipe import Recipe
from tamis.run import Run

HERE = Path(__file__).parent
OPPOSITES, PARAPHRASES = (
    [json.loads(line) for line in (HERE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in ("opposites", "paraphrases")
)


def pairs_that_fell(tmp_path, embedder):
    """What default deduplication makes of all pairs in one file: (kind of pair, number) of each row and its witness."""
    rows = {
        (kind, number, side): pair[side]
        for kind, pairs in (("opposite", OPPOSITES), ("paraphrase", PARAPHRASES))
        for number, pair in enumerate(pairs)
        for side in ("left", "right")
    }
    names = {f"{kind}-{number}-{side}": (kind, number) for kind, number, side in rows}
    file = tmp_path / "in.jsonl"
    file.write_text(
        "".join(
            json.dumps({"id": name, "prompt": text, "completion": "ok", "label": "x"}, ensure_ascii=False) + "\n"
            for name, text in zip(names, rows.values(), strict=True)
        ),
        encoding="utf-8",
    )
    run = Run(tmp_path / "run")
    curate(run, Recipe.check({"name": "o", "data": {"path": str(file)}, "embedder": embedder}), quiet=True)
    ledger = pq.read_table(run.curate / "ledger.parquet").to_pylist()
    key = {r["id"]: names[r["key"]] for r in ledger}
    assert {r["stage"] for r in ledger} <= {None, "deduplicate"}
    return [(key[r["id"]], key[r["witness"]]) for r in ledger if r["stage"] == "deduplicate"]


def test_the_set_is_what_it_says():
    assert len(OPPOSITES) == 100
    assert collections.Counter(p["half"] for p in OPPOSITES) == {1: 50, 2: 50}
    assert {p["language"] for p in OPPOSITES} == {"en", "vi"}
    assert {p["kind"] for p in OPPOSITES} == {"negation", "number", "direction", "entity"}


@pytest.mark.parametrize("embedder", ["lsa", *(pytest.param(e, marks=pytest.mark.slow) for e in ("static", MINILM))])
def test_opposites_survive_and_what_falls_are_paraphrases(tmp_path, embedder):
    if embedder != "lsa":
        pytest.importorskip("sentence_transformers")
    fallen = pairs_that_fell(tmp_path, embedder)
    assert [(pair, witness) for pair, witness in fallen if "opposite" in (pair[0], witness[0])] == []
    right = {pair for pair, witness in fallen if pair == witness}
    assert len(fallen) - len(right) <= 0.05 * len(fallen)
    assert len(right) >= 0.5 * len(PARAPHRASES)


def test_the_guard_alone_keeps_every_opposite_apart():
    """As if every embedder took them for the same."""
    texts = [p[side] for p in OPPOSITES for side in ("left", "right")]
    for guard in (Guard(texts), Guard(texts * 3)):
        assert [p for p in OPPOSITES if guard.same(p["left"], p["right"]) or guard.same(p["right"], p["left"])] == []


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("parcel", "pracel", True),  # exchanged
        ("delivery", "delivry", True),  # lost
        ("parcel", "parvel", True),  # the key beside
        ("parcel", "parmel", False),  # a key far off
        ("plan", "plane", False),
        ("cost", "coast", False),
        ("raise", "praise", False),
        ("orders", "order", False),
    ],
)
def test_a_typo_is_what_a_hand_does(left, right, same):
    assert one_slip(left, right) is one_slip(right, left) is same


@pytest.mark.parametrize(
    ("slip", "word", "times", "same"),
    [
        ("delievry", "delivery", 1000, True),  # exchanged
        ("delievry", "delivery", 990, False),  # the word is not frequent enough beside it
        ("delivry", "delivery", 1000, False),  # lost: too often another word ("though" and "through")
        ("motning", "morning", 1000, False),  # the key beside
        ("cpus", "cups", 1000, False),  # short
        ("Delievry", "delivery", 1000, False),  # a name
    ],
)
def test_a_slip_that_recurs_is_told_by_how_much_rarer_it_is(slip, word, times, same):
    """In a million rows the same slip happens several times; the more rows, the fewer near copies fell."""
    left, right = (f"we asked where the {w} is for the third time this week" for w in (slip, word))
    guard = Guard([left, right, *[f"a {slip} again"] * 4, *[f"the {word} of today"] * (times - 1)])

    assert guard.same(left, right) is guard.same(right, left) is same


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Good morning, wake me at six", "Wake me at six", True),
        ("Wake me at six in the morning", "Wake me at six in the evening", False),
        ("Hi all, delete the messages", "Delete the messages", True),
        ("Delete all messages", "Delete messages", False),
        ("Anh ơi, mở khóa thẻ", "Mở khóa thẻ", True),
        ("Cho anh vay năm triệu", "Cho em vay năm triệu", False),
        ("I can't log in", "I cannot log in", True),
        ("I can't log in", "I can log in", False),
        ("How can I pay?", "Hello, how do I pay? Thanks so much", True),
        ("How much is it", "How many is it", False),
        ("How do you say hello in French?", "How do you say thank you in French?", False),
        ("Translate hi into Thai", "Translate hello into Thai", False),
        ("Nói xin chào bằng tiếng Anh", "Nói cảm ơn bằng tiếng Anh", False),
        ("Sorry, where is it? Many thanks, best regards", "Where is it", True),
        ("Can you tell me when it opens", "Tell me when it opens", True),
        ("Close the window with the cat " * 9, "Close the window with the dog " * 9, False),
    ],
)
def test_a_filler_is_one_by_its_place(left, right, same):
    assert Guard([left, right]).same(left, right) is same


def test_many_rows_in_other_frames_fall_to_the_best_of_them(tmp_path):
    """Forty frames around one request: one row is left, and it is the witness of all others."""
    greetings = ["", "hi ", "hello ", "hey team, ", "good morning, ", "Dear all, ", "hi there, ", "good evening "]
    closings = ["", " thanks", " thank you so much", " please", " kind regards"]
    texts = [f"{g}move my appointment to Friday{c}" for g in greetings for c in closings]
    file = tmp_path / "in.jsonl"
    file.write_text("".join(json.dumps({"prompt": t, "completion": "ok"}) + "\n" for t in texts))
    run = Run(tmp_path / "run")
    curate(run, Recipe.check({"name": "f", "data": {"path": str(file)}, "embedder": "lsa"}), quiet=True)
    ledger = pq.read_table(run.curate / "ledger.parquet").to_pylist()
    (kept,) = [r for r in ledger if r["verdict"] == "kept"]
    assert {r["witness"] for r in ledger} == {None, kept["id"]}
