"""The guard: similar is not the same.

"Block my card" and "unblock my card" have a cosine of 0.86, "khóa thẻ" and "mở khóa thẻ" 0.92, and two long tickets
that differ by one "not" a Jaccard similarity of 0.90. So a near or semantic edge counts only if

* labels agree, or, where a row has none, the answers;
* and the words that one prompt has and the other has not are of no consequence: greetings and fillers, or a typo of a
  word the other has. Any other word (a number, a negation, a name, a verb) makes two rows different.

A prompt typed without accents is compared with the other one's accents taken off, and then no word may be a typo: too
many words look alike.
"""

from __future__ import annotations

import collections
import difflib

from tamis.curate.normal import words
from tamis.curate.vietnamese import fold, lost_accents

# Words whose presence never changes what is asked.
FILLERS = frozenset(
    [
        "a",
        "an",
        "the",
        "hi",
        "hello",
        "hey",
        "dear",
        "good",
        "morning",
        "afternoon",
        "evening",
        "there",
        "team",
        "all",
        "everyone",
        "folks",
        "sir",
        "madam",
        "please",
        "pls",
        "plz",
        "kindly",
        "thanks",
        "thank",
        "thx",
        "cheers",
        "regards",
        "best",
        "kind",
        "many",
        "much",
        "very",
        "so",
        "really",
        "just",
        "well",
        "ok",
        "okay",
        "oh",
        "um",
        "uh",
        "hmm",
        "btw",
        "fyi",
        "asap",
        "advance",
        "sincerely",
        "yours",
        "ty",
        "lol",
        "sorry",
        "xin",
        "chào",
        "chào",
        "ạ",
        "dạ",
        "ơi",
        "nhé",
        "nha",
        "với",
        "giúp",
        "cảm",
        "cám",
        "ơn",
        "shop",
        "ad",
        "admin",
        "anh",
        "chị",
        "em",
        "mình",
        "nhờ",
        "vui",
        "lòng",
        "làm",
        "phiền",
        "kính",
        "gửi",
    ]
)
_FOLDED_FILLERS = FILLERS | {fold(w) for w in FILLERS}
# "you" and "in" belong to no filler list by themselves; as parts of these phrases they go.
PHRASES = (
    ("thank", "you"),
    ("thanks", "in", "advance"),
    ("best", "regards"),
    ("kind", "regards"),
    ("good", "morning"),
    ("good", "afternoon"),
    ("good", "evening"),
    ("have", "a", "nice", "day"),
    ("hope", "you", "are", "well"),
    ("can", "you", "help"),
    ("cảm", "ơn"),
    ("xin", "chào"),
)


class Guard:
    """Knows how common words are in this data, which tells a typo from another word.

    Args:
        texts: one text per distinct row; used to count in how many rows each word occurs.
    """

    def __init__(self, texts: list[str]):
        self.frequency = collections.Counter(w for t in texts for w in set(words(t)))

    def same(self, left: str, right: str) -> bool:
        """Whether two similar prompts ask the same."""
        a, b = words(left), words(right)
        folded = lost_accents(a, b) or lost_accents(b, a)
        a, b = _content(a), _content(b)
        if folded:
            a, b = [fold(w) for w in a], [fold(w) for w in b]
        matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
        return all(
            kind == "equal" or self._harmless(a[i1:i2], b[j1:j2], folded)
            for kind, i1, i2, j1, j2 in matcher.get_opcodes()
        )

    def _harmless(self, a: list[str], b: list[str], folded: bool) -> bool:
        if folded:
            return [w for w in a if w not in _FOLDED_FILLERS] == [w for w in b if w not in _FOLDED_FILLERS]
        if self._slips(a, b):
            return True
        return self._slips([w for w in a if w not in FILLERS], [w for w in b if w not in FILLERS])

    def _slips(self, a: list[str], b: list[str]) -> bool:
        """Whether two stretches differ by nothing, by spacing, or word for word by typos."""
        if "".join(a) == "".join(b):  # "e mail" and "email"
            return a == b or not any(w.isdigit() for w in (*a, *b))
        return len(a) == len(b) and all(x == y or self._typo(x, y) for x, y in zip(a, b, strict=True))

    def _typo(self, x: str, y: str) -> bool:
        """One slip of the fingers, and one of the two is no word of this data (it occurs in a single row)."""
        if min(len(x), len(y)) < 4 or any(c.isdigit() for c in x + y):
            return False
        if min(self.frequency[x], self.frequency[y]) > 1:
            return False
        if fold(x) == fold(y):  # only a diacritic differs: in Vietnamese that is another word
            return False
        return one_slip(x, y)


def one_slip(x: str, y: str) -> bool:
    """Whether two words are one edit apart: a letter replaced, missing, added, or two neighbours swapped.

    The first letter must agree: it rarely goes wrong, and "raise" / "praise" are not typos of each other.
    """
    if x[0] != y[0] or abs(len(x) - len(y)) > 1:
        return False
    if len(x) == len(y):
        differ = [i for i in range(len(x)) if x[i] != y[i]]
        if len(differ) == 1:
            return True
        return (
            len(differ) == 2
            and differ[1] == differ[0] + 1
            and x[differ[0]] == y[differ[1]]
            and x[differ[1]] == y[differ[0]]
        )
    short, long = sorted((x, y), key=len)
    return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))


def _content(tokens: list[str]) -> list[str]:
    present, tokens = set(tokens), list(tokens)
    for phrase in PHRASES:
        if not present.issuperset(phrase):
            continue
        n = len(phrase)
        i = 0
        while i <= len(tokens) - n:
            if tuple(tokens[i : i + n]) == phrase:
                del tokens[i : i + n]
            else:
                i += 1
    return tokens
