"""Instruction-following difficulty: how much the prompt helps a small language model to say the answer.

    IFD = exp(NLL(y|x)) / exp(NLL(y))        mean negative log-likelihoods per answer token, in nats

Li et al., "Superfiltering" (arXiv 2402.00530), sections 3 and 4: near 0 the answer follows from its prompt, near 1 the
prompt hardly helps, and from 1 on it misleads: prompt and answer do not belong together, so the row goes.

Both passes see the same answer tokens behind the same header of the chat template. They are found by token ids
(tamis/spans.py), never by searching for the answer's text. The token that ends a turn is not counted: it says nothing
of the prompt. A conversation of several turns has one IFD, its answer tokens weighing alike.

Batches hold unique conversations of like length in the order of their hashes, and a batch begins anew behind every
sixteenth hash or so. So a score does not depend on the order of the rows, and rows that are added later leave most
batches, and what the cache holds of them, as they were. In float32 a row scores alone as it does among fifteen others,
to all four digits; in bfloat16 the two differ by 0.8 % in the median and by 10 % in one row of a hundred (measured,
benchmarks/scorers.md), which is why float32 is the default.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tamis.errors import RecipeError
from tamis.models import ResolvedModel, best_device, load_model, load_tokenizer, resolve
from tamis.record import json_sha256
from tamis.run import Progress, package_version
from tamis.score_cache import ScoreCache
from tamis.spans import Turns, answer_header, answer_spans, stop_token_ids

METHOD = 1  # part of every key: raise it when the same rows get other scores
BATCH = 16
BUCKET = 16  # tokens: conversations of a batch differ by fewer
LOGITS = 1 << 25  # numbers held at once (positions x vocabulary); a single row may need more


class Example(NamedTuple):
    """A conversation to score: its token ids, where its answers stand as [start, end), and whether it was cut."""

    ids: list[int]
    spans: list[tuple[int, int]]
    cut: bool


class Likelihood(NamedTuple):
    """What two passes say of one conversation: nats summed over the same answer tokens, with and without prompt."""

    given: float
    alone: float
    tokens: int

    @property
    def ifd(self) -> float:
        """`exp((given - alone) / tokens)`, to four digits; NaN where the model's numbers are not finite."""
        if not self.tokens or not math.isfinite(self.given - self.alone):
            return math.nan
        return round(math.exp(min((self.given - self.alone) / self.tokens, 700.0)), 4)


