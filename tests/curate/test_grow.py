"""New rows for a run that is done: nothing decided changes, copies and leaks fall, what adds most is kept."""

import collections
import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tamis import lsa, run_vectors
from tamis.curate import coverage, grow
from tamis.curate.pipeline import curate
from tamis.diff import diff
from tamis.errors import DataError, RecipeError, UserError
from tamis.recipe import Recipe, Size
from tamis.run import Run

OLD = [
    ("Where is my parcel with the blue garden chairs, it should be in Leeds", "track"),
    ("My order has not come yet, can you look where it is", "track"),
    ("Please cancel the order of the wooden table that I made today", "cancel"),
    ("I want to stop my order for the lamp before it is sent", "cancel"),
    ("The invoice of March names the wrong street", "bill"),
    ("Send me the bill of my last order again", "bill"),
    ("How do I get the money for the broken kettle back", "refund"),
    ("I sent the shoes back and wait for the refund", "refund"),
]
NEW = [
    OLD[0],  # wholly identical: the ordinal goes on
    ("WHERE IS MY PARCEL with the blue garden chairs, it should be in Leeds!", "track"),  # exact after normalising
    ("Kindly delete the account that I have with your shop", "close account"),
    ("Close my account and delete what you know of me", "close account"),
    ("Which of your vans brings the sofa, and when", "track"),
    ("lorem ipsum dolor <br> sit amet", "bill"),
    ("So: when do you open the shop in Hull on Sundays", "hours"),  # leaks the evaluation item
    ("The invoice of March names the wrong street", "refund"),  # conflicts with an old row
]
EVAL = [("when do you open the shop in Hull on Sundays", "hours"), ("do you sell gift vouchers", "voucher")]


def write(path, rows):
    lines = [{"prompt": p, "completion": a, "label": a} for p, a in rows]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in lines), encoding="utf-8")
    return str(path)


def made(folder, rows=OLD, embedder="lsa", name="run", **curation):
    settings = Recipe.check(
        {
            "name": "r",
            "data": {"path": write(folder / f"{name}.jsonl", rows)},
            "eval": {"path": write(folder / "eval.jsonl", EVAL)},
            "embedder": embedder,
            "evaluate": {"task": {"kind": "classify"}},
            "curate": curation,
        }
    )
    run = Run(folder / name)
    curate(run, settings, quiet=True)
    run.recipe_file.write_text(settings.dump(), encoding="utf-8")
    return run


def ledger(run):
    return {r["id"]: r for r in pq.read_table(run.curate / "ledger.parquet").to_pylist()}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grow")
    run, into = made(folder), Run(folder / "grown")
    found = grow.grow(run, into, [write(folder / "new.jsonl", NEW)], quiet=True)
    return run, into, found


def test_what_the_run_decided_stays_and_every_new_row_has_a_fate(grown):
    run, into, found = grown
    before, after = ledger(run), ledger(into)
    for id_, row in before.items():
        assert {k: after[id_][k] for k in row} == row
    assert len(after) == len(OLD) + len(NEW) == found["total"]["read"]
    assert found["kept"] + sum(n for reasons in found["dropped"].values() for n in reasons.values()) == len(NEW)


def test_a_copy_of_an_old_row_takes_the_next_ordinal_and_falls_to_it(grown):
    run, into, _ = grown
    old = next(i for i, r in ledger(run).items() if r["label"] == "track" and r["line"] == 1)
    rows = ledger(into)
    again = rows[old[:-1] + "1"]
    assert old.endswith("-0")
    assert (again["reason"], again["witness"]) == ("exact", old)
    shouted = next(r for r in rows.values() if r["file"].endswith("new.jsonl") and r["line"] == 2)
    assert (shouted["stage"], shouted["witness"]) == ("deduplicate", old)


def test_new_rows_are_judged_and_held_against_the_evaluation_set(grown):
    _, into, _ = grown
    fates = {r["line"]: (r["stage"], r["reason"]) for r in ledger(into).values() if r["file"].endswith("new.jsonl")}
    assert fates[6][0] == "score"
    assert fates[7] == ("decontaminate", "leak_ngram")
    assert fates[3] == fates[4] == fates[5] == (None, None)


def test_a_new_answer_to_an_old_prompt_is_reported(grown):
    run, into, _ = grown
    assert not len(pq.read_table(run.curate / "conflicts.parquet"))
    found = pq.read_table(into.curate / "conflicts.parquet").to_pylist()
    assert {r["label"] for r in found} == {"bill", "refund"}
    assert len({r["group"] for r in found}) == 1


