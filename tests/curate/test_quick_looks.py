"""Quick looks before slow patterns: they may save time, they may not change a verdict."""

import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis import data
from tamis.curate import rules, vietnamese

DATA = Path(next(iter(data.__path__)))
# What refusals and cut answers are made of, so that chance puts them together.
PIECES = (
    *(
        "As an AI language model,",
        "as a",
        "chatbot",
        "I'm",
        "Im",
        "I am",
        "i can",
        "can't",
        "cannot",
        "not",
        "sorry",
        "i",
    ),
    *(", but", "unable to", "assist", "I", "won't be able to", "must decline", "do not have access to", "automated"),
    *(
        "my knowledge cutoff",
        "training data only goes",
        "violates our policy",
        "this",
        "Sure!",
        "Here is",
        "a",
        "reply",
    ),
    *("last updated in May 2021", "[Regenerate response]", "xin lỗi", "tôi không thể", "and", "...", "…", ",", "the"),
    *("quý khách", "wand", "chúng tôi", "  ", "\n", "ſorry", "ı can not", "was trained to", "aaaa", "=" * 32, "    "),
)
texts = st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join) | st.text(max_size=60)


def answers() -> list[str]:
    rows = [json.loads(line) for line in (DATA / "tickets.jsonl").read_text(encoding="utf-8").splitlines()]
    return [value for row in rows for value in row.values() if isinstance(value, str)]


@given(texts)
def test_a_refusal_is_one_with_and_without_the_quick_look(text: str) -> None:
    assert rules.is_refusal(text) == (rules._REFUSAL.search(text) is not None)


def test_the_built_in_data_is_judged_as_without_quick_looks() -> None:
    found = [text for text in answers() if rules.is_refusal(text)]

    assert found == [text for text in answers() if rules._REFUSAL.search(text)]
    assert found


@given(texts, st.sampled_from([4, 30]))
def test_a_run_is_found_as_the_pattern_finds_it(text: str, length: int) -> None:
    assert rules.has_run(text, length) == bool(re.search(rf"(\S)\1{{{length - 1}}}", text))


@pytest.mark.parametrize("end", ["and", "and ...", "and…", "to us,", "quý khách", "chúng tôi  ...", "- "])
def test_an_answer_that_ends_on_a_word_that_cannot_be_last_is_cut(end: str) -> None:
    assert rules.is_cut(f"We have sent you the parcel on Monday. Please wait {end}")


@pytest.mark.parametrize("end", ["a wand", "a wand ...", "the lot...."])
def test_a_word_that_only_ends_like_one_is_not(end: str) -> None:
    assert not rules.is_cut(f"We have sent you the parcel on Monday. Please wait for {end}.")


@given(texts | st.text("abcdefghijklmnopqrstuvwxyz .,123", max_size=40))
def test_vietnamese_in_ascii_is_told_by_the_same_words(text: str) -> None:
    folded = unicodedata.normalize("NFC", text).casefold()
    by_pattern = vietnamese._WORD.findall(folded)

    if text.isascii():
        assert text.lower().translate(vietnamese._ASCII_LETTERS).split() == by_pattern
