"""The rows that one row can fall to in deduplication, found again from a finished run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tamis import embed, schema
from tamis.curate import near, review, similar
from tamis.curate.features import compared, content_hash
from tamis.curate.guard import Guard
from tamis.curate.normal import hash64, normalise
from tamis.curate.vietnamese import pairs_without_accents
from tamis.models import cache_folder
from tamis.recipe import Recipe
from tamis.record import answer_of, prompt_of
from tamis.run import Run
from tamis.tables import take_records


@dataclasses.dataclass(frozen=True)
class Rivals:
    """The better rows that count as duplicates of one row, whether they were kept themselves or not.

    A row falls to a rival that is kept. Which of them are kept changes with the thresholds; that a row stays where no
    rival is above them does not.

    Attributes:
        exact: ids of better exact copies.
        near: id -> Jaccard similarity, at or above the recipe's.
        semantic: id -> cosine, likewise.
    """

    exact: list[str]
    near: dict[str, float]
    semantic: dict[str, float]

    @property
    def ids(self) -> list[str]:
        """All of them, once each, sorted."""
        return sorted({*self.exact, *self.near, *self.semantic})


def rivals(run: Run, recipe: Recipe, ledger: list[dict[str, Any]], wanted: str) -> Rivals:
    """Find the rivals of a row by the rules of `curate/deduplicate.py`.

    Args:
        run: a curated run.
        recipe: what it was made with.
        ledger: its rows that were embedded, sorted by id: those deduplication looked at and those IFD dropped then.
            Needs id, verdict, stage, label, language, score_quality.
        wanted: id of one of the former.
    """
    settings = recipe.curate.deduplicate
    messages = take_records(run.curate / "records", [r["id"] for r in ledger])["messages"].to_pylist()
    prompts = [prompt_of(m) for m in messages]
    vectors = None
    if settings.semantic is not None:
        # The very set of texts that the run embedded: read from the cache, or the same vectors again.
        name = schema.read_json(run.curate / "funnel.json")["embedder"]
        vectors = embed.quantised(prompts, name, cache_folder() / "vectors")
    looked_at = [i for i, r in enumerate(ledger) if r["stage"] != "score"]
    rows = [ledger[i] for i in looked_at]
    prompts = [prompts[i] for i in looked_at]
    said = [answer_of(messages[i]) for i in looked_at]
    answers = [normalise(a) for a in said]
    texts = [compared(p, a, settings.on) for p, a in zip(prompts, said, strict=True)]
    ids = [r["id"] for r in rows]
    me = ids.index(wanted)
    unaccented = None
    if settings.near is not None:
        vietnamese = np.array([r["language"] == "vi" for r in rows], bool)
        unaccented = pairs_without_accents(texts, vietnamese, settings.near)
    quality = _ranked(rows, recipe, unaccented)
    better = [j for j in range(len(rows)) if (-quality[j], ids[j]) < (-quality[me], ids[me])]
    copies = np.array([hash64("\0".join([texts[j], answers[j], rows[j]["label"] or ""])) for j in range(len(rows))])
    exact = [j for j in better if copies[j] == copies[me]]
    agreeing = [j for j in better if copies[j] != copies[me] and _agree(rows, answers, me, j, settings.guard)]
    # as the run had it: of exact copies only the best counts
    order = sorted(range(len(rows)), key=lambda j: (-quality[j], ids[j]))
    first = {int(copies[j]): j for j in reversed(order)}
    guard = Guard([prompts[j] for j in sorted(first.values())]) if settings.guard else None

    def same(j: int) -> bool:
        return guard is None or guard.same(prompts[me], prompts[j])

    alike: dict[int, float] = {}
    if settings.near is not None and agreeing:
        found = np.round(near.jaccard(texts, np.array([(me, j) for j in agreeing], np.int64)), 4)
        alike = {j: float(s) for j, s in zip(agreeing, found, strict=True) if s >= settings.near and same(j)}
        if settings.guard and settings.on == "prompt" and (mine := content_hash(prompts[me])):
            alike |= {j: 1.0 for j in agreeing if content_hash(prompts[j]) == mine and same(j)}
        if unaccented:
            for (a, b), s in zip(unaccented[0].tolist(), unaccented[1].tolist(), strict=True):
                j = b if a == me else a
                if me in (a, b) and j in agreeing and same(j):
                    alike[j] = max(alike.get(j, 0.0), float(s))
    meant: dict[int, float] = {}
    if vectors is not None and settings.semantic is not None and not vectors.truncated[looked_at[me]]:
        whole = [j for j in agreeing if not vectors.truncated[looked_at[j]]]
        pairs = np.array([(looked_at[me], looked_at[j]) for j in whole], np.int64).reshape(-1, 2)
        found = similar.cosines(vectors.fine, pairs)
        meant = {j: float(s) for j, s in zip(whole, found, strict=True) if s >= settings.semantic and same(j)}
    return Rivals([ids[j] for j in exact], {ids[j]: s for j, s in alike.items()}, {ids[j]: s for j, s in meant.items()})


def _ranked(
    rows: list[dict[str, Any]], recipe: Recipe, unaccented: tuple[np.ndarray, np.ndarray] | None
) -> list[float]:
    """The quality that deduplication ordered rows by: what a reviewer keeps first, text typed without accents last."""
    reviewed = review.load(recipe.curate.annotations).kept([r["id"] for r in rows])
    quality = np.round(np.array([r["score_quality"] for r in rows], np.float64), 4)
    quality += 2 * np.array([r["id"] in reviewed for r in rows])
    if unaccented:
        quality[np.unique(unaccented[0][:, 0])] -= 2
    out: list[float] = quality.tolist()
    return out


def _agree(rows: list[dict[str, Any]], answers: list[str], i: int, j: int, guard: bool) -> bool:
    if not guard:
        return True
    a, b = rows[i]["label"], rows[j]["label"]
    return bool(a == b if a is not None and b is not None else answers[i] == answers[j])
