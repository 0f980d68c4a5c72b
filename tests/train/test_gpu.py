"""What only a GPU can show. Run by `make gpu`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tamis.run import Run
from tests.train.making_rows import files, recipe, table
from tests.train.test_train_arm import stopped_at

torch = pytest.importorskip("torch")

from tamis.train.stage import train_arm  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("optim", ["adamw_torch", "paged_adamw_8bit"])
@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_resume_on_a_gpu_is_exact_in_deterministic_mode(
    tiny_model: Path, tmp_path: Path, method: str, optim: str
) -> None:
    """`sft.train` asks torch for deterministic kernels; were there none for an operation, the loss still agrees."""
    asked = recipe(tiny_model, method=method, optim=optim, dropout=0.1, r=64)
    whole, broken = Run(tmp_path / "whole"), Run(tmp_path / "broken")
    train_arm(whole, asked, "main", table(18), quiet=True)

    stopped_at(5, broken, asked, table(18))
    train_arm(broken, asked, "main", table(18), quiet=True)

    def losses(run: Run) -> list[float]:
        return [json.loads(line)["loss"] for line in (run.train("main") / "log.jsonl").read_text().splitlines()]

    assert losses(broken) == pytest.approx(losses(whole), abs=1e-3)
    assert files(broken.train("main") / "adapter") == files(whole.train("main") / "adapter")


def test_training_twice_on_a_gpu_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    one, two = Run(tmp_path / "one"), Run(tmp_path / "two")
    for run in (one, two):
        train_arm(run, recipe(tiny_model), "main", table(18), quiet=True)

    assert files(one.train("main") / "adapter") == files(two.train("main") / "adapter")
