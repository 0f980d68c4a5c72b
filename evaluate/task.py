"""Evaluation items, and how an answer is read out of what a system wrote.

There is one extractor per kind of task, and every system goes through it: a fine-tuned model gains much of its lead by
answering in the right form, so a kinder reading of one side would be worth more than the training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tamis.errors import DataError, did_you_mean
from tamis.evaluate.metrics import plain
from tamis.prompt import expected, request, unanswerable
from tamis.recipe import Task
from tamis.record import canonical_json

EXTRACTOR_VERSION = 1  # raise it when any answer could be read differently

_EDGES = " \t\r\n\"'`*_.,:;!?()[]{}<>#-–—“”‘’。、！？：；"
_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+−]?\.\d+")


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing that is asked of every system."""

    id: str
    turns: tuple[dict[str, str], ...]
    text: str
    expected: str | None
    component: int
    label: str | None = None
    language: str | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        return [dict(t) for t in self.turns]


def items_of(table: pa.Table, task: Task) -> list[Item]:
    """The items of an evaluation set (`schema.EVAL`), in its order.

    Raises:
        DataError: no items; an id twice; an item without anything to compare an answer with.
    """
    items = [_item(row, task) for row in table.to_pylist()]
    if not items:
        raise DataError("the evaluation set is empty", hint="name another file as eval.path")
    ids = [i.id for i in items]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DataError("an evaluation item is there twice", where=twice)
    if bare := unanswerable(table["messages"].to_pylist(), table["label"].to_pylist(), task):
        raise DataError(
            f"{len(bare)} of {len(items)} evaluation items have neither a label nor an answer",
            where=items[bare[0]].id,
            hint="name the column with eval.columns.label",
        )
    return items


def _item(row: dict[str, Any], task: Task) -> Item:
    right = expected(row["messages"], row["label"], task) or None
    turns = tuple(request(row["messages"], task))
    text = next((t["content"] for t in reversed(_turns(row["messages"])) if t["role"] == "user"), "")
    return Item(row["id"], turns, text, right, row["component"], row["label"], row["language"])


def _turns(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turns before the last answer."""
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=len(messages))
    return list(messages[:last])


@dataclasses.dataclass(frozen=True)
class Reader:
    """Reads answers. `labels` are the classes in order; empty unless the task is to classify."""

    kind: str
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Task, items: Sequence[Item], train_labels: Sequence[str] = ()) -> Reader:
        """The reader of a task. Labels `from-data` are those of items and training rows together.

        Raises:
            DataError: an item's label is not among the labels that the recipe lists.
        """
        if task.kind != "classify":
            return cls(task.kind)
        right = {i.expected for i in items if i.expected}
        if task.labels == "from-data":
            return cls("classify", tuple(sorted({*right, *train_labels})))
        if unknown := sorted(right - set(task.labels)):
            raise DataError(
                f"the evaluation set holds the label {unknown[0]!r}, which evaluate.task.labels does not list",
                hint=did_you_mean(unknown[0], task.labels),
            )
        return cls("classify", tuple(task.labels))

    @property
    def id(self) -> str:
        """Equal for two readers that read every output the same."""
        digest = hashlib.sha256(canonical_json(self.labels).encode()).hexdigest()[:12]
        return f"{self.kind}/{EXTRACTOR_VERSION}" + (f":{digest}" if self.labels else "")

    def read(self, output: str | None) -> str | None:
        """The answer in an output, or None where there is none to be found."""
        if output is None:
            return None
        if self.kind == "classify":
            return read_label(output, self.labels)
        if self.kind == "regress":
            return read_number(output)
        return output.strip() or None

    def right(self, answer: str | None, expected: str | None) -> bool | None:
        """Whether an answer is right; None where the task has no right answer. No answer is wrong."""
        if expected is None or self.kind in ("summarise", "translate", "chat"):
            return None
        if answer is None:
            return False
        if self.kind == "regress":
            return answer == read_number(expected)
        return answer == expected if self.kind == "classify" else plain(answer) == plain(expected)

    def reference(self, expected: str | None) -> str | None:
        """The right answer in the form that metrics compare: a bare number for regress."""
        return read_number(expected) if self.kind == "regress" and expected is not None else expected


def folded(text: str) -> str:
    """Text for finding labels: NFC, case folded, punctuation at the ends and runs of space gone."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().strip(_EDGES).split())


def read_label(output: str, labels: Sequence[str]) -> str | None:
    """The label in an output: the whole of it, else its beginning, else the only label named anywhere.

    The longest label wins at the beginning ("return label" over "return"). Words are whole: "unblock card" does not
    name "block card". Two labels named, or none, is no answer.
    """
    by_text = {folded(label): label for label in labels}
    text = folded(output)
    if text in by_text:
        return by_text[text]
    leading = [t for t in by_text if text.startswith(t) and not _word_goes_on(text, len(t))]
    if leading:
        return by_text[max(leading, key=len)]
    named = [t for t in by_text if t and _names(text, t)]
    # a label inside a longer one that is named as well was not meant by itself
    named = [t for t in named if not any(t != other and t in other for other in named)]
    return by_text[named[0]] if len(named) == 1 else None


def _word_goes_on(text: str, end: int) -> bool:
    return end < len(text) and (text[end].isalnum() or text[end] == "_") and text[end - 1].isalnum()


def _names(text: str, label: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text) is not None


def read_number(output: str) -> str | None:
    """The last number in a text, as Python writes it; thousands separators are dropped.

    The last, since worked solutions end with their result (GSM8K's convention).
    """
    found = _NUMBER.findall(output)
    return repr(float(found[-1].replace(",", "").replace("−", "-"))) if found else None
