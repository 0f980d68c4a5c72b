"""How texts are made comparable. Nothing here changes what is written; it serves comparison only."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Signs that carry meaning between numbers and words stay: "2 + 2" is not "2 - 2", "$5" is not "5%".
_NOISE = re.compile(r"[^\w\s+\-*/=<>%$€£₫#@&]|_")
# The same for texts in ASCII, which are most and go ten times as fast through a table.
_ASCII_NOISE = str.maketrans({chr(c): " " for c in range(128) if _NOISE.match(chr(c))})
# Old and new placement of the tone mark in open syllables: hoà and hòa, khoẻ and khỏe, thuỷ and thủy are one word each.
_TONES = {
    new: old
    for first, second in (("oòóỏõọ", "aàáảãạ"), ("oòóỏõọ", "eèéẻẽẹ"), ("uùúủũụ", "yỳýỷỹỵ"))
    for new, old in zip((first[0] + s for s in second[1:]), (f + second[0] for f in first[1:]), strict=True)
}
_NEW_TONE = re.compile(f"(?:{'|'.join(_TONES)})(?![^\\W\\d_])")
_TOKEN = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*|[+\-*/=<>%$€£₫#@&]")


def normalise(text: str) -> str:
    """NFC, case folded, punctuation that only separates removed, white space collapsed.

    Diacritics stay: without them "nợ" (debt) is "no" (full). The two placements of a tone mark count as one.
    """
    text = _folded(text).replace("’", "'").replace("'", "")
    text = text.translate(_ASCII_NOISE) if text.isascii() else _NOISE.sub(" ", text)
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """Words, numbers and meaningful signs of a text, case folded and in order."""
    return _TOKEN.findall(_folded(text).replace("’", "'"))


def _folded(text: str) -> str:
    text = unicodedata.normalize("NFC", text).casefold()
    return text if text.isascii() else _NEW_TONE.sub(lambda m: _TONES[m[0]], text)


def hash64(text: str) -> int:
    """A signed 64-bit hash of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big", signed=True)