def test_orders_vectors_records_and_funnel_hold_old_and_new(grown):
    run, into, found = grown
    order = pq.read_table(into.curate / "order.parquet")
    survivors = [i for i, r in ledger(into).items() if r["stage"] in (None, "select")]
    for method in ("cluster", "random"):
        assert sorted(order.filter(pc.equal(order["method"], method))["id"].to_pylist()) == sorted(survivors)
    ranked = order.filter(pc.equal(order["method"], "cluster")).sort_by("rank")["id"].to_pylist()
    assert [ledger(into)[i]["rank"] for i in ranked] == list(range(len(survivors)))
    funnel = json.loads((into.curate / "funnel.json").read_text())
    assert (funnel["read"], funnel["kept"]) == (found["total"]["read"], found["total"]["kept"])
    assert diff(run.curate / "ledger.parquet", into.curate / "ledger.parquet").only_b == {"absent": found["kept"]}
    places = pq.read_table(into.curate / "map.parquet")
    old = pq.read_table(run.curate / "map.parquet").to_pylist()
    assert places.to_pylist()[: len(old)] == old


def test_the_next_curation_of_the_grown_run_has_nothing_to_do(grown):
    _, into, _ = grown
    assert curate(into, Recipe.of_run(into.path), quiet=True)["skipped"]


def test_the_same_growth_is_not_done_twice_and_no_run_is_written_over(grown, tmp_path):
    run, into, found = grown
    data = Recipe.of_run(into.path).data.paths[-1:]
    again = grow.grow(run, into, data, quiet=True)
    assert again["skipped"]
    assert {k: again[k] for k in found if k != "skipped"} == {k: v for k, v in found.items() if k != "skipped"}
    with pytest.raises(UserError, match="holds another run"):
        grow.grow(run, into, data, Size("rows", 1), quiet=True)


def test_a_run_folder_of_a_version_without_what_was_seen_grows_to_the_same_ledger(grown, tmp_path):
    run, into, found = grown
    seen = run.curate / "seen.parquet"
    kept = seen.read_bytes()
    seen.unlink()
    try:
        again = Run(tmp_path / "again")
        assert grow.grow(run, again, found["data"], quiet=True)["kept"] == found["kept"]
        assert ledger(again) == ledger(into)
    finally:
        seen.write_bytes(kept)


def test_sizes_quotas_and_the_rows_that_were_left_out(tmp_path):
    run = made(tmp_path, select={"size": 4})
    old = ledger(run)
    data = [write(tmp_path / "new.jsonl", NEW)]
    grow.grow(run, into := Run(tmp_path / "grown"), data, Size("rows", 2), quiet=True)
    rows = ledger(into)
    assert sum(r["verdict"] == "kept" for r in rows.values()) == 6
    for id_, row in old.items():
        if row["stage"] == "select":  # it stands behind the two new rows; what decided is as far off as before
            assert rows[id_]["rank"] == row["rank"] + 2
            assert rows[id_]["slack"] == row["slack"]
    assert Recipe.of_run(into.path).curate.select.size == Size("rows", 6)
    with pytest.raises(UserError, match="only 4 survive"):
        grow.grow(run, Run(tmp_path / "more"), data, Size("rows", 5), quiet=True)


def test_the_axes_of_lsa_are_fitted_once_and_those_of_a_run_grown_twice_are_still_the_first(tmp_path, monkeypatch):
    run = made(tmp_path)
    kept = (run.curate / "axes.npz").read_bytes()
    monkeypatch.setattr(lsa.Axes, "fit", None)  # whoever fits again fails
    data = [write(tmp_path / f"new{n}.jsonl", NEW[2 + 2 * n : 4 + 2 * n]) for n in range(2)]
    grow.grow(run, once := Run(tmp_path / "once"), data[:1], quiet=True)
    grow.grow(once, twice := Run(tmp_path / "twice"), data[1:], quiet=True)
    assert (twice.curate / "axes.npz").read_bytes() == kept
    table = pq.read_table(twice.curate / "vectors")
    mine = dict(zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True))
    prompts = {i: OLD[r["line"] - 1][0] for i, r in ledger(run).items() if i in mine}
    again = run_vectors.beside(twice.curate, list(prompts.values()), "lsa").values
    assert [mine[i] for i in prompts] == again.tolist()


def test_a_run_of_a_version_that_kept_no_axes_grows_to_the_same_ledger(grown, tmp_path):
    run, into, found = grown
    (run.curate / "axes.npz").rename(tmp_path / "axes.npz")
    try:
        grow.grow(run, again := Run(tmp_path / "again"), found["data"], quiet=True)
    finally:
        (tmp_path / "axes.npz").rename(run.curate / "axes.npz")
    assert ledger(again) == ledger(into)
    assert (again.curate / "axes.npz").is_file()


def test_quotas_hold_for_old_and_new_rows_together(tmp_path):
    run = made(tmp_path, select={"size": 4, "quota": {"label": {"min": 1, "max": 2}}})
    data = [write(tmp_path / "new.jsonl", NEW)]

    def labels(folder):
        return collections.Counter(r["label"] for r in ledger(folder).values() if r["verdict"] == "kept")

    assert labels(run) == {"track": 1, "cancel": 1, "bill": 1, "refund": 1}
    grow.grow(run, two := Run(tmp_path / "two"), data, Size("rows", 2), quiet=True)
    assert labels(two)["close account"] >= 1  # a label that the run lacked gets its minimum
    assert max(labels(two).values()) <= 2
    more = [write(tmp_path / "more.jsonl", [(f"My account number {n} shall be closed", "bill") for n in range(5)])]
    with pytest.raises(UserError, match="maximum quotas leave") as error:
        grow.grow(run, Run(tmp_path / "over"), more, Size("rows", 3), quiet=True)
    assert "curate.select.quota" in str(error.value)


