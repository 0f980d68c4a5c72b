"""Which tokens of a conversation are an assistant's, for any chat template.

The conversation is rendered once without and once with each assistant turn; what the turn added is its answer. No
marker strings and no search for the answer's text, which finds the wrong place where an answer occurs in its prompt.

Training labels these tokens, the IFD scorer measures them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Turns = list[dict[str, str]]


class Spans(NamedTuple):
    """One conversation as token ids, and where in them each assistant turn stands, as [start, end)."""

    input_ids: list[int]
    spans: list[tuple[int, int]]


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


def answer_spans(tokenizer: Any, turns: Turns, stops: set[int]) -> Spans:
    """Render a conversation and find every assistant turn in it that says something.

    Args:
        tokenizer: with a chat template.
        turns: roles and contents; the last one is the assistant's.
        stops: from `stop_token_ids`.

    Returns:
        Ids from the first token to the last turn's stop token, which ends every span; `spans` in order. Where the
        template renders earlier turns differently once more follow (it drops their reasoning, say), spans of the
        earlier rendering do not belong to this one and are left out; one that differs only behind the answer's own
        stop token (end of text after the last turn, as in Phi 3) is kept up to there.

    Raises:
        ValueError: the template cannot render these turns, leaves an answer out, or no assistant turn says anything.
    """
    turns = _renderable(tokenizer, turns)
    ids: list[int] = []
    spans: list[tuple[int, int, str]] = []  # with what the turn says
    for index, turn in enumerate(turns):
        if turn["role"] != "assistant" or not turn["content"].strip():
            continue
        before = _render(tokenizer, turns[:index], prompt=True)
        after = _render(tokenizer, turns[: index + 1], prompt=False)
        if not _says(after[_same(before, after) :], turn["content"]):
            raise ValueError("the chat template leaves the answer out")
        prompt, whole = _tokens_of(tokenizer, before, after)
        whole = _end_with_stop(tokenizer, prompt, whole, stops)
        if whole[: len(ids)] != ids:
            spans = _still_there(tokenizer, ids, whole, spans, stops)
        ids = whole
        spans.append((len(prompt), len(whole), turn["content"]))
    if not spans:
        raise ValueError("no assistant turn says anything")
    return Spans(ids, [(start, end) for start, end, _ in spans])


def _says(rendered: str, content: str) -> bool:
    """Whether a rendering has anything of a turn.

    Templates trim it, or drop its reasoning; those of models that also see pictures want a list of parts and write
    nothing for a text.
    """
    return any(word in rendered for word in content.split())


def _still_there(
    tokenizer: Any, ids: list[int], whole: list[int], spans: list[tuple[int, int, str]], stops: set[int]
) -> list[tuple[int, int, str]]:
    """The spans of an earlier rendering as far as a later one has them too: the answer and a stop token behind it.

    Args:
        tokenizer: to read the tokens.
        ids: token ids of the earlier rendering.
        whole: token ids of the later rendering.
        spans: of the earlier rendering, with what the turns say.
        stops: from `stop_token_ids`.
    """
    same, kept = _same(ids, whole), []
    for start, end, content in spans:
        last = next((i for i in range(min(end, same), start, -1) if ids[i - 1] in stops), start)
        text = tokenizer.decode(ids[start:last])
        if last > start and all(word in text for word in content.split()):
            kept.append((start, last, content))
    return kept


def answer_header(tokenizer: Any) -> list[int]:
    """Token ids that a template writes before an answer, found by rendering a question with and without them.

    Returns:
        The ids; where the template writes none, the token that begins a text, or the one that ends it.
    """
    question = [{"role": "user", "content": "?"}]
    without, with_header = (_render(tokenizer, question, prompt=p) for p in (False, True))
    if with_header.startswith(without) and with_header != without:
        return list(tokenizer.encode(with_header[len(without) :], add_special_tokens=False))
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return [] if first is None else [first]


def _render(tokenizer: Any, turns: Turns, *, prompt: bool) -> str:
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt))


def _renderable(tokenizer: Any, turns: Turns) -> Turns:
    """The turns, with the system turn moved into the first user turn where the template has no system role."""
    try:
        _render(tokenizer, turns, prompt=False)
    except Exception as error:  # Jinja errors and whatever a template raises by hand
        if len(turns) < 2 or turns[0]["role"] != "system":
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
    return whole[: _same(prompt, whole)], whole


def _same(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many leading elements are the same."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _end_with_stop(tokenizer: Any, prompt: list[int], whole: list[int], stops: set[int]) -> list[int]:
    """Cut behind the turn's last stop token; where the template writes none, add the end-of-text token."""
    for end in range(len(whole), len(prompt), -1):
        if whole[end - 1] in stops:
            return whole[:end]
    return whole if tokenizer.eos_token_id is None else [*whole, tokenizer.eos_token_id]
