"""The shapes instruction data comes in, and how each becomes a record.

    alpaca             {"instruction", "input"?, "output"}
    sharegpt           {"conversations": [{"from": "human" | "gpt" | "system", "value"}]}
    messages           {"messages": [{"role", "content"}]}
    prompt-completion  {"prompt", "completion"}, strings or message lists
    columns            a prompt column and a completion or label column, named in the recipe or by a common name

A row that fits none of them is not lost: it is quarantined with the reason (`Unreadable`).
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tamis.edits import Edit, NewLabel
from tamis.recipe import Columns
from tamis.record import Message, canonical_json

# What other tools call the roles we call user, assistant, system, tool.
ROLE_NAMES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "bing": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_call": "assistant",
}

# Common column names, most specific first, for `format: columns` without names and for `auto`.
COMMON = {
    "prompt": ("prompt", "question", "query", "instruction", "text", "utterance", "input", "sentence"),
    "completion": ("completion", "response", "answer", "output", "target", "chosen"),
    "label": ("label", "intent", "category", "class"),
    "system": ("system", "system_prompt"),
    "id": ("id", "key", "uid", "uuid", "example_id", "ticket_id"),
    "source": ("source", "dataset"),
    "license": ("license", "licence"),
}


class Unreadable(ValueError):
    """A row that cannot become a record. `reason` is a short code, the message says more."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


_UNNAMED = Columns()


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """What a row says, before it has an id and a place."""

    format: str
    messages: list[Message]
    key: str | None
    label: str | None
    source: str | None
    license: str | None
    meta: str | None


def detect(row: dict[str, Any], columns: Columns | None = None) -> str:
    """Name the format of one row.

    Raises:
        Unreadable: the keys are those of no known format, or hold no answer; the message lists them.
    """
    if columns is not None:
        return "columns"
    if isinstance(row.get("messages"), list):
        return "messages"
    if isinstance(row.get("conversations") or row.get("conversation"), list):
        return "sharegpt"
    if "instruction" in row and "output" in row:
        return "alpaca"
    if "prompt" in row and "completion" in row:
        return "prompt-completion"
    if prompt := _first(row, COMMON["prompt"]):
        if _first(row, COMMON["completion"]) or _first(row, COMMON["label"]):
            return "columns"
        raise Unreadable("no_answer", f"there is {prompt!r} and neither an answer nor a label among {sorted(row)[:12]}")
    raise Unreadable("unknown_format", f"keys {sorted(row)[:12]} are those of no known format")


def parse(row: Any, format: str = "auto", columns: Columns | None = None, license: str | None = None) -> Parsed:
    """Turn one row of the user's data into its messages and attributes.

    Args:
        row: the decoded JSON object (or the columns of a Parquet or CSV row).
        format: one of `recipe.FORMATS`.
        columns: the user's names for the columns.
        license: for rows that name none.

    Raises:
        Unreadable: the row is not an object, has no known shape, or lacks what its shape needs.
    """
    if not isinstance(row, dict):
        raise Unreadable("not_an_object", f"a row must be an object, this is {type(row).__name__}")
    if format == "auto":
        format = detect(row, columns)
    reader = _READERS[format]
    messages, used = reader(row, columns)
    names = columns or _UNNAMED
    label_name = names.label or (_first(row, COMMON["label"]) if "label" not in used else None)
    values = {}
    for field in ("id", "source", "license"):
        name = getattr(names, field) or _first(row, [c for c in COMMON[field] if c not in used])
        values[field] = _text(row.get(name)) if name else None
        if name:
            used.add(name)
    label = _text(row.get(label_name)) if label_name else None
    if label_name:
        used.add(label_name)
    rest = {k: v for k, v in row.items() if k not in used and v is not None}
    return Parsed(
        format=format,
        messages=messages,
        key=values["id"],
        label=label,
        source=values["source"],
        license=values["license"] or license,
        meta=canonical_json(rest) if rest else None,
    )


def relabelled(
    parsed: Parsed, row: dict[str, Any], columns: Columns | None, new: NewLabel
) -> tuple[Parsed, list[Edit]]:
    """A row with a reviewer's label in place of its own, and the edits that make the user's row say so.

    The answer changes with the label where it only repeats it, or where the row has no label beside it.
    """
    edits: list[Edit] = []

    def change(path: tuple[str | int, ...], was: str | None) -> None:
        edits.append(Edit("relabelled", path, new.label, was, new.reviewer))

    label = (columns.label if columns else None) or _first(row, COMMON["label"])
    if parsed.label is not None and parsed.label != new.label and label:
        change((label,), parsed.label)
    last = max((i for i, m in enumerate(parsed.messages) if m.role == "assistant"), default=None)
    messages = list(parsed.messages)
    if last is not None and messages[last].content != new.label:
        was = messages[last].content
        if parsed.label is None or was.strip() == parsed.label.strip():
            messages[last] = messages[last]._replace(content=new.label)
            if (path := _answer_path(parsed.format, row, columns)) != (label,):
                change(path, was if parsed.label is not None else None)
    changed = dataclasses.replace(parsed, messages=messages, label=None if parsed.label is None else new.label)
    return changed, edits


