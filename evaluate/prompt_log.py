"""A log of what users asked: JSONL, one request a line, in whichever of the usual shapes.

{"prompt": "..."}                                    also text, input, question, query, instruction
{"messages": [...]}                                  also {"request": {"messages": [...]}}
and, where logged, "finish_reason" (or finish)       how the answer ended
                   "answer"                          also output, completion, response; or the last assistant turn
                   "choices" or {"response": ...}    an answer as OpenAI's API gives it
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tamis.errors import DataError
from tamis.record import answer_of, prompt_of

PROMPTS = ("prompt", "text", "input", "question", "query", "instruction")
ANSWERS = ("answer", "output", "completion", "response")
FINISHES = ("finish_reason", "finish")


@dataclasses.dataclass(frozen=True)
class Request:
    """One line. `answer` and `finish` are None where the line does not say."""

    prompt: str
    answer: str | None = None
    finish: str | None = None


@dataclasses.dataclass(frozen=True)
class Log:
    """A log as it was read.

    Attributes:
        requests: in the order of the file.
        unreadable: lines that hold no prompt.
    """

    requests: list[Request]
    unreadable: int

    def latest(self, most: int) -> Log:
        """The end of the log: what is recent."""
        return Log(self.requests[-most:], self.unreadable)

    @property
    def prompts(self) -> list[str]:
        return [r.prompt for r in self.requests]

    @property
    def answers(self) -> list[str]:
        """Of the lines that have one."""
        return [r.answer for r in self.requests if r.answer is not None]

    @property
    def finishes(self) -> list[str]:
        """How the answers ended, of the lines that say so."""
        return [r.finish for r in self.requests if r.finish is not None]


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
    requests = [request for line in lines if (request := _request(_row(line))).prompt]
    if lines and not requests:
        raise DataError(
            "no line of the log holds a prompt",
            where=str(file),
            why=f"a line is a JSON object with messages, or with one of {', '.join(PROMPTS)}",
        )
    return Log(requests, len(lines) - len(requests))


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:  # also bytes that are no UTF-8
        return {}
    return row if isinstance(row, dict) else {}


def _request(row: dict[str, Any]) -> Request:
    asked = [row, inner] if isinstance(inner := row.get("request"), dict) else [row]
    said = [row, inner] if isinstance(inner := row.get("response"), dict) else [row]
    turns = next((found for place in asked if (found := _turns(place)) is not None), None)
    prompt = prompt_of(turns) if turns is not None else _text_of(asked, PROMPTS) or ""
    choices = [choice for place in said if (choice := _choice(place))]
    answer = _text_of(said, ANSWERS)
    if answer is None and choices:
        message = choices[0].get("message")
        answer = _text(message.get("content")) if isinstance(message, dict) else _text_of(choices, ("text",))
    if answer is None and turns and turns[-1]["role"] == "assistant":
        answer = answer_of(turns)
    return Request(prompt.strip(), answer, _text_of([*said, *choices], FINISHES))


def _turns(place: dict[str, Any]) -> list[dict[str, str]] | None:
    messages = place.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return None
    return [{"role": str(m.get("role")), "content": _text(m.get("content"))} for m in messages]


def _choice(place: dict[str, Any]) -> dict[str, Any]:
    """The first of an answer's choices; empty where there is none."""
    choices = place.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _text_of(places: list[dict[str, Any]], keys: tuple[str, ...]) -> str | None:
    """The first text under one of the keys."""
    return next((str(p[key]) for p in places for key in keys if isinstance(p.get(key), str)), None)


def _text(content: Any) -> str:
    """Content as text; of content in parts, those that are text."""
    if isinstance(content, list):
        return "\n".join(str(p["text"]) for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
    return content if isinstance(content, str) else ""
