"""Tables of the terminal fit the screen, lose no cell, and are one line a row where no terminal is."""

import pytest

from tamis import arm_table
from tamis.columns import columns

HEAD = ["arm", *[f"column {i}" for i in range(12)]]
WIDE = [HEAD, *[[f"row {r}", *[f"value {r}.{i}" for i in range(12)]] for r in range(3)]]


def test_a_table_that_fits_is_in_line():
    assert columns([["a", "bb"], ["ccc", "d"]], 80) == ["a    bb", "ccc  d"]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_wide_table_is_told_in_parts_each_with_the_first_column(width):
    lines = columns(WIDE, width)
    assert max(map(len, lines)) <= width
    assert sum(line.startswith("row 1") for line in lines) == sum(line.startswith("arm") for line in lines) > 1
    said = "\n".join(lines)
    assert all(said.count(cell) >= 1 for row in WIDE for cell in row)
    assert said.count("value 1.7") == 1


def test_where_no_terminal_is_a_row_is_one_line(capsys):
    assert len(columns(WIDE)) == len(WIDE)


def test_a_cell_wider_than_the_screen_is_whole_and_a_line_break_makes_no_second_line():
    lines = columns([["id", "text", "n"], ["x", "y" * 100 + "\n" + "z" * 20, "7"]], 80)
    assert f"x   {'y' * 100} {'z' * 20}" in lines
    assert "x   7" in lines


def test_the_table_of_a_comparison_fits_eighty_columns():
    interval = {"value": 0.93, "lower": 0.91, "upper": 0.95}
    row = {
        "arm": "lr-0.0006_r-64_alpha-128", "metric": "accuracy", "value": interval, "delta": interval, "p_holm": 0.031,
        "train_s": 1234.0, "tokens_per_s": 459.0, "peak_mb": 3700.0, "cost": 0.0123, "currency": "USD",
        "forgetting": interval,
    }  # fmt: skip
    lines = columns(arm_table.grid([row, row], "planned"), 80)
    assert max(map(len, lines)) <= 80
    assert "0.031" in "\n".join(lines)


@pytest.mark.parametrize("rows", [[["a"]], [["a", "b"]], [["", ""], ["", ""]]])
def test_small_tables_are_tables_too(rows):
    assert len(columns(rows, 80)) == len(rows)
