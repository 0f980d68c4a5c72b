"""The plan: formulas against published and measured numbers, and a choice for every machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tamis.errors import RecipeError
from tamis.recipe import Train
from tamis.train.plan import Hardware, Plan, Shape, make_plan, memory, packing_gain, shape_of, steps_of

LLAMA_8B = Shape(4096, 14336, 32, 32, 8, 128, 128256, False, 131072, "llama")
SMOL = Shape(576, 1536, 30, 9, 3, 64, 49152, True, 8192, "llama")
CPU = Hardware("cpu", "test", 16 * 10**9, 2, "float32")
GPU = Hardware("cuda", "test", 80 * 10**9, 8, "bfloat16")
GIB = 2**30


def test_lora_parameters_match_the_published_count() -> None:
    assert LLAMA_8B.lora(1) == 2_621_440  # Tinker's table
    assert SMOL.lora(16) == 4_884_480


def test_all_parameters_match_the_models() -> None:
    assert SMOL.linear + SMOL.other == 134_515_008
    assert LLAMA_8B.linear + LLAMA_8B.other == 8_030_261_248


def test_checkpointing_trades_activations_for_work() -> None:
    def total(checkpointing: bool) -> float:
        return memory(
            LLAMA_8B,
            quantisation="nf4",
            r=16,
            tokens=2048,
            labelled=1000,
            checkpointing=checkpointing,
            compute="bfloat16",
            device="cuda",
        ).total

    # the same formula, worked by hand: 8.0 GiB with, 20.4 GiB without (there with an 8-bit optimizer)
    assert total(True) / GIB == pytest.approx(8.0, rel=0.1)
    assert total(False) / GIB == pytest.approx(20.4, rel=0.1)


def test_short_rows_with_a_common_prefix_are_packed_and_long_ones_are_not() -> None:
    assert make_plan(Train(), SMOL, [48] * 300, 1500, CPU, shared=24).packing
    assert not make_plan(Train(), SMOL, [900] * 300, 1500, CPU).packing
    assert not make_plan(Train(dropout=0.1), SMOL, [48] * 300, 1500, CPU, shared=24).packing
    assert packing_gain(SMOL, [48] * 300, 24, 16) > packing_gain(SMOL, [48] * 300, 0, 16)


def test_what_the_recipe_says_is_done_and_said() -> None:
    train = Train(r=4, lr=5e-5, batch=6, max_length=32, optim="adafactor", gradient_checkpointing=True)

    plan = make_plan(train, SMOL, [48] * 100, 500, CPU)

    assert (plan.r, plan.lr, plan.batch, plan.max_length, plan.optim) == (4, 5e-5, 6, 32, "adafactor")
    assert plan.checkpointing
    assert {c.why for c in plan.choices if c.name in ("r", "lr", "batch")} == {"as the recipe says"}


def test_rank_grows_with_what_must_be_remembered() -> None:
    assert make_plan(Train(), SMOL, [50] * 300, 1500, CPU).r == 8
    assert make_plan(Train(), SMOL, [200] * 60_000, 9_000_000, CPU).r == 32


def test_more_tokens_than_lora_can_hold_is_a_warning() -> None:
    plan = make_plan(Train(), SMOL, [2000] * 100_000, 180_000_000, CPU)

    assert "consider method: full" in plan.warnings[0]
    assert not make_plan(Train(), SMOL, [50] * 300, 1500, CPU).warnings


def test_a_rank_that_trains_nearly_all_of_a_small_model_is_a_warning() -> None:
    (warning,) = make_plan(Train(r=128), SMOL, [50] * 300, 1500, CPU).warnings

    assert "small enough to train them all" in warning
    tight = dataclasses.replace(CPU, memory=3 * 10**9)
    assert not make_plan(Train(r=128), SMOL, [50] * 300, 1500, tight).warnings
    assert not make_plan(Train(r=64), SMOL, [50] * 300, 1500, CPU).warnings
    assert not make_plan(Train(method="full"), SMOL, [50] * 300, 1500, CPU).warnings


def test_a_language_in_pieces_is_a_warning() -> None:
    (warning,) = make_plan(Train(), SMOL, [50] * 300, 1500, CPU, tokens_per_word=3.1).warnings

    assert "3.1 tokens a word" in warning
    assert not make_plan(Train(), SMOL, [50] * 300, 1500, CPU, tokens_per_word=1.8).warnings
    assert not make_plan(Train(method="full"), SMOL, [50] * 300, 1500, CPU, tokens_per_word=3.1).warnings


def why(plan: Plan, name: str) -> str:
    return next(choice.why for choice in plan.choices if choice.name == name)


def test_the_plan_says_when_all_weights_could_be_trained_and_when_4_bits_gain_nothing() -> None:
    small = make_plan(Train(), SMOL, [50] * 300, 1500, CPU)
    large = make_plan(Train(), LLAMA_8B, [2000] * 500, 400_000, GPU)

    assert "small enough for method: full" in why(small, "method")
    assert "method: lora would do without rounding it" in why(small, "quantisation")
    assert "would need" in why(large, "method")
    assert "small enough" not in why(large, "method")
    assert "without rounding" not in why(large, "quantisation")


def test_little_memory_means_smaller_micro_batches_and_then_checkpointing() -> None:
    def plan(gigabytes: float) -> tuple[int, bool]:
        hardware = dataclasses.replace(GPU, memory=int(gigabytes * 1e9))
        made = make_plan(Train(batch=16), LLAMA_8B, [2000] * 500, 400_000, hardware)
        assert made.estimate_bytes <= 0.8 * gigabytes * 1e9
        assert made.micro_batch * made.accumulation == 16
        return made.micro_batch, made.checkpointing

    large, middle, small = plan(400), plan(80), plan(16)

    assert large == (16, False)
    assert not middle[1]
    assert middle[0] < 16
    assert small[1]


def test_a_model_that_does_not_fit_is_an_error_with_numbers() -> None:
    with pytest.raises(RecipeError, match=r"training needs \d+\.\d GB, cuda has 6.0 GB free"):
        make_plan(Train(), LLAMA_8B, [2000] * 500, 400_000, dataclasses.replace(GPU, memory=6 * 10**9))


def test_the_learning_rate_follows_the_published_fit_and_stays_below_where_runs_diverged() -> None:
    assert make_plan(Train(), LLAMA_8B, [100] * 100, 1000, GPU).lr == pytest.approx(2.9e-4, rel=0.02)
    assert make_plan(Train(), SMOL, [100] * 100, 1000, GPU).lr == 7e-4
    assert make_plan(Train(method="full"), SMOL, [100] * 100, 1000, GPU).lr == pytest.approx(7e-5)


def test_long_rows_are_cut_at_the_cap_and_counted_in_the_reason() -> None:
    plan = make_plan(Train(), SMOL, [100] * 10 + [9000, 5000], 1000, GPU)

    assert plan.max_length == 4096
    assert "2 rows are longer, up to 9000" in next(c.why for c in plan.choices if c.name == "max_length")


@pytest.mark.parametrize(("rows", "batch"), [(2, 2), (30, 4), (300, 8), (1000, 16), (50_000, 16)])
def test_small_sets_get_small_batches_so_that_there_are_steps_enough(rows: int, batch: int) -> None:
    assert make_plan(Train(epochs=3), SMOL, [50] * rows, 5 * rows, CPU).batch == batch


def test_steps_count_the_smaller_last_batch_of_an_epoch() -> None:
    assert steps_of(300, 16, 3) == 57
    assert steps_of(32, 16, 3) == 6
    assert steps_of(1, 16, 0.5) == 1


def test_a_configuration_without_attention_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')

    with pytest.raises(RecipeError, match="not that of a decoder"):
        shape_of(tmp_path)
