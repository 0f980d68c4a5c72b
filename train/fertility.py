"""Tokens per word: whether a base has ever seen much of a language.

A tokenizer has whole words of the languages that it was made for and pieces of the others ("fertility"; Rust et al.
2021, "How Good is Your Tokenizer?"). SmolLM2, made for English, as counted here: English 1.1 tokens a word, French 1.8,
German 2.1, Finnish 2.8, Vietnamese 3.1, Polish 3.7, Chinese 4.2, Russian 4.6.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import islice
from typing import Any

from tamis.spans import Turns

FOREIGN = 2.5  # tokens a word: above, the base has a language in pieces
ENOUGH_WORDS = 200  # fewer say nothing of a language
APOSTROPHES = "'\u2019"
LOOKED_AT = 20_000  # words; a sample is enough
# First and last characters of scripts that put no space between words; two of their characters count as a word
UNSPACED = (
    ("\u0e00", "\u0eff"),
    ("\u1000", "\u109f"),
    ("\u1780", "\u17ff"),
    ("\u3040", "\u30ff"),
    ("\u3400", "\u9fff"),
)


def tokens_per_word(tokenizer: Any, conversations: Sequence[tuple[str, Turns]]) -> float | None:
    """How many tokens a word of these conversations takes, numbers, codes and markup left out.

    Args:
        tokenizer: the base's.
        conversations: record id and turns.

    Returns:
        None where there are too few words to tell.
    """
    texts = (turn["content"] for _, turns in conversations for turn in turns)
    found = list(islice((word for text in texts for word in _words(text)), LOOKED_AT))
    count = sum(_count(word) for word in found)
    if count < ENOUGH_WORDS:
        return None
    return len(tokenizer.encode(" ".join(found), add_special_tokens=False)) / count


def _words(text: str) -> list[str]:
    """Runs of letters with the marks and apostrophes that belong to them; runs with a digit are codes, not words."""
    spaced = "".join(c if c in APOSTROPHES or unicodedata.category(c)[0] in "LMN" else " " for c in text)
    return [word for word in spaced.split() if not any(unicodedata.category(c)[0] == "N" for c in word)]


def _count(word: str) -> float:
    unspaced = sum(any(first <= c <= last for first, last in UNSPACED) for c in word)
    return max(unspaced / 2, 1.0)
