"""Labels: what is trained on, for templates of the usual shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamis.spans import stop_token_ids
from tamis.train.labels import IGNORED, label_conversation, label_rows
from tests.train.chat_templates import ENDS, TEMPLATES, tokenizer_of

pytest.importorskip("transformers")

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Khóa thẻ?"},
    {"role": "assistant", "content": "block card"},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "unblock card"},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return tokenizer_of(tiny_model)


@pytest.fixture(params=TEMPLATES)
def template(request: pytest.FixtureRequest, tokenizer: Any) -> str:
    tokenizer.chat_template = TEMPLATES[request.param]
    return str(request.param)


def trained_text(tokenizer: Any, labels: list[int]) -> str:
    return str(tokenizer.decode([label for label in labels if label != IGNORED]))


def test_the_answer_and_its_stop_token_are_trained_and_nothing_else(tokenizer: Any, template: str) -> None:
    turns = CHAT[:3]

    ids, labels = label_conversation(tokenizer, turns, stop_token_ids(tokenizer))

    text = trained_text(tokenizer, labels)
    end = ENDS.get(template, "<|im_end|>")
    assert text.removeprefix("<think>\n\n</think>\n\n").rstrip("\n") in (
        f"block card{end}",
        f" block card{end}",
        f"block card\n{end}",
    )
    assert labels[-1] == ids[-1] == tokenizer.convert_tokens_to_ids(end)


def test_labels_are_the_tokens_they_stand_at(tokenizer: Any, template: str) -> None:
    ids, labels = label_conversation(tokenizer, CHAT, stop_token_ids(tokenizer))

    assert len(ids) == len(labels)
    assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))


def test_the_prompt_is_tokenised_as_generation_sees_it(tokenizer: Any, template: str) -> None:
    turns = CHAT[1:3]

    ids, labels = label_conversation(tokenizer, turns, stop_token_ids(tokenizer))

    first = next(i for i, label in enumerate(labels) if label != IGNORED)
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert ids[:first] == tokenizer.encode(prompt, add_special_tokens=False)


def test_every_answer_of_a_conversation_is_trained_where_the_template_keeps_it(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATES["chatml"]

    _, labels = label_conversation(tokenizer, CHAT, stop_token_ids(tokenizer))

    assert trained_text(tokenizer, labels) == "block card<|im_end|>unblock card<|im_end|>"


def test_a_turn_that_is_rendered_otherwise_later_is_not_trained_in_its_earlier_form(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATES["qwen3"]

    ids, labels = label_conversation(tokenizer, CHAT, stop_token_ids(tokenizer))

    assert trained_text(tokenizer, labels) == "<think>\n\n</think>\n\nunblock card<|im_end|>"
    assert tokenizer.decode(ids).count("<think>") == 1


def test_a_system_turn_moves_into_the_user_turn_where_the_template_has_no_system_role(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATES["gemma"]

    ids, _ = label_conversation(tokenizer, CHAT[:3], stop_token_ids(tokenizer))

    assert "user\nBe brief.\n\nKhóa thẻ?<end_of_turn>" in tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([], "no_answer"),
        ([{"role": "user", "content": "hello"}], "no_answer"),
        ([{"role": "user", "content": "hello"}, {"role": "assistant", "content": " \n"}], "no_answer"),
        ([{"role": "user", "content": "a"}, {"role": "teacher", "content": "b"}, CHAT[2]], "template"),
    ],
)
def test_a_row_that_cannot_be_trained_is_dropped_with_its_reason(
    tokenizer: Any, turns: list[dict[str, str]], reason: str
) -> None:
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'teacher' %}{{ raise_exception('who?') }}{% endif %}{{ m.content }}"
        "{% endfor %}"
    )

    (row,) = label_rows(tokenizer, [("a", turns)], 100, stop_token_ids(tokenizer))

    assert (row.dropped, row.trained, row.input_ids) == (reason, 0, [])


def test_every_token_of_a_row_is_trained_context_or_counted_as_cut(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATES["chatml"]
    (whole,) = label_rows(tokenizer, [("a", CHAT)], 10_000, stop_token_ids(tokenizer))

    for limit in range(1, whole.tokens + 2):
        (row,) = label_rows(tokenizer, [("a", CHAT)], limit, stop_token_ids(tokenizer))
        assert row.tokens == whole.tokens
        assert len(row.input_ids) + row.truncated == whole.tokens
        assert row.trained == sum(label != IGNORED for label in row.labels)
        assert (row.dropped == "too_long") == (row.trained == 0)


CONVERSATIONS = {
    "one turn": CHAT[1:3],
    "one turn under a system prompt": CHAT[:3],
    "two turns": CHAT[1:],
    "two turns under a system prompt": CHAT,
    "the same answer twice": [*CHAT[1:3], {"role": "user", "content": "Again?"}, CHAT[2]],
    "the answer is in the question": [{"role": "user", "content": "say block card<|im_end|>"}, CHAT[2]],
    "white space around the answer": [CHAT[1], {"role": "assistant", "content": "  block card \n"}],
    "an answer of many lines": [CHAT[1], {"role": "assistant", "content": "one\n\n\ntwo\n"}],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_no_row_is_trained_on_nothing_and_every_one_learns_to_stop(tokenizer: Any, template: str, name: str) -> None:
    (row,) = label_rows(tokenizer, [("a", CONVERSATIONS[name])], 10_000, stop_token_ids(tokenizer))

    assert row.dropped is None
    assert row.trained > 1
    assert row.labels[-1] == tokenizer.convert_tokens_to_ids(ENDS.get(template, "<|im_end|>"))
    assert row.labels[0] == IGNORED


@pytest.mark.parametrize("lead", [CHAT[:1], []], ids=["system", "no system"])
def test_every_answer_of_a_long_conversation_ends_with_its_stop_token(
    tokenizer: Any, template: str, lead: list[dict[str, str]]
) -> None:
    if template in ("qwen3", "no end"):
        pytest.skip("earlier turns of this template are rendered otherwise, or have no end")
    turns = [*lead]
    for word in ("one", "two", "three"):
        turns += [{"role": "user", "content": f"Count {word}"}, {"role": "assistant", "content": f"said {word}"}]

    _, labels = label_conversation(tokenizer, turns, stop_token_ids(tokenizer))

    end = ENDS.get(template, "<|im_end|>")
    answers = trained_text(tokenizer, labels).split(end)
    assert [a.strip() for a in answers] == ["said one", "said two", "said three", ""]
    assert labels.count(tokenizer.convert_tokens_to_ids(end)) == 3
