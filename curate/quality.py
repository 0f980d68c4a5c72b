"""How well a row is made, from its text alone: no model, no torch, and no reward for length as such.

Signs of format, grammar, completeness and consistency, weighed by a logistic regression on expert revisions. The number
of words was in that regression and is left out of the score, so what length explains is credited to nothing else. Long
answers still score higher (rank correlation 0.56 with words), since lists and examples come with length; the card says
what the score knows beyond it: 79 % right on pairs of like length, word count 56 % (benchmarks/scorers.md).

Weights: benchmarks/scorers_card.py, from CoachLM's 2,301 pairs of raw and expert-revised Alpaca rows (lunyiliu/CoachLM,
Apache-2.0; Liu et al., arXiv 2311.13246). No sign may count against its meaning: such a weight is 0. `escape` and
`slips` are set by hand, since that data has too few of them; exports often have many.

It is made for instruction rows in English. Signs that need English words (slips, openings, references to the reader)
are silent in other languages and leave the rest at work. It reads the first 2,000 characters of the answer and 1,000
of the prompt.
"""

from __future__ import annotations

import itertools
import math
import re

READ = 2000  # characters of the answer, half as many of the prompt: 0.06 ms a row

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
# The same for texts in ASCII, through a table: four times as fast. What joins no two words goes first.
_LOOSE = re.compile(r"['-](?:(?<!\w['-])|(?!\w))")
_ASCII_WORDS = str.maketrans({chr(c): " " for c in range(128) if not _WORD.match(chr(c)) and chr(c) not in "'-"})
_ITEM = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s", re.MULTILINE)
_BREAK = re.compile(r"\n\s*")
_OPENING = re.compile(r"(?:here|sure|certainly|of course|below)\b", re.IGNORECASE)
_EDGE = re.compile(r"[^\S\n]+$", re.MULTILINE)
# Behind a word only: what begins a line with spaces may be code.
_SPACING = re.compile(r"(?<=\S)[^\S\n](?:[^\S\n]|[,.;:!?](?=\s|$)|\))|[a-z][,;!?][A-Za-z]")
_ESCAPE = re.compile(r"\\[nt](?![a-z])|\\u[0-9a-fA-F]{4}|\\\"")
_LINKS = ("for example", "for instance", "such as", "because", "therefore", "however")
_DOUBLED = frozenset(["that", "had", "very", "bye", "ha", "no", "so", "da", "la", "na"])  # said twice on purpose
_AS_CONSONANT = ("one", "once", "eu", "ewe")  # "a one", "a European"
_READER = frozenset(["you", "your", "yours", "yourself"])
# Words that an answer may leave out without leaving the question: grammar, and the verbs that instructions begin with.
_GRAMMAR = frozenset(
    _WORD.findall(
        "a an the of to in on at for with from by and or but is are was were be been it its this that these "
        "those as not no do does did have has had can could will would should may might what which who how "
        "when where why your you me my we our they their he she his her them than then there so if into about "
        "give given following write generate create make list provide describe explain name "
    )
)

# Change of the log odds of being the better version, per unit of a feature. What is a merit cannot weigh below 0, what
# is a fault not above.
WEIGHTS = {
    "spaced": 1.242,
    "lines": 0.96,
    "list": 0.37,
    "intro": 0.715,
    "opening": 1.004,
    "bold": 0.704,
    "upper": 0.471,
    "lower": -0.532,
    "edges": -1.564,
    "spacing": -1.548,
    "slips": -1.0,
    "escape": -1.5,
    "brief": -0.097,
    "taken_up": 0.201,
    "reader": 1.035,
    "links": 0.57,
    "colons": 1.062,
}
CENTRE = -0.863
FAULTS = frozenset(["lower", "edges", "spacing", "slips", "escape", "brief"])
MERITS = frozenset(WEIGHTS) - FAULTS
BY_HAND = {"slips": -1.0, "escape": -1.5}


def features(prompt: str, answer: str) -> dict[str, float]:
    """What is seen of a row, each a number from 0 to about 1.

    Returns:
        format: `spaced` share of line breaks that are blank lines, `lines` log(1 + line breaks) / 3, `list` two items
        or more, `intro` a first line that ends in a colon and is followed by others, `opening` "Here is ...", `bold`.
        grammar: `upper`, `lower` first letter, `edges` lines that end in spaces (up to 3, by 3), `spacing` doubled
        spaces and spaces on the wrong side of a sign (up to 3, by 3), `slips` doubled words, "a" for "an" and the like,
        "i" for "I" (up to 3, by 3), `escape` 1 where there is a literal escape such as a backslash and n.
        completeness: `brief` three words or fewer, `taken_up` share of the prompt's content words that the answer
        uses, `reader` share of words that address the reader (x 10), `links` for example, because, ... (up to 3, by 3).
        consistency: `colons` (up to 5, by 5): items and definitions made alike.
    """
    prompt, answer = prompt[: READ // 2], answer[:READ].strip("\n")
    text = answer.strip()
    low = text.lower()
    said = _words(low)
    n = max(len(said), 1)
    distinct = set(said)
    breaks = _BREAK.findall(text)
    first = text.partition("\n")[0].rstrip()
    wanted = {w for w in set(_words(prompt.lower())) - _GRAMMAR if len(w) > 2}
    return {
        "spaced": sum(b.count("\n") > 1 for b in breaks) / len(breaks) if breaks else 0.0,
        "lines": math.log1p(len(breaks)) / 3,
        "list": float(len(_ITEM.findall(text)) >= 2),
        "intro": float(bool(breaks) and first.endswith(":")),
        "opening": float(bool(_OPENING.match(text))),
        "bold": float(text.count("**") >= 2),
        "upper": float(text[:1].isupper()),
        "lower": float(text[:1].islower()),
        "edges": min(len(_EDGE.findall(answer)), 3) / 3,
        "spacing": min(len(_SPACING.findall(text)), 3) / 3,
        "slips": min(_slips(said, text), 3) / 3,
        "escape": float(bool(_ESCAPE.search(text))),
        "brief": float(n <= 3),
        "taken_up": len(wanted & distinct) / len(wanted) if wanted else 0.0,
        "reader": 10 * sum(w in _READER for w in said) / n,
        "links": min(sum(low.count(p) for p in _LINKS), 3) / 3,
        "colons": min(text.count(":"), 5) / 5,
    }


def _words(text: str) -> list[str]:
    if not text.isascii():
        return _WORD.findall(text)
    if "'" in text or "-" in text:
        text = _LOOSE.sub(" ", text)
    return text.translate(_ASCII_WORDS).split()


def _slips(said: list[str], text: str) -> int:
    found = int(" i " in text or text.startswith("i "))
    for word, following in itertools.pairwise(said):
        if word == following:
            found += word.isalpha() and len(word) > 1 and word not in _DOUBLED
        elif word == "a":
            found += following[0] in "aeio" and len(following) > 2 and not following.startswith(_AS_CONSONANT)
        elif word == "an":
            found += following[0] in "bcdfgjklmnpqrstvwz" and len(following) > 3
    return found


def quality(prompt: str, answer: str) -> float:
    """How well a row is made, in (0, 1); half of expert revisions and their raw versions lie above 0.5.

    An empty answer has quality 0.
    """
    if not answer.strip():
        return 0.0
    found = features(prompt, answer)
    return 1 / (1 + math.exp(-sum(WEIGHTS[name] * value for name, value in found.items()) - CENTRE))
