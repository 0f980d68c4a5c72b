"""How texts are made comparable. Nothing here changes what is written; it serves comparison only."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Signs that carry meaning between numbers and words stay: "2 + 2" is not "2 - 2", "$5" is not "5%".
_NOISE = re.compile(r"[^\w\s+\-*/=<>%$€£₫#@&]|_")
_SPACE = re.compile(r"\s+")
_TOKEN = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*|[+\-*/=<>%$€£₫#@&]")


def normalise(text: str) -> str:
    """NFC, case folded, punctuation that only separates removed, white space collapsed.

    Diacritics stay: without them "nợ" (debt) is "no" (full).
    """
    text = unicodedata.normalize("NFC", text).casefold().replace("’", "'").replace("'", "")
    return _SPACE.sub(" ", _NOISE.sub(" ", text)).strip()


def words(text: str) -> list[str]:
    """Words, numbers and meaningful signs of a text, case folded and in order."""
    return _TOKEN.findall(unicodedata.normalize("NFC", text).casefold().replace("’", "'"))


def hash64(text: str) -> int:
    """A signed 64-bit hash of a text, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big", signed=True)
