"""How texts are made comparable. Nothing here changes what is written; it serves comparison only."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Signs that carry meaning between numbers and words stay: "2 + 2" is not "2 - 2", "$5" is not "5%".
_NOISE = re.compile(r"[^\w\s+\-*/=<>%$€£₫#@&]|_")
# Brackets and marks that carry meaning where they touch a formula or code: "2*(3+4)" is not "2*3+4", "5!" is not "5",
# "!ready" is not "ready". In "(see below)" and "thanks!" they only separate.
_OPERATOR = r"+\-*/=<>%^|~&"
# The mark first and its surroundings after it: what begins with a class of signs is looked for five times as fast.
_FORMULA = (
    rf"[()\[\]{{}}!^|~](?:(?<=[\^|~])|(?<=[\w{_OPERATOR})\]}}][(\[{{])|(?<=[(\[{{])(?=[\d{_OPERATOR}(\[{{!])"
    rf"|(?<=[\d{_OPERATOR})\]}}][)\]}}])|(?<=[)\]}}])(?=[\w{_OPERATOR}(\[{{])|(?<=\d!)|(?<=!)(?<![\w!]!)(?=\w))"
)
_ANY_FORMULA = re.compile(r"[()\[\]{}!^|~]")
_IN_FORMULA = re.compile(f"({_FORMULA})")
# `_NOISE` for texts in ASCII, which are most and go ten times as fast through a table.
_ASCII_NOISE = str.maketrans({chr(c): " " for c in range(128) if _NOISE.match(chr(c))})
# Old and new placement of the tone mark in open syllables: hoà and hòa, khoẻ and khỏe, thuỷ and thủy are one word each.
_TONES = {
    new: old
    for first, second in (("oòóỏõọ", "aàáảãạ"), ("oòóỏõọ", "eèéẻẽẹ"), ("uùúủũụ", "yỳýỷỹỵ"))
    for new, old in zip((first[0] + s for s in second[1:]), (f + second[0] for f in first[1:]), strict=True)
}
_NEW_TONE = re.compile(f"(?:{'|'.join(_TONES)})(?![^\\W\\d_])")
_TONED = re.compile(f"[{''.join({new[1] for new in _TONES})}]")
_TOKEN = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*|[+\-*/=<>%$€£₫#@&]|" + _FORMULA)


def normalise(text: str) -> str:
    """NFC, case folded, punctuation that only separates removed, white space collapsed.

    Brackets, "!", "^", "|" and "~" stay where they touch numbers, operators or names as formulas and code have them.
    Diacritics stay: without them "nợ" (debt) is "no" (full). The two placements of a tone mark count as one.
    """
    text = _folded(text).replace("’", "'").replace("'", "")
    if _ANY_FORMULA.search(text):
        parts = _IN_FORMULA.split(text)
        parts[::2] = map(_cleaned, parts[::2])
        return " ".join("".join(parts).split())
    return " ".join(_cleaned(text).split())


def _cleaned(text: str) -> str:
    return text.translate(_ASCII_NOISE) if text.isascii() else _NOISE.sub(" ", text)


def words(text: str) -> list[str]:
    """Words, numbers and meaningful signs of a text, case folded and in order."""
    return _TOKEN.findall(_folded(text).replace("’", "'"))


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFC", text).casefold()
    return _NEW_TONE.sub(lambda m: _TONES[m[0]], text) if not text.isascii() and _TONED.search(text) else text


def hash64(text: str) -> int:
    """A signed 64-bit hash of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big", signed=True)
