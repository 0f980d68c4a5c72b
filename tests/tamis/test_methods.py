"""Ways of training on the same rows and items; what does not fit is said and stops no other; forgetting is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tamis import arm_table, methods
from tamis.errors import RecipeError
from tamis.recipe import Recipe
from tamis.reports.tries_view import tries_view
from tamis.run import Run
from tests.tamis.small_runs import curated_run, write_rows

torch = pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")
WORDS = ("kettle", "lamp", "chair", "rug", "vase", "clock", "desk", "mirror")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Run, Recipe]:
    folder = tmp_path_factory.mktemp("methods")
    rows = [{"text": f"{w}: {i}", "intent": i} for w in WORDS for i in INTENTS]
    items = [{"text": f"{i} of the {n} at once", "intent": i} for i in INTENTS for n in ("tent", "sofa", "plant")]
    general = [
        {"prompt": f"what of the {a}", "completion": f"the {a} is not the {b} of another day"}
        for a in WORDS
        for b in ("tent", "sofa")
    ]
    settings = {
        "curate": {"deduplicate": {"enabled": False}},
        "train": {"epochs": 2, "r": 4, "lr": 3e-2, "batch": 8},
        "evaluate": {"task": {"kind": "classify", "max_tokens": 12}, "systems": ["tuned"]},
        "compare": {"arms": ["lora", "qlora"], "general": {"path": write_rows(folder / "general.jsonl", general)}},
    }
    return curated_run(folder, tiny_model, rows, items, settings)


@pytest.fixture(scope="module")
def compared(curated: tuple[Run, Recipe]) -> dict[str, Any]:
    return methods.compare(*curated, quiet=True)


def test_every_way_answers_the_same_items_and_is_held_against_the_first(compared):
    arms = {row["arm"]: row for row in compared["rows"]}

    assert list(arms) == ["base", "base-best", "lora", "qlora"]
    assert compared["reference"] == "lora"
    assert {row["value"]["n"] for row in compared["rows"]} == {9}
    assert arms["lora"]["delta"] is None
    assert arms["qlora"]["delta"]["value"] == pytest.approx(
        arms["qlora"]["value"]["value"] - arms["lora"]["value"]["value"]
    )
    assert arms["base"]["train_s"] is None
    assert arms["lora"]["tokens_per_s"] > 0


def test_forgetting_is_the_rise_over_the_untrained_base_on_the_general_rows(compared):
    arms = {row["arm"]: row for row in compared["rows"]}

    assert compared["general"] == 16
    assert "forgetting" not in arms["base"]
    for name in ("lora", "qlora"):
        lost = arms[name]["forgetting"]
        assert lost["value"] == pytest.approx(arms[name]["general"]["value"] - arms["base"]["general"]["value"])
        assert lost["value"] > 0, "trained to say three intents and nothing else, it must have forgotten"
        assert lost["lower"] <= lost["value"] <= lost["upper"]
    assert "forgets" in (Path(compared["folder"]) / "table.md").read_text()


def test_the_base_is_measured_as_it_came_and_each_arm_as_it_was_trained(compared):
    def quantised(arm: str, system: str) -> str:
        about = json.loads((Path(compared["folder"]) / "general" / arm / system / "metrics.json").read_text())
        return str(about["model"]["quantisation"] if "model" in about else about["quantisation"])

    assert (quantised("base", "base"), quantised("lora", "tuned"), quantised("qlora", "tuned")) == (
        "none",
        "none",
        "nf4",
    )


def test_a_second_comparison_does_nothing_again(curated, compared):
    before = {p: p.stat().st_mtime_ns for p in Path(compared["folder"]).rglob("stage.json")}

    again = methods.compare(*curated, quiet=True)

    assert again["rows"] == compared["rows"]
    assert {p: p.stat().st_mtime_ns for p in Path(compared["folder"]).rglob("stage.json")} == before


def test_a_way_that_does_not_fit_is_named_and_the_others_are_compared(
    curated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tamis.train import plan

    run, recipe = curated
    memory = plan.memory

    def greedy(*args: Any, r: int | None, **kwargs: Any) -> Any:
        told = memory(*args, r=r, **kwargs)
        return told if r else plan.dataclasses.replace(told, weights=1e15)  # full tuning alone is too large

    monkeypatch.setattr(plan, "memory", greedy)
    asked = recipe.changed({"compare.arms": ["full", "lora"], "compare.general": None})

    found = methods.compare(run, asked, quiet=True)

    assert [row["arm"] for row in found["rows"]] == ["base", "base-best", "lora"]
    assert "training needs" in found["failed"]["full"]
    assert found["general"] is None
    assert any("full was not trained" in line for line in methods.closing(found)[1])
    with pytest.raises(RecipeError, match="training needs"):
        methods.compare(run, asked.changed({"compare.arms": ["full"]}), quiet=True)


def test_an_arm_named_twice_or_unknown_is_a_recipe_error(curated):
    _, recipe = curated
    for arms in (["lora", "lora"], ["dora"]):
        with pytest.raises(RecipeError):
            recipe.changed({"compare.arms": arms})


def test_a_small_p_value_is_not_written_as_zero() -> None:
    row = {
        "arm": "base", "metric": "accuracy", "value": {"value": 0.1, "low": 0.0, "high": 0.2}, "delta": None,
        "p_holm": 1e-9, "train_s": None, "tokens_per_s": None, "peak_mb": 1.0, "currency": "USD",
    }  # fmt: skip
    assert arm_table.grid([row], "qlora")[1][5] == "< 0.001"
    assert arm_table.grid([row | {"p_holm": 0.0312}], "qlora")[1][5] == "0.031"


def test_the_report_shows_every_arm_as_it_was_written(compared):
    seen = tries_view("compare", compared)

    assert [(t.arm, t.value.value, t.p_holm, t.told_apart, t.train_s, t.peak_mb, t.cost) for t in seen.rows] == [
        (r["arm"], r["value"]["value"], *(r[k] for k in ("p_holm", "told_apart", "train_s", "peak_mb", "cost")))
        for r in compared["rows"]
    ]
