"""What several tests share: tiny models, built here with a fixed seed, never downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before any Hugging Face library is imported: no test talks to the hub, whatever the machine allows.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["USE_HUB_KERNELS"] = "0"
# Tiny models gain nothing from a second thread, and on a busy machine threads wait for each other in every operation.
os.environ.setdefault("OMP_NUM_THREADS", "1")

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Enough of both languages for a byte-level tokenizer to find some merges.
TEXTS = [
    "Where is my parcel? It was due on Monday.",
    "I want a refund for the broken kettle, order 4471.",
    "Please block my card, it was stolen.",
    "Please unblock my card, I found it again.",
    "Tôi muốn khóa thẻ vì bị mất.",
    "Tôi muốn mở khóa thẻ của mình.",
    "How do I change the delivery address?",
    "The app does not open after the update.",
]
LABELS = ["track order", "refund", "block card", "unblock card", "block card", "unblock card", "address", "app error"]


def build_tokenizer(folder: Path, template: str | None = CHATML) -> None:
    """Train a byte-level BPE tokenizer of at most 512 tokens and save it with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS + LABELS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", bos_token="<|im_start|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)


def build_llama(folder: Path, *, layers: int = 2, hidden: int = 64, seed: int = 0) -> Path:
    """A random Llama of bf16 weights with its tokenizer, as a folder that `from_pretrained` loads."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,  # random weights must differ enough for answers to depend on the prompt
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    build_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, 64 wide: for everything that needs a model and not a good one."""
    pytest.importorskip("torch")
    return build_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def deep_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six layers: enough for wrong gradients to add up."""
    pytest.importorskip("torch")
    return build_llama(tmp_path_factory.mktemp("models") / "deep", layers=6)


@pytest.fixture(scope="session")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Same shape as `tiny_model`, other weights: an adapter of the one must be refused by the other."""
    pytest.importorskip("torch")
    return build_llama(tmp_path_factory.mktemp("models") / "other", seed=1)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests leave nothing in the user's cache, read nothing from it, and share one of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture
def exact_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in fp32 also on a CPU with matrix tiles: there bf16 rounds by the shape of the batch, and a test that
    compares two shapes would need tolerances that hide a wrong mask."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
