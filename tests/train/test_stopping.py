"""Early stopping: it ends where the held-out loss turns, ships the best weights, and a kill changes none of that."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tamis.errors import RecipeError
from tamis.run import Run
from tamis.schema import read_json
from tests.train.making_rows import files, log_lines, recipe, stopped_at, table

torch = pytest.importorskip("torch")

from tamis.train import stage as stage_module  # noqa: E402
from tamis.train.labels import Row  # noqa: E402
from tamis.train.stage import forecast_arm, train_arm  # noqa: E402
from tamis.train.stopping import Watch, hold_out  # noqa: E402

# Answers that do not follow from the questions: how they look can be learnt for all rows, then only by heart
WORDS = ("red", "blue", "green", "tall", "small", "quick", "slow", "cold", "warm", "dark")
DRAW = random.Random(3)
ROWS = table(20, labels=[f"{DRAW.choice(WORDS)} {DRAW.choice(WORDS)}" for _ in range(20)])
STOPPING = {"lr": 1e-2, "epochs": 8, "early_stopping": {"holdout": 0.2, "every": 2, "patience": 2}}


@pytest.fixture(scope="module")
def stopped(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("stopped"))
    train_arm(run, recipe(tiny_model, **STOPPING), "main", ROWS, quiet=True)
    return run


def measurements(run: Run) -> list[tuple[int, float]]:
    return [(line["step"], line["held_out_loss"]) for line in log_lines(run) if "held_out_loss" in line]


def test_it_stops_early_and_keeps_the_weights_with_the_lowest_held_out_loss(stopped: Run, tiny_model: Path) -> None:
    from tamis.models import load_adapter, load_model, load_tokenizer
    from tamis.train.packing import PaddingCollator
    from tamis.train.sft import held_out_loss
    from tamis.train.stage import labels_of_arm

    told, found = read_json(stopped.train("main") / "stage.json"), measurements(stopped)

    assert told["steps"] < read_json(stopped.train("main") / "plan.json")["steps"]
    assert found[-1][0] == told["steps"]
    assert (told["best_step"], told["held_out_loss"]) == min(found, key=lambda m: m[1])
    assert [step for step, _ in found].index(told["best_step"]) == len(found) - 3  # two more without a better one
    _, rows = labels_of_arm(recipe(tiny_model, **STOPPING), ROWS)
    held = [row for row in rows if row.dropped == "held_out"]
    model = load_adapter(load_model(str(tiny_model), "nf4"), stopped.train("main") / "adapter")
    with torch.autocast("cpu", torch.bfloat16):
        again = held_out_loss(model, [held], PaddingCollator(load_tokenizer(str(tiny_model)).pad_token_id))
    assert again == pytest.approx(told["held_out_loss"], abs=0.02)  # the last weights lose more than that
    assert found[-1][1] > told["held_out_loss"] + 0.05


def test_held_out_rows_are_counted_apart_and_not_trained_on(stopped: Run) -> None:
    told = read_json(stopped.train("main") / "stage.json")
    fates = pq.read_table(stopped.train("main") / "tokens.parquet")["dropped"].to_pylist()

    assert (told["rows"], told["held_out"], told["dropped"]) == (16, 4, 0)
    assert sorted(fates, key=str) == [None] * 16 + ["held_out"] * 4


def test_the_folder_keeps_no_weights_of_steps_that_did_not_win(stopped: Run) -> None:
    assert not list(stopped.train("main").rglob("best-*"))


@pytest.mark.parametrize("at", [13, 17])
def test_killed_before_or_after_the_best_step_it_ends_with_the_same_bytes(
    stopped: Run, tiny_model: Path, tmp_path: Path, at: int
) -> None:
    best = read_json(stopped.train("main") / "stage.json")["best_step"]
    assert 13 <= best < 17, "one kill before the best step, one after it"
    run, asked = Run(tmp_path), recipe(tiny_model, **STOPPING)

    stopped_at(at, run, asked, ROWS)
    summary = train_arm(run, asked, "main", ROWS, quiet=True)

    assert files(run.train("main") / "adapter") == files(stopped.train("main") / "adapter")
    assert measurements(run) == measurements(stopped)
    assert summary["best_step"] == best


def test_measuring_changes_nothing_in_the_training(tiny_model: Path, tmp_path: Path) -> None:
    """Dropout is on: a measurement that drew a random number would move every later step."""
    losses = []
    for every in (1, 3):
        early = {"holdout": 0.2, "every": every, "patience": 99}
        asked = recipe(tiny_model, dropout=0.1, epochs=2, early_stopping=early)
        train_arm(Run(tmp_path / str(every)), asked, "main", table(20), quiet=True)
        losses.append([line["loss"] for line in log_lines(Run(tmp_path / str(every)))])

    assert losses[0] == losses[1]


def test_the_plan_says_what_is_held_out_and_how_often_it_is_looked_at(tiny_model: Path) -> None:
    plan = forecast_arm(recipe(tiny_model, early_stopping=True), table(20)).plan

    (choice,) = [c for c in plan.choices if c.name == "early_stopping"]
    assert (plan.held_out, choice.value) == (2, plan.evaluate_every)
    assert "2 rows that are not trained on" in choice.why


def test_another_patience_is_another_training_and_none_is_the_old_one(stopped: Run, tiny_model: Path) -> None:
    from tamis.models import resolve

    rows = stage_module._conversations(table(4), recipe(tiny_model))
    prints = [
        stage_module._fingerprint(rows, recipe(tiny_model, **change), resolve(str(tiny_model)))
        for change in ({}, {"early_stopping": False}, {"early_stopping": True}, {"early_stopping": {"patience": 9}})
    ]

    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def row(number: int, dropped: str | None = None) -> Row:
    return Row(f"{number}", [1, 2], [-100, 2], 2, 1, 0, dropped)


def test_the_same_rows_are_held_out_when_rows_are_cut_or_come_in_another_order() -> None:
    whole = hold_out([row(i) for i in range(30)], 0.2, 7)
    cut = hold_out([row(i, "too_long" if i % 7 == 0 else None) for i in reversed(range(30))], 0.2, 7)

    held = {r.id for r in whole if r.dropped == "held_out"}
    assert len(held) == 6
    assert {r.id for r in cut if r.dropped == "held_out"} == {i for i in held if int(i) % 7}
    assert {r.id for r in hold_out([row(i) for i in range(30)], 0.2, 8) if r.dropped == "held_out"} != held


def test_too_few_rows_to_hold_one_out_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match="early stopping needs"):
        hold_out([row(0)], 0.1, 7)


def test_a_measurement_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    losses: Any = iter([float("nan"), 2.0, 2.0, 3.0])
    model = torch.nn.Linear(2, 2)
    watch = Watch(tmp_path, 1, 2, lambda _: next(losses), lambda _: None, [])

    for step in range(1, 5):
        watch.look(step, model)

    assert watch.best == (2, 2.0)
    assert watch.exhausted
    assert (tmp_path / "best-2.safetensors").is_file()
    assert not (tmp_path / "best-3.safetensors").exists()
