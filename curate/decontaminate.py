"""Which training rows are the evaluation set in disguise.

Two channels so far, both exact about what they can see:

* `leak_exact`: the row's prompt equals an item's prompt after normalisation;
* `leak_ngram`: n-grams that the row shares with one item cover more than half of that item's words (the rule of
  Tulu 3, arXiv 2411.15124, section 3.2), with n = min(8, words of the item) so that it can fire on short items:
  89 % of CLINC150's rows have fewer than 13 words, and GPT-3's 13-gram rule can never fire on them.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable

import pyarrow as pa

from tamis.curate.normal import normalise, words
from tamis.record import prompt_of

LEAKS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("leak", pa.string()),  # reason, or null: the row leaks nothing
        pa.field("item", pa.string()),  # the evaluation item it leaks
        pa.field("coverage", pa.float32()),
    ]
)

# An item of fewer words than this is matched as a whole prompt only: "where is it" stands inside many honest rows.
SHORTEST = 5


@dataclasses.dataclass
class Index:
    """The evaluation set, ready to be looked up."""

    exact: dict[str, str]
    """Normalised prompt -> item id."""
    grams: dict[int, dict[tuple[str, ...], list[tuple[str, int]]]]
    """n -> n-gram -> (item id, position in the item)."""
    lengths: dict[str, int]
    """Item id -> words."""
    coverage: float
    too_short: int
    """Items that only the exact channel can find."""

    def leak(self, prompt: str) -> tuple[str, str, float] | None:
        """The item that a training prompt leaks: (reason, item id, similarity), or None."""
        if (item := self.exact.get(normalise(prompt))) is not None:
            return "leak_exact", item, 1.0
        tokens = words(prompt)
        covered: dict[str, set[int]] = collections.defaultdict(set)
        for n, table in self.grams.items():
            for i in range(len(tokens) - n + 1):
                for item, at in table.get(tuple(tokens[i : i + n]), ()):
                    covered[item].update(range(at, at + n))
        if not covered:
            return None
        share, item = max((len(places) / self.lengths[item], item) for item, places in covered.items())
        return ("leak_ngram", item, round(share, 4)) if share > self.coverage else None


def index(ids: list[str], prompts: list[str], *, ngram: int = 8, coverage: float = 0.5) -> Index:
    """Prepare the evaluation prompts.

    Args:
        ids: of the items.
        prompts: their texts.
        ngram: longest n-gram.
        coverage: share of an item's words above which a row leaks it.
    """
    out = Index({}, {}, {}, coverage, 0)
    for item, prompt in sorted(zip(ids, prompts, strict=True)):
        if text := normalise(prompt):
            out.exact.setdefault(text, item)
        tokens = words(prompt)
        if len(tokens) < SHORTEST:
            out.too_short += 1
            continue
        n = min(ngram, len(tokens))
        out.lengths[item] = len(tokens)
        table = out.grams.setdefault(n, {})
        for i in range(len(tokens) - n + 1):
            table.setdefault(tuple(tokens[i : i + n]), []).append((item, i))
    return out


def finder(found: Index) -> Callable[[pa.Table], pa.Table]:
    """The function that the engine runs over all records; returns LEAKS."""

    def run(table: pa.Table) -> pa.Table:
        leaks = [found.leak(prompt_of(m)) or (None, None, None) for m in table["messages"].to_pylist()]
        reasons, items, shares = zip(*leaks, strict=True) if leaks else ((), (), ())
        return pa.table({"id": table["id"], "leak": reasons, "item": items, "coverage": shares}).cast(LEAKS)

    return run
