"""Prompts as text: the model's chat template, and the base's best prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tamis.evaluate.systems import Setting
from tamis.evaluate.task import Item
from tamis.prompt import expected, rendered, request
from tamis.recipe import Task

MAX_SHOTS = 32  # one of each label up to here; more cost seconds of prefix and, at 135M parameters, gain nothing
CALIBRATION_ROWS = 64  # rows the base's label likelihoods are calibrated on: four seconds on two cores
FEW_CALIBRATION_ROWS = 16  # where models are chosen between
FREE_SHOTS = 4  # for tasks without labels


def render(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The prompt by the model's chat template, ready to be answered. Without a template: the turns, line by line."""
    if getattr(tokenizer, "chat_template", None):
        return rendered(tokenizer, messages, answer_next=True)
    return "\n".join(m["content"] for m in messages) + "\n"


def stop_token(tokenizer: Any) -> str:
    """What the template writes behind an answer: the token that ends a turn, often not the end-of-text token."""
    if getattr(tokenizer, "chat_template", None):
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "zzz"}]
        behind = rendered(tokenizer, turns, answer_next=False).rsplit("zzz", 1)[-1]
        named = [text for text in tokenizer.all_special_tokens if text and behind.startswith(text)]
        added = [t.content for t in tokenizer.added_tokens_decoder.values() if behind.startswith(t.content)]
        if found := max(named + added, key=len, default=""):
            return found
    return tokenizer.eos_token or ""


def completion(tokenizer: Any, messages: list[dict[str, str]], answer: str | None, *, stop: bool = True) -> str | None:
    """What the template writes for an answer after the prompt, up to and with the stop token; None without answer."""
    if answer is None:
        return None
    text = answer
    if getattr(tokenizer, "chat_template", None):
        prompt = render(tokenizer, messages)
        whole = rendered(tokenizer, [*messages, {"role": "assistant", "content": answer}], answer_next=False)
        # a template that rewrites earlier turns (dropping thoughts, say) has no prefix to cut off
        said = whole[len(prompt) :] if whole.startswith(prompt) else answer
        if answer in said:
            text = said[: said.index(answer) + len(answer)]
    return text + (stop_token(tokenizer) if stop else "")


Shot = tuple[list[dict[str, str]], str]


def shots(setting: Setting) -> tuple[list[Shot], list[Item]]:
    """Examples for the prompt and rows to calibrate on, from the arm's training rows in a seeded order.

    Returns:
        One example of each label (or a few, where there are no labels), and further rows as items, none of them an
        example. Both empty where the training rows are not known.
    """
    rows, task, labels = setting.train_rows, setting.recipe.evaluate.task, setting.reader.labels
    if rows is None or rows.num_rows == 0:
        return [], []
    order = np.random.default_rng(setting.recipe.seed_for("evaluate.shots")).permutation(rows.num_rows)
    limit = MAX_SHOTS if labels else FREE_SHOTS
    examples: list[Shot] = []
    further: list[Item] = []
    seen: set[str] = set()
    for row in rows.take(order).select(["id", "messages", "label"]).to_pylist():
        answer = expected(row["messages"], row["label"], task)
        if not answer:
            continue
        asked = request(row["messages"], task)
        if len(examples) < limit and not (labels and answer in seen):
            seen.add(answer)
            examples.append((asked, answer))
        elif labels and len(further) < CALIBRATION_ROWS:
            further.append(Item(row["id"], tuple(asked), "", answer, 0))
    return examples, further


def best(item: Item, task: Task, labels: Sequence[str], examples: Sequence[Shot]) -> list[dict[str, str]]:
    """The conversation for the base at its best: instructions with the labels, examples as turns, then the item."""
    head = [task.system] if task.system else []
    if labels:
        head.append(f"Answer with exactly one of these labels and nothing else: {', '.join(labels)}.")
    turns = [{"role": "system", "content": "\n".join(head)}] if head else []
    for asked, answer in examples:
        turns += [t for t in asked if t["role"] != "system"]
        turns.append({"role": "assistant", "content": answer})
    return turns + [t for t in item.messages if t["role"] != "system"]
