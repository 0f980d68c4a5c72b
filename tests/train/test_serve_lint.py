"""What vLLM refuses is refused before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamis.errors import RecipeError
from tamis.run import Run
from tamis.train.serve_lint import RANKS, WITHOUT_LORA, max_lora_rank, vllm_problems
from tests.train.making_models import build
from tests.train.making_rows import recipe, table

SERVED = {"r": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none", "init_lora_weights": True}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"r": 12},
        {"r": 512},
        {"rank_pattern": {"q_proj": 64}},
        {"alpha_pattern": {"q_proj": 64}},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva"},
        {"modules_to_save": ["score"]},
        {"target_modules": "all-linear"},
    ],
)
def test_what_vllm_serves_passes(config: dict[str, Any]) -> None:
    assert vllm_problems(SERVED | config, "LlamaForCausalLM") == []


@pytest.mark.parametrize(
    ("config", "change"),
    [
        ({"use_dora": True}, "use_dora: false"),
        ({"init_lora_weights": "pissa"}, "PiSSA"),
        ({"init_lora_weights": "pissa_niter_16"}, "PiSSA"),
        ({"init_lora_weights": "OLoRA"}, "gaussian"),
        ({"modules_to_save": ["lm_head"]}, "leave them out"),
        ({"r": 513}, "at most 512"),
        ({"r": 0}, "out of its range"),
        ({"rank_pattern": {"q_proj": 1024}}, "at most 512"),
        ({"bias": "all"}, "bias: none"),
        ({"lora_bias": True}, "lora_bias: false"),
        ({"layer_replication": [[0, 4]]}, "layer_replication"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens"),
        ({"target_modules": ["q_proj", "model.embed_tokens"]}, "embed_tokens"),
    ],
)
def test_what_it_refuses_is_named_with_what_to_change(config: dict[str, Any], change: str) -> None:
    (problem,) = vllm_problems(SERVED | config, "LlamaForCausalLM")

    assert change in problem


def test_all_that_is_wrong_is_said_at_once() -> None:
    config = SERVED | {"use_dora": True, "r": 600, "modules_to_save": ["lm_head"]}

    assert len(vllm_problems(config, "GPT2LMHeadModel")) == 4


def test_the_rank_of_the_server_is_the_smallest_that_takes_the_adapter() -> None:
    assert [max_lora_rank(r) for r in (1, 2, 8, 12, 64, 300, 512, 9999)] == [1, 8, 8, 16, 64, 320, 512, 512]
    assert list(RANKS) == sorted(RANKS)
    assert "LlamaForCausalLM" not in WITHOUT_LORA


def test_training_for_vllm_is_refused_before_it_starts(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tamis.train.stage import forecast_arm, train_arm

    model = build("gpt2", tmp_path / "gpt2")
    asked = recipe(model, serve="vllm")

    for work in (lambda: forecast_arm(asked, table(4)), lambda: train_arm(Run(tmp_path), asked, "main", table(4))):
        with pytest.raises(RecipeError, match="vLLM would refuse") as caught:
            work()
        assert "GPT2LMHeadModel" in str(caught.value.why)
        assert "serve: merged" in str(caught.value.hint)
    assert not (Run(tmp_path).train("main") / "log.jsonl").exists()
    assert forecast_arm(recipe(model), table(4)).rows == 4


def test_a_rank_that_vllm_does_not_take_is_refused_where_it_is_asked_for(tiny_model: Path) -> None:
    pytest.importorskip("torch")
    from tamis.train.stage import forecast_arm

    with pytest.raises(RecipeError) as caught:
        forecast_arm(recipe(tiny_model, serve="vllm", r=1024), table(4))
    assert "r: 1024" in str(caught.value.why)
    forecast_arm(recipe(tiny_model, serve="vllm"), table(4))


def test_who_serves_it_does_not_change_the_adapter(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tamis.train.stage import train_arm

    train_arm(Run(tmp_path), recipe(tiny_model, epochs=1), "main", table(4), quiet=True)

    again = train_arm(Run(tmp_path), recipe(tiny_model, epochs=1, serve="vllm"), "main", table(4), quiet=True)

    assert again["skipped"] is True
