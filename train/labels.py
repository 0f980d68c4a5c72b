"""Which tokens are trained on, for any chat template.

The conversation is rendered once without and once with each assistant turn; what the turn added is what the model must
learn to say. No marker strings, no template written for training: a template that can render a chat can be trained.

The turn's stop token is always among the labels, since a model that never saw it never stops. What the template puts
behind it (a line break, mostly) is not: generation ends before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

IGNORED = -100  # torch's ignore_index

Turns = list[dict[str, str]]


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


def stop_token_ids(tokenizer: Any, model_stops: Sequence[int] = ()) -> set[int]:
    """Tokens that may end an assistant turn: the end-of-text token, the model's own, and every special token.

    Chat models end turns with a token that is often neither of the first two (`<end_of_turn>`), so all count.

    Args:
        tokenizer: with its special tokens.
        model_stops: `eos_token_id` of the model's generation configuration, as a list.
    """
    added = {token for token, text in tokenizer.added_tokens_decoder.items() if text.special}
    known = {tokenizer.eos_token_id, *model_stops, *tokenizer.all_special_ids}
    return added | {token for token in known if token is not None}


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
    turns = _renderable(tokenizer, turns)
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    for index, turn in enumerate(turns):
        if turn["role"] != "assistant" or not turn["content"].strip():
            continue
        before = _render(tokenizer, turns[:index], prompt=True)
        after = _render(tokenizer, turns[: index + 1], prompt=False)
        prompt, whole = _tokens_of(tokenizer, before, after)
        whole = _end_with_stop(tokenizer, prompt, whole, stops)
        if whole[: len(ids)] != ids:
            # The template renders earlier turns differently once more follow (it drops their reasoning, say):
            # labels of the earlier rendering do not belong to this one.
            spans = []
        ids = whole
        spans.append((len(prompt), len(whole)))
    if not spans:
        raise ValueError("no assistant turn to train on")
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


def _render(tokenizer: Any, turns: Turns, *, prompt: bool) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))


def _renderable(tokenizer: Any, turns: Turns) -> Turns:
    """The turns, with the system turn moved into the first user turn where the template has no system role."""
    try:
        _render(tokenizer, turns, prompt=False)
    except Exception as error:  # Jinja errors and whatever a template raises by hand
        if turns[0]["role"] != "system" or len(turns) < 2:
            raise ValueError(f"the chat template fails: {error}") from None
        system, first, *rest = turns
        merged = [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
        return _renderable(tokenizer, merged)
    return turns


def _tokens_of(tokenizer: Any, before: str, after: str) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, and of prompt and answer, where the second starts with the first.

    In generation the model sees the prompt's own tokens. So where the tokenizer would merge across the border, the
    answer is tokenised by itself, unless that changes the text (tokenizers that put a space before every text).
    """
    encode = tokenizer.encode
    prompt, whole = encode(before, add_special_tokens=False), encode(after, add_special_tokens=False)
    if whole[: len(prompt)] == prompt:
        return prompt, whole
    if after.startswith(before):
        pieces = prompt + encode(after[len(before) :], add_special_tokens=False)
        if tokenizer.decode(pieces) == tokenizer.decode(whole):
            return prompt, pieces
    shared = next(
        (i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), min(len(prompt), len(whole))
    )
    return whole[:shared], whole


def _end_with_stop(tokenizer: Any, prompt: list[int], whole: list[int], stops: set[int]) -> list[int]:
    """Cut behind the turn's last stop token; where the template writes none, add the end-of-text token."""
    for end in range(len(whole), len(prompt), -1):
        if whole[end - 1] in stops:
            return whole[:end]
    return whole if tokenizer.eos_token_id is None else [*whole, tokenizer.eos_token_id]
