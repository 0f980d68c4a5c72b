"""The view of what is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.spans import stop_token_ids
from tamis.train.labels import Row, label_rows
from tamis.train.show_labels import Segment, heading, painted, segments

pytest.importorskip("transformers")

CHAT = [
    {"role": "user", "content": "Khóa thẻ?"},
    {"role": "assistant", "content": "block card"},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "mở khóa thẻ"},
]


def test_the_text_is_the_rendered_conversation_and_the_trained_parts_are_the_answers(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    (row,) = label_rows(tokenizer, [("a", CHAT)], 1000, stop_token_ids(tokenizer))

    parts = segments(tokenizer, row)

    assert "".join(p.text for p in parts) == tokenizer.decode(row.input_ids)
    assert [p.text for p in parts if p.trained] == ["block card<|im_end|>", "mở khóa thẻ<|im_end|>"]
    assert [p.trained for p in parts] == [False, True, False, True]


@pytest.mark.parametrize(("colour", "expected"), [(True, "a \x1b[1;32mb\x1b[0m"), (False, "a ⟦b⟧")])
def test_trained_text_is_coloured_or_marked(colour: bool, expected: str) -> None:
    assert painted([Segment("a ", False), Segment("b", True)], colour=colour) == expected


def test_a_row_cannot_paint_itself_or_move_the_cursor() -> None:
    assert painted([Segment("\x1b[1;32mfree\x07\n\tkhóa\u202e", False)], colour=True) == (
        "\\x1b[1;32mfree\\x07\n\tkhóa\\u202e"
    )


def test_a_row_that_is_not_trained_says_why() -> None:
    assert heading(Row("a", [], [], 0, 0, 0, "no_answer")) == "row a: not trained on (no_answer)"
    assert heading(Row("a", [1], [1], 1500, 1, 1499)) == "row a: 1,500 tokens, 1 trained, 1,499 cut off"
    assert segments(None, Row("a", [], [], 0, 0, 0, "no_answer")) == []
