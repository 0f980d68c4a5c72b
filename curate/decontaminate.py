"""Which training rows are the evaluation set in disguise.

Two channels are exact about what they can see and look at every row:

* `leak_exact`: the row's prompt equals an item's prompt after normalisation;
* `leak_ngram`: n-grams that the row shares with one item cover more than half of that item's words (the rule of
  Tulu 3, arXiv 2411.15124, section 3.2), with n = min(8, words of the item) so that it can fire on short items:
  89 % of CLINC150's rows have fewer than 13 words, and GPT-3's 13-gram rule can never fire on them. Runs of words that
  many items share (the greeting that opens every chat, the frame of a task) say of no item that it leaked: they count
  neither as covered nor as the item's words.

Rephrased items share no long n-gram. `leak_rephrased` scores the likest rows by characters, words, names, meaning and
numbers (`leak_channels`) and calibrates the score per benchmark, without labels (`calibrate`).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tamis import embed
from tamis.curate import calibrate, injection, near
from tamis.curate.leak_candidates import COMMON, Proposer, proposer
from tamis.curate.leak_channels import Likeness, likeness
from tamis.curate.leak_text import shared_lines, views
from tamis.curate.normal import normalise, words
from tamis.record import prompt_of

LEAKS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("leak", pa.string()),  # reason, or null: the row leaks nothing
        pa.field("item", pa.string()),  # the evaluation item it leaks
        pa.field("coverage", pa.float32()),
        pa.field("likeness", pa.float64()),  # to the nearest item by character 5-grams
        pa.field("nearest", pa.int64()),  # index of that item
    ]
)

# An item of fewer words of its own than this is matched as a whole prompt only: "where is it" stands inside many rows.
SHORTEST = 5
# The n-gram rule of GPT-3 (arXiv 2005.14165, appendix C), for comparison.
GPT3 = 13
# Twins in the evaluation set that are written out; all are counted.
TWINS_SHOWN = 50


@dataclasses.dataclass
class Index:
    """The evaluation set, ready to be looked up."""

    exact: dict[str, str]
    """Normalised prompt -> item id."""
    grams: dict[int, dict[tuple[str, ...], list[tuple[str, Collection[int]]]]]
    """n -> n-gram -> (item id, which of the item's own words it covers)."""
    lengths: dict[str, int]
    """Item id -> words of its own."""
    coverage: float
    too_short: int
    """Items that only the exact channel can find."""
    proposer: Proposer
    """Finds the rows that a closer look is for."""
    below_gpt3: int = 0
    """Items of fewer than `GPT3` words: its rule can never fire on them."""

    def leak(self, prompt: str) -> tuple[str, str, float] | None:
        """The item that a training prompt leaks: (reason, item id, similarity), or None."""
        if (item := self.exact.get(normalise(prompt))) is not None:
            return "leak_exact", item, 1.0
        tokens = words(prompt)
        covered: dict[str, set[int]] = collections.defaultdict(set)
        for n, table in self.grams.items():
            for i in range(len(tokens) - n + 1):
                for item, places in table.get(tuple(tokens[i : i + n]), ()):
                    covered[item].update(places)
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
    out = Index({}, {}, {}, coverage, 0, proposer(prompts))
    told = {item: words(prompt) for item, prompt in zip(ids, prompts, strict=True)}
    grams = {item: _grams(tokens, min(ngram, len(tokens))) for item, tokens in told.items() if len(tokens) >= SHORTEST}
    seen = collections.Counter(gram for of_item in grams.values() for gram in set(of_item))
    common = {gram for gram, items in seen.items() if items > max(COMMON * len(ids), 2)}
    for item, prompt in sorted(zip(ids, prompts, strict=True)):
        if text := normalise(prompt):
            out.exact.setdefault(text, item)
        out.below_gpt3 += len(told[item]) < GPT3
        runs = [(range(i, i + len(gram)), gram) for i, gram in enumerate(grams.get(item, ()))]
        own = set(range(len(told[item]))).difference(*(run for run, gram in runs if gram in common))
        if not runs or len(own) < SHORTEST:
            out.too_short += 1
            continue
        out.lengths[item] = len(own)
        for run, gram in runs:
            places = run if len(own) == len(told[item]) else own.intersection(run)
            if places:
                out.grams.setdefault(len(gram), {}).setdefault(gram, []).append((item, places))
    return out


def _grams(tokens: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def finder(found: Index) -> Callable[[pa.Table], pa.Table]:
    """The function that the engine runs over all records; returns LEAKS."""

    def run(table: pa.Table) -> pa.Table:
        prompts = [prompt_of(m) for m in table["messages"].to_pylist()]
        leaks = [found.leak(p) or (None, None, None) for p in prompts]
        reasons, items, shares = zip(*leaks, strict=True) if leaks else ((), (), ())
        like, nearest = found.proposer.likeness(prompts)
        columns = {"id": table["id"], "leak": reasons, "item": items, "coverage": shares}
        return pa.table({**columns, "likeness": like, "nearest": nearest}).cast(LEAKS)

    return run


@dataclasses.dataclass(frozen=True)
class Rephrased:
    """The closer look at some rows."""

    score: np.ndarray
    """(n,) float32, to the likest item."""
    item: np.ndarray
    """(n,) int64, that item's index."""
    threshold: float | None
    """Score from which a row is a leak; None where there is none."""
    report: dict[str, Any]
    """What `decontamination.json` says of it."""

    @property
    def warning(self) -> str | None:
        """Why nothing could be looked for, where that is so."""
        return f"rephrased evaluation items were not looked for: {self.report['off']}" if "off" in self.report else None

    @property
    def limit(self) -> float:
        """The threshold, infinite where there is none."""
        return np.inf if self.threshold is None else self.threshold

    @property
    def leaks(self) -> np.ndarray:
        """(n,) bool."""
        return self.score >= np.float32(self.limit)


def rephrased(
    rows: list[str],
    weights: np.ndarray,
    items: list[str],
    ids: list[str],
    components: np.ndarray,
    found: Index,
    *,
    embedder: str,
    fdr: float,
    cache: Path | None = None,
) -> Rephrased:
    """Look for rephrased items among the rows that were proposed.

    Args:
        rows: distinct prompts, in an order that does not depend on the input's.
        weights: (n,) how many rows of the data each stands for.
        items: m evaluation prompts.
        ids: of the items.
        components: (m,) near-duplicate component of each item; items of one component are not held against each other.
        found: the index of the same items.
        embedder: name for `tamis.embed`.
        fdr: highest false-discovery rate.
        cache: folder that keeps vectors.
    """
    if len(items) < calibrate.FEWEST or not rows:
        why = f"{len(items)} items are too few to calibrate, {calibrate.FEWEST} are needed" if rows else "no rows"
        return Rephrased(np.zeros(len(rows), np.float32), np.zeros(len(rows), np.int64), None, {"off": why})
    shared = shared_lines(items)
    asked = injection.chosen(items)
    strengths = list(injection.STRENGTHS)
    rewordings = [injection.reword(views(items[i], shared)[1], strength) for strength in strengths for i in asked]
    seen = likeness(rows, items, rewordings, embedder, cache)
    own = seen.rewordings[np.arange(len(rewordings)), asked * len(strengths)]
    among = np.where(components[:, None] == components[None], -1, seen.items)
    if (among.max(1) < 0).all():
        why = "all items are copies of one another"
        return Rephrased(np.zeros(len(rows), np.float32), np.zeros(len(rows), np.int64), None, {"off": why})
    null = np.maximum(among.max(1), 0)
    score = seen.rows.max(1)
    found_at = calibrate.calibrate(null, score, own, fdr, weights)
    limit = np.inf if found_at.threshold is None else found_at.threshold
    report = {
        **found_at.report(),
        "embedder": embedder,
        "channels": list(seen.channels),
        "looked_at": len(rows),
        "power": {
            name: _power([rewordings[k] for k in part], own[part], limit, found, [items[i] for i in asked])
            for name, part in zip(strengths, np.split(np.arange(len(own)), len(strengths)), strict=True)
        },
        "inside": _inside(seen, ids, components, limit),
    }
    return Rephrased(score, seen.rows.argmax(1), found_at.threshold, report)


def _power(rewordings: list[str], own: np.ndarray, limit: float, found: Index, originals: list[str]) -> dict[str, Any]:
    """The share of planted rewordings that each rule catches."""
    caught = {
        "exact": [normalise(r) in found.exact for r in rewordings],
        "ngram": [found.leak(r) is not None for r in rewordings],
        "gpt3_13gram": [shares_gram(r, o, GPT3) for r, o in zip(rewordings, originals, strict=True)],
        "rephrased": (own >= np.float32(limit)).tolist(),
    }
    return {"planted": len(rewordings), **{name: round(float(np.mean(hits)), 4) for name, hits in caught.items()}}


def shares_gram(left: str, right: str, n: int) -> bool:
    """Whether two texts have a run of n words in common."""
    a, b = words(left), words(right)
    grams = {tuple(b[i : i + n]) for i in range(len(b) - n + 1)}
    return any(tuple(a[i : i + n]) in grams for i in range(len(a) - n + 1))


def _inside(seen: Likeness, ids: list[str], components: np.ndarray, limit: float) -> dict[str, Any]:
    """Items that would count as leaks of each other: they inflate n, since their answers are not independent."""
    n = len(components)
    alike = (components[:, None] == components[None]) | (np.minimum(seen.items, seen.items.T) >= np.float32(limit))
    left, right = np.nonzero(np.triu(alike, 1))
    groups = near.components(n, np.stack([left, right], 1))
    order = np.lexsort((right, left, -seen.items[left, right]))[:TWINS_SHOWN]
    return {
        "items": n,
        "pairs": len(left),
        "groups": len(set(groups.tolist())),
        "likest": [[ids[left[k]], ids[right[k]], round(float(seen.items[left[k], right[k]]), 4)] for k in order],
    }


def cannot_fire(found: Index, items: int) -> str | None:
    """A warning where n-grams are blind to some of the items."""
    if not found.too_short:
        return None
    return (
        f"n-grams cannot fire on {found.too_short} of {items} evaluation items: with under {SHORTEST} words that other "
        "items do not share, they are found as whole prompts and by likeness only"
    )


def without_meaning(embedder: str, english: float) -> str | None:
    """A warning where English rephrasings are looked for by their letters, though a model of meaning could be had.

    Args:
        embedder: the one that is used.
        english: share of the evaluation items in English, 0 to 1; no other language has a packaged model.
    """
    if embedder != "lsa" or english < 1 - embed.FOREIGN:
        return None
    installed = embed.choose("auto", np.zeros(0), english) != "lsa"
    return (
        "rephrased evaluation items are looked for by their letters, not by their meaning (embedder lsa), which found "
        "6 to 87 % of the rephrasings of three MMLU tests where MiniLM found 95 % and more: "
        + ("set embedder: auto" if installed else "pip install 'tamis[curate]'")
    )
