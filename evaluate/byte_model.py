"""How likely a small model of bytes, fitted on the arm's rows in seconds, finds the reference answers.

The proxy of a study where there are no labels (tamis/study.py): it writes nothing, so only `bits_per_byte` means
something. An n-gram model over the bytes of prompt and answer, orders 0 to 5, mixed from long to short contexts as
Witten and Bell (1991), IEEE Transactions on Information Theory 37:1085, do it (their method C): a context that was
followed by many different bytes is trusted less. Any script, any language, no tokenizer.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

from tamis.errors import RecipeError
from tamis.evaluate.baselines import Baseline
from tamis.evaluate.systems import Answered, Reply, Setting, text_length
from tamis.evaluate.task import Item
from tamis.prompt import expected
from tamis.record import json_sha256, prompt_of

ORDER = 5
NAME = "bytes"
_BETWEEN = b"\n\n"
"""Between prompt and answer, in fitting and in scoring."""


@dataclasses.dataclass(frozen=True)
class ByteModel:
    """Counts of the byte that followed each context of at most `ORDER` bytes."""

    counts: dict[bytes, collections.Counter[int]]

    @classmethod
    def fit(cls, texts: Iterable[bytes]) -> ByteModel:
        """Count."""
        counts: dict[bytes, collections.Counter[int]] = collections.defaultdict(collections.Counter)
        for text in texts:
            for place, byte in enumerate(text):
                for order in range(min(ORDER, place) + 1):
                    counts[text[place - order : place]][byte] += 1
        return cls(dict(counts))

    def nats(self, context: bytes, text: bytes) -> float:
        """Negative log-likelihood of a text after a context, in nats."""
        total, whole = 0.0, context[-ORDER:] + text
        start = len(whole) - len(text)
        for place in range(start, len(whole)):
            total -= math.log(self._probability(whole[max(0, place - ORDER) : place], whole[place]))
        return total

    def _probability(self, context: bytes, byte: int) -> float:
        p = 1 / 256
        for start in range(len(context), -1, -1):
            found = self.counts.get(context[start:])
            if found is None:
                break  # nor was any longer context seen
            seen, kinds = found.total(), len(found)
            p = (found[byte] + kinds * p) / (seen + kinds)
        return p


class Bytes(Baseline):
    """The byte model as a system under test: it says nothing, and how likely it finds each reference answer."""

    model: ByteModel

    @classmethod
    def of(cls, setting: Setting) -> Bytes:
        """Fit on the arm's training rows.

        Raises:
            RecipeError: they are not known.
        """
        task = setting.recipe.evaluate.task
        rows = [] if setting.train_rows is None else setting.train_rows.select(["messages", "label"]).to_pylist()
        if not rows:
            raise RecipeError("the byte model needs training rows", where="evaluate.systems", why="none are known")
        texts = [_text(prompt_of(r["messages"]), expected(r["messages"], r["label"], task)) for r in rows]
        made = cls(NAME, {"order": ORDER, "rows": len(rows)}, lambda asked: [""] * len(asked))
        made.model = ByteModel.fit(texts)
        return made

    def about(self) -> dict[str, Any]:
        """Provenance."""
        return {**super().about(), "engine": "tamis", "decoding_sha256": json_sha256("writes nothing")}

    def length(self, item: Item) -> int:
        """Bytes."""
        return text_length(item)

    def answer(self, batch: Sequence[Item]) -> Answered:
        """Likelihoods for a batch."""
        started = time.perf_counter()
        replies = [self._scored(item) for item in batch]
        return Answered(replies, time.perf_counter() - started)

    def _scored(self, item: Item) -> Reply:
        digest = json_sha256(item.text)
        if item.expected is None:
            return Reply(item.text, digest, "")
        reference = item.expected.encode("utf-8", "surrogatepass")
        nats = self.model.nats(_text(item.text, ""), reference)
        return Reply(item.text, digest, "", nll=nats, nll_tokens=len(reference), nll_bytes=len(reference))


def _text(prompt: str, answer: str) -> bytes:
    return prompt.encode("utf-8", "surrogatepass") + _BETWEEN + answer.encode("utf-8", "surrogatepass")
