"""A log of what users asked: JSONL, one request a line, in whichever of the usual shapes.

{"prompt": "..."}                                    also text, input, question, query, instruction
{"messages": [...]}                                  also {"request": {"messages": [...]}}
and, where logged, "finish_reason" (or finish)       how the answer ended
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tamis.errors import DataError
from tamis.record import prompt_of

PROMPTS = ("prompt", "text", "input", "question", "query", "instruction")
FINISHES = ("finish_reason", "finish")


@dataclasses.dataclass(frozen=True)
class Log:
    """A log as it was read.

    Attributes:
        prompts: in the order of the file.
        finishes: how the answers ended, of the lines that say so.
        unreadable: lines that hold no prompt.
    """

    prompts: list[str]
    finishes: list[str]
    unreadable: int


def read(file: Path) -> Log:
    """Read a log. An empty one is no error here: that nobody asked is a finding.

    Raises:
        DataError: there is no such file, or not one of its lines holds a prompt.
    """
    try:
        lines = [line for line in file.read_bytes().split(b"\n") if line.strip()]
    except OSError as error:
        raise DataError(
            "the log cannot be read", where=str(file), why=error.strerror, hint="--log FILE.jsonl"
        ) from None
    prompts, finishes = [], []
    for line in lines:
        row = _row(line)
        prompt = _prompt(row)
        if prompt:
            prompts.append(prompt)
            finishes += [row[key] for key in FINISHES if isinstance(row.get(key), str)][:1]
    if lines and not prompts:
        raise DataError(
            "no line of the log holds a prompt",
            where=str(file),
            why=f"a line is a JSON object with messages, or with one of {', '.join(PROMPTS)}",
        )
    return Log(prompts, finishes, len(lines) - len(prompts))


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:  # also bytes that are no UTF-8
        return {}
    return row if isinstance(row, dict) else {}


def _prompt(row: dict[str, Any]) -> str:
    inner = row.get("request")
    for place in (row, inner if isinstance(inner, dict) else {}):
        messages = place.get("messages")
        if isinstance(messages, list) and all(isinstance(m, dict) for m in messages):
            turns = [{"role": str(m.get("role")), "content": _text(m.get("content"))} for m in messages]
            return prompt_of(turns).strip()
        for key in PROMPTS:
            if isinstance(place.get(key), str):
                return str(place[key]).strip()
    return ""


def _text(content: Any) -> str:
    """Content as text; of content in parts, those that are text."""
    if isinstance(content, list):
        return "\n".join(str(p["text"]) for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return content if isinstance(content, str) else ""