@dataclasses.dataclass
class Ifd:
    """The scorer on one model, which is loaded when the first row has to be scored and not before.

    Attributes:
        model: from `resolve`.
        window: tokens of a conversation; longer ones are cut: the answer to half of it, then the prompt's beginning.
        batch: rows of a forward pass.
        dtype: `float32`, or `bfloat16`: up to three times as fast, and rougher.
    """

    model: ResolvedModel
    window: int = 1024
    batch: int = BATCH
    dtype: str = "float32"

    @classmethod
    def of(cls, name: str, *, trust_remote_code: bool = False, window: int = 1024, dtype: str = "float32") -> Ifd:
        """The scorer on the model that a recipe names.

        Raises:
            RecipeError: no such model.
            MissingExtra: torch or transformers is not installed.
        """
        return cls(resolve(name, trust_remote_code=trust_remote_code), window, dtype=dtype)

    @functools.cached_property
    def tokenizer(self) -> Any:
        return load_tokenizer(self.model)

    @functools.cached_property
    def header(self) -> list[int]:
        """What stands before an answer that is read without its prompt."""
        if found := answer_header(self.tokenizer):
            return found
        raise RecipeError("the model's tokenizer has no token that begins or ends a text", where=self.model.name)

    @functools.cached_property
    def loaded(self) -> Any:
        import torch

        return load_model(self.model).to(getattr(torch, self.dtype))

    def identity(self) -> dict[str, Any]:
        """Everything beside the rows that can change a score."""
        return {
            "method": METHOD,
            "model": self.model.sha256,
            "window": self.window,
            "batch": self.batch,
            "dtype": self.dtype,
            "device": best_device(),
            "versions": {name: package_version(name) for name in ("torch", "transformers")},
        }

    def example(self, turns: Turns) -> Example | None:
        """A conversation as token ids; None where no assistant turn says anything or the template cannot render it."""
        stops = self._stops
        try:
            ids, spans = answer_spans(self.tokenizer, turns, stops)
        except ValueError:
            return None
        # the turn's end is not part of what it says, and nothing could predict a very first token
        spans = [(max(start, 1), end - (ids[end - 1] in stops)) for start, end in spans]
        return _cut(Example(ids[: spans[-1][1]], [s for s in spans if s[0] < s[1]], False), self.window)

    @functools.cached_property
    def _stops(self) -> set[int]:
        return stop_token_ids(self.tokenizer)

    def score(
        self, conversations: Sequence[Turns], *, folder: Path | None = None, quiet: bool = True
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Score conversations; what the cache holds is not computed again.

        Args:
            conversations: n lists of turns, the last one the assistant's (`prompt.conversation`).
            folder: gets `progress.json`.
            quiet: no progress lines.

        Returns:
            (n,) IFD, NaN where a conversation has no answer; and what happened, as counts.
        """
        examples = [self.example(turns) for turns in conversations]
        keys = [None if e is None or not e.spans else json_sha256([e.ids, e.spans]) for e in examples]
        unique = {key: e for key, e in zip(keys, examples, strict=True) if key is not None and e is not None}
        found = self._likelihoods(unique, folder, quiet)
        values = np.array([math.nan if key is None else found[key].ifd for key in keys], np.float64)
        given = np.array([math.nan if key is None else found[key].given / found[key].tokens for key in keys])
        about = {
            "rows": len(examples),
            "no_answer": sum(key is None for key in keys),
            "not_finite": int(np.isnan(values).sum()) - sum(key is None for key in keys),
            "cut_to_window": sum(e is not None and e.cut for e in examples),
            "tokens": sum(tokens_of(e, self.header) for e in unique.values()),
            "mean_nll_given_prompt": _mean(given),
            "model": {"name": self.model.name, "sha256": self.model.sha256, "source": self.model.source},
            "dtype": self.dtype,
        }
        return values, about

    def _likelihoods(self, unique: dict[str, Example], folder: Path | None, quiet: bool) -> dict[str, Likelihood]:
        cache = ScoreCache("ifd", self.identity())
        out: dict[str, Likelihood] = {}
        plan = self.plan(unique)
        progress = Progress(folder, "ifd", len(unique), quiet=quiet) if folder is not None else None
        for keys in plan:
            name = json_sha256(keys)
            if (stored := cache.get(name)) is None:
                stored = [[*_finite(row)] for row in self.measure([unique[k] for k in keys])]
                cache.put(name, stored)
            for key, (given, alone, tokens) in zip(keys, stored, strict=True):
                out[key] = Likelihood(
                    math.nan if given is None else given, math.nan if alone is None else alone, int(tokens)
                )
            if progress is not None:
                progress.update(len(out))
        return out

    def plan(self, unique: dict[str, Example]) -> list[list[str]]:
        """Keys in batches: a function of the set of examples only, and locally stable when some are added."""
        size = _vocabulary(self.model.path)
        plan: list[list[str]] = []
        last, widest = -1, 0
        for key in sorted(unique, key=lambda k: (len(unique[k].ids) // BUCKET, k)):
            ids, spans, _ = unique[key]
            bucket, keep = len(ids) // BUCKET, len(ids) - spans[0][0] + 1
            widest = max(widest, keep) if plan and bucket == last else keep
            full = not plan or bucket != last or len(plan[-1]) >= self.batch
            if full or _ends_batch(plan[-1][-1]) or (len(plan[-1]) + 1) * widest * size > LOGITS:
                plan.append([])
                widest = keep
            plan[-1].append(key)
            last = bucket
        return plan

    def measure(self, examples: Sequence[Example]) -> list[Likelihood]:
        """Two forward passes over one batch."""
        given = self._nll([e.ids for e in examples], [e.spans for e in examples])
        pieces = [(row, e.ids[a:b]) for row, e in enumerate(examples) for a, b in e.spans]
        head = len(self.header)
        ids = [self.header + piece for _, piece in pieces]
        alone = [0.0] * len(examples)
        for start in range(0, len(ids), len(examples)):  # a chat of many turns must not widen the batch
            chunk = ids[start : start + len(examples)]
            sums = self._nll(chunk, [[(head, len(i))] for i in chunk])
            for (row, _), nats in zip(pieces[start : start + len(examples)], sums, strict=True):
                alone[row] += nats
        counts = [sum(b - a for a, b in e.spans) for e in examples]
        return [Likelihood(g, a, n) for g, a, n in zip(given, alone, counts, strict=True)]

    def _nll(self, ids: Sequence[list[int]], spans: Sequence[list[tuple[int, int]]]) -> list[float]:
        """Nats of the tokens in each row's spans, summed. Rows are padded on the left, so all of them end together."""
        import torch

        model = self.loaded
        width = max(map(len, ids))
        keep = max(len(row) - where[0][0] for row, where in zip(ids, spans, strict=True)) + 1
        tokens = torch.full((len(ids), width), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(tokens)
        for row, given in enumerate(ids):
            tokens[row, width - len(given) :] = torch.as_tensor(given)
            mask[row, width - len(given) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        tokens, mask, positions = (t.to(model.device) for t in (tokens, mask, positions))
        with torch.inference_mode():
            logits = model(
                input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=keep
            ).logits
            out = []
            for row, (given, where) in enumerate(zip(ids, spans, strict=True)):
                total = 0.0
                for start, end in where:
                    first = logits.shape[1] - (len(given) - start) - 1
                    seen = logits[row, first : first + end - start].float()
                    right = tokens[row, width - len(given) + start : width - len(given) + end]
                    each = seen.logsumexp(-1) - seen.gather(-1, right[:, None])[:, 0]
                    total += float(each.double().sum())
                out.append(total)
        return out


def tokens_of(example: Example, header: list[int]) -> int:
    """Tokens that the two passes over a conversation read."""
    return len(example.ids) + sum(b - a + len(header) for a, b in example.spans)


def _cut(example: Example, window: int) -> Example:
    """At most `window` tokens: the last answer keeps half of them, and what stands before it its end."""
    ids, spans, _ = example
    if len(ids) <= window or not spans:
        return example
    start, end = spans[-1]
    end = min(end, start + max(window // 2, window - start))
    gone = max(0, end - window)
    kept = [(a - gone, b - gone) for a, b in [*spans[:-1], (start, end)] if a - gone >= 1]
    return Example(ids[gone:end], kept, True)


def _ends_batch(key: str) -> bool:
    return key.endswith("0")


def _finite(row: Likelihood) -> tuple[float | None, float | None, int]:
    given, alone = (v if math.isfinite(v) else None for v in (row.given, row.alone))
    return given, alone, row.tokens


def _mean(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return round(float(finite.mean()), 4) if len(finite) else None


@functools.lru_cache
def _vocabulary(folder: Path) -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    return int(getattr(config.get_text_config(), "vocab_size", 1 << 17))
