"""Labels under the chat templates that models are published with: TRL carries them as files, read here as they are."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tamis.spans import stop_token_ids
from tamis.train.labels import IGNORED, label_rows
from tests.train.chat_templates import tokenizer_of

pytest.importorskip("transformers")

_trl = find_spec("trl")
FOLDER = Path(_trl.origin).parent / "chat_templates" if _trl and _trl.origin else Path("/nowhere")
# What ends an answer. GLM's template writes nothing there: the end of the text stands for it.
ENDS = {
    "chatml, qwen, lfm": ("<|im_end|>", r"qwen|lfm|nemotron"),
    "llama": ("<|eot_id|>", r"llama3"),
    "gemma": ("<end_of_turn>", r"gemma3?$"),
    "gemma 4": ("<turn|>", r"gemma4|diffusion_gemma"),
    "phi": ("<|end|>", r"phi3"),
    "cohere": ("<|END_OF_TURN_TOKEN|>", r"cohere"),
    "deepseek": ("<｜end▁of▁sentence｜>", r"deepseek"),
    "gpt-oss": ("<|return|>", r"gptoss"),
    "glm": ("</s>", r"glm"),
}
# They render an answer otherwise once another turn follows: without its reasoning, or with another end
FORGET = re.compile(r"qwen3(_5_.*|_6)?$|gptoss|glm")
PICTURES = ("llava_next", "idefics3", "smolvlm")  # they want a list of parts, and write nothing for a text
NAMES = sorted(f.stem for f in FOLDER.glob("*.jinja") if not f.stem.endswith("_training"))
MARKER = re.compile(r"<[|｜][^<>|｜]{2,40}[|｜]>|<(?:end|start)_of_turn>|<turn\|>|<\|turn>")

ASK, SAY = {"role": "user", "content": "Khóa thẻ?"}, {"role": "assistant", "content": "block card"}
TURNS = [ASK, SAY, {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "unblock card"}]
SYSTEM = {"role": "system", "content": "Be brief."}


def tokenizer_with(model: Path, name: str) -> Any:
    """The tiny tokenizer with a published template and its markers as special tokens."""
    tokenizer, template = tokenizer_of(model), (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    markers = sorted({*MARKER.findall(template), *tokenizer.extra_special_tokens})
    tokenizer.add_special_tokens({"extra_special_tokens": markers})
    tokenizer.chat_template = template
    return tokenizer


def answers(tokenizer: Any, turns: list[dict[str, str]]) -> tuple[Any, str]:
    (row,) = label_rows(tokenizer, [("a", turns)], 10_000, stop_token_ids(tokenizer))
    return row, tokenizer.decode([label for label in row.labels if label != IGNORED])


@pytest.mark.parametrize("name", [n for n in NAMES if any(re.match(r, n) for _, r in ENDS.values())])
def test_every_answer_is_trained_with_its_stop_token(tiny_model: Path, name: str) -> None:
    tokenizer = tokenizer_with(tiny_model, name)
    end = next(end for end, names in ENDS.values() if re.match(names, name))

    for lead in ([], [SYSTEM]):
        row, text = answers(tokenizer, [*lead, *TURNS[:2]])
        assert row.dropped is None
        assert f"block card{end}" in text.replace("<|END_RESPONSE|>", "")
        assert "Khóa" not in text

        row, text = answers(tokenizer, [*lead, *TURNS])
        trained = text.replace("<|END_RESPONSE|>", "").split(end)
        assert len(trained) == (2 if FORGET.match(name) else 3)
        assert trained[-2].endswith("unblock card")
        assert trained[0].endswith("block card")
        assert "now" not in text
        assert row.labels[-1] == row.input_ids[-1] != IGNORED


@pytest.mark.parametrize("name", [n for n in NAMES if n in PICTURES])
def test_a_template_that_writes_nothing_for_a_text_trains_nothing_and_says_so(tiny_model: Path, name: str) -> None:
    """Labelled without looking, its rows would teach to stop at once."""
    row, _ = answers(tokenizer_with(tiny_model, name), TURNS[:2])

    assert (row.dropped, row.trained) == ("template", 0)


def test_there_are_templates_of_the_usual_families() -> None:
    pytest.importorskip("trl")
    assert {"llama3", "llama3_1", "llama3_2", "qwen2_5", "qwen3", "gemma", "gemma3", "phi3"} <= set(NAMES)
