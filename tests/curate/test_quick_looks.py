"""Quick looks before slow patterns: they may save time, they may not change a verdict."""

import json
import re
import unicodedata
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis import data
from tamis.curate import near, quality, rules, signs, vietnamese
from tamis.recipe import Rules

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
# What placeholders, markup and their like are made of; Python takes "ı", "İ", "ſ" and "K" for letters of ASCII.
SIGNS = (
    *("lorem İpsum", "xxx xxx", "[ınsert name]", "<enter a date>", "dummy text", "to be filled later", "todo", "n/a"),
    *("kiểm tra thử", "KIỂM TRA THỬ 1", "teſt test", "asdf qwer", "ſample text", "<ſpan>", "<DIV class='a'>", "&nbsp;"),
    *("{{name}}", "${user.name}", "[quote=Bob]", "<!--", "%%NAME%%", "<%= x %>", "violates our ünsere guidelines"),
    *(
        "last updated in März 2020",
        "I’m sorry, but as an",
        "of course! here ıs",
        "\x1f",
        "\u3000",
        "中中中中",
        "....",
        "12",
    ),
)
texts = st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join) | st.text(max_size=60)


def answers() -> list[str]:
    rows = [json.loads(line) for line in (DATA / "tickets.jsonl").read_text(encoding="utf-8").splitlines()]
    return [value for row in rows for value in row.values() if isinstance(value, str)]


@given(texts)
def test_a_refusal_is_one_with_and_without_the_quick_look(text: str) -> None:
    assert rules.is_refusal(text) == (rules.REFUSAL.search(text) is not None)


def test_the_built_in_data_is_judged_as_without_quick_looks() -> None:
    found = [text for text in answers() if rules.is_refusal(text)]

    assert found == [text for text in answers() if rules.REFUSAL.search(text)]
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


@settings(deadline=None, max_examples=60)  # patterns are made ready at each call
@given(texts | st.lists(st.sampled_from(PIECES + SIGNS), max_size=6).map(" ".join), texts)
def test_a_row_that_columns_find_no_sign_in_breaks_no_rule(one: str, other: str) -> None:
    for prompt, answer in ((one, other), (other, one), (one, one)):
        columns = (pa.array([text], pa.large_string()) for text in (prompt, answer))
        suspect = signs.suspects(*columns, Rules())[0] or rules.is_counted(prompt, answer, Rules())

        assert suspect or rules.judge(prompt, answer, Rules()) is None


@pytest.mark.parametrize(("prompt", "answer"), rules.EXAMPLES.values())
def test_columns_suspect_what_each_rule_drops(prompt: str, answer: str) -> None:
    columns = (pa.array([text], pa.large_string()) for text in (prompt, answer))

    assert signs.suspects(*columns, Rules())[0] or rules.is_counted(prompt, answer, Rules())


def test_most_rows_need_no_second_look() -> None:
    column = pa.array(answers(), pa.large_string())

    assert signs.suspects(column, column, Rules(echo=False)).mean() < 0.4


runs = st.builds(str.__mul__, st.sampled_from("aé中𝄞= \n\x00"), st.sampled_from([3, 4, 29, 30, 31]))


@given(
    st.lists(texts | st.lists(runs | texts, max_size=4).map("".join), max_size=5),
    st.integers(0, 4),
    st.sampled_from([4, 30]),
)
def test_a_run_is_never_missed_by_columns(found: list[str], skipped: int, length: int) -> None:
    column = pa.array(found, pa.large_string())[skipped:]
    may = signs.may_run(column, length).tolist()

    assert all(m or not rules.has_run(t, length) for m, t in zip(may, found[skipped:], strict=True))


def test_three_signs_or_white_space_are_no_run_of_four() -> None:
    column = pa.array(["aaa", "    ", "\n\n\n\n", "中中中", "été", "", "aaaa", "中中中中"], pa.large_string())

    assert signs.may_run(column, 4).tolist() == [False] * 6 + [True] * 2


@given(st.text("ab_1'-’ .é", max_size=30))
def test_words_are_the_same_through_the_table(text: str) -> None:
    assert quality._words(text) == quality._WORD.findall(text)


def test_signatures_are_those_of_earlier_runs() -> None:
    """`seen.parquet` keeps them, and new rows are compared with them."""
    found = near.signatures(["", "ab", "where is my parcel", "a longer text that fills its places " * 9])

    assert [int(row.sum()) & 0xFFFFFFFF for row in found] == [814261574, 3361323131, 1316240479, 892357339]
