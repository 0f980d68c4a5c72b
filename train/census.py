"""What a model is made of, counted on the model itself: its modules are built without weights, nothing is assumed.

Families differ in what a formula would take for granted: Falcon holds query, key and value in one matrix and in a class
of its own, which transformers leaves as it is when all else goes into 4 bits (it converts `torch.nn.Linear` and GPT-2's
`Conv1D`, and no class derived from them: transformers 5.23, integrations/bitsandbytes.py, replace_with_bnb_linear).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

IN_A_LAYER = re.compile(r"\.\d+\.")
# Matrices that read what the one before them reads
SHARING = ("k_proj", "v_proj", "up_proj")
GATES = ("gate_proj", "gate_up_proj", "up_proj")
# Activation functions written in Python keep intermediate values: four, where one kernel would keep its input
KEPT_BY_ACTIVATION = {"gelu_new": 4, "gelu_fast": 4}


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A linear layer inside a block: what LoRA stands beside. `quantised`: held in 4 or 8 bits where that is asked."""

    inputs: int
    outputs: int
    quantised: bool = True
    shares_input: bool = False

    @property
    def elements(self) -> int:
        return self.inputs * self.outputs


@dataclasses.dataclass(frozen=True)
class Norm:
    """A normalisation inside a block, applied to `groups` vectors of `width` a token; `rms`: else LayerNorm."""

    width: int
    groups: int = 1
    rms: bool = True


@dataclasses.dataclass(frozen=True)
class Census:
    """A decoder's parts.

    Attributes:
        matrices: linear layers of all blocks.
        norms: of all blocks.
        rest: parameters elsewhere: embeddings, output head, norms, biases.
        activations: tensors as wide as the MLP that the backward pass of one block needs.
        rotary: whether positions are rotations, computed once for all blocks.
        scores: whether attention keeps a score for each pair of tokens: no kernel that does without takes one key head
            for many queries without repeating it, as Falcon asks.
    """

    matrices: tuple[Matrix, ...]
    norms: tuple[Norm, ...]
    rest: int
    activations: int
    rotary: bool = True
    scores: bool = False

    @property
    def linear(self) -> int:
        return sum(m.elements for m in self.matrices)

    @property
    def lora_width(self) -> int:
        """LoRA's parameters per rank: inputs and outputs of every matrix."""
        return sum(m.inputs + m.outputs for m in self.matrices)


def llama(layers: int, hidden: int, query: int, key: int, intermediate: int, vocabulary: int, *, tied: bool) -> Census:
    """The census of a Llama of these sizes."""
    block = (
        Matrix(hidden, query),
        Matrix(hidden, key, shares_input=True),
        Matrix(hidden, key, shares_input=True),
        Matrix(query, hidden),
        Matrix(hidden, intermediate),
        Matrix(hidden, intermediate, shares_input=True),
        Matrix(intermediate, hidden),
    )
    rest = vocabulary * hidden * (1 if tied else 2) + (2 * layers + 1) * hidden
    return Census(block * layers, (Norm(hidden),) * (2 * layers), rest, activations=3)


def census(config: Any, intermediate: int, head_dim: int, *, trust_remote_code: bool = False) -> Census | None:
    """Count a model's parts from its configuration.

    Args:
        config: of a decoder.
        intermediate: width of its MLP.
        head_dim: width of a head.
        trust_remote_code: whether the model's own code may run.

    Returns:
        None where transformers has no causal model for this configuration.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except (ValueError, TypeError, NotImplementedError, ImportError):
        return None
    left = HfQuantizer.get_modules_to_not_convert(model, None, model._keep_in_fp32_modules)
    matrices, norms = [], []
    for name, module in model.named_modules():
        if not IN_A_LAYER.search(name):
            continue
        if isinstance(module, torch.nn.Linear | Conv1D):
            outputs, inputs = module.weight.shape if isinstance(module, torch.nn.Linear) else module.weight.shape[::-1]
            quantised = type(module) in (torch.nn.Linear, Conv1D) and should_convert_module(name, left)
            matrices.append(Matrix(inputs, outputs, quantised, name.endswith(SHARING)))
        elif type(module).__name__.endswith("Norm") and getattr(module, "weight", None) is not None:
            norms.append(_norm(name, module, config, head_dim))
    every = sum(parameter.numel() for parameter in model.parameters())
    gated = any(name.endswith(GATES) for name, _ in model.named_modules())
    name = getattr(config, "activation_function", None) or getattr(config, "hidden_act", None) or ""
    own = KEPT_BY_ACTIVATION.get(str(name), 1)
    return Census(
        tuple(matrices),
        tuple(norms),
        every - sum(m.elements for m in matrices),
        own + 2 if gated else own,
        rotary=any("Rotary" in type(module).__name__ for module in model.modules()),
        scores=config.model_type == "falcon",
    )


def _norm(name: str, module: Any, config: Any, head_dim: int) -> Norm:
    width, rms = module.weight.numel(), "Layer" not in type(module).__name__
    heads = config.num_attention_heads
    if width != head_dim:
        return Norm(width, 1, rms)
    return Norm(width, (getattr(config, "num_key_value_heads", None) or heads) if "k_" in name else heads, rms)
