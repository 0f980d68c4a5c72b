"""How often each word stands in many texts."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tamis.curate.normal import words
from tamis.curate.texts import Texts

_BLOCK = 1 << 14  # texts at a time
_REMEMBERED = 1 << 18  # pieces whose words are kept from one block to the next


def occurrences(texts: Sequence[str] | Texts) -> collections.Counter[str]:
    """How often each word (`normal.words`) stands in all texts together.

    No word spans white space, and most pieces between white space recur: Arrow cuts the texts and counts the pieces,
    and each is cut into words once.

    Args:
        texts: n texts, case and signs as they are.
    """
    out: collections.Counter[str] = collections.Counter()
    cut = _Cut()
    for block in _blocks(texts):
        counted = pc.ascii_split_whitespace(block).flatten().value_counts()
        pieces, counts = (counted.field(name).to_pylist() for name in ("values", "counts"))
        for piece, count in zip(pieces, counts, strict=True):
            for word in cut[piece]:
                out[word] += count
        if len(cut) > _REMEMBERED:
            cut.clear()
    return out


def _blocks(texts: Sequence[str] | Texts) -> Iterator[pa.LargeStringArray]:
    if isinstance(texts, Texts):
        yield from texts.blocks(_BLOCK)
        return
    for start in range(0, len(texts), _BLOCK):
        yield pa.array(texts[start : start + _BLOCK], pa.large_string())


class _Cut(dict[str, list[str]]):
    """The words of a piece of text, remembered."""

    def __missing__(self, piece: str) -> list[str]:
        found = self[piece] = words(piece)
        return found
