import pytest

from tamis.reports import visible_text as text


@pytest.mark.parametrize(
    ("hidden", "seen"),
    [
        ("a\x00b", "a␀b"),
        ("a\u202eb", "a⟦U+202E⟧b"),
        ("a\u200bb", "a⟦U+200B⟧b"),
        ("\ufeffa", "⟦U+FEFF⟧a"),
        ("a\ud800", "a⟦U+D800⟧"),
        ("a\nb\tc", "a\nb\tc"),
        ("khóa thẻ 👩\u200d💻", "khóa thẻ 👩\u200d💻"),
        ("\x1b[31mred", "␛[31mred"),
        ("a\x7f", "a␡"),
    ],
)
def test_what_hides_or_turns_text_becomes_visible_and_real_text_stays(hidden, seen):
    assert text.visible(hidden) == seen


def test_a_long_text_is_cut_and_says_how_long_it_was():
    shown = text.visible("x" * 1_000_000)
    assert len(shown) < 700
    assert "1,000,000 characters" in shown


def test_html_is_text():
    assert text.in_html("<script>'\"&") == "&lt;script&gt;&#x27;&quot;&amp;"


def test_markdown_is_text():
    shown = text.in_markdown("![x](http://e/p.png) | `c` <b> #1 @me\n# head")
    assert "\\!" in shown or "!\\[" in shown
    assert "\n" not in shown
    assert "http://" not in shown
    assert "@me" not in shown
    for char in "|`<#[":
        assert all(shown[i - 1] == "\\" for i, c in enumerate(shown) if c == char)


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_a_csv_cell_is_never_a_formula(cell):
    assert text.in_csv(cell)[0] == "'"


def test_none_is_nothing():
    assert text.visible(None) == text.line(None) == ""
