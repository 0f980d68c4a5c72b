"""Tables in a terminal: columns in line, no wider than the screen."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

GAP = 2  # blanks between columns
NARROW = 80  # where the terminal does not say how wide it is


def columns(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Rows as aligned columns, the header first; line breaks and runs of blanks in a cell become one blank.

    Args:
        rows: as many cells in each.
        width: of the screen. A table that is wider is told in parts, each with the first column; a cell that is wider
            than the screen is not cut. None takes the terminal's own; where the output is none, one line a row.
    """
    cells = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines: list[str] = []
    for part in _parts(widths, width or screen()):
        told = [(" " * GAP).join(row[i].ljust(widths[i]) for i in part).rstrip() for row in cells]
        lines += ([""] if lines else []) + told
    return lines


def screen() -> int | None:
    """How wide the terminal is; None where the output goes somewhere else, to a program say."""
    return shutil.get_terminal_size((NARROW, 24)).columns if sys.stdout.isatty() else None


def _parts(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Which columns stand beside one another; the first is in every part."""
    if width is None or len(widths) < 2:
        return [list(range(len(widths)))]
    parts, used = [[0]], widths[0]
    for i, wide in enumerate(widths[1:], 1):
        if used + GAP + wide > width and len(parts[-1]) > 1:
            parts.append([0])
            used = widths[0]
        parts[-1].append(i)
        used += GAP + wide
    return parts
