"""MFU by its definition, and what the log and the terminal say of a step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tamis.recipe import Train
from tamis.run import Run
from tamis.train import training_log
from tamis.train.packing import PackingCollator, PaddingCollator
from tamis.train.plan import Hardware, Plan, Shape, make_plan
from tamis.train.training_log import Log
from tamis.train.utilisation import Utilisation, published_rate, utilisation_of
from tests.train.making_rows import log_lines, recipe, table

LLAMA_8B = Shape(4096, 14336, 32, 32, 8, 128, 128256, False, 131072, "llama")
H100 = Hardware("cuda", "NVIDIA H100 80GB HBM3", 80 * 10**9, 8, "bfloat16")


def plan(hardware: Hardware = H100, **asked: Any) -> Plan:
    return make_plan(Train(**asked), LLAMA_8B, [2000] * 500, 400_000, hardware)


@pytest.mark.parametrize(
    ("card", "rate"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA A10G", None),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("AMD Instinct MI300X", None),
    ],
)
def test_a_card_is_known_by_its_whole_name(card: str, rate: float | None) -> None:
    assert published_rate(card) == rate


def test_a_published_speed_gives_its_published_share() -> None:
    """Llama 3.1 8B, LoRA beside bf16, 12,473 tokens/s at 402 TFLOP/s (NVIDIA NeMo, one H100), every token labelled."""
    known = Utilisation(plan(method="lora"), LLAMA_8B, 989e12)

    assert known.mfu(12_473, 12_473, 1.0) == pytest.approx(402 / 989, rel=0.08)  # which also counts attention


def test_full_tuning_needs_half_as_much_again_and_checkpointing_counts_nothing() -> None:
    lora, full = plan(method="lora"), plan(method="lora")
    full = dataclasses.replace(full, method="full", r=None)
    mfu = Utilisation(lora, LLAMA_8B, 989e12).mfu(1000, 100, 1.0)

    assert Utilisation(full, LLAMA_8B, 989e12).mfu(1000, 100, 1.0) == pytest.approx(1.5 * mfu)
    again = dataclasses.replace(lora, checkpointing=not lora.checkpointing)
    assert Utilisation(again, LLAMA_8B, 989e12).mfu(1000, 100, 1.0) == mfu
    assert Utilisation(lora, LLAMA_8B, 989e12).mfu(1000, 100, 2.0) == pytest.approx(mfu / 2)


def test_it_is_claimed_only_where_the_peak_is_known() -> None:
    assert utilisation_of(plan(), LLAMA_8B) is not None
    for hardware in (
        dataclasses.replace(H100, name="some card"),
        dataclasses.replace(H100, compute="float32"),
        dataclasses.replace(H100, device="cpu"),
    ):
        assert utilisation_of(plan(hardware), LLAMA_8B) is None


def test_padding_does_not_count_and_a_shared_prefix_counts_once() -> None:
    pytest.importorskip("torch")
    from tamis.train.sft import computed_tokens

    rows = [
        {"input_ids": [1, 7, 8, 9, 20, 21, 30, 2], "labels": [-100] * 6 + [30, 2], "row": 0},
        {"input_ids": [1, 7, 8, 9, 22, 31], "labels": [-100] * 5 + [31], "row": 1},
    ]

    assert computed_tokens(PaddingCollator(0)(rows)) == 14
    assert computed_tokens(PackingCollator()(rows)) == 32  # 4 shared, 4 and 2 of their own, filled up to 32


def test_a_steps_line_has_its_share_and_the_terminal_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Utilisation(plan(method="lora"), LLAMA_8B, 989e12)
    clock = iter([100.0, 110.0])
    monkeypatch.setattr(training_log.time, "monotonic", lambda: next(clock))
    log = Log(tmp_path / "log.jsonl", utilisation=known)
    for _ in range(2):
        log.count(300, 256, 40)

    log.write(1, 5, 0.5, {"loss": 1.25, "learning_rate": 5e-4, "grad_norm": 0.31})

    text = (tmp_path / "log.jsonl").read_text()
    assert f'"mfu": {round(known.mfu(512, 80, 10.0), 4)}' in text
    assert '"tokens": 600' in text
    assert '"eta_s": 40.0' in text
    assert log.told.startswith("loss 1.250, rate 5.0e-04, gradient 0.31, 60 tokens/s, MFU ")


def test_every_step_has_loss_rate_gradient_speed_and_memory(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from tamis.run import Progress
    from tamis.train.stage import train_arm

    notes = []
    monkeypatch.setattr(Progress, "update", lambda self, done, note="": notes.append(note))

    train_arm(Run(tmp_path), recipe(tiny_model, epochs=1), "main", table(12), quiet=True)

    lines = log_lines(Run(tmp_path))
    assert [line["step"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert min(line[name] for name in ("loss", "lr", "grad_norm", "tokens_per_second", "peak_mb", "seconds")) >= 0
        assert "mfu" not in line  # a CPU's peak is not published
    assert notes[0] == ""
    assert notes[2].startswith(f"loss {lines[1]['loss']:.3f}, rate ")
