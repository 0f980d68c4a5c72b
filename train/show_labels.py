"""What a row teaches, to look at: its text as the model sees it, with the trained tokens marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tamis.train.labels import IGNORED, Row

TRAINED, PLAIN = "\x1b[1;32m", "\x1b[0m"  # bold green: told apart also where colours are not seen
MARKS = ("\u27e6", "\u27e7")  # around trained text where there are no colours; not in any keyboard's reach


class Segment(NamedTuple):
    """A stretch of text, all of it trained or none of it."""

    text: str
    trained: bool


def segments(tokenizer: Any, row: Row) -> list[Segment]:
    """The row decoded, cut where training begins and ends. Special tokens are written out.

    Args:
        tokenizer: the model's.
        row: labelled; one that was dropped has no text.
    """
    found: list[Segment] = []
    start = 0
    for end in range(1, len(row.input_ids) + 1):
        trained = row.labels[start] != IGNORED
        if end == len(row.input_ids) or (row.labels[end] != IGNORED) != trained:
            text = tokenizer.decode(row.input_ids[start:end], clean_up_tokenization_spaces=False)
            found.append(Segment(str(text), trained))
            start = end
    return found


def painted(parts: Sequence[Segment], *, colour: bool) -> str:
    """Segments as text for a terminal (`colour`) or for anything else.

    Control characters of the data are written out: a row must not move the cursor or paint itself as trained.
    """
    on, off = (TRAINED, PLAIN) if colour else MARKS
    return "".join(f"{on}{_visible(text)}{off}" if trained else _visible(text) for text, trained in parts)


def heading(row: Row) -> str:
    """What became of a row's tokens, in a line."""
    if row.dropped:
        return f"row {row.id}: not trained on ({row.dropped})"
    cut = f", {row.truncated:,} cut off" if row.truncated else ""
    return f"row {row.id}: {row.tokens:,} tokens, {row.trained:,} trained{cut}"


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
