"""Which tokens are trained on, for any chat template.

What an assistant turn adds to its conversation (tamis/spans.py) is what the model must learn to say. No template is
written for training: a template that can render a chat can be trained.

The turn's stop token is always among the labels, since a model that never saw it never stops. What the template puts
behind it (a line break, mostly) is not: generation ends before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from tamis.spans import Turns, answer_spans

IGNORED = -100  # torch's ignore_index


class Labelled(NamedTuple):
    """One conversation as token ids and labels of equal length; a label is its token's id, or `IGNORED`."""

    input_ids: list[int]
    labels: list[int]


@dataclasses.dataclass(frozen=True)
class Row:
    """A training row and the fate of its tokens.

    Attributes:
        id: of the record.
        input_ids, labels: equally long; empty where the row was dropped.
        tokens: of the whole conversation, before anything was cut.
        trained: tokens with a label that are left after cutting.
        truncated: tokens cut off the end.
        dropped: why the row cannot be trained on, or None.
    """

    id: str
    input_ids: list[int]
    labels: list[int]
    tokens: int
    trained: int
    truncated: int
    dropped: str | None = None


def label_conversation(tokenizer: Any, turns: Turns, stops: set[int]) -> Labelled:
    """Render a conversation and label every assistant turn in it.

    Args:
        tokenizer: with a chat template.
        turns: roles and contents; the last one is the assistant's.
        stops: from `stop_token_ids`.

    Returns:
        Ids from the first token to the last trained one; nothing behind that could influence the loss.

    Raises:
        ValueError: the template cannot render these turns, or nothing in them is to be trained.
    """
    ids, spans = answer_spans(tokenizer, turns, stops)
    labels = [IGNORED] * len(ids)
    for start, end in spans:
        labels[start:end] = ids[start:end]
    labels[0] = IGNORED  # nothing precedes the first token, so nothing can predict it
    return Labelled(ids, labels)


def label_rows(
    tokenizer: Any, conversations: Sequence[tuple[str, Turns]], max_length: int, stops: set[int]
) -> list[Row]:
    """Label many rows and account for every token.

    Args:
        tokenizer: with a chat template.
        conversations: record id and turns.
        max_length: tokens; what is longer is cut at the end.
        stops: from `stop_token_ids`.

    Returns:
        One `Row` per conversation, in their order, dropped ones included.
    """
    return [_cut(_label_row(tokenizer, id_, turns, stops), max_length) for id_, turns in conversations]


def _label_row(tokenizer: Any, id_: str, turns: Turns, stops: set[int]) -> Row:
    if not turns or turns[-1]["role"] != "assistant" or not turns[-1]["content"].strip():
        return Row(id_, [], [], 0, 0, 0, "no_answer")
    try:
        ids, labels = label_conversation(tokenizer, turns, stops)
    except ValueError:
        return Row(id_, [], [], 0, 0, 0, "template")
    return Row(id_, ids, labels, len(ids), _trained(labels), 0)


def _cut(row: Row, max_length: int) -> Row:
    """Cut a row to `max_length` tokens; a row that loses all its labels cannot be trained on."""
    if row.dropped or len(row.input_ids) <= max_length:
        return row
    labels = row.labels[:max_length]
    if not (trained := _trained(labels)):
        return dataclasses.replace(row, input_ids=[], labels=[], trained=0, truncated=row.tokens, dropped="too_long")
    return dataclasses.replace(
        row,
        input_ids=row.input_ids[:max_length],
        labels=labels,
        trained=trained,
        truncated=row.tokens - max_length,
    )


def _trained(labels: list[int]) -> int:
    return sum(label != IGNORED for label in labels)