def test_rows_that_must_be_kept_are_kept_whatever_they_add(tmp_path):
    must = tmp_path / "must.txt"
    must.write_text("")
    run = made(tmp_path, select={"size": 4, "must_keep": str(must)})
    # says nothing that the first row does not say: with room for one, coverage takes another
    dull = ("Where is my parcel with the blue garden chairs, it should be there", "track")
    new = [{"id": f"new-{n}", "prompt": p, "completion": a, "label": a} for n, (p, a) in enumerate([dull, *NEW[2:5]])]
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in new), encoding="utf-8")

    def kept(folder):
        return {r["key"] for r in ledger(folder).values() if r["verdict"] == "kept" and r["key"]}

    grow.grow(run, Run(tmp_path / "without"), [str(file)], Size("rows", 1), quiet=True)
    assert "new-0" not in kept(Run(tmp_path / "without"))
    must.write_text("new-0\n")
    grow.grow(run, Run(tmp_path / "with"), [str(file)], Size("rows", 1), quiet=True)
    assert kept(Run(tmp_path / "with")) == {"new-0"}
    must.write_text("new-0\nnew-1\n")
    with pytest.raises(UserError, match="must-keep rows and minimum quotas need 6 rows, the size is 5"):
        grow.grow(run, Run(tmp_path / "over"), [str(file)], Size("rows", 1), quiet=True)


def test_masked_data_gets_numbers_that_the_run_does_not_use(tmp_path):
    rows = [(f"{p} my mail is user{n}@mail.com", a) for n, (p, a) in enumerate(OLD[:3])]
    run = made(tmp_path, rows, mask=["email"])
    new = [("Another box came, write to ann@mail.com about the tall one", "refund")]
    grow.grow(run, into := Run(tmp_path / "grown"), [write(tmp_path / "new.jsonl", new)], quiet=True)
    edits = pq.read_table(into.curate / "records" / "edits.parquet")["value"].to_pylist()
    assert sum("<EMAIL_4>" in e for e in edits) == 1


def test_bad_input_is_named(tmp_path):
    run = made(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        grow.grow(run, Run(tmp_path / "a"), [str(tmp_path / "absent.jsonl")], quiet=True)
    (run.curate / "stage.json").unlink()
    with pytest.raises(RecipeError, match="not curated to its end"):
        grow.grow(run, Run(tmp_path / "b"), [str(tmp_path / "run.jsonl")], quiet=True)


def test_rows_are_ranked_by_what_they_add():
    rng = np.random.default_rng(0)
    centres = np.eye(8)[:4]
    crowd = [centres[c] + rng.normal(0, 0.02, 8) for c, n in enumerate((40, 20, 10, 1)) for _ in range(n)]
    vectors = np.array(crowd)
    distance, _ = coverage.nearest_kept(vectors, centres[:1])  # the largest crowd is covered already
    order, gains = coverage.rank(vectors, np.ones(71), distance, np.zeros(71, np.int64))
    crowds = np.repeat([0, 1, 2, 3], [40, 20, 10, 1])
    assert crowds[order[:3]].tolist() == [1, 2, 3]
    assert (np.diff(gains[order]) <= 0).all()
    best = max(
        range(71),
        key=lambda i: np.maximum(distance - (1 - coverage.unit(vectors) @ coverage.unit(vectors)[i]), 0).sum(),
    )
    assert order[0] == best


def test_halves_cover_like_a_whole(tmp_path):
    """Real prompts where they are at hand: half and half against all at once."""
    file = Path(__file__).parents[3] / "shared" / "data" / "clinc150.json"
    if not file.is_file():
        pytest.skip(f"needs {file}")
    rows = json.loads(file.read_text())["train"][:3000:2]
    rows = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    once = made(tmp_path, rows, name="once", select={"size": 300})
    half = made(tmp_path, rows[:750], name="half", select={"size": 150})
    data = [write(tmp_path / "new.jsonl", rows[750:])]
    grow.grow(half, into := Run(tmp_path / "grown"), data, Size("rows", 150), quiet=True)
    at_once, in_two = covered(once, once), covered(once, into)
    assert in_two["mean"] <= 1.05 * at_once["mean"]
    assert in_two["p95"] <= 1.05 * at_once["p95"]


def covered(everyone, run):
    """Distance of all rows of one run to the nearest row that another, of the same rows, keeps."""
    table = pq.read_table(everyone.curate / "vectors")
    vectors = dict(zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True))
    kept = np.array([vectors[i] for i, r in ledger(run).items() if r["verdict"] == "kept"])
    return coverage.summary(coverage.nearest_kept(np.array(list(vectors.values())), kept)[0])
