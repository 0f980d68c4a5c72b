"""Tiny random models of the shapes that layers come in: plain, Conv1D, fused projections, norms on heads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import build_llama, build_tokenizer

# Wide enough for answers to depend on the prompt.
SPREAD = 0.2
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": SPREAD,
    **TOKENS,
}


def gpt2() -> Any:
    """Conv1D layers: weights stored as [in, out]."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=512, n_embd=64, n_layer=2, n_head=4, n_positions=256, initializer_range=SPREAD, **TOKENS)
    )


def falcon() -> Any:
    """Query, key and value in one matrix, one key head for all queries."""
    from transformers import FalconConfig, FalconForCausalLM

    return FalconForCausalLM(
        FalconConfig(
            multi_query=True,
            parallel_attn=True,
            alibi=False,
            **SIZES,
        )
    )


def qwen3() -> Any:
    """Norms on query and key heads, heads wider than their share, output head apart."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            intermediate_size=128,
            num_key_value_heads=2,
            head_dim=32,
            **SIZES,
        )
    )


def qwen2() -> Any:
    """Biases on query, key and value."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(
        Qwen2Config(
            intermediate_size=128,
            num_key_value_heads=2,
            **SIZES,
        )
    )


SHAPES: dict[str, Callable[[], Any] | None] = {
    "llama": None,
    "gpt2": gpt2,
    "falcon": falcon,
    "qwen2": qwen2,
    "qwen3": qwen3,
}


def build(shape: str, folder: Path) -> Path:
    """A model of a shape with its tokenizer, as a folder that `from_pretrained` loads."""
    import torch

    make = SHAPES[shape]
    if make is None:
        return build_llama(folder)
    torch.manual_seed(0)
    make().to(torch.bfloat16).save_pretrained(folder)
    build_tokenizer(folder)
    return folder
