"""Record: the one shape of an example, and its identity.

A record's id is made of what it says, not of where it stood, so the same row keeps its id when files are split,
shuffled, renamed or extended:

    16 hex of the messages  -  4 hex of (label, source, license, meta)  -  ordinal among wholly identical rows

Where personal data is masked, the id is that of the masked row, and the numbers in its placeholders do not count: a
hash of the values themselves could be tried out, and a number depends on the other rows.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from typing import Any, NamedTuple

ROLES = ("system", "user", "assistant", "tool")
_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_PLACEHOLDER = re.compile(r"<([A-Z]+)_[0-9]+>")


class Message(NamedTuple):
    """One turn. `rest` is JSON of whatever else the turn carried (tool calls, names, weights), or None."""

    role: str
    content: str
    rest: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One example as every stage sees it. Field meanings: `schema.RECORD`."""

    id: str
    messages: tuple[Message, ...]
    key: str | None = None
    label: str | None = None
    source: str | None = None
    license: str | None = None
    file: str = ""
    line: int = 0
    offset: int = 0
    length: int = 0
    meta: str | None = None

    @property
    def prompt(self) -> str:
        """What the model is asked: see `prompt_of`."""
        return prompt_of(self.messages)

    @property
    def answer(self) -> str:
        """What the model is to say: see `answer_of`."""
        return answer_of(self.messages)


def prompt_of(messages: Any) -> str:
    """All turns before the last assistant turn, joined by newlines; system turns left out.

    System prompts are left out since they are shared by many rows and would make all of them look alike.
    `messages` is a sequence of Message or of mappings with `role` and `content` (as Arrow gives them).
    """
    turns = [_pair(m) for m in messages]
    last = max((i for i, (role, _) in enumerate(turns) if role == "assistant"), default=len(turns))
    return "\n".join(content for role, content in turns[:last] if role != "system")


def answer_of(messages: Any) -> str:
    """The last assistant turn, or the empty string where there is none."""
    return next((content for role, content in map(_pair, reversed(list(messages))) if role == "assistant"), "")


def _pair(message: Any) -> tuple[str, str]:
    if isinstance(message, dict):
        return message["role"], message["content"] or ""
    return message[0], message[1] or ""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return _CANONICAL.encode(value)


def json_sha256(value: Any) -> str:
    """SHA-256 of a JSON-able value, the same for equal values."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def content_hash(messages: Any) -> str:
    """16 hex digits (64 bits) of the messages, in order. Two rows that say the same have the same hash."""
    turns = [list(m) if not isinstance(m, dict) else [m["role"], m["content"], m.get("rest")] for m in messages]
    return _hex(without_numbers(canonical_json(turns)), 16)


@functools.lru_cache(maxsize=1 << 12)  # most rows of a file share theirs
def attribute_hash(label: str | None, source: str | None, license: str | None, meta: str | None) -> str:
    """4 hex digits of what surrounds the messages."""
    return _hex(without_numbers(canonical_json([label, source, license, meta])), 4)


def bytes_hash(raw: bytes) -> str:
    """16 hex digits of a row that could not be read; its id in the quarantine."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def without_numbers(text: str) -> str:
    """A text whose placeholders of personal data say their kind only: "<PHONE_3>" becomes "<PHONE>"."""
    return _PLACEHOLDER.sub(r"<\1>", text) if "<" in text else text


def _hex(text: str, digits: int) -> str:
    # surrogatepass: JSON may carry a lone surrogate ("\ud800"); such a row still needs an id
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()[:digits]
