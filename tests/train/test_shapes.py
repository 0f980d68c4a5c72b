"""Models of several shapes go the whole way: planned, trained five steps, exported, and what ships answers alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.run import Run
from tamis.schema import read_json
from tests.train.making_models import SHAPES, build
from tests.train.making_rows import recipe, table

pytest.importorskip("torch")

from tamis.train.export import export_arm
from tamis.train.stage import train_arm


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_of_this_shape_is_planned_trained_and_exported(shape: str, tmp_path: Path) -> None:
    # A rate at which five steps settle what the model says: a random model's likeliest tokens are as good as tied
    asked = recipe(build(shape, tmp_path / "model"), epochs=1, lr=5e-2)
    run = Run(tmp_path / "run")

    summary = train_arm(run, asked, "main", table(20), quiet=True)
    told = export_arm(run, asked, "main", [table(20)])

    assert summary["steps"] == 5
    assert read_json(run.train("main") / "plan.json")["r"] == 8
    assert told["parity"]["holds"]
    assert told["parity"]["tokens"] > 50


def test_a_model_that_cannot_be_quantised_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tamis.models import load_model

    load_model(str(build("falcon", tmp_path / "falcon")), "nf4", unpacked=True)
    assert "can be held in nf4" in caplog.text

    caplog.clear()
    load_model(str(build("gpt2", tmp_path / "gpt2")), "nf4", unpacked=True)
    assert "can be held in nf4" not in caplog.text
