import pytest

from tamis.reports.word_diff import word_diff

PAIRS = [
    ("block card", "unblock card"),
    ("", "something new"),
    ("gone now", ""),
    ("khóa thẻ giúp tôi", "mở khóa thẻ giúp mình"),
    ("a  b\n\nc", "a b c"),
    ("same", "same"),
    ("x " * 3000 + "end", "x " * 2990 + "middle " + "x " * 8 + "end"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_both_texts_can_be_put_together_again_from_the_pieces(first, second):
    pieces = word_diff(first, second)
    assert "".join(p.text for p in pieces if p.how != "added") == first
    assert "".join(p.text for p in pieces if p.how != "missing") == second


def test_only_the_words_that_differ_are_marked():
    assert [tuple(p) for p in word_diff("block card", "unblock card")] == [
        ("missing", "block"),
        ("added", "unblock"),
        ("same", " card"),
    ]


def test_equal_texts_have_no_mark():
    assert [p.how for p in word_diff("a b c", "a b c")] == ["same"]
