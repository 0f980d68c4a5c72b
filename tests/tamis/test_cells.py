"""Many trainings on the same items: none twice, whatever happened on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tamis.cells import Cell, done_already, run_cells, statistics_of, value_of
from tamis.errors import UserError
from tamis.recipe import Recipe
from tamis.run import Run
from tests.tamis.small_runs import curated_run

pytest.importorskip("torch")

INTENTS = ("cancel order", "track order", "refund")
NUMBERS = ("one", "two", "three", "four", "five", "six")


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Run, Recipe, list[str]]:
    folder = tmp_path_factory.mktemp("cells")
    rows = [{"text": f"{i} number {n} please", "intent": i} for i in INTENTS for n in NUMBERS]
    items = [{"text": f"{i} for {n}", "intent": i} for i in INTENTS for n in ("Mai", "Lan", "Jo")]
    settings = {
        "train": {"epochs": 1, "r": 4, "lr": 0.01},
        "evaluate": {"task": {"kind": "classify"}, "systems": ["tuned"]},
    }
    run, recipe = curated_run(folder, tiny_model, rows, items, settings)
    ids = pq.read_table(run.curate / "ledger.parquet")["id"].to_pylist()
    return run, recipe, ids


def cells_of(ids: list[str]) -> list[Cell]:
    return [
        Cell("few-s1", ids[:6], {"seed": 1}, {"method": "random", "size": 6}),
        Cell("few-s2", ids[:6], {"seed": 2}, {"method": "random", "size": 6}),
    ]


def trainings(home: Path) -> dict[str, int]:
    """When each training was finished."""
    return {p.parts[-3]: p.stat().st_mtime_ns for p in home.glob("arms/*/train/stage.json")}


def outcome(table: Any) -> list[Any]:
    return [
        {k: v for k, v in row.items() if k not in ("train_s", "evaluate_s", "peak_mb")} for row in table.to_pylist()
    ]


def test_stopped_between_two_cells_it_trains_neither_twice_and_ends_the_same(curated, tmp_path, monkeypatch):
    run, recipe, ids = curated
    cells = cells_of(ids)
    whole = run_cells(run, recipe, cells, tmp_path / "whole", quiet=True)

    def stop(done: int, cell: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cells(run, recipe, cells, tmp_path / "stopped", quiet=True, on_cell=stop)
    assert done_already(run, recipe, cells, tmp_path / "stopped") == {"few-s1"}
    before = trainings(tmp_path / "stopped")
    again = run_cells(run, recipe, cells, tmp_path / "stopped", quiet=True)

    assert trainings(tmp_path / "stopped")["few-s1"] == before["few-s1"]
    assert outcome(again) == outcome(whole)
    assert pq.read_table(tmp_path / "stopped" / "cells.parquet").equals(again)


def test_a_done_cell_keeps_no_weights_and_still_counts_as_done(curated, tmp_path):
    run, recipe, ids = curated
    run_cells(run, recipe, cells_of(ids)[:1], tmp_path, quiet=True)
    before = trainings(tmp_path)

    run_cells(run, recipe, cells_of(ids)[:1], tmp_path, quiet=True)

    assert not (tmp_path / "arms" / "few-s1" / "train" / "adapter").exists()
    assert trainings(tmp_path) == before


def test_other_rows_another_seed_or_other_settings_are_another_cell(curated, tmp_path):
    run, recipe, ids = curated
    first = cells_of(ids)[0]
    run_cells(run, recipe, [first], tmp_path, quiet=True)

    assert done_already(run, recipe, [first], tmp_path) == {"few-s1"}
    for other in (
        Cell("few-s1", ids[1:7], first.overlay),
        Cell("few-s1", ids[:6], {"seed": 3}),
        Cell("few-s1", ids[:6], {"seed": 1, "train.lr": 0.02}),
    ):
        assert done_already(run, recipe, [other], tmp_path) == set()


def test_a_metric_that_is_added_asks_and_trains_nothing_again(curated, tmp_path):
    run, recipe, ids = curated
    cell = cells_of(ids)[0]
    run_cells(run, recipe, [cell], tmp_path, quiet=True)
    before = trainings(tmp_path)
    more = recipe.changed({"evaluate.task.metrics": ["exact_match"]})

    (row,) = run_cells(run, more, [cell], tmp_path, quiet=True).to_pylist()

    assert trainings(tmp_path) == before
    assert statistics_of(row, "exact_match").shape == (9, 1)


def test_outcomes_of_two_cells_pair_up_item_by_item(curated, tmp_path):
    run, recipe, ids = curated
    linear = Cell("linear", ids, {}, {"method": "all"}, system="linear")
    majority = Cell("majority", ids, {}, {"method": "all"}, system="majority")

    one, other = run_cells(run, recipe, [linear, majority], tmp_path, quiet=True).to_pylist()

    assert one["items"] == other["items"]
    for row in (one, other):
        assert np.mean(statistics_of(row, "accuracy")) == pytest.approx(value_of(row, "accuracy"))
    assert value_of(one, "accuracy") > value_of(other, "accuracy") == pytest.approx(1 / 3)


@pytest.mark.parametrize("names", [("a", "a"), ("a/b",), ("",)])
def test_names_that_cannot_stand_for_a_folder_each_are_refused(curated, tmp_path, names):
    run, recipe, ids = curated
    with pytest.raises(UserError, match=r"cell|named"):
        run_cells(run, recipe, [Cell(n, ids) for n in names], tmp_path, quiet=True)
