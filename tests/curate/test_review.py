"""What people decided holds on the next run, for every row that says the same."""

import json

import pyarrow.parquet as pq
import pytest

from tamis.curate import review
from tamis.curate.pipeline import curate, training_source
from tamis.errors import DataError, RecipeError
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.writing import write_rows


def write(path, values):
    path.write_text("".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values), encoding="utf-8")
    return path


ROWS = [
    {"ticket_id": "a", "prompt": "Where is my parcel?", "completion": "track", "intent": "track"},
    {"ticket_id": "b", "prompt": "where is my parcel", "completion": "track", "intent": "track"},
    {"ticket_id": "c", "prompt": "lorem ipsum dolor", "completion": "other", "intent": "other"},
    {"ticket_id": "d", "prompt": "Give me my money back", "completion": "track", "intent": "track"},
    {"ticket_id": "e", "prompt": "Please block the card", "completion": "block", "intent": "block"},
    {"ticket_id": "f", "prompt": "Please open the lamp box", "completion": "lamp", "intent": "lamp"},
    {"ticket_id": "g", "prompt": "Change my address to Leeds", "completion": "address", "intent": "address"},
]


def recipe(file, annotations=None, **more):
    curation = {"annotations": str(annotations)} if annotations else {}
    return Recipe.check(
        {
            "name": "r",
            "data": {"path": str(file)},
            "embedder": "lsa",
            "curate": {**curation, **more.pop("curate", {})},
            **more,
        }
    )


def ledger(run):
    return {row["key"]: row for row in pq.read_table(run.curate / "ledger.parquet").to_pylist()}


def decide(path, rows, **decisions):
    """An annotations file: key=(decision, label)."""
    return write(
        path,
        [
            {"content": rows[key]["id"][:16], "decision": d, "reviewer": "lan", **({"label": label} if label else {})}
            for key, (d, label) in decisions.items()
        ],
    )


@pytest.fixture
def first(tmp_path):
    """The data and what becomes of it without review."""
    file = write(tmp_path / "in.jsonl", ROWS)
    run = Run(tmp_path / "first")
    curate(run, recipe(file), quiet=True)
    return file, ledger(run)


def test_without_review_two_rows_fall(first):
    _, rows = first
    assert {k: r["reason"] for k, r in rows.items() if r["reason"]} == {"c": "placeholder", **_copy(rows)}


def _copy(rows):
    """The one of the two exact copies that falls: which, is decided by score and id."""
    return {k: "exact" for k in "ab" if rows[k]["reason"] == "exact"}


def test_keep_beats_rules_deduplication_and_selection(first, tmp_path):
    file, before = first
    copy = next(iter(_copy(before)))
    made = decide(tmp_path / "a.jsonl", before, c=("keep", None), **{copy: ("keep", None)})
    run = Run(tmp_path / "run")
    curate(run, recipe(file, made, curate={"select": {"size": 2}}), quiet=True)
    rows = ledger(run)
    assert {k for k, r in rows.items() if r["verdict"] == "kept"} == {"c", copy}
    other = "ab".replace(copy, "")
    assert (rows[other]["reason"], rows[other]["witness"]) == ("exact", rows[copy]["id"])


def test_two_rows_to_keep_that_are_copies_of_one_another_both_stay(first, tmp_path):
    file, before = first
    made = decide(tmp_path / "a.jsonl", before, a=("keep", None), b=("keep", None))
    run = Run(tmp_path / "run")
    curate(run, recipe(file, made), quiet=True)
    assert {ledger(run)[k]["verdict"] for k in "ab"} == {"kept"}


def test_of_rows_that_say_the_very_same_one_is_kept(tmp_path):
    file = write(tmp_path / "in.jsonl", [{**ROWS[4], "ticket_id": key} for key in "xyz"])
    run = Run(tmp_path / "first")
    curate(run, recipe(file), quiet=True)
    made = decide(tmp_path / "a.jsonl", ledger(run), x=("keep", None))
    run = Run(tmp_path / "run")
    curate(run, recipe(file, made), quiet=True)
    assert sorted(r["reason"] or "" for r in ledger(run).values()) == ["", "exact", "exact"]


def test_drop_comes_first_and_is_named(first, tmp_path):
    file, before = first
    run = Run(tmp_path / "run")
    curate(run, recipe(file, decide(tmp_path / "a.jsonl", before, e=("drop", None), c=("drop", None))), quiet=True)
    rows = ledger(run)
    assert {(rows[k]["stage"], rows[k]["reason"]) for k in "ec"} == {("clean", "reviewed")}


def test_a_leak_falls_though_a_reviewer_wants_it_kept(first, tmp_path):
    file, before = first
    held = write(tmp_path / "eval.jsonl", [{"prompt": "Please block the card", "completion": "block"}])
    made = decide(tmp_path / "a.jsonl", before, e=("keep", None))
    run = Run(tmp_path / "run")
    curate(run, recipe(file, made, eval={"path": str(held)}), quiet=True)
    assert ledger(run)["e"]["stage"] == "decontaminate"
    card = json.loads((run.curate / "card.json").read_text())
    assert card["review"]["must_keep"] == {"decontaminate": 1}


def test_a_row_to_keep_is_not_held_out(first, tmp_path):
    file, before = first
    made = decide(tmp_path / "a.jsonl", before, d=("keep", None))
    fates = []
    for seed in range(6):
        run = Run(tmp_path / f"run{seed}")
        curate(run, recipe(file, made, eval={"holdout": 0.6}, seed=seed), quiet=True)
        fates.append(ledger(run)["d"]["stage"])
    assert fates == [None] * 6


