"""A sweep looks at no item of the gate, trains nothing twice and says what chance could have done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tamis import loop, sweep
from tamis.errors import DataError, RecipeError
from tamis.recipe import Recipe
from tamis.reports.tries_view import tries_view
from tamis.run import Run
from tamis.tables import take_records
from tests.tamis.small_runs import curated_run

pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")
WORDS = ("kettle", "lamp", "chair", "rug", "vase", "clock", "desk", "mirror", "shelf", "stool", "pillow", "basket")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Run, Recipe]:
    """72 rows, of which 24 are chosen."""
    folder = tmp_path_factory.mktemp("sweep")
    rows = [{"text": f"{w}: {i} {n}", "intent": i} for w in WORDS for i in INTENTS for n in ("now please", "as I said")]
    items = [{"text": f"{i} of the {n} at once", "intent": i} for i in INTENTS for n in ("tent", "sofa", "plant")]
    settings = {
        "curate": {"select": {"size": 24}, "deduplicate": {"enabled": False}},
        "train": {"epochs": 1, "r": 4, "lr": 1e-4, "batch": 8},
        "evaluate": {
            "task": {"kind": "classify", "max_tokens": 12},
            "systems": ["tuned"],
            "price": {"machine_hour": 3.6},
        },
        "sweep": {"lr": [1e-4, 3e-2], "r": [8], "alpha": [], "target_modules": [], "items": 12},
    }
    return curated_run(folder, tiny_model, rows, items, settings)


@pytest.fixture(scope="module")
def swept(curated: tuple[Run, Recipe]) -> dict[str, Any]:
    return sweep.sweep(*curated, quiet=True)


def prompts(run: Run, ids: list[str]) -> set[str]:
    return {m[0]["content"] for m in take_records(run.curate / "records", ids)["messages"].to_pylist()}


def test_items_are_spare_training_rows_none_of_the_gates_and_none_that_is_trained_on(curated):
    run, recipe = curated
    found = sweep.material_of(run, recipe)

    gate = pq.read_table(run.curate / "eval.parquet")["id"].to_pylist()
    asked = found.items["id"].to_pylist()
    assert len(asked) == 12
    assert not set(asked) & ({*gate} | set(found.rows))
    assert len(found.rows) == 24, "no chosen row is given up while there are spare ones"
    assert "not chosen" in found.origin
    assert sorted(set(found.items["label"].to_pylist())) == sorted(INTENTS)


def test_a_near_copy_of_a_trained_row_is_no_item(tmp_path: Path, tiny_model: Path) -> None:
    """Every row has a twin that differs in a full stop, and deduplication is off."""
    rows = [
        {"text": f"please could you {i} my beautiful new {w} today{end}", "intent": i}
        for w in WORDS
        for i in INTENTS
        for end in ("", ".")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    recipe = Recipe.check(
        {
            "name": "twins",
            "data": {"path": str(tmp_path / "rows.jsonl")},
            "eval": {"holdout": 0.1},
            "embedder": "lsa",
            "curate": {
                "select": {"size": 20, "method": "random"},
                "deduplicate": {"enabled": False},
                "decontaminate": {"enabled": False},
            },
            "model": str(tiny_model),
            "evaluate": {"task": {"kind": "classify"}},
            "sweep": {"items": 12},
        }
    )
    run = Run(tmp_path / "run")
    loop.prepare(run, recipe, quiet=True)

    found = sweep.material_of(run, recipe)

    def bare(ids: list[str]) -> set[str]:
        return {p.rstrip(".") for p in prompts(run, ids)}

    assert len(found.items)
    assert not bare(found.rows) & bare(found.items["id"].to_pylist())


def test_where_every_row_is_chosen_some_are_held_out_and_not_trained_on(curated, tmp_path: Path) -> None:
    _, recipe = curated
    whole = recipe.changed({"curate.select.size": None})
    run = Run(tmp_path)
    loop.prepare(run, whole, quiet=True)

    found = sweep.material_of(run, whole)

    assert len(found.items) == 12
    assert not set(found.rows) & set(found.items["id"].to_pylist())
    assert "does not train on" in found.origin


def test_too_few_rows_to_validate_on_is_an_error(curated, tmp_path: Path) -> None:
    _, recipe = curated
    few = recipe.changed({"curate.select.size": 20, "sweep.items": 200})
    run = Run(tmp_path)
    loop.prepare(run, few, quiet=True)

    with pytest.raises(DataError, match="too few"):
        sweep.material_of(run, few)


def test_the_best_of_a_stage_is_carried_into_the_next(swept):
    assert [stage["key"] for stage in swept["stages"]] == ["lr", "r"]
    assert swept["stages"][0]["best"] == 3e-2, "1e-4 teaches a random model nothing in three steps"
    assert [row["arm"] for row in swept["rows"]] == ["planned", "lr-0.03", "lr-0.03_r-8"]
    assert [row["settings"]["lr"] for row in swept["rows"]] == [1e-4, 3e-2, 3e-2]
    plan = json.loads((Path(swept["folder"]) / "arms" / "lr-0.03_r-8" / "train" / "plan.json").read_text())
    assert (plan["lr"], plan["r"]) == (3e-2, 8)


def test_every_arm_has_its_price_and_its_paired_difference_with_holms_p(swept):
    from tamis.intervals import holm

    planned, *others = swept["rows"]

    assert planned["delta"] is None
    assert [r["p_holm"] for r in others] == holm([r["p"] for r in others])
    for row in others:
        assert row["delta"]["value"] == pytest.approx(row["value"]["value"] - planned["value"]["value"])
        assert row["cost"] == pytest.approx((row["train_s"] + row["evaluate_s"]) * 3.6 / 3600)
    table = (Path(swept["folder"]) / "table.md").read_text()
    assert all(row["arm"] in table for row in swept["rows"])


def test_a_second_sweep_trains_nothing_and_a_further_value_only_itself(curated, swept):
    run, recipe = curated
    stages = {p: p.stat().st_mtime_ns for p in (run.path / "sweep").glob("arms/*/train/stage.json")}

    again = sweep.sweep(run, recipe, quiet=True)
    more = sweep.sweep(run, recipe.changed({"sweep.lr": [1e-4, 3e-2, 2e-5]}), quiet=True)

    assert again["rows"] == swept["rows"]
    assert {row["arm"] for row in more["rows"]} == {"planned", "lr-0.03", "lr-0.03_r-8", "lr-2e-05"}
    assert all(p.stat().st_mtime_ns == before for p, before in stages.items())


def test_what_is_not_told_apart_is_not_recommended() -> None:
    planned = {"arm": "planned", "told_apart": None, "better": None, "settings": {"lr": 1, "r": 8}}
    lucky = {"arm": "lr-3", "told_apart": False, "better": True, "settings": {"lr": 3, "r": 8}}
    bad = {"arm": "lr-9", "told_apart": True, "better": False, "settings": {"lr": 9, "r": 8}}

    assert "keep those" in sweep.advice([planned, lucky, bad], "lr-3")
    assert "Certainly worse than planned: lr-9" in sweep.advice([planned, lucky, bad], "lr-3")
    assert "train.lr: 3." in sweep.advice([planned, {**lucky, "told_apart": True}], "lr-3")
    assert "Nothing did better" in sweep.advice([planned, bad], "planned")


def test_values_left_to_tamis_lie_about_the_planned_ones_and_full_tuning_has_a_rate_only(curated):
    _, recipe = curated
    auto = recipe.changed({"sweep": {}})
    planned = {"lr": 6e-4, "r": 8, "alpha": 32.0, "target_modules": "all-linear"}

    assert dict(sweep.tried(auto, planned)) == {
        "lr": [2e-4, 1.8e-3],
        "r": [2, 32],
        "alpha": [16.0, 64.0],
        "target_modules": [["q_proj", "v_proj"]],
    }
    assert list(dict(sweep.tried(auto, {"lr": 6e-5}))) == ["lr"]
    with pytest.raises(RecipeError, match="nothing to try"):
        list(sweep.tried(recipe.changed({"sweep.lr": [6e-4], "sweep.r": []}), planned))


def test_a_metric_that_does_not_exist_is_refused_before_anything_is_trained(curated):
    _, recipe = curated
    with pytest.raises(RecipeError, match="metric"):
        sweep.metric_of(recipe.changed({"sweep.metric": "acuracy"}))
    with pytest.raises(RecipeError, match="no metric of answers"):
        sweep.metric_of(recipe.changed({"sweep.metric": "latency.e2e.p50"}))


def test_the_report_shows_every_arm_as_it_was_written(swept):
    seen = tries_view("sweep", swept)

    assert [(t.arm, t.value.value, t.p_holm, t.told_apart, t.train_s, t.peak_mb, t.cost) for t in seen.rows] == [
        (r["arm"], r["value"]["value"], *(r[k] for k in ("p_holm", "told_apart", "train_s", "peak_mb", "cost")))
        for r in swept["rows"]
    ]
