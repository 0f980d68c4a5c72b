"""Stability under resampling: chance is told as chance, and what is always chosen as always."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tamis import loop
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.stability import stability


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Recipe]:
    folder = tmp_path_factory.mktemp("stability")
    rows = [
        {"text": f"question {i} about {'parcels' if i % 2 else 'refunds'} " + "and so on " * (i % 7)} for i in range(60)
    ]
    for name, table in (("rows", rows), ("items", [{"text": "an item of its own", "answer": "none"}])):
        lines = [
            json.dumps({"prompt": r["text"], "completion": r.get("answer", f"answer {i}")}) for i, r in enumerate(table)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    files = {"data": {"path": str(folder / "rows.jsonl")}, "eval": {"path": str(folder / "items.jsonl")}}
    curate = {"rules": {}, "deduplicate": {"near": None, "semantic": None}}
    recipe = Recipe.check({"name": "stable", "embedder": "lsa", "curate": curate, **files})
    run = Run(Path(folder) / "run")
    loop.prepare(run, recipe, quiet=True)
    return run, recipe


def test_random_rows_come_back_as_often_as_chance_says_and_the_longest_always(curated, tmp_path):
    run, recipe = curated
    points = {
        (p["method"], p["size"]): p for p in stability(run, recipe, ["random", "longest"], [12, 24], 60, tmp_path)
    }
    assert points["random", 12]["again"] == pytest.approx(points["random", 12]["chance"], abs=0.08)
    assert points["longest", 12]["again"] == 1.0
    assert points["longest", 12]["often"] == 1.0
    shared = points["random", 24]["shared"]["longest"]
    assert shared["share"] == points["longest", 24]["shared"]["random"]["share"]
    assert shared["chance"] == pytest.approx(24 / 60)


def test_every_row_of_a_pool_has_its_probability_and_it_is_measured_once(curated, tmp_path):
    run, recipe = curated
    first = stability(run, recipe, ["cluster", "random"], [12], 10, tmp_path)
    table = pq.read_table(tmp_path / "stability.parquet").to_pylist()
    assert len(table) == 120
    chosen = [r for r in table if r["method"] == "cluster" and r["chosen"]]
    assert len(chosen) == 12
    told = [r["inclusion"] for r in chosen if r["inclusion"] is not None]
    assert first[0]["again"] == pytest.approx(sum(told) / len(told))
    before = (tmp_path / "stability.parquet").stat().st_mtime_ns
    assert stability(run, recipe, ["cluster", "random"], [12], 10, tmp_path) == first
    assert (tmp_path / "stability.parquet").stat().st_mtime_ns == before
    assert stability(run, recipe, ["cluster"], [12], 0, tmp_path) == []
