"""How a record becomes what a model is asked and what it should say.

Training and evaluation both go through here, so the tuned model is asked exactly as it was taught.
"""

from __future__ import annotations

from typing import Any

from tamis.recipe import Task
from tamis.record import answer_of


def request(messages: Any, task: Task) -> list[dict[str, str]]:
    """The turns a system under test is given: everything before the last assistant turn, the last user turn wrapped.

    Args:
        messages: the record's messages (`Message` tuples or Arrow's mappings).
        task: gives the template and the system prompt; a record's own system turn wins over the task's.

    Returns:
        Chat messages, roles and contents only.
    """
    turns = [_plain(m) for m in messages]
    last_answer = max((i for i, t in enumerate(turns) if t["role"] == "assistant"), default=len(turns))
    turns = turns[:last_answer]
    if task.template is not None:
        last_user = max((i for i, t in enumerate(turns) if t["role"] == "user"), default=None)
        if last_user is not None:
            # str.replace, not str.format: templates and prompts may hold braces of their own
            turns[last_user]["content"] = task.template.replace("{prompt}", turns[last_user]["content"])
    if task.system is not None and not any(t["role"] == "system" for t in turns):
        turns.insert(0, {"role": "system", "content": task.system})
    return turns


def expected(messages: Any, label: str | None, task: Task) -> str:
    """The answer that is right: the label where the task is to classify and there is one, else the last answer."""
    if task.kind == "classify" and label is not None:
        return label
    return answer_of(messages)


def unanswerable(messages: list[Any], labels: list[str | None], task: Task) -> list[int]:
    """Places of the items that an answer could not be held against, where the task needs that: to classify, to regress.

    Args:
        messages: of n items.
        labels: of the same.
        task: its kind counts.
    """
    if task.kind not in ("classify", "regress"):
        return []
    return [
        i for i, (m, label) in enumerate(zip(messages, labels, strict=True)) if not expected(m, label, task).strip()
    ]


def conversation(messages: Any, label: str | None, task: Task) -> list[dict[str, str]]:
    """What is trained on: `request` and the expected answer as the last assistant turn."""
    return [*request(messages, task), {"role": "assistant", "content": expected(messages, label, task)}]


def rendered(tokenizer: Any, turns: list[dict[str, str]], *, answer_next: bool) -> str:
    """Turns as text by a tokenizer's chat template; a template without a system role gets it in the first user turn.

    Raises:
        ValueError: the template cannot render these turns.
    """
    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_next))
    except Exception as error:  # Jinja errors and whatever a template raises by hand
        if len(turns) < 2 or turns[0]["role"] != "system":
            raise ValueError(f"the chat template fails: {error}") from None
    system, first, *rest = turns
    merged = {**first, "content": f"{system['content']}\n\n{first['content']}"}
    return rendered(tokenizer, [merged, *rest], answer_next=answer_next)


def _plain(message: Any) -> dict[str, str]:
    if isinstance(message, dict):
        return {"role": message["role"], "content": message["content"] or ""}
    return {"role": message[0], "content": message[1] or ""}
