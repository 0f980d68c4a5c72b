"""The rows that one row can fall to in deduplication, found again from a finished run."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import embed, schema, static
from tamis.curate import near, review, similar
from tamis.curate.guard import Guard
from tamis.curate.normal import normalise
from tamis.curate.texts import Texts, read_texts
from tamis.curate.vietnamese import pairs_without_accents, worth_folding
from tamis.embed import Vectors
from tamis.models import cache_folder
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.tables import read_shards


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


def rivals(run: Run, recipe: Recipe, ledger: pa.Table, wanted: str) -> Rivals:
    """Find the rivals of a row by the rules of `curate/deduplicate.py`.

    Everything stays in columns, and texts are looked at only where hashes leave a doubt: a run may have a million rows.

    Args:
        run: a curated run.
        recipe: what it was made with.
        ledger: its rows that were embedded, sorted by id: those deduplication looked at and those IFD dropped then.
            Needs id, stage, label, language, score_quality.
        wanted: id of one of the former.
    """
    settings = recipe.curate.deduplicate
    looked_at = np.flatnonzero(pc.fill_null(pc.not_equal(ledger["stage"], "score"), True).to_numpy())
    rows = ledger.take(pa.array(looked_at))
    ids = rows["id"].combine_chunks()
    me = pc.index(ids, wanted).as_py()
    prompts, answers = _texts(run, ids)
    both = prompts.beside(answers, "\n")
    texts = {"prompt": prompts, "answer": answers, "both": both}[settings.on].changed(normalise)
    seen = pq.read_table(run.curate / "seen.parquet")
    seen = seen.take(pc.index_in(ids, value_set=seen["id"].combine_chunks()))
    hashes = {name: seen[name].to_numpy() for name in ("row_hash", "prompt_hash", "answer_hash", "content_hash")}
    bands = seen["bands"].combine_chunks().flatten().to_numpy().reshape(len(ids), -1)

    unaccented = None
    if settings.near is not None:
        vietnamese = pc.fill_null(pc.equal(rows["language"], "vi"), False).to_numpy()
        chosen = np.arange(len(ids))
        if settings.on == "prompt":
            chosen = worth_folding(texts, hashes["prompt_hash"], vietnamese)
        pairs, similarity = pairs_without_accents(texts.take(chosen), vietnamese[chosen], settings.near)
        unaccented = chosen[pairs], similarity
    quality = _ranked(rows, recipe, unaccented)
    # Ids are sorted: of equals the earlier is the better.
    better = (quality > quality[me]) | ((quality == quality[me]) & (np.arange(len(ids)) < me))
    copy = hashes["row_hash"] == hashes["row_hash"][me]
    agreeing = better & ~copy
    if settings.guard:
        agreeing &= _agree(rows["label"], hashes["answer_hash"], me)

    @functools.cache
    def guard() -> Guard:
        """Of exact copies only the best counts, as the run had it."""
        order = np.lexsort((np.arange(len(ids)), -quality))
        first = order[np.unique(hashes["row_hash"][order], return_index=True)[1]]
        return Guard(prompts.take(np.sort(first)))

    def same(j: int) -> bool:
        return not settings.guard or guard().same(prompts[me], prompts[j])

    alike: dict[int, float] = {}
    if settings.near is not None:
        met = np.flatnonzero(agreeing & (bands == bands[me]).any(axis=1))
        found = np.round(near.jaccard(texts, np.array([(me, j) for j in met], np.int64).reshape(-1, 2)), 4)
        alike = {j: s for j, s in zip(met.tolist(), found.tolist(), strict=True) if s >= settings.near and same(j)}
        if settings.guard and settings.on == "prompt" and hashes["content_hash"][me]:
            framed = np.flatnonzero(agreeing & (hashes["content_hash"] == hashes["content_hash"][me]))
            alike |= {j: 1.0 for j in framed.tolist() if same(j)}
        if unaccented:
            for (a, b), s in zip(unaccented[0].tolist(), unaccented[1].tolist(), strict=True):
                j = b if a == me else a
                if me in (a, b) and agreeing[j] and same(j):
                    alike[j] = max(alike.get(j, 0.0), float(s))
    meant: dict[int, float] = {}
    if settings.semantic is not None:
        some = np.append(me, np.flatnonzero(agreeing))
        vectors = _vectors(run, ledger["id"].combine_chunks(), looked_at, prompts, some)
        whole = np.flatnonzero(~vectors.truncated)
        pairs = np.array([(0, k) for k in whole if k > 0 and not vectors.truncated[0]], np.int64).reshape(-1, 2)
        found = similar.cosines(vectors.fine, pairs)
        far = zip(some[pairs[:, 1]].tolist(), found.tolist(), strict=True)
        meant = {j: s for j, s in far if s >= settings.semantic and same(j)}
    named = [str(id_) for id_ in ids.filter(pa.array(better & copy)).to_pylist()]
    return Rivals(named, *({str(ids[j]): s for j, s in of.items()} for of in (alike, meant)))


def _texts(run: Run, ids: pa.StringArray) -> tuple[Texts, Texts]:
    """Prompts and answers of rows."""
    records = run.curate / "records"
    at = pc.index_in(ids, value_set=read_shards(records, ["id"])["id"].combine_chunks())
    prompts, answers = read_texts(records, at)
    return Texts(prompts), Texts(answers)


def _vectors(run: Run, embedded: pa.StringArray, looked_at: np.ndarray, prompts: Texts, some: np.ndarray) -> Vectors:
    """The vectors of some of the rows that were looked at, as the run had them.

    A static embedder gives a text one vector whatever stands beside it. Others are asked for the very set of texts that
    the run embedded: it is read from the cache, or the same vectors are made again.
    """
    name = schema.read_json(run.curate / "funnel.json")["embedder"]
    if static.is_static(name):
        return embed.quantised(list(prompts.take(some)), name)
    everything = _texts(run, embedded)[0] if len(embedded) > len(looked_at) else prompts
    return embed.quantised(everything, name, cache_folder() / "vectors").take(looked_at[some])


def _ranked(rows: pa.Table, recipe: Recipe, unaccented: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
    """The quality that deduplication ordered rows by: what a reviewer keeps first, text typed without accents last."""
    ids = rows["id"].to_pylist()
    reviewed = review.load(recipe.curate.annotations).kept(ids)
    quality: np.ndarray = np.round(rows["score_quality"].to_numpy().astype(np.float64), 4)
    quality += 2 * np.array([id_ in reviewed for id_ in ids], bool)
    if unaccented:
        quality[np.unique(unaccented[0][:, 0])] -= 2
    return quality


def _agree(labels: pa.ChunkedArray, answers: np.ndarray, me: int) -> np.ndarray:
    """Which rows have the label of one row, or, where one of the two has none, its answer: (n,) bool."""
    answered: np.ndarray = answers == answers[me]
    if not labels[me].is_valid:
        return answered
    same = pc.equal(labels, labels[me])
    return np.where(pc.is_valid(labels).to_numpy(), pc.fill_null(same, False).to_numpy(), answered)
