"""What vLLM will refuse, said before the first training step instead of after the last.

    train: {serve: vllm}      the adapter will be served beside its base by vLLM
    train: {serve: merged}    it will be merged into its base, and any server can take it: nothing to check

Rules: vLLM 0.33, `lora/peft_helper.py` (`_validate_features`, `validate_legal`), `config/lora.py` (`MaxLoRARanks`) and
the column "LoRA" in `docs/models/supported_models.md`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tamis.errors import RecipeError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes; an adapter's rank may lie between them
SERVED_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # the others change the base's weights
SERVED_COPIES = ("classifier", "score")  # modules_to_save of classification heads
EMBEDDINGS = ("embed_tokens", "lm_head")
# Dense decoders and their kin that vLLM serves without LoRA. Architectures it does not know are not listed.
WITHOUT_LORA = frozenset(
    """ArcticForCausalLM BloomForCausalLM DbrxForCausalLM DeepseekV4ForCausalLM ExaoneMoeForCausalLM FalconForCausalLM
    FalconMambaForCausalLM FlexOlmoForCausalLM GPT2LMHeadModel GPTJForCausalLM GPTNeoXForCausalLM Gemma3nForCausalLM
    HrmTextForCausalLM Jais2ForCausalLM KimiLinearForCausalLM MPTForCausalLM Mamba2ForCausalLM MambaForCausalLM
    MellumForCausalLM MiMoV2FlashForCausalLM MiMoV2ForCausalLM MistralLarge3ForCausalLM OlmoeForCausalLM
    OrionForCausalLM RWForCausalLM Rnj1ForCausalLM StableLMEpochForCausalLM StableLmForCausalLM Step3p5ForCausalLM
    TeleFLMForCausalLM Zamba2ForCausalLM""".split()  # noqa: SIM905 - thirty lines of quotes would say no more
)


def vllm_problems(config: dict[str, Any], architecture: str | None = None) -> list[str]:
    """Why vLLM would refuse an adapter.

    Args:
        config: of the adapter, with the keys of PEFT's `adapter_config.json`; missing ones have PEFT's defaults.
        architecture: of the base, as in its `config.json`; None if unknown.

    Returns:
        One sentence each, with what to change; empty where vLLM takes it.
    """
    found = []
    rank = max([config.get("r") or 0, *(config.get("rank_pattern") or {}).values()])
    if not 1 <= rank <= RANKS[-1]:
        found.append(f"r: {rank} is out of its range: at most {RANKS[-1]}")
    if config.get("use_dora"):
        found.append("it knows no DoRA: use_dora: false")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in SERVED_INITS:
        found.append(
            f"init_lora_weights: {init} (PiSSA and its like) changes the base's weights, which it does not: "
            f"true, {', '.join(SERVED_INITS)}"
        )
    if copies := [m for m in config.get("modules_to_save") or () if m not in SERVED_COPIES]:
        found.append(f"modules_to_save: {copies} are whole layers, not LoRA: leave them out, or merge")
    if config.get("lora_bias") or config.get("bias", "none") != "none":
        found.append("it knows no bias in an adapter: bias: none, lora_bias: false")
    unknown = ("alora_invocation_tokens", "layer_replication", "use_bdlora", "use_qalora")
    found += [f"it does not know {key}: leave it out" for key in unknown if config.get(key)]
    targets = config.get("target_modules") or ()
    if embedded := sorted({t.rpartition(".")[2] for t in targets if not isinstance(targets, str)} & {*EMBEDDINGS}):
        found.append(f"target_modules: {embedded} are embeddings, which few of its models adapt: all-linear")
    if architecture in WITHOUT_LORA:
        found.append(f"it serves {architecture} without LoRA: merge, or take another base")
    return found


def require_servable(serve: str, config: dict[str, Any] | None, model: Path) -> None:
    """Stop where the adapter that is planned could not be served as the recipe says.

    Args:
        serve: the recipe's `train.serve`.
        config: of the adapter (as for `vllm_problems`); None where all weights are trained.
        model: the base's folder.

    Raises:
        RecipeError: with every reason.
    """
    if serve != "vllm" or config is None:
        return
    if problems := vllm_problems(config, architecture_of(model)):
        raise RecipeError(
            "vLLM would refuse this adapter",
            where="recipe:train.serve",
            why="; ".join(problems),
            hint="change that, or train.serve: merged, which any server takes",
        )


def architecture_of(model: Path) -> str | None:
    """The class that a model folder's `config.json` names, or None."""
    try:
        return str(json.loads((model / "config.json").read_bytes())["architectures"][0])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def max_lora_rank(rank: int) -> int:
    """The smallest `--max-lora-rank` that takes an adapter of this rank; the largest there is for greater ones."""
    return next((r for r in RANKS if r >= rank), RANKS[-1])