def test_relabel_changes_label_answer_ledger_and_what_is_written(first, tmp_path):
    file, before = first
    run = Run(tmp_path / "run")
    made = recipe(file, decide(tmp_path / "a.jsonl", before, d=("relabel", "refund")))
    curate(run, made, quiet=True)
    rows = ledger(run)
    assert rows["d"]["label"] == "refund"
    assert rows["d"]["id"] == before["d"]["id"], "the id stays that of the row as it was read"
    assert {r["id"] for r in rows.values()} == {r["id"] for r in before.values()}
    write_rows(run.curate / "records", [r["id"] for r in rows.values()], training_source(made), tmp_path / "out.jsonl")
    after = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert after == [{**r, "completion": "refund", "intent": "refund"} if r["ticket_id"] == "d" else r for r in ROWS]
    edits = pq.read_table(run.curate / "records" / "edits.parquet").to_pylist()
    assert [(e["path"], e["value"], e["was"], e["reviewer"]) for e in edits] == [
        ('["completion"]', '"refund"', "track", "lan"),
        ('["intent"]', '"refund"', "track", "lan"),
    ]
    card = json.loads((run.curate / "card.json").read_text())
    assert card["labels"]["read"]["track"] == 3
    assert "refund" not in card["labels"]["read"]
    assert card["labels"]["kept"]["refund"] == 1
    assert card["review"]["reviewers"] == {"lan": {"relabel": 1}}


@pytest.mark.parametrize(
    ("row", "after"),
    [
        (
            {"instruction": "Give it back", "input": "", "output": "track", "intent": "track"},
            {"instruction": "Give it back", "input": "", "output": "refund", "intent": "refund"},
        ),
        (
            {
                "conversations": [{"from": "human", "value": "Give it back"}, {"from": "gpt", "value": "track"}],
                "intent": "track",
            },
            {
                "conversations": [{"from": "human", "value": "Give it back"}, {"from": "gpt", "value": "refund"}],
                "intent": "refund",
            },
        ),
        ({"text": "track", "intent": "track"}, {"text": "track", "intent": "refund"}),
        (
            {"text": "x y", "answer": "A long answer.", "label": 3},
            {"text": "x y", "answer": "A long answer.", "label": "refund"},
        ),
        (
            {"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "assistant", "content": "track"}]},
            {"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "assistant", "content": "refund"}]},
        ),
    ],
)
def test_relabel_finds_the_place_in_every_shape(tmp_path, row, after):
    file = write(tmp_path / "in.jsonl", [row, {"prompt": "other", "completion": "row"}])
    run = Run(tmp_path / "first")
    curate(run, recipe(file), quiet=True)
    found = next(r["id"] for r in ledger_rows(run) if r["line"] == 1)
    made = recipe(file, write(tmp_path / "a.jsonl", [_line(content=found, decision="relabel", label="refund")]))
    run = Run(tmp_path / "run")
    curate(run, made, quiet=True)
    write_rows(run.curate / "records", [found], training_source(made), tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == after


def ledger_rows(run):
    return pq.read_table(run.curate / "ledger.parquet").to_pylist()


def _line(**values):
    return {"content": "0123456789abcdef", "decision": "keep", "reviewer": "lan", **values}


def test_the_last_line_about_a_content_counts_and_a_whole_id_is_taken_for_its_content(tmp_path):
    file = write(
        tmp_path / "a.jsonl",
        [_line(), _line(content="0123456789abcdef-77aa-3", decision="drop", reviewer="minh"), _line(content="f" * 16)],
    )
    found = review.load(str(file))
    assert found.of("0123456789abcdef-0000-0") == "drop"
    assert found.summary(["0123456789abcdef-0000-0"]) == {
        "reviewers": {"lan": {"keep": 1}, "minh": {"drop": 1}},
        "overruled": 1,
        "unmatched": 1,
    }


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ("[1]", "is an object"),
        (json.dumps(_line(content="T-1")), "names no row"),
        (json.dumps(_line(decision="kep")), "did you mean 'keep'"),
        (json.dumps(_line(decision="relabel")), "needs a label"),
        (json.dumps(_line(reviewer=" ")), "names its reviewer"),
    ],
)
def test_a_bad_line_is_an_error_with_file_and_line(tmp_path, line, what):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(_line()) + "\n\n" + line + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl:3") as error:
        review.load(str(file))
    assert what in str(error.value)


def test_files_beside_the_data_are_part_of_the_fingerprint(first, tmp_path):
    """Another content of an annotations, must-keep or rule file redoes the stage; the same content does not."""
    file, before = first
    made = decide(tmp_path / "a.jsonl", before, e=("drop", None))
    must, rule = tmp_path / "must.txt", tmp_path / "rule.py"
    must.write_text("a\n")
    rule.write_text("def rule(record):\n    return None\n")
    asked = recipe(file, made, curate={"select": {"must_keep": str(must)}, "rules": {"custom": [f"{rule}:rule"]}})
    run = Run(tmp_path / "run")
    assert not curate(run, asked, quiet=True)["skipped"]
    for changed in (made, must, rule):
        assert curate(run, asked, quiet=True)["skipped"]
        changed.write_text(changed.read_text() + "\n")
        assert not curate(run, asked, quiet=True)["skipped"]


@pytest.mark.parametrize("key", ["annotations", "select.must_keep", "rules.custom"])
def test_a_missing_file_beside_the_data_is_named_with_its_key(first, key):
    file, _ = first
    setting = {
        "annotations": {"annotations": "gone.jsonl"},
        "select.must_keep": {"select": {"must_keep": "gone.txt"}},
        "rules.custom": {"rules": {"custom": ["gone.py:rule"]}},
    }[key]
    with pytest.raises(RecipeError, match=f"curate.{key}: gone"):
        curate(Run(file.parent / "run"), recipe(file, curate=setting), quiet=True)
