"""The traps of training in 4 bits on a CPU, and the loss that looks at labelled positions only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamis.train.labels import IGNORED, Row
from tamis.train.packing import PaddingCollator
from tests.train.making_rows import recipe

torch = pytest.importorskip("torch")

from tamis.models import load_model, load_tokenizer, resolve  # noqa: E402
from tamis.train.plan import Hardware, Plan, make_plan, shape_of  # noqa: E402
from tamis.train.sft import labelled_loss, latest_checkpoint, make_trainer, prepare_model  # noqa: E402
from tamis.train.training_log import Log  # noqa: E402

ROWS = [
    {"input_ids": [1, 7, 8, 9, 20, 21, 30, 2], "labels": [IGNORED] * 6 + [30, 2], "row": 0},
    {"input_ids": [1, 7, 8, 9, 22, 31], "labels": [IGNORED] * 5 + [31], "row": 1},
]


def plan_for(model: Path) -> Plan:
    hardware = Hardware("cpu", "test", 8_000_000_000, 1, "float32")
    return make_plan(recipe(model).train, shape_of(model), [8, 6], 3, hardware)


def prepared(model: Path) -> Any:
    return prepare_model(resolve(str(model)), plan_for(model), recipe(model).train, seed=1)


def batch() -> dict[str, Any]:
    made = PaddingCollator(0)(ROWS)
    made.pop("rows")
    return made


def gradient(model: Any) -> Any:
    model.zero_grad()
    model.train()
    labelled_loss(model, batch()).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def awake(model: Any) -> Any:
    """LoRA's second matrices start at zero, where the first have no gradient; give them values."""
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def evaluate(model: Any) -> None:
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.tensor([[1, 7, 8, 9]]))


def test_gradients_after_an_evaluation_pass_are_those_before_it(deep_model: Path) -> None:
    model = awake(prepared(deep_model))
    before = gradient(model)

    evaluate(model)

    assert torch.nn.functional.cosine_similarity(before, gradient(model), dim=0) > 0.999


def test_without_the_guard_that_evaluation_pass_spoils_the_gradients(deep_model: Path) -> None:
    from bitsandbytes.nn import Linear4bit
    from bitsandbytes.nn.modules import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this CPU has no AVX512-BF16, so bitsandbytes repacks nothing")
    model = awake(prepared(deep_model))
    before = gradient(model)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = True

    evaluate(model)
    try:
        after = gradient(model)
    except RuntimeError:
        return  # spoiled so thoroughly that nothing has a gradient

    assert torch.nn.functional.cosine_similarity(before, after, dim=0) < 0.99


def test_only_adapters_are_trained_and_they_are_fp32(deep_model: Path) -> None:
    model = prepared(deep_model)

    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}

    assert set(trained.values()) == {torch.float32}
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * 7 * 6  # two matrices, seven linear layers, six blocks


def test_the_trainer_leaves_the_adapters_as_they_were_made(tiny_model: Path, tmp_path: Path) -> None:
    model = prepared(tiny_model)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    rows = [Row(str(r["row"]), r["input_ids"], r["labels"], len(r["input_ids"]), 2, 0) for r in ROWS]

    trainer = make_trainer(
        model,
        load_tokenizer(str(tiny_model)),
        rows,
        plan_for(tiny_model),
        recipe(tiny_model).train,
        PaddingCollator(0),
        tmp_path,
        1,
        Log(tmp_path / "log.jsonl"),
    )

    after = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) and after[name].dtype == torch.float32 for name in before)


def test_the_loss_is_the_models_own(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    with torch.no_grad():
        expected = model(**batch()).loss

        assert labelled_loss(model, batch()).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_loss_is_divided_by_the_labels_of_the_whole_step(tiny_model: Path) -> None:
    model = load_model(str(tiny_model))
    with torch.no_grad():
        assert labelled_loss(model, batch(), 6).item() == pytest.approx(labelled_loss(model, batch()).item() / 2)


def test_a_checkpoint_without_its_mark_is_removed_and_the_one_before_taken(tmp_path: Path) -> None:
    for step, whole in ((2, True), (10, True), (12, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if whole:
            (folder / "whole.json").write_text("{}")

    assert latest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"  # 10 is after 2, though not by name
    assert not (tmp_path / "checkpoint-12").exists()
    assert latest_checkpoint(tmp_path / "nothing") is None


def test_a_resumed_log_drops_the_steps_that_will_be_repeated_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [f'{{"step": {n}, "loss": {n}.5, "tokens": 10, "seconds": 3}}\n' for n in (1, 2, 3)]
    path.write_text("".join(lines) + '{"step": 4, "lo')

    log = Log(path, upto=2)

    assert path.read_text().count("\n") == 2
    assert (log.tokens, log.last_loss, log.seconds_before) == (20, 2.5, 6)
