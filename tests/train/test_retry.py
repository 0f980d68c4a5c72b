"""Memory that runs out in a step: one smaller plan that trains the same, then an error that says what was tried."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from tamis.errors import ExitCode
from tamis.run import Run
from tamis.schema import read_json
from tests.train.making_rows import files, log_lines, recipe, table

torch = pytest.importorskip("torch")

from tamis.train import sft  # noqa: E402
from tamis.train.stage import train_arm  # noqa: E402


def full_from(monkeypatch: pytest.MonkeyPatch, call: int, rows_that_fit: int) -> None:
    """A device on which, from some micro-batch on, no more than so many rows fit without checkpointing."""
    loss, calls = sft.labelled_loss, iter(range(1, 10_000))

    def limited(model: Any, inputs: dict[str, Any], labels_in_step: Any = None) -> Any:
        rows = int((inputs["labels"] == 2).sum())  # one stop token a row
        if next(calls) >= call and rows > rows_that_fit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total ...")
        return loss(model, inputs, labels_in_step)

    monkeypatch.setattr(sft, "labelled_loss", limited)


@pytest.mark.usefixtures("exact_arithmetic")
def test_half_as_many_rows_at_a_time_go_on_from_the_last_checkpoint_and_train_the_same(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, tight = Run(tmp_path / "whole"), Run(tmp_path / "tight")
    train_arm(whole, recipe(tiny_model), "main", table(16), quiet=True)
    full_from(monkeypatch, 6, 2)

    with caplog.at_level(logging.WARNING):
        summary = train_arm(tight, recipe(tiny_model), "main", table(16), quiet=True)

    plan = read_json(tight.train("main") / "plan.json")
    was = read_json(whole.train("main") / "plan.json")
    assert (was["micro_batch"], plan["micro_batch"], plan["accumulation"]) == (4, 2, 2)
    assert plan["checkpointing"]
    assert plan["batch"] == was["batch"]
    assert summary["steps"] == 8
    assert "ran out of memory with 4 rows at a time: 2 rows at a time and checkpointing" in caplog.text
    assert "4 rows a step as before" in plan["choices"][-1]["why"]
    assert summary["estimate_mb"] < was["estimate_mb"]
    ours, theirs = log_lines(tight), log_lines(whole)
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in theirs], rel=1e-3)
    assert [line["tokens"] for line in ours] == [line["tokens"] for line in theirs]


def test_a_second_time_is_an_error_that_says_what_was_tried_and_keeps_the_checkpoint(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    full_from(monkeypatch, 6, 0)

    with pytest.raises(sft.OutOfMemory, match="out of memory") as caught:
        train_arm(run, recipe(tiny_model), "main", table(16), quiet=True)

    assert "tried last: 2 rows at a time and checkpointing" in str(caught.value.why)
    assert caught.value.exit_code == ExitCode.STAGE_FAILED
    assert sft.latest_checkpoint(run.train("main") / "checkpoints") is not None

    with pytest.raises(sft.OutOfMemory, match="out of memory"):  # a third plan is not tried by the same command either
        train_arm(run, recipe(tiny_model), "main", table(16), quiet=True)
    assert read_json(run.train("main") / "plan.json")["micro_batch"] == 2

    monkeypatch.undo()  # more memory is free now
    assert train_arm(run, recipe(tiny_model), "main", table(16), quiet=True)["steps"] == 8


def test_what_the_recipe_forbids_is_not_tried(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_from(monkeypatch, 1, 0)
    asked = recipe(tiny_model, batch=1, gradient_checkpointing=False)

    with pytest.raises(sft.OutOfMemory) as caught:
        train_arm(Run(tmp_path), asked, "main", table(4), quiet=True)

    assert "tried last: 1 rows at a time," in str(caught.value.why)
    assert not read_json(Run(tmp_path).train("main") / "plan.json")["reduced"]


def test_the_memory_of_the_first_attempt_is_free_before_the_second(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import weakref

    models, prepare = [], sft.prepare_model

    def watched(*arguments: Any) -> Any:
        assert all(model() is None for model in models), "the first model is still there"
        made = prepare(*arguments)
        models.append(weakref.ref(made))
        return made

    monkeypatch.setattr(sft, "prepare_model", watched)
    full_from(monkeypatch, 2, 2)

    train_arm(Run(tmp_path), recipe(tiny_model, epochs=1), "main", table(8), quiet=True)

    assert len(models) == 2


def test_where_nothing_runs_out_the_plan_is_left_alone(tiny_model: Path, tmp_path: Path) -> None:
    train_arm(Run(tmp_path), recipe(tiny_model, epochs=1), "main", table(8), quiet=True)

    assert read_json(Run(tmp_path).train("main") / "plan.json")["reduced"] is False
    assert "checkpoints" not in {p.split("/")[0] for p in files(Run(tmp_path).train("main"))}
