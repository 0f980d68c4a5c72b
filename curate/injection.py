"""Rewordings made by hand of a rule: what a detector could have caught, and how a copy scores.

Two strengths, both with numbers left alone and no word added:

* `light`: a fifth of the words gone;
* `heavy`: two fifths of the words gone and the halves of every line exchanged.

They are cruder than a language model's paraphrases, which keep the meaning and change every word: a share found here is
an upper bound for those.
"""

from __future__ import annotations

import numpy as np

from tamis.curate.normal import hash64

STRENGTHS = {"light": (0.2, False), "heavy": (0.4, True)}
# Items reworded at most; a share of 300 is known to three percentage points.
MOST = 300


def chosen(items: list[str]) -> list[int]:
    """The items to reword: all, or `MOST` of them drawn by hash. Indices, ascending."""
    by_hash = sorted(range(len(items)), key=lambda i: (hash64(items[i]), i))
    return sorted(by_hash[:MOST])


def reword(text: str, strength: str) -> str:
    """A rewording of a text, the same on every call."""
    share, exchange = STRENGTHS[strength]
    rng = np.random.default_rng(hash64(text) & (2**63 - 1))
    return "\n".join(_line(line.split(), share, exchange, rng) for line in text.split("\n"))


def _line(tokens: list[str], share: float, exchange: bool, rng: np.random.Generator) -> str:
    gone = rng.random(len(tokens)) < share
    kept = [t for t, g in zip(tokens, gone.tolist(), strict=True) if not g or any(c.isdigit() for c in t)] or tokens
    half = len(kept) // 2 if exchange else 0
    return " ".join(kept[half:] + kept[:half])
