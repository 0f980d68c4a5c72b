"""The guard: similar is not the same.

"Block my card" and "unblock my card" have a cosine of 0.86, "khóa thẻ" and "mở khóa thẻ" 0.92, and two long tickets
that differ by one "not" a Jaccard similarity of 0.90. So a near or semantic edge counts only if

* labels agree, or, where a row has none, the answers;
* and the words that one prompt has and the other has not are of no consequence: greetings, fillers and polite frames,
  or a typo of a word the other has. Any other word (a number, a negation, a name, a verb) makes two rows different.

What is a filler depends on the place: "morning" is one in "good morning" and none in "six in the morning", "anh" is one
in "anh ơi" and none in "cho anh vay". So most are listed as phrases, few as words.

A typo is what a hand does (Damerau 1964): two letters exchanged, one lost or added, a key hit beside the right one; not
at either end of a word, where another letter makes another word (plan, plane), not in a name (Iran, Iraq), and only of
a word that this data knows: of two that stand there once each, nothing tells which is the slip.

A prompt typed without accents is compared with the other one's accents taken off, and then no word may be a typo: too
many words look alike.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Sequence

from tamis.curate.leak_text import names
from tamis.curate.normal import words
from tamis.curate.texts import Texts
from tamis.curate.vietnamese import fold, lost_accents
from tamis.curate.vocabulary import occurrences

# Words whose presence never changes what is asked, wherever they stand.
FILLERS = frozenset(
    (
        *("a", "an", "the", "please", "pls", "plz", "kindly", "really", "just", "ok", "okay", "oh", "um", "uh", "hmm"),
        *("btw", "fyi", "asap", "lol", "ạ", "dạ", "ơi", "nhé", "nha"),
    )
)
_FOLDED_FILLERS = FILLERS | {fold(w) for w in FILLERS}

_NOT = ("do", "does", "did", "is", "are", "was", "were", "could", "would", "should", "have", "has", "had")
_WHO = ("what", "where", "who", "when", "how", "why", "it", "that", "there", "he", "she", "here")
# One word for another, wherever it stands.
_SHORT = {
    **{f"{w}'s": f"{w} is" for w in _WHO},
    **{f"{w}s": f"{w} is" for w in _WHO[:3]},
    **{f"{w}'re": f"{w} are" for w in ("you", "we", "they")},
    **{f"{w}'ve": f"{w} have" for w in ("i", "you", "we", "they")},
    **{f"{w}'ll": f"{w} will" for w in ("i", "you", "we", "they", "it", "he", "she")},
    **{f"{w}{end}": f"{w} not" for w in _NOT for end in ("n't", "nt")},
    **dict.fromkeys(("i'm", "im"), "i am"),
    **dict.fromkeys(("can't", "cant", "cannot"), "can not"),
    **dict.fromkeys(("won't", "wont"), "will not"),
    **dict.fromkeys(("ko", "hok"), "không"),
    **dict.fromkeys(("đc", "dc"), "được"),
    "ive": "i have",
}

_ME = "(?:em|mình|tôi|tớ|con|cháu)"
_YOU = "(?:anh|chị|em|shop|ad|admin|bạn|bác|cô|chú|mọi người|cả nhà|quý khách)"
_ALL = "(?:all|everyone|everybody|folks|team|there|sir|madam|guys|again)"
_THANKS = "(?:many thanks|(?:thanks|thank you|thx|ty)(?: (?:so|very) much| a lot| again| in advance| for your help)*)"
_THANKS_VI = f"(?:{_ME} )?(?:xin )?(?:cảm|cám) ơn(?: {_YOU})?(?: rất)?(?: nhiều)?"
_WH = r"(?= (?:what|where|when|who|why|how|which|whether|if)(?!\S))"
# What goes where it stands so: on words joined by single spaces. "^" is the beginning of a prompt, "$" its end.
PHRASES = (
    f"^(?:hi|hello|hey|dear|sorry|good (?:morning|afternoon|evening|day))(?: {_ALL}){{0,2}}",
    *(f"^{_THANKS}", f"{_THANKS}$", "as soon as possible"),
    "(?:cheers|sincerely|(?:(?:best|kind|warm) )?regards|best wishes|yours sincerely|sincerely yours)$",
    "have a (?:nice|good|great) (?:day|evening|weekend|one)$",
    "(?:i )?hope you are (?:doing )?well",
    "(?:can|could) you(?: please)? help(?: me)?(?: out)?",
    f"^(?:please )?(?:(?:can|could|would) you )?(?:please )?tell me{_WH}",
    f"^(?:i (?:want|need|would like) to know|do you know|i was wondering){_WH}",
    "^(?:please )?(?:can|could|would|will) you(?: please)?",
    "^(?:i (?:want|need|would like)|i'd like) (?:you )?to",
    f"^(?:xin |kính )?chào(?: {_YOU}){{0,2}}|dạ(?: {_YOU})?|{_YOU} ơi|^kính gửi {_YOU}",
    f"^(?:{_YOU} )?cho {_ME} (?:xin )?hỏi(?: là| với| chút| tí)?|^xin hỏi",
    *(f"^{_THANKS_VI}", f"{_THANKS_VI}$"),
    f"vui lòng|làm ơn|làm phiền(?: {_YOU})?|nhờ (?:shop|ad|admin)|(?:giúp|hộ|giùm) {_ME}(?: với)?",
    f"(?:nhé|nha|ạ|với)(?: {_YOU})?$",
    f"^{_ME} (?:đang )?(?:muốn|cần)",
)
# Ways to ask for the same thing, once frames are gone.
_HOW = "how (?:do|can|could|would) i|how does one|what is the way to|how to"
_HOW_VI = "làm (?:sao|thế nào|cách nào) để|cách nào để|làm sao"


def _bounded(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?<!\S)(?:{p.replace('^', chr(92) + 'A')})(?!\S)" for p in patterns))


_FRAMES = _bounded(PHRASES)
_FOLDED_FRAMES = _bounded(tuple(fold(p) for p in PHRASES))
_ASKED = [(_bounded((_HOW,)), "how to", ("how", "way")), (_bounded((_HOW_VI,)), "cách", ("làm", "cách"))]
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
# A word may lose a letter by accident from this length on: in shorter ones another word comes out (cost, coast).
LOSES = 6
# A slip that recurs: of the pairs of words in T0, CLINC150 and GSM8K that an exchange of letters makes, these limits
# leave six, all a word and its slip (benchmarks/opposites.md). At 100 times and four letters so are cups and cpus.
RECURS, RECURS_LENGTH = 200, 5
_EDGE = 20  # words at either end of a prompt in which frames are looked for


class Guard:
    """Knows how common words are in this data, which tells a typo from another word.

    Args:
        texts: one text per distinct row; used to count in how many rows each word occurs.
    """

    def __init__(self, texts: Sequence[str] | Texts):
        self.frequency = occurrences(texts)
        self.content = functools.lru_cache(maxsize=1 << 16)(content)

    def same(self, left: str, right: str) -> bool:
        """Whether two similar prompts ask the same."""
        folded = False
        if not (left.isascii() and right.isascii()):
            plain, other = words(left), words(right)
            folded = lost_accents(plain, other) or lost_accents(other, plain)
        a, b = (_content(plain, True), _content(other, True)) if folded else (self.content(left), self.content(right))
        matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
        changes = [(a[i1:i2], b[j1:j2]) for kind, i1, i2, j1, j2 in matcher.get_opcodes() if kind != "equal"]
        if not changes:
            return True
        return all(self._harmless(x, y, folded, (left, right)) for x, y in changes)

    def _harmless(self, a: tuple[str, ...], b: tuple[str, ...], folded: bool, whole: tuple[str, str]) -> bool:
        if folded:
            return [w for w in a if w not in _FOLDED_FILLERS] == [w for w in b if w not in _FOLDED_FILLERS]
        if self._slips(a, b, whole):
            return True
        x, y = (tuple(w for w in side if w not in FILLERS) for side in (a, b))
        return self._slips(x, y, whole)

    def _slips(self, a: tuple[str, ...], b: tuple[str, ...], whole: tuple[str, str]) -> bool:
        """Whether two stretches differ by nothing, by spacing, or word for word by typos."""
        if "".join(a) == "".join(b):  # "e mail" and "email"
            return a == b or not any(w.isdigit() for w in (*a, *b))
        return len(a) == len(b) and all(
            x == y or (self.typo(x, y) and not any(_is_name(w, text) for w in (x, y) for text in whole))
            for x, y in zip(a, b, strict=True)
        )

    def typo(self, x: str, y: str) -> bool:
        """One slip of the fingers: one is no word of this data (it stands there once), the other one is.

        In much data the same slip recurs. Two letters exchanged are one all the same where the other word is `RECURS`
        times as frequent; a letter lost, added or beside is not, for too often another word comes out (must, mist).
        """
        if min(len(x), len(y)) < 4 or not one_slip(x, y):
            return False
        rare, often = sorted((self.frequency[x], self.frequency[y]))
        recurs = often >= RECURS * rare and len(x) >= RECURS_LENGTH and _exchanged(x, y)
        if not recurs and (rare > 1 or often < 2):
            return False
        if any(c.isdigit() for c in x + y):
            return False
        return fold(x) != fold(y)  # where only a diacritic differs: in Vietnamese that is another word


def _is_name(word: str, text: str) -> bool:
    """Whether a word of letters stands in a text as a name (`leak_text.names`)."""
    # Most stand in lower case wherever they stand, which is a hundred times as fast to see.
    return text.count(word) != text.casefold().count(word) and word in names(text)


def one_slip(x: str, y: str) -> bool:
    """Whether one slip of the fingers inside a word makes the one of the other.

    The first and the last letter must agree: the first rarely goes wrong ("raise" and "praise" are no typos of each
    other), and another last letter is another form of a word.
    """
    if x[0] != y[0] or x[-1] != y[-1] or abs(len(x) - len(y)) > 1:
        return False
    if len(x) == len(y):
        differ = [i for i in range(len(x)) if x[i] != y[i]]
        if len(differ) == 1:
            return _beside(x[differ[0]], y[differ[0]])
        return _exchanged(x, y)
    short, long = sorted((x, y), key=len)
    return len(long) >= LOSES and any(long[:i] + long[i + 1 :] == short for i in range(1, len(long) - 1))


def _exchanged(x: str, y: str) -> bool:
    """Whether two letters side by side have changed places, and nothing else differs."""
    differ = [i for i in range(len(x)) if x[i] != y[i]] if len(x) == len(y) else []
    return len(differ) == 2 and differ[1] == differ[0] + 1 and all(x[i] == y[j] for i, j in (differ, differ[::-1]))


def _beside(a: str, b: str) -> bool:
    """Whether two keys touch on a QWERTY keyboard."""
    at = {c: (row, column + row / 2) for row, keys in enumerate(_KEYS) for column, c in enumerate(keys)}
    if a not in at or b not in at:
        return False
    (row_a, x), (row_b, y) = at[a], at[b]
    return abs(row_a - row_b) <= 1 and abs(x - y) <= 1


def content(text: str) -> tuple[str, ...]:
    """The words of a prompt without frames, contractions spelt out."""
    return _content(words(text), False)


def _content(tokens: list[str], folded: bool) -> tuple[str, ...]:
    tokens = " ".join(_SHORT.get(w, w) for w in tokens).split()
    if folded:
        tokens = [fold(w) for w in tokens]
    if len(tokens) <= 2 * _EDGE:
        return tuple(_unframed(" ".join(tokens), folded))
    # Frames stand at the ends; the bars keep "^" and "$" from matching in the middle. Copies mostly share their ends.
    head = _unframed_end(" ".join([*tokens[:_EDGE], "|"]), folded)[:-1]
    tail = _unframed_end(" ".join(["|", *tokens[-_EDGE:]]), folded)[1:]
    return (*head, *tokens[_EDGE:-_EDGE], *tail)


@functools.lru_cache(maxsize=1 << 14)
def _unframed_end(text: str, folded: bool) -> tuple[str, ...]:
    return tuple(_unframed(text, folded))


def _unframed(text: str, folded: bool) -> list[str]:
    frames = _FOLDED_FRAMES if folded else _FRAMES
    # More than once: a greeting may stand before a frame that opens the prompt, thanks before regards.
    for _ in range(3):
        if (less := " ".join(frames.sub(" ", text).split())) == text:
            break
        text = less
    for pattern, word, signs in _ASKED:
        if any(sign in text for sign in signs):  # ten times as fast as the pattern, which most prompts do not hold
            text = pattern.sub(fold(word) if folded else word, text)
    return text.split()
