"""Which words two texts share, so that a reader sees at once where an answer went wrong."""

from __future__ import annotations

import difflib
import re
from typing import Literal, NamedTuple

# difflib is quadratic; beyond this many pieces on a side the middle is compared as one block.
MOST_PIECES = 800


class Piece(NamedTuple):
    """A stretch of text: in both, only in the first (`missing`), or only in the second (`added`)."""

    how: Literal["same", "missing", "added"]
    text: str


def word_diff(first: str, second: str) -> list[Piece]:
    """The second text as a change of the first.

    White space between words belongs to the pieces, so nothing is lost: the `same` and `added` pieces joined are
    `second`, the `same` and `missing` ones are `first`.
    """
    a, b = _words(first), _words(second)
    if len(a) > MOST_PIECES or len(b) > MOST_PIECES:
        return _ends_alike(a, b)
    pieces: list[Piece] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(a[i1:i2])))
            continue
        pieces += _changed("".join(a[i1:i2]), "".join(b[j1:j2]))
    return pieces


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|\w+|[^\w\s]", text)


def _changed(old: str, new: str) -> list[Piece]:
    return [Piece(how, text) for how, text in (("missing", old), ("added", new)) if text]  # type: ignore[arg-type]


def _ends_alike(a: list[str], b: list[str]) -> list[Piece]:
    shortest = min(len(a), len(b))
    start = next((i for i in range(shortest) if a[i] != b[i]), shortest)
    end = next((i for i in range(shortest - start) if a[-1 - i] != b[-1 - i]), shortest - start)
    middle = _changed("".join(a[start : len(a) - end]), "".join(b[start : len(b) - end]))
    around = [Piece("same", "".join(a[:start])), *middle, Piece("same", "".join(a[len(a) - end :]))]
    return [piece for piece in around if piece.text]
