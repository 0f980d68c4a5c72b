"""Tokens per word, with tokenizers whose pieces are known."""

from __future__ import annotations

import pytest

from tamis.train import fertility
from tamis.train.fertility import tokens_per_word


class Letters:
    """A tokenizer that knows some words whole, and letters of all others."""

    def __init__(self, *known: str):
        self.known = known

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [0 for word in text.split() for _ in (word if word not in self.known else "1")]


def rows(*texts: str) -> list[tuple[str, list[dict[str, str]]]]:
    return [(str(i), [{"role": "user", "content": text}]) for i, text in enumerate(texts)]


def test_words_that_the_tokenizer_has_take_one_token_and_others_as_many_as_they_have_pieces() -> None:
    english, other = rows(*["block my card"] * 80), rows(*["kh\u00f3a th\u1ebb t\u00f4i"] * 80)
    tokenizer = Letters("block", "my", "card")

    assert tokens_per_word(tokenizer, english) == 1.0
    assert tokens_per_word(tokenizer, other) == pytest.approx((4 + 3 + 3) / 3)


def test_numbers_codes_and_punctuation_are_no_words() -> None:
    tokenizer = Letters("pay", "it", "don't")

    assert tokens_per_word(tokenizer, rows(*['{"pay": 12345, "x9f3a": it!} don\'t'] * 80)) == 1.0


def test_two_characters_of_a_script_without_spaces_count_as_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokens_per_word(Letters(), rows(*["\u6211\u60f3\u51bb\u7ed3"] * 200)) == 2.0  # a token a character


def test_few_words_say_nothing_and_many_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tokens_per_word(Letters(), rows("block my card")) is None
    monkeypatch.setattr(fertility, "LOOKED_AT", 300)
    assert tokens_per_word(Letters("a"), rows(*["a"] * 300, *["abc"] * 300)) == 1.0
