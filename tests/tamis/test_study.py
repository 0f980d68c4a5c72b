"""The study refuses what it cannot answer before it trains, and recommends only what it has shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tamis import loop
from tamis.errors import UserError
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.study import Plan, answer, grid, study

INTENTS = ("cancel order", "track order", "refund")
NUMBERS = ("one", "two", "three", "four", "five", "six")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Recipe]:
    folder = tmp_path_factory.mktemp("study")
    rows = [{"text": f"{i} number {n} please", "intent": i} for i in INTENTS for n in NUMBERS]
    items = [{"text": f"{i} for {n}", "intent": i} for i in INTENTS for n in ("Mai", "Lan", "Jo")]
    for name, table in (("rows", rows), ("items", items)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in table))
    files = {"data": {"path": str(folder / "rows.jsonl")}, "eval": {"path": str(folder / "items.jsonl")}}
    raw = {"name": "study", "embedder": "lsa", "evaluate": {"task": {"kind": "classify"}}, **files}
    recipe, run = Recipe.check(raw), Run(Path(folder) / "run")
    loop.prepare(run, recipe, quiet=True)
    return run, recipe


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (Plan(0.0, [6], even_so=True), "margin"),
        (Plan(0.02, [6], seeds=1, even_so=True), "one seed"),
        (Plan(0.02, [600], even_so=True), "above the 18 rows"),
        (Plan(0.02, [6]), "about 1,963 are needed"),
    ],
)
def test_what_cannot_be_answered_is_refused_before_training(curated, plan, said):
    with pytest.raises(UserError, match=said):
        grid(*curated, plan)


def test_sizes_of_a_seed_are_nested_and_reference_holds_all_rows(curated):
    cells = {c.name: c.rows for c in grid(*curated, Plan(0.1, [3, 6], seeds=2, even_so=True))}
    assert cells["random-6-s7"][:3] == cells["random-3-s7"]
    assert cells["random-6-s7"] != cells["random-6-s8"]
    assert len(cells["all-18-s7"]) == 18


def test_the_proxy_answers_and_writes_what_it_found(curated):
    run, recipe = curated
    found = study(run, recipe, Plan(0.1, [3, 9], seeds=2, proxy=True, even_so=True), quiet=True)
    assert len(found["points"]) == 4
    assert (run.path / "proxy" / "result.json").is_file()


def made(accuracies, seeds=5, items=400, spread=0.0):
    """Cells whose trainings are right on given shares of the items."""
    rng, rows = np.random.default_rng(1), []
    hard = rng.random(items)
    for (method, size), accuracy in accuracies.items():
        for _ in range(seeds):
            right = hard < accuracy + spread * rng.standard_normal()
            outcome = {"metric": "accuracy", "width": 1, "values": right.astype(float).tolist()}
            rows.append({"method": method, "size": size, "outcomes": [outcome], "components": list(range(items))})
    return rows


def test_the_smallest_size_within_the_margin_is_recommended():
    truth = {
        ("cluster", 100): 0.7,
        ("cluster", 200): 0.9,
        ("random", 100): 0.5,
        ("random", 200): 0.7,
        ("all", 999): 0.9,
    }
    found = answer(made(truth), Plan(0.05, [100, 200]))
    assert found["recommended"] == {"cluster": 200, "random": None}
    assert all(g["gain"]["lower"] > 0 for g in found["choosing"])


def test_seeds_that_disagree_give_no_recommendation_but_how_many_are_missing():
    truth = {("cluster", 100): 0.8, ("random", 100): 0.8, ("all", 999): 0.8}
    found = answer(made(truth, spread=0.1), Plan(0.05, [100]))
    assert found["recommended"]["cluster"] is None
    point = found["points"][0]
    assert point["needed"]["limited_by"] == "seeds"
    assert point["needed"]["seeds"] > 5