def _answer_path(format: str, row: dict[str, Any], columns: Columns | None) -> tuple[str | int, ...]:
    """Where the last assistant turn stands in the user's row."""
    if format == "alpaca":
        return ("output",)
    if format == "columns":
        names = columns or Columns()
        prompt = names.prompt or _first(row, COMMON["prompt"])
        completion = names.completion or _first(row, [c for c in COMMON["completion"] if c != prompt])
        return (completion if completion and completion in row else names.label or _first(row, COMMON["label"]) or "",)
    name = {"messages": "messages", "prompt-completion": "completion"}.get(format) or (
        "conversations" if "conversations" in row else "conversation"
    )
    if not isinstance(row[name], list):
        return (name,)
    turns = [(i, t) for i, t in enumerate(row[name]) if _turn(t, "role", "content").role == "assistant"]
    at, turn = turns[-1]
    keys = ("value", "content") if format == "sharegpt" else ("content", "value")
    return (name, at, next(k for k in keys if k in turn))


def _alpaca(row: dict[str, Any], _: Columns | None) -> tuple[list[Message], set[str]]:
    instruction, extra = _need(row, "instruction"), _text(row.get("input")) or ""
    prompt = f"{instruction}\n\n{extra}" if extra.strip() and instruction.strip() else instruction + extra
    messages = [Message("user", prompt), Message("assistant", _need(row, "output"))]
    return _with_system(row, "system", messages), {"instruction", "input", "output", "system"}


def _sharegpt(row: dict[str, Any], _: Columns | None) -> tuple[list[Message], set[str]]:
    name = "conversations" if "conversations" in row else "conversation"
    messages = [_turn(turn, "from", "value") for turn in row[name]]
    return _checked(_with_system(row, "system", messages)), {name, "system"}


def _messages(row: dict[str, Any], _: Columns | None) -> tuple[list[Message], set[str]]:
    if not isinstance(row.get("messages"), list):
        raise Unreadable("missing_field", "the key 'messages' is missing or not a list")
    return _checked([_turn(turn, "role", "content") for turn in row["messages"]]), {"messages"}


def _prompt_completion(row: dict[str, Any], _: Columns | None) -> tuple[list[Message], set[str]]:
    messages: list[Message] = []
    for name, role in (("prompt", "user"), ("completion", "assistant")):
        value = row.get(name)
        if isinstance(value, list):
            messages += [_turn(turn, "role", "content") for turn in value]
        else:
            messages.append(Message(role, _need(row, name)))
    return _checked(messages), {"prompt", "completion"}


def _columns(row: dict[str, Any], columns: Columns | None) -> tuple[list[Message], set[str]]:
    names = columns or Columns()
    prompt = names.prompt or _first(row, COMMON["prompt"])
    completion = names.completion or _first(row, [c for c in COMMON["completion"] if c != prompt])
    label = names.label or _first(row, COMMON["label"])
    if prompt is None or prompt not in row:
        raise Unreadable(
            "missing_field", f"there is no column {prompt or 'for the prompt'!r}; it has {sorted(row)[:12]}"
        )
    answer = completion if completion and completion in row else label
    if answer is None or answer not in row:
        raise Unreadable("missing_field", f"there is no column for the answer; it has {sorted(row)[:12]}")
    messages = [Message("user", _need(row, prompt)), Message("assistant", _text(row.get(answer)) or "")]
    # A label column keeps its second job: `parse` reads it again as the label.
    used = {prompt} | ({answer} if answer != label else set())
    return _with_system(row, names.system or "system", messages), used | {names.system or "system"}


_READERS = {
    "alpaca": _alpaca,
    "sharegpt": _sharegpt,
    "messages": _messages,
    "prompt-completion": _prompt_completion,
    "columns": _columns,
}


def _turn(turn: Any, role_key: str, content_key: str) -> Message:
    if not isinstance(turn, dict):
        raise Unreadable("bad_turn", f"a turn must be an object, this is {type(turn).__name__}")
    role = turn.get(role_key, turn.get("role", turn.get("from")))
    content = turn.get(content_key, turn.get("content", turn.get("value")))
    if str(role).lower() not in ROLE_NAMES:
        raise Unreadable("bad_role", f"unknown role {role!r}; known: {', '.join(sorted(ROLE_NAMES))}")
    if isinstance(content, list):  # OpenAI's content parts: text is kept, other parts stay in `rest`
        text = "\n".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
        rest = {k: v for k, v in turn.items() if k not in {role_key, "role", "from"}}
        return Message(ROLE_NAMES[str(role).lower()], _clean(text), canonical_json(rest))
    rest = {k: v for k, v in turn.items() if k not in {"role", "from", "content", "value"} and v is not None}
    return Message(ROLE_NAMES[str(role).lower()], _clean(_text(content) or ""), canonical_json(rest) if rest else None)


def _checked(messages: list[Message]) -> list[Message]:
    if not messages:
        raise Unreadable("no_turns", "the conversation has no turns")
    return messages


def _with_system(row: dict[str, Any], name: str, messages: list[Message]) -> list[Message]:
    system = _text(row.get(name))
    return [Message("system", system), *messages] if system and system.strip() else messages


def _need(row: dict[str, Any], name: str) -> str:
    if name not in row:
        raise Unreadable("missing_field", f"the key {name!r} is missing; the row has {sorted(row)[:12]}")
    return _text(row[name]) or ""


def _text(value: Any) -> str | None:
    """A scalar as text; None stays None. Lists and objects become JSON: nothing is lost."""
    if value is None:
        return None
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _clean(text: str) -> str:
    # Half of a surrogate pair ("\ud800") is legal in JSON and in no encoding: Arrow would refuse the whole column.
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unreadable("bad_unicode", "the text holds half of a surrogate pair") from None
    return text


def _first(row: dict[str, Any], names: Any) -> str | None:
    return next((n for n in names if n in row), None)
