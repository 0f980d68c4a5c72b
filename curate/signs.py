"""Which rows can break a rule at all, told by whole columns: the rules themselves look at these only.

Arrow's RE2 looks at a column in a fiftieth of the time that Python takes row by row. It knows less (classes of ASCII
signs, no dotless "i"), so each pattern of `curate/rules.py` is loosened until it matches whatever Python matches.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.curate import rules
from tamis.recipe import Rules

_BEYOND_ASCII = r"\x{80}-\x{10ffff}"
# Python's classes hold signs beyond ASCII that RE2's do not, and white space some more below.
_CLASSES = {r"\w": r"\w" + _BEYOND_ASCII, r"\d": r"\d" + _BEYOND_ASCII, r"\s": r"\s\x0b\x1c-\x1f" + _BEYOND_ASCII}
_I = "iıİ"  # one letter for Python where case is ignored
_PARTS = re.compile(r"\\.|\[\^?(?:\\.|[^\]\\])*\]|\{\d+,\d+\}|\(\?[:!=<]|.", re.DOTALL)
_INSIDE = re.compile(r"\\.|.", re.DOTALL)
# An answer that `rules.is_cut` looks at twice: it does not end as a sentence does, or in dots; and it is prose, or its
# last sign or word is none to end on.
_OPEN_END = r"[^.!?。！？\"'”’)\]}>`*|\s]\s*$|(?:\.\.\.|…)\s*$"
_SHORTEST_CUT = 2 * 8 - 1  # bytes that its eight words have at least
_SAYS_SOMETHING = "[0-9A-Za-z]"


def loosened(pattern: str) -> str:
    r"""A pattern for RE2 that matches wherever a pattern for Python matches, where case is ignored.

    Args:
        pattern: of classes, groups, alternatives, repetitions, `^`, `$` and `\b`; nothing that looks around.
    """
    return "(?i)" + "".join(map(_loosened, _PARTS.findall(pattern)))


def _loosened(part: str) -> str:
    if part[0] == "[":
        if part[1] == "^":  # what it leaves out may be more in Python only through "i", which no such class names
            return part
        return f"[{''.join(_CLASSES.get(p, _I if p in ('i', 'I') else p) for p in _INSIDE.findall(part[1:-1]))}]"
    if part[0] == "{" and len(part) > 1:  # counted repetitions make RE2's automaton large
        return "*" if part.startswith("{0,") else "+"
    if part in _CLASSES:
        return f"[{_CLASSES[part]}]"
    return {
        "i": f"[{_I}]",
        r"\b": "",  # in RE2 a border of ASCII words
        r"\W": "[^0-9A-Za-z_]",
        r"\S": ".",
        "$": r"\n?$",
    }.get(part, part)


_REFUSAL = loosened(rules.REFUSAL.pattern)
_PLACEHOLDER = loosened(rules.PLACEHOLDER.pattern)
_ALL_PLACEHOLDER = loosened(f"^(?:{rules.ALL_PLACEHOLDER.pattern})")
_MARKUP = loosened(rules.MARKUP.pattern)
_CUT = loosened(rf"[.!?]\s|{rules.DANGLING.pattern.removesuffix('$')}(?:\W*$|\.\.\.)")


def suspects(prompts: pa.LargeStringArray, answers: pa.LargeStringArray, on: Rules) -> np.ndarray:
    """Rows that `rules.judge` has to look at: of all others it says None, or `rules.is_counted` says that they break.

    Args:
        prompts: n of them.
        answers: n of them.
        on: which rules are on.

    Returns:
        (n,) bool.
    """
    out = np.zeros(len(prompts), bool)
    if on.empty:
        out |= ~(_holds(prompts, _SAYS_SOMETHING) & _holds(answers, _SAYS_SOMETHING))
    if on.refusal:
        out |= _holds(answers, _REFUSAL)
    for rule, patterns in ((on.placeholder, (_PLACEHOLDER, _ALL_PLACEHOLDER)), (on.markup, (_MARKUP,))):
        for pattern in patterns if rule else ():
            out |= _holds(prompts, pattern) | _holds(answers, pattern)
    if on.truncated:
        long = pc.binary_length(answers).to_numpy(zero_copy_only=False) >= _SHORTEST_CUT
        out |= long & _holds(answers, _OPEN_END) & _holds(answers, _CUT)
    if on.repetition:
        out |= may_run(prompts, 30) | may_run(answers, 30)
    return out


def _holds(texts: pa.LargeStringArray, pattern: str) -> np.ndarray:
    return np.asarray(pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False))


def may_run(texts: pa.LargeStringArray, length: int) -> np.ndarray:
    """Texts in which a sign other than white space may stand so often in a row (`rules.has_run` knows): (n,) bool.

    A sign of b bytes that is repeated is a stretch of bytes each of which equals the one b places before.

    Args:
        texts: n texts, none null.
        length: 2 or more.
    """
    out = np.zeros(len(texts), bool)
    _, offsets, data = texts.buffers()
    if data is None:
        return out
    starts = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    signs = np.frombuffer(data, np.uint8)[starts[0] : starts[-1]]
    plain = pc.all(pc.string_is_ascii(texts)).as_py()
    for width in (1,) if plain else (1, 2, 3, 4):
        same = signs[width:] == signs[:-width]
        same &= signs[width:] >= 0x80 if width > 1 else (signs[1:] != 32) & (signs[1:] != 10)
        at, more = np.flatnonzero(same), (length - 1) * width - 1
        ends = at[more:][at[more:] - at[: len(at) - more] == more] if len(at) > more else at[:0]
        out[np.searchsorted(starts - starts[0], ends + width, side="right") - 1] = True
    return out
