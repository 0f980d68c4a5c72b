"""How often words stand in many texts: Arrow's count is that of the words one by one."""

import collections

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tamis.curate import vocabulary
from tamis.curate.normal import words
from tamis.curate.texts import Texts

PIECES = [
    "Where",
    "where",
    "hoà",
    "Hòa",
    "e-mail",
    "don’t",
    "2*(3+4)",
    "!ready",
    "a\x1fb",
    "c\u3000d",
    "...",
    "",
    "\n\t",
]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map(" ".join), max_size=8))
def test_words_are_counted_as_one_by_one(texts: list[str]) -> None:
    expected = collections.Counter(w for text in texts for w in words(text))

    assert vocabulary.occurrences(texts) == expected
    assert vocabulary.occurrences(Texts(pa.array(texts, pa.large_string()))) == expected


def test_blocks_are_counted_together(monkeypatch) -> None:
    monkeypatch.setattr(vocabulary, "_BLOCK", 2)
    monkeypatch.setattr(vocabulary, "_REMEMBERED", 1)
    texts = Texts(pa.array(["a b", "b c", "c c", "d", "A"], pa.large_string())).take(pa.array([0, 1, 2, 4]).to_numpy())

    assert vocabulary.occurrences(texts) == {"a": 2, "b": 2, "c": 3}
    assert vocabulary.occurrences(texts.changed(str.upper))["a"] == 2
