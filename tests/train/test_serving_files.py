"""Files to serve with: Ollama's template says what the model's own template says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.train.chat_templates import TEMPLATES, tokenizer_of

pytest.importorskip("transformers")

from tamis.train.serving_files import generation_config, modelfile, ollama_template, serve_script

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Khóa thẻ?"},
    {"role": "assistant", "content": "block card"},
    {"role": "user", "content": "And now?"},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return tokenizer_of(tiny_model)


def go(template: str, messages: list[dict[str, str]]) -> str:
    """Render the few forms of Go's template language that are written."""
    form = r"(?s)(?:{{ if not \.System }}(.*?){{ end }})?{{ range \.Messages }}{{ if (.*){{ end }}{{ end }}(.*)"
    match = re.fullmatch(form, template)
    assert match, template
    head, cases, tail = match.groups()
    wraps = {}
    for case in cases.split("{{ else if "):
        role, before, behind = re.fullmatch(r'(?s)eq \.Role "(\w+)" }}(.*){{ \.Content }}(.*)', case).groups()  # type: ignore[union-attr]
        wraps[role] = (before, behind)
    led = any(m["role"] == "system" for m in messages)
    turns = "".join(wraps[m["role"]][0] + m["content"] + wraps[m["role"]][1] for m in messages)
    return ("" if led else head or "") + turns + tail


@pytest.mark.parametrize("name", ["chatml", "llama3", "qwen2.5", "mistral7"])
@pytest.mark.parametrize("start", [0, 1], ids=["system", "no system"])
def test_ollamas_template_renders_what_the_models_own_renders(tokenizer: Any, name: str, start: int) -> None:
    tokenizer.chat_template = TEMPLATES[name]
    made = ollama_template(tokenizer)
    assert made is not None

    expected = tokenizer.apply_chat_template(CHAT[start:], tokenize=False, add_generation_prompt=True)

    assert go(made, CHAT[start:]) == expected


@pytest.mark.parametrize("name", ["gemma", "gemma3", "qwen3"])
def test_a_template_that_does_more_than_wrap_turns_is_not_guessed_at(tokenizer: Any, name: str) -> None:
    tokenizer.chat_template = TEMPLATES[name]

    assert ollama_template(tokenizer) is None
    assert "TEMPLATE" not in modelfile(tokenizer, [2], 256, base=".", adapter=False)


def test_every_stop_token_of_training_model_and_tokenizer_stops_generation(tokenizer: Any) -> None:
    from transformers import GenerationConfig

    config = generation_config(tokenizer, [7], GenerationConfig(eos_token_id=[5, 6], do_sample=True, temperature=0.6))

    assert config.eos_token_id == sorted({5, 6, 7, tokenizer.eos_token_id})
    assert config.do_sample is False
    text = modelfile(tokenizer, config.eos_token_id, 256, base="./base", adapter=True)
    assert text.startswith("FROM ./base\nADAPTER .\n")
    assert 'PARAMETER stop "</s>"' in text


def test_an_adapter_is_served_beside_its_base_at_a_rank_that_takes_it() -> None:
    shipped = serve_script("shop", adapter_rank=16, base="./base")
    hub = serve_script("shop", adapter_rank=16, base="owner/name@0123abcd")
    refused = serve_script("shop", adapter_rank=16, base="./base", refused=True)

    assert "vllm serve ./base --enable-lora --max-lora-rank 16 --lora-modules shop=." in shipped
    assert "vllm serve owner/name --revision 0123abcd --tokenizer ." in hub
    assert "exec vllm" not in refused
