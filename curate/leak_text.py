"""What of a text is compared when a leak is looked for: its views, its numbers, its names.

A rephrased question comes without the passage it was asked about, and with or without its options; a training row wraps
it in an instruction. So every text is compared twice: whole, and by the line that asks (`focus`).
"""

from __future__ import annotations

import collections
import re

from tamis.curate.normal import words

# Longer texts are compared by their first characters; every embedder's window is shorter than that.
CHARACTERS = 4000
# A line of fewer words ("Answer:") is not the one that asks.
FOCUS_WORDS = 5
_OPTION = re.compile(r"\(?[A-Ja-j1-9][.):]\s")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"\w+(?:[.,]\d+)*")
_FIRST = re.compile(r"(?:^|[.!?:]\s+|\n)\W*(\w)")


def lines(text: str) -> list[str]:
    """The lines of a text that hold something, stripped."""
    return [line for line in map(str.strip, text.split("\n")) if line]


def shared_lines(texts: list[str]) -> frozenset[str]:
    """Lines that several texts have in common: a passage with four questions says nothing about which one leaked."""
    counts = collections.Counter(line for text in set(texts) for line in set(lines(text)))
    return frozenset(line for line, n in counts.items() if n > 1)


def views(text: str, shared: frozenset[str] = frozenset()) -> tuple[str, str]:
    """Two views of a text: whole, and the last line that asks.

    Args:
        text: the text.
        shared: lines to leave out of both, unless nothing else is left.
    """
    text = text[:CHARACTERS]
    kept = lines(text)
    kept = [line for line in kept if line not in shared] or kept
    body = [line for line in kept if not _OPTION.match(line)] or kept
    whole = "\n".join(kept)
    return whole, next((line for line in reversed(body) if len(words(line)) >= FOCUS_WORDS), whole)


def numbers(text: str) -> frozenset[str]:
    """The numbers in a text, as written."""
    return frozenset(_NUMBER.findall(text))


def names(text: str) -> list[str]:
    """Words with digits or, inside a sentence, capitals; case folded. A rephrasing keeps them."""
    first = {m.start(1) for m in _FIRST.finditer(text)}
    return [
        m[0].casefold()
        for m in _NAME.finditer(text)
        if any(c.isdigit() for c in m[0]) or (m[0][0].isupper() and m.start() not in first)
    ]
