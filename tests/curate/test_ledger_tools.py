"""Questions to a finished run: what would have kept a row, what another run made of it, SQL, where rows are missing."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tamis import schema
from tamis.curate import gaps
from tamis.curate.pipeline import curate
from tamis.curate.why_not import settle, why_not
from tamis.diff import diff
from tamis.errors import UserError
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.sql import ask

LONG = "My parcel with the blue garden chairs has been at the depot in Leeds for nine days, when will it be delivered?"
ROWS = {
    "best": (LONG, "track"),
    "near": (LONG.replace("delivered", "deliverd") + "!!!!", "track"),
    "framed": ("Hi " + LONG + "!!!!", "track"),
    "known": ("The bill is delivered by mail in March", "bill"),
    "copy": (LONG.upper(), "track"),
    "junk": ("lorem ipsum dolor <br> sit amet", "track"),
    "leak": ("So: please cancel the order of the blue lamp today", "cancel"),
    "same": ("Where can I see the bill of my last order?", "bill"),
    "vn": ("Tôi muốn đổi địa chỉ giao hàng sang Huế", "address"),
    "card": ("Block the card that I lost in the train", "block"),
    "code": ("The voucher from the leaflet does not work", "voucher"),
}
BAD = '{"prompt": "no answer'


def write(path, rows):
    lines = [{"id": key, "prompt": p, "completion": a, "label": a} for key, (p, a) in rows.items()]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in lines) + BAD + "\n", encoding="utf-8")
    return path


def recipe(folder, **curation):
    raw = {"rules": {"languages": ["en"]}, "deduplicate": {"semantic": 0.8}, "select": {"size": 4}, **curation}
    return Recipe.check(
        {
            "name": "r",
            "data": {"path": str(folder / "data.jsonl")},
            "eval": {"path": str(folder / "eval.jsonl")},
            "embedder": "lsa",
            "evaluate": {"task": {"kind": "classify"}},
            "curate": raw,
        }
    )


def made(folder, settings, name="run"):
    run = Run(folder / name)
    curate(run, settings, quiet=True)
    run.recipe_file.write_text(settings.dump(), encoding="utf-8")
    return run


def fates(run):
    return {r["key"]: r for r in pq.read_table(run.curate / "ledger.parquet").to_pylist()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("ledger")
    write(path / "data.jsonl", ROWS)
    items = [
        {"id": "e1", "prompt": "please cancel the order of the blue lamp today", "label": "cancel"},
        {"id": "e2", "prompt": "my card is gone, stop it", "label": "block"},
        {"id": "e3", "prompt": "I want to hear a joke about lamps", "label": "joke"},
    ]
    (path / "eval.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
    return path


@pytest.fixture(scope="module")
def run(folder):
    return made(folder, recipe(folder))


def kept_after(folder, tmp_path, run, key, without=()):
    """The verdict on a row once the changes that `why_not` names are made, and nothing else."""
    found = why_not(run, key)
    settings = Recipe.of_run(run.path).changed(
        {c.key: c.value for c in found.changes if c.key != "data"} | {"curate.select.size": None} | dict(without)
    )
    again = made(tmp_path, settings, "again")
    return fates(again)[key]["verdict"]


@pytest.mark.parametrize(
    ("key", "stage", "keys"),
    [
        ("junk", "score", {"curate.rules.placeholder", "curate.rules.markup"}),
        ("vn", "score", {"curate.rules.languages"}),
        ("leak", "decontaminate", {"curate.decontaminate.coverage"}),
        ("near", "deduplicate", {"curate.deduplicate.near", "curate.deduplicate.semantic"}),
        ("framed", "deduplicate", {"curate.deduplicate.near", "curate.deduplicate.semantic"}),
    ],
)
def test_the_change_it_names_keeps_the_row(folder, tmp_path, run, key, stage, keys):
    found = why_not(run, key)
    assert found.stage == stage
    assert {c.key for c in found.changes} == keys
    assert kept_after(folder, tmp_path, run, key) == "kept"


@pytest.mark.parametrize("key", ["near", "leak"])
def test_a_threshold_is_the_first_that_keeps_the_row(folder, tmp_path, run, key):
    """Two steps lower, the row falls again; one step is what rounding takes."""
    for change in why_not(run, key).changes:
        lower = {change.key: round(change.value - 0.0002, 4)}
        assert kept_after(folder, tmp_path / change.key, run, key, lower) == "dropped"


def test_a_copy_needs_its_better_copies_gone(folder, tmp_path, run):
    worse = next(k for k in ("best", "copy") if fates(run)[k]["reason"] == "exact")
    (change,) = why_not(run, worse).changes
    assert change.key == "data"
    gone = {r["key"] for r in fates(run).values() if r["id"] in change.value}
    data = write(tmp_path / "data.jsonl", {k: v for k, v in ROWS.items() if k not in gone})
    settings = recipe(folder).changed({"data.path": str(data), "curate.select.size": None})
    assert fates(made(tmp_path, settings))[worse]["verdict"] == "kept"


def test_without_the_rivals_it_names_the_row_is_kept(folder, tmp_path, run):
    without = next(c for c in why_not(run, "near").instead if c.key == "data")
    gone = {r["key"] for r in fates(run).values() if r["id"] in without.value}
    copies = {"best", "copy"}  # an exact copy of a rival steps into its place
    data = write(tmp_path / "data.jsonl", {k: v for k, v in ROWS.items() if k not in gone | copies})
    settings = recipe(folder).changed({"data.path": str(data), "curate.select.size": None})
    assert "best" in gone
    assert fates(made(tmp_path, settings))["near"]["verdict"] == "kept"


@pytest.mark.parametrize("size", [2, "20%", "20 tokens"])
def test_the_size_at_which_a_row_enters(folder, tmp_path, size):
    run = made(tmp_path, recipe(folder, select={"size": size}))
    late = [k for k, r in fates(run).items() if r["reason"] == "not_selected"]
    assert late
    for number, key in enumerate(late):
        (change,) = why_not(run, key).changes
        again = made(tmp_path, Recipe.of_run(run.path).changed({change.key: change.value}), f"again{number}")
        found = fates(again)
        assert found[key]["verdict"] == "kept"
        # and not one row earlier
        assert found[key]["rank"] == sum(r["verdict"] == "kept" for r in found.values()) - 1


def test_a_full_quota_is_part_of_the_answer(folder, tmp_path):
    rows = {f"r{i}": (f"{w} is what I want to see billed", "bill") for i, w in enumerate(["lamp", "chair", "bed"])}
    data = write(tmp_path / "data.jsonl", rows | {"x": ROWS["card"], "y": ROWS["code"]})
    settings = recipe(folder, select={"size": 3, "quota": {"label": {"max": 1}}}).changed({"data.path": str(data)})
    run = made(tmp_path, settings)
    late = next(k for k, r in fates(run).items() if r["reason"] == "not_selected")
    found = why_not(run, late)
    assert {c.key for c in found.changes} == {"curate.select.quota.label.max", "curate.select.size"}
    assert fates(made(tmp_path, settings.changed({c.key: c.value for c in found.changes}), "b"))[late]["rank"] < 5
    assert fates(Run(tmp_path / "b"))[late]["verdict"] == "kept"


def test_a_review_decision_is_offered_where_it_would_hold(folder, tmp_path, run):
    for key in ("junk", "near"):
        line = next(c for c in why_not(run, key).instead if c.key == "curate.annotations").value
        file = tmp_path / f"{key}.jsonl"
        file.write_text(line + "\n")
        settings = recipe(folder, annotations=str(file))
        assert fates(made(tmp_path, settings, key))[key]["verdict"] == "kept"
    assert not [c for c in why_not(run, "leak").instead if c.key == "curate.annotations"]


def test_trying_it_out_changes_every_stage_that_stands_in_the_way(folder, tmp_path):
    """The junk row passes its two rules, then comes too late in the order: the size is part of the answer."""
    run = made(tmp_path, recipe(folder, select={"size": 1}))
    found = settle(run, "junk")
    assert found.settled == "kept"
    assert {"curate.rules.placeholder", "curate.rules.markup"} < {c.key for c in found.changes}
    assert "curate.select.size" in {c.key for c in found.changes}
    assert fates(run)["junk"]["verdict"] == "dropped"


def test_a_kept_row_and_an_unreadable_one(run):
    kept = next(k for k, r in fates(run).items() if r["verdict"] == "kept")
    assert why_not(run, kept).changes == []
    bad = why_not(run, f"data.jsonl:{len(ROWS) + 1}")
    assert bad.stage == "clean"
    assert f"data.jsonl:{len(ROWS) + 1}" in bad.changes[0].sentence


def test_diff_counts_every_row_and_gives_the_reason_of_the_other_run(folder, tmp_path, run):
    other = recipe(folder, select={"size": 1}).changed({"curate.rules.languages": None})
    data = write(tmp_path / "data.jsonl", {k: v for k, v in ROWS.items() if k != "card"} | {"new": ("Hello you", "x")})
    b = made(tmp_path, other.changed({"data.path": str(data)}))
    found = diff(run.curate / "ledger.parquet", b.curate / "ledger.parquet")
    mine, theirs = fates(run), fates(b)
    of = {r["id"]: r for r in theirs.values()}
    expected = {
        r["id"] for r in mine.values() if r["verdict"] == "kept" and of.get(r["id"], {}).get("verdict") != "kept"
    }
    assert {e["id"] for e in found.examples if e["kept_in"] == "a"} == expected
    assert sum(found.only_a.values()) == len(expected)
    assert found.only_a["absent"] == 1
    assert found.rows == {"a": len(ROWS) + 1, "b": len(ROWS) + 1}
    assert sum(found.fates.values()) == len({r["id"] for r in [*mine.values(), *theirs.values()]})
    same = diff(run.curate / "ledger.parquet", run.curate / "ledger.parquet")
    assert (same.only_a, same.only_b, same.moved, same.examples) == ({}, {}, 0, [])


def test_unreadable_twins_are_not_multiplied(folder, tmp_path):
    data = write(tmp_path / "data.jsonl", ROWS)
    data.write_text(data.read_text(encoding="utf-8") + BAD + "\n" + BAD + "\n", encoding="utf-8")
    run = made(tmp_path, recipe(folder).changed({"data.path": str(data)}))
    found = diff(run.curate / "ledger.parquet", run.curate / "ledger.parquet")
    assert found.rows["a"] == len(ROWS) + 3 == sum(found.fates.values())


def samples(run, arm, system, wrong):
    """What evaluation leaves behind, by its schema: every item answered, some wrongly."""
    items = pq.read_table(run.curate / "eval.parquet").to_pylist()
    none = dict.fromkeys(schema.SAMPLES.names)
    rows = [
        none
        | {"id": i["id"], "batch": 0, "prompt": "", "prompt_sha256": "", "parsed": True, "component": i["component"]}
        | {"correct": i["key"] not in wrong, "label": i["label"]}
        for i in items
    ]
    schema.write_parquet(run.evaluate(arm, system) / "samples.parquet", pa.Table.from_pylist(rows, schema.SAMPLES))
    schema.write_json(run.evaluate(arm, system) / "stage.json", {"fingerprint": "x"})


def test_sql_sees_the_runs_tables_and_nothing_else(folder, tmp_path):
    run = made(tmp_path, recipe(folder))
    samples(run, "it's", "base", {"e2"})
    samples(run, "main", "tuned", {"e2", "e3"})
    kept = ask(run, "select count(*) n from ledger where verdict = 'kept'")
    assert (kept.columns, kept.rows) == (["n"], [(4,)])
    assert ask(run, 'select count(*) from "order"').rows == ask(run, "from orders select count(*)").rows
    wrong = ask(run, "select arm, system, count(*) filter (not correct) from samples group by all order by arm").rows
    assert wrong == [("it's", "base", 1), ("main", "tuned", 2)]
    joined = ask(run, "select r.messages[1].content from ledger join records r using (id) where ledger.key = 'card'")
    assert joined.rows == [(ROWS["card"][0],)]
    assert {"ledger", "eval", "samples", "vectors", "records", "quarantine"} <= {
        t for (t,) in ask(run, "show tables").rows
    }


@pytest.mark.parametrize(
    "query",
    [
        "copy ledger to 'out.csv'",
        "select * from read_csv('{secret}')",
        "select * from '{secret}'",
        "select content from read_text('{secret}')",
        "attach '{secret}.db' as other",
        "create table x as select 1",
        "drop view ledger",
        "set enable_external_access = true",
        "select 1; select 2",
        "install httpfs",
        "",
        "select nothing from ledger",
    ],
)
def test_sql_refuses_what_does_not_only_read_the_run(run, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with pytest.raises(UserError):
        ask(run, query.format(secret=secret))
    assert {f.name for f in tmp_path.iterdir()} == {"secret.csv"}


def test_sql_names_the_table_that_was_meant(run):
    with pytest.raises(UserError, match="did you mean 'ledger'"):
        ask(run, "select * from legder")


def test_gaps_come_back_as_rows_that_must_be_kept(folder, tmp_path):
    """`joke` has no row at all; the one row on `block` is not selected, and its item is answered wrongly."""
    keep = tmp_path / "keep.txt"
    keep.write_text("code\n")
    run = made(tmp_path, recipe(folder, select={"size": 1, "must_keep": str(keep)}))
    assert fates(run)["card"]["verdict"] == "dropped"
    samples(run, "main", "tuned", {"e2", "e3"})
    found = gaps.find(run)
    assert (found.items, found.wrong) == (3, 2)
    assert {(g.label, g.items, g.wrong, g.rows) for g in found.gaps} == {("block", 1, 1, 1), ("joke", 1, 1, 0)}
    assert next(g for g in found.gaps if g.label == "block").spare == [fates(run)["card"]["id"]]
    assert all(g.write >= 1 for g in found.gaps)

    template = tmp_path / "gaps.jsonl"
    assert gaps.write_template(found, run, template) == sum(g.write for g in found.gaps)
    rows = [json.loads(line) for line in template.read_text().splitlines()]
    texts = {"joke": "Tell me something funny about a kettle", "block": "My purse was stolen, nobody may pay with it"}
    for row in rows:
        row["prompt"] = texts[row["label"]]
    template.write_text("".join(json.dumps(r) + "\n" for r in rows))
    settings = Recipe.of_run(run.path).changed(
        {
            "data.path": [str(folder / "data.jsonl"), str(template)],
            "curate.select.must_keep": str(template),
            "curate.select.size": len(rows),
        }
    )
    again = made(tmp_path, settings, "again")
    assert {r["key"] for r in fates(again).values() if r["verdict"] == "kept"} == {r["id"] for r in rows}
    samples(again, "main", "tuned", {"e2", "e3"})
    assert gaps.find(again).gaps == []


def test_an_item_answered_rightly_is_no_gap(folder, tmp_path):
    run = made(tmp_path, recipe(folder, select={"size": 1}))
    samples(run, "main", "tuned", set())
    assert gaps.find(run).gaps == []
    with pytest.raises(UserError, match="no system 'base'"):
        gaps.find(run, system="base")


def test_gaps_without_an_evaluation_says_what_to_type(folder, run):
    with pytest.raises(UserError, match="tamis evaluate"):
        gaps.find(run)
