"""What must not matter, through the real trainer: how a batch is cut into micro-batches, whether rows are packed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tamis.run import Run
from tests.train.making_rows import recipe, table

torch = pytest.importorskip("torch")

from tamis.train import stage  # noqa: E402

ROWS = 16


def trained(model: Path, folder: Path, micro_batch: int, *, packing: bool) -> tuple[list[float], Any]:
    """Losses of the steps, and all adapter weights in one vector."""
    from safetensors.torch import load_file

    make = stage.make_plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            stage,
            "make_plan",
            lambda *a, **k: dataclasses.replace(make(*a, **k), micro_batch=micro_batch, packing=packing),
        )
        run = Run(folder / f"{micro_batch}-{packing}")
        summary = stage.train_arm(run, recipe(model, batch=8, epochs=2), "main", table(ROWS), quiet=True)
    assert summary["packing"] is packing
    weights = load_file(run.train("main") / "adapter" / "adapter_model.safetensors")
    losses = [json.loads(line)["loss"] for line in (run.train("main") / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 2 * ROWS // 8
    return losses, torch.cat([weights[name].flatten() for name in sorted(weights)])


@pytest.mark.usefixtures("exact_arithmetic")
def test_eight_rows_at_once_train_as_eight_times_one_and_packed_as_padded(tiny_model: Path, tmp_path: Path) -> None:
    """Rows have unequal numbers of labels: a mean of means would weigh them wrongly."""
    losses, weights = trained(tiny_model, tmp_path, 8, packing=False)

    for micro_batch, packing in ((1, False), (2, True), (8, True)):
        others, other = trained(tiny_model, tmp_path, micro_batch, packing=packing)

        assert others == pytest.approx(losses, rel=1e-4)
        assert torch.nn.functional.cosine_similarity(weights, other, dim=0) > 0.9999
