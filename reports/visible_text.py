"""Text of data, models and users made safe to look at: nothing hidden, nothing that acts.

Escaping for HTML or Markdown is the job of the writer; this is what comes before it. Control characters, invisible
characters and marks that turn the direction of writing become visible, and long texts are cut with the cut stated.
"""

from __future__ import annotations

import html
import re

CUT = 600  # characters; an example is to be read, not stored: the run folder has all of it

CELL = 30_000  # characters; a spreadsheet refuses cells beyond 32,767

# Controls but newline and tab; zero-width and direction marks; byte-order mark; line separators; halves of surrogates.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
# What begins a link, picture, table cell, emphasis, heading, formula, entity or HTML; a text never begins a line.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


def visible(value: object, limit: int | None = CUT) -> str:
    """One text as it shall be seen, before escaping.

    Args:
        value: anything; None becomes an empty text.
        limit: longest text in characters; None for all of it.
    """
    text = "" if value is None else str(value)
    shown = _HIDDEN.sub(_named, text if limit is None else text[:limit])
    if limit is not None and len(text) > limit:
        shown += f" … (cut; {len(text):,} characters in all)"
    return shown


def line(value: object, limit: int = 90) -> str:
    """A text on one line, for a summary or a table cell."""
    text = "" if value is None else str(value)
    flat = _HIDDEN.sub(_named, " ".join(text[: limit * 4].split()))
    return flat if len(flat) <= limit and len(text) <= limit * 4 else f"{flat[: limit - 1].rstrip()}…"


def in_html(value: object, limit: int | None = CUT) -> str:
    """Visible and escaped, for element content and quoted attributes."""
    return html.escape(visible(value, limit))


def in_markdown(value: object, limit: int = 120) -> str:
    """Visible, on one line, and without meaning to any Markdown reader, tables included."""
    text = _MARKDOWN.sub(r"\\\1", line(value, limit))
    # an invisible space keeps readers from making links of addresses and from calling people by @name
    return text.replace("://", ":\u200b//").replace("www.", "www\u200b.").replace("@", "@\u200b")


def in_streamlit(value: object, limit: int = 120) -> str:
    """For labels, titles and captions of the app: Markdown that also knows `:icons:`, `:red[colours]` and `$maths$`."""
    return re.sub(r":(?=\w)", ":\u200b", in_markdown(value, limit))


def in_csv(value: object) -> str:
    """A cell that no spreadsheet takes for a formula. A number of ours stays a number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    text = visible(value, CELL)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@", "＝", "＋", "－", "＠") or text[:1] == "\t" else text


def from_csv(cell: str | None) -> str:
    """What a cell held before `in_csv` kept a spreadsheet from taking it for a formula."""
    text = cell or ""
    return text[1:] if text[:1] == "'" and in_csv(text[1:]) == text else text


def _named(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of control characters
    return "␡" if code == 0x7F else f"⟦U+{code:04X}⟧"
