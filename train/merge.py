"""What an adapter does, written into the weights of its base: the dequantised one, never the original.

An adapter was trained beside weights rounded to 4 bits, and makes up for that rounding. Added to the original weights
it answers otherwise; added to 4-bit weights and rounded again, most of it is lost. KL to the evaluated model, in nats
per answer token, on CLINC150: dequantised 0.00002, original 0.13, 4 bits 6.3, no adapter 8.2 (benchmarks/merge.md).
"""

from __future__ import annotations

from typing import Any

from tamis.errors import RecipeError
from tamis.models import is_quantised


def refuse_four_bits(what: str) -> RecipeError:
    """The error for a merge into 4 bits, however it was asked for."""
    return RecipeError(
        "a merge into 4 bits is refused",
        where=what,
        why="requantised, almost nothing of the fine-tune survives: the merged model answers like the untuned one",
        hint="tamis export RUN --to merged (bf16), then quantise with calibration data and evaluate the result again",
    )


def merge(tuned: Any, target: Any) -> None:
    """Write into `target` the weights that `tuned` answers with.

    Every quantised layer is dequantised and its adapter's change added, in fp32, and rounded once to the target's type;
    so the target's own values of these layers, which are the original ones, never count. Layers that GPT-2 stores
    transposed (Conv1D) are turned: bitsandbytes holds them as [out, in].

    Args:
        tuned: a `PeftModel` on the base as it was trained on, or that base alone.
        target: the same architecture, loaded without quantisation; changed in place.

    Raises:
        RecipeError: the target is held in 4 or 8 bits.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    if any(is_quantised(module) for module in target.modules()):
        raise refuse_four_bits("the model merged into")
    with torch.no_grad():
        base = tuned.get_base_model() if hasattr(tuned, "get_base_model") else tuned
        for name, module in base.named_modules():
            adapted = isinstance(module, LoraLayer)
            if not adapted and (not is_quantised(module) or name.endswith(".base_layer")):
                continue
            layer = module.get_base_layer() if adapted else module
            weight = _weight(layer).float()
            for adapter in module.active_adapters if adapted else ():
                weight = weight + module.get_delta_weight(adapter).float()
            place = target.get_submodule(name)
            stored = weight.T if is_quantised(layer) and _stores_transposed(place) else weight
            place.weight.copy_(stored)


def _stores_transposed(module: Any) -> bool:
    return type(module).__name__ == "Conv1D"


def _weight(layer: Any) -> Any:
    """A layer's weight as numbers; bitsandbytes' layers are unpacked."""
    if not is_quantised(layer):
        return layer.weight
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    return dequantize_bnb_weight(layer.weight, getattr(layer, "state", None))
