"""New rows for a run that is done: what is decided stays decided, and of the new rows those are kept that add most.

The new rows pass the same stages as the old ones did. They are compared with every row the run has seen, whose narrow
columns (`seen.parquet`, the ledger, the vectors) are read, and whose text is read only where the two may be the same.
The grown run is a folder of its own: the old one, and the evidence that rests on it, stays as it is.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import embed, engine, run_vectors, schema
from tamis.curate import agreement, card, coverage, features, personal, pipeline, review, sample
from tamis.curate.deduplicate import Rows
from tamis.curate.map import NEAR, SHARPNESS
from tamis.curate.normal import normalise
from tamis.curate.vietnamese import pairs_without_accents
from tamis.embed import Vectors
from tamis.errors import RecipeError, UserError
from tamis.lsa import Axes
from tamis.recipe import Recipe, Size
from tamis.record import answer_of, prompt_of
from tamis.run import Run, fingerprint
from tamis.schema import read_json
from tamis.tables import ReadResult, Source, data_hash, read_records, take_records

# int8 vectors round cosines by up to about so much: pairs this close to the threshold are embedded again.
ROUNDING = 0.02


@dataclasses.dataclass
class _Old:
    """What the run that grows knows of its rows; arrays and columns are aligned with its ledger."""

    folder: Path
    ledger: pa.Table
    funnel: dict[str, Any]
    seen: pa.Table
    vectors: dict[str, int]
    """Id -> row of `values`."""
    values: np.ndarray

    @classmethod
    def read(cls, run: Run, recipe: Recipe) -> _Old:
        folder = run.curate
        if not (folder / "stage.json").is_file():
            raise RecipeError(
                "this run is not curated to its end, so there is nothing to grow",
                where=str(folder / "stage.json"),
                hint=f"tamis run {run.path} finishes it",
            )
        ids, values = run_vectors.stored(folder)
        return cls(
            folder,
            pq.read_table(folder / "ledger.parquet"),
            read_json(folder / "funnel.json"),
            _seen(folder, recipe),
            {id_: i for i, id_ in enumerate(ids)},
            values,
        )

    def of(self, mask: pa.ChunkedArray) -> pa.Table:
        """Rows of the ledger."""
        return self.ledger.filter(mask)

    @property
    def kept(self) -> pa.Table:
        return self.of(pc.equal(self.ledger["verdict"], "kept")).sort_by("rank")

    @property
    def survivors(self) -> pa.Table:
        """Kept rows and those that only the size left out: what a new row may be a copy of."""
        chosen = pc.or_kleene(pc.equal(self.ledger["verdict"], "kept"), pc.equal(self.ledger["stage"], "select"))
        return self.of(chosen).sort_by("rank")

    def vectors_of(self, ids: list[str]) -> np.ndarray:
        return self.values[[self.vectors[i] for i in ids]] if ids else self.values[:0]


def _seen(folder: Path, recipe: Recipe) -> pa.Table:
    """What old rows are compared by; made again for a run folder of a version that did not write it."""
    if (file := folder / "seen.parquet").is_file():
        return pq.read_table(file)
    columns = features.columns_for(recipe.curate)
    find = features.extractor(recipe.curate)
    return engine.map_records(folder / "records", find, features.FEATURES, columns, engine=recipe.engine).select(
        features.SEEN
    )


def grow(run: Run, into: Run, data: list[str], rows: Size | None = None, *, quiet: bool = False) -> dict[str, Any]:
    """Add new rows to a curated run.

    Args:
        run: the run to grow; not changed.
        into: the folder of the grown run; the caller holds its lock.
        data: files, folders or globs, read as the recipe's data are.
        rows: how many of the new rows to keep (a share is one of those that survive); None keeps as large a part of
            the new survivors as the run kept of its own.
        quiet: no progress lines.

    Returns:
        What `grown.json` says: {from, data, read, kept, dropped: {stage: {reason: rows}} of the new rows, before and
        after: {rows, mean, p95} of the new survivors' distance to the nearest kept row, total: {read, kept}, seconds},
        with `skipped` true where this very growth was done before.

    Raises:
        RecipeError: the run is not curated to its end, or its recipe has no data.
        DataError: the new data cannot be read.
        UserError: `into` holds another run; more rows are asked for than survive.
    """
    recipe = Recipe.of_run(run.path)
    if recipe.data is None:
        raise RecipeError("this run curates nothing, so there is nothing to grow", where=str(run.recipe_file))
    source = Source(data, recipe.data.format, recipe.data.columns, recipe.data.license)
    old = _Old.read(run, recipe)
    asked = fingerprint(
        {"run": read_json(run.curate / "stage.json")["fingerprint"], "data": data_hash(source), "rows": rows},
        pipeline.PACKAGES,
    )
    if (done := _done(into, asked)) is not None:
        return {**done, "skipped": True}
    started = time.monotonic()
    shutil.rmtree(into.curate, ignore_errors=True)  # what a growth left that did not end
    work = _Growth.begin(into, recipe, source, old, rows)
    work.extract()
    work.decontaminate()
    work.embed()
    work.judge(quiet)
    work.deduplicate()
    work.select()
    return {**work.finish(run, into, source, asked, started), "skipped": False}


def _done(into: Run, asked: str) -> dict[str, Any] | None:
    """The summary of a growth that is in the folder already.

    Raises:
        UserError: the folder holds something else.
    """
    try:
        found = read_json(into.curate / "grown.json")
    except (OSError, ValueError):
        found = {}
    complete = into.recipe_file.is_file() and (into.curate / "stage.json").is_file()
    if found.get("asked") == asked and complete:
        return found
    if complete:
        raise UserError(
            "this folder holds another run already", where=str(into.path), hint="name another with --run DIR"
        )
    return None


class _Growth(pipeline.Work):
    """The stages of the pipeline over the new rows, with the old ones in sight."""

    old: _Old
    asked_rows: Size | None

    @classmethod
    def begin(cls, into: Run, recipe: Recipe, source: Source, old: _Old, rows: Size | None) -> _Growth:
        folder = into.curate / "new"
        decisions = review.load(recipe.curate.annotations)
        numbers = _numbers_after(old.folder / "records" / "edits.parquet", recipe, source)
        people = pipeline.People(personal.Personal(numbers), personal.Personal(numbers))
        read = read_records(source, folder / "records", editing=people.rows.editing(decisions.labels))
        card.refuse_forbidden(folder, recipe.curate.forbid_licenses)
        _number_on(folder / "records", old.ledger["id"])
        file = old.folder / "eval.parquet"
        items = pq.read_table(file) if file.is_file() else None
        # the same vectors as before, whatever `auto` would make of the new rows alone
        fixed = recipe.changed({"embedder": old.funnel["embedder"]}) if old.funnel.get("embedder") else recipe
        made = cls(fixed, folder, read, items, 8192, None, people, decisions)
        made.old, made.asked_rows = old, rows
        return made

    def extract(self) -> None:
        super().extract()
        # a decision to keep is for one row of equal ones, and the run has that one
        have = {id_[:16] for id_ in self.old.ledger["id"].to_pylist()} if self.reviewed else set()
        self.reviewed = {id_ for id_ in self.reviewed if id_[:16] not in have}

    def _vectors(self) -> Vectors:
        return embed.onto(list(self.prompts), self.axes, self.embedder)

    @functools.cached_property
    def axes(self) -> Axes | None:
        """What the run's prompts were projected onto; None where its embedder has no axes."""
        return run_vectors.axes_of(self.old.folder) if self.embedder == "lsa" else None

    def _vouched(self, labels: list[str | None], hashes: np.ndarray) -> tuple[np.ndarray, agreement.Challenge]:
        """As in the pipeline, with the kept rows of old as witnesses."""
        kept = self.old.kept
        ids = kept["id"].to_pylist()
        beside = [*labels, *kept["label"].to_pylist()]
        seen = np.concatenate([hashes, np.array(self._seen(ids)["prompt_hash"], np.int64)])
        values = self.vectors.values
        stacked = np.concatenate([values, self.old.vectors_of(ids)]) if len(values) and ids else values
        if len(stacked) != len(beside):
            beside, seen = labels, hashes
        agreed = agreement.label_agreement(stacked, beside, seen)
        margin, rival = agreement.challenge(stacked, beside, seen)
        return agreed[: len(labels)], agreement.Challenge(margin[: len(labels)], rival[: len(labels)])

    def _seen(self, ids: list[str]) -> pa.Table:
        """Rows of `seen`, in this order."""
        at = pc.index_in(pa.array(ids, pa.string()), self.old.seen["id"].combine_chunks())
        return self.old.seen.take(at)

    def _compared(self, table: Rows) -> Rows:
        """The new rows, and after them the old survivors that one of them may be a copy of."""
        settings = self.recipe.curate.deduplicate
        survivors = self.old.survivors
        ids = survivors["id"].to_pylist()
        if not ids:
            return table
        seen = self._seen(ids)
        bands = np.asarray(seen["bands"].combine_chunks().flatten()).reshape(len(ids), -1)
        near = np.isin(np.array(seen["row_hash"]), table.exact)
        if table.contents is not None:
            contents = np.array(seen["content_hash"])
            near |= (contents != 0) & np.isin(contents, table.contents)
        for column in range(bands.shape[1]):
            near |= np.isin(bands[:, column], table.bands[:, column])
        if settings.semantic is not None and len(table.ids):
            old = coverage.unit(self.old.vectors_of(ids))
            new = coverage.unit(embed.coarse(table.vectors) if table.vectors is not None else self.vectors.values)
            for start in range(0, len(new), coverage.CHUNK):
                near |= (old @ new[start : start + coverage.CHUNK].T).max(1) >= settings.semantic - ROUNDING
        at = np.flatnonzero(near)
        return self._appended(table, survivors.take(pa.array(at)), seen.take(pa.array(at)))

    def _appended(self, table: Rows, old: pa.Table, seen: pa.Table) -> Rows:
        settings = self.recipe.curate.deduplicate
        ids = old["id"].to_pylist()
        messages = take_records(self.old.folder / "records", ids)["messages"].to_pylist()
        prompts, said = [prompt_of(m) for m in messages], [answer_of(m) for m in messages]
        texts = list(table.texts) + [features.compared(p, a, settings.on) for p, a in zip(prompts, said, strict=True)]
        vectors = self._fine(prompts)
        unaccented = None
        if settings.near is not None:
            tongues = self.found["language"].take(pa.array(self.rows)).to_pylist() + old["language"].to_pylist()
            unaccented = pairs_without_accents(texts, np.array([t == "vi" for t in tongues], bool), settings.near)
        bands = np.asarray(seen["bands"].combine_chunks().flatten(), np.uint64).reshape(len(ids), table.bands.shape[1])
        return Rows(
            ids=[*table.ids, *ids],
            quality=np.concatenate([table.quality, np.full(len(ids), 10.0)]),
            prompts=[*table.prompts, *prompts],
            texts=texts,
            answers=[*table.answers, *seen["answer_hash"].to_pylist()],
            labels=[*table.labels, *old["label"].to_pylist()],
            exact=np.concatenate([table.exact, np.array(seen["row_hash"], np.int64)]),
            bands=np.concatenate([table.bands, bands]),
            vectors=None if table.vectors is None else np.concatenate([table.vectors, vectors.fine]),
            truncated=np.concatenate([table.truncated, vectors.truncated]),
            contents=None
            if table.contents is None
            else np.concatenate([table.contents, np.array(seen["content_hash"], np.int64)]),
            unaccented=unaccented,
            settled=np.concatenate([np.zeros(len(table.ids), bool), np.ones(len(ids), bool)]),
        )

    def _fine(self, prompts: list[str]) -> Vectors:
        if not prompts:
            return self.vectors.take(np.zeros(0, np.int64))
        return embed.onto(prompts, self.axes, self.embedder)

    def deduplicate(self) -> None:
        """As in the pipeline; copies of an old row that fell as a duplicate fall with it, to the same witness."""
        if self.recipe.curate.deduplicate.enabled and len(self.rows):
            fell = self.old.of(pc.equal(self.old.ledger["stage"], "deduplicate"))
            theirs = self._seen(fell["id"].to_pylist())["row_hash"].to_pylist()
            hashes = dict(zip(theirs, fell.to_pylist(), strict=True))
            own = np.array(self.found["row_hash"])
            for i in self.rows.tolist():
                if (twin := hashes.get(int(own[i]))) and self.ids[i] not in self.reviewed:
                    self._drop(i, "deduplicate", twin["reason"])
                    self.witness[i], self.similarity[i], self.slack[i] = (
                        twin["witness"],
                        twin["similarity"],
                        twin["slack"],
                    )
            self._keep_only(np.array([self.stage[i] == "" for i in self.rows], bool))
        super().deduplicate()

    def select(self) -> None:
        """Rank the new survivors by the coverage that each adds, and keep as many as asked for."""
        settings, kept = self.recipe.curate.select, self.old.kept
        pool = self._pool(self.alive())
        m, ids = len(pool.ids), kept["id"].to_pylist()
        old_vectors = self.old.vectors_of(ids)
        distance, groups, clusters = self._placed(pool, kept, old_vectors)
        self.near_before = coverage.nearest_kept(pool.vectors, old_vectors)[0]
        ranked, gains = coverage.rank(pool.vectors, sample.worth(pool.quality), distance, groups)
        columns = {n: [*kept[n].to_pylist(), *pool.fields[n]] for n in ("label", "language", "source")}
        together = sample.Pool(
            [*ids, *pool.ids],
            np.zeros((len(ids) + m, 1), np.int8),
            np.zeros(len(ids) + m),
            np.concatenate([np.array(kept["tokens"], np.int64), pool.tokens]),
            columns["label"],
            columns,
        )
        quota = {str(k): q for k, q in settings.quota.items()}
        final, total = sample.take(
            together,
            np.concatenate([np.arange(len(ids)), len(ids) + ranked]),
            self._size(together, len(ids), m),
            quota,
            set(ids) | self._must(),
        )
        self.added = total - len(ids)
        left = len(self.old.survivors) - len(ids)  # ranked between the new kept rows and the other new ones
        self.chosen = [together.ids[j] for j in final[len(ids) :].tolist()]
        self.gain = np.full(self.n, np.nan)
        at = {id_: j for j, id_ in enumerate(pool.ids)}
        for place, id_ in enumerate(self.chosen):
            i, j = self.index_of[id_], at[id_]
            after = place >= self.added
            self.rank[i] = len(ids) + place + (left if after else 0)
            self.cluster[i], self.gain[i] = clusters[j], gains[j]
            if after:
                self._drop(i, "select", "not_selected")
                self.slack[i] = total - 1 - int(self.rank[i])
        self.scores["score_coverage"] = pipeline.nullable(self.gain)
        numbers = [-1, *clusters.tolist(), *[c for c in kept["cluster"].to_pylist() if c is not None]]
        self.clusters = int(max(numbers)) + 1
        new = pool.vectors[[at[id_] for id_ in self.chosen[: self.added]]] if self.added else pool.vectors[:0]
        again = coverage.nearest_kept(pool.vectors, new)[0] if self.added else self.near_before
        self.near_after = np.minimum(self.near_before, again)
        self._order(kept)

    def _placed(
        self, pool: sample.Pool, kept: pa.Table, vectors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distance of each new row to the nearest kept row of its label, the group it covers, and its cluster.

        The group is the cluster of that kept row; the rows of a label that the run does not have are a new cluster.
        """
        m = len(pool.ids)
        distance, clusters = np.ones(m, np.float32), np.zeros(m, np.int64)
        have, mine = np.array([v or "" for v in kept["label"].to_pylist()]), np.array([v or "" for v in pool.labels])
        known = np.array([-1 if c is None else c for c in kept["cluster"].to_pylist()], np.int64)
        fresh = int(known.max(initial=-1)) + 1
        groups = np.zeros(m, np.int64)
        for number, label in enumerate(dict.fromkeys(mine.tolist())):
            rows, near = np.flatnonzero(mine == label), np.flatnonzero(have == label)
            distance[rows], at = coverage.nearest_kept(pool.vectors[rows], vectors[near])
            clusters[rows] = known[near[at]] if len(near) else fresh
            groups[rows] = number * (fresh + 2) + (clusters[rows] + 1 if len(near) else 0)
            fresh += not len(near)
        return distance, groups, clusters

    def _size(self, together: sample.Pool, kept: int, new: int) -> Size | None:
        """The size of old and new rows together."""
        asked = self.asked_rows
        if asked is None:
            survivors = len(self.old.survivors)
            return Size("rows", kept + round(new * kept / survivors)) if survivors else None
        if asked.unit == "tokens":
            return Size("tokens", float(together.tokens[:kept].sum()) + asked.amount)
        if asked.unit == "share":
            return Size("rows", kept + round(asked.amount * new))
        if asked.amount > new:
            raise UserError(
                f"{asked.amount:,.0f} new rows are asked for, but only {new:,} survive the stages before selection",
                where="--rows",
                hint=f"ask for {new} or fewer",
            )
        return Size("rows", kept + asked.amount)

    def _order(self, kept: pa.Table) -> None:
        """The orders of old and new rows together; rows keep their places among the old ones."""
        settings = self.recipe.curate.select
        survivors = self.old.survivors["id"].to_pylist()
        found = pq.read_table(self.old.folder / "order.parquet")
        leaked = {self.ids[i] for i in np.flatnonzero(self.leaks).tolist()}
        everyone = found.filter(pc.equal(found["method"], "found"))["id"].to_pylist()
        self.tokens_of = dict(zip(found["id"].to_pylist(), found["tokens"].to_pylist(), strict=True))
        drawn = {
            "random": sorted([*survivors, *self.chosen]),
            "found": sorted([*everyone, *[i for i in self.ids if i not in leaked]]),
        }
        self.orders = {}
        none = np.zeros(0)
        for name, ids in drawn.items():
            pool = sample.Pool(ids, none, none, none, [], {})
            order, _ = sample.order(pool, "random", self.recipe.seed_for("select"))
            self.orders[name] = [ids[j] for j in order.tolist()]
        keep = len(kept)
        self.orders[settings.method] = [
            *survivors[:keep],
            *self.chosen[: self.added],
            *survivors[keep:],
            *self.chosen[self.added :],
        ]

    def finish(self, run: Run, into: Run, source: Source, asked: str, started: float) -> dict[str, Any]:
        """Put old and new together in the folder; the stage's file comes last."""
        folder, new = into.curate, self.folder
        quarantine = pq.read_table(new / "records" / "quarantine.parquet")
        added = self._ledger(quarantine)
        ledger = self._whole(added)
        schema.write_parquet(folder / "ledger.parquet", ledger)
        self._write_orders(folder)
        self._write_beside(folder)
        conflicts = self._conflicts_with_old()
        schema.write_parquet(folder / "conflicts.parquet", conflicts)
        schema.write_parquet(folder / "suspects.parquet", self._suspects_with_old())
        self._write_decontamination()
        _join_leaks(self.old.folder, new, folder)
        _join_records(self.old.folder / "records", new / "records", folder / "records")
        facts = self._facts(ledger)
        funnel = self._joined_funnel(ledger, round(time.monotonic() - started, 3))
        schema.write_json(folder / "funnel.json", funnel)
        recipe = Recipe.of_run(run.path)
        assert recipe.data is not None
        paths = [*recipe.data.paths, *source.paths]
        grown = recipe.changed({"data.path": paths, "curate.select.size": funnel["kept"]})
        card.write(folder, grown, funnel, ledger, **facts)
        dropped: dict[str, collections.Counter[str]] = {s: collections.Counter() for s in schema.STAGES}
        for stage, reason in zip(added["stage"].to_pylist(), added["reason"].to_pylist(), strict=True):
            if stage is not None:
                dropped[stage][reason] += 1
        told = {
            "asked": asked,
            "from": str(run.path),
            "data": source.paths,
            "read": len(added),
            "kept": self.added,
            "dropped": {s: dict(sorted(r.items())) for s, r in dropped.items()},
            "before": coverage.summary(self.near_before),
            "after": coverage.summary(self.near_after),
            "total": {"read": funnel["read"], "kept": funnel["kept"]},
            "seconds": funnel["seconds"],
        }
        schema.write_json(folder / "grown.json", told)
        shutil.rmtree(new)
        into.recipe_file.write_text(grown.dump(), encoding="utf-8")
        if (arms := run.path / "arms.json").is_file():
            shutil.copy(arms, into.path / "arms.json")
        # A rerun of the recipe finds this stage done; without the folder it would curate all rows at once.
        pipeline.stage_of(into, grown).finish(rows=funnel["read"], kept=funnel["kept"], grown_from=str(run.path))
        return told

    def _whole(self, added: pa.Table) -> pa.Table:
        """The ledger of old and new rows. Of an old row only its rank can differ, where the size left it out."""
        old = self.old.ledger
        chosen = pc.equal(old["stage"], "select").fill_null(False)
        ranks = pc.if_else(chosen, pc.add(old["rank"], pa.scalar(self.added, pa.int32())), old["rank"])
        old = old.set_column(old.schema.get_field_index("rank"), "rank", ranks.cast(pa.int32()))
        whole = pa.concat_tables([old, added], promote_options="default")
        return whole.sort_by("id").combine_chunks()

    def _write_orders(self, folder: Path) -> None:
        tokens = self.tokens_of | dict(zip(self.ids, self.found["tokens"].to_pylist(), strict=True))
        parts = [
            pa.table(
                {"method": [m] * len(ids), "rank": range(len(ids)), "id": ids, "tokens": [tokens[i] for i in ids]},
                schema=schema.ORDER,
            )
            for m, ids in self.orders.items()
        ]
        schema.write_parquet(folder / "order.parquet", pa.concat_tables(parts))

    def _write_beside(self, folder: Path) -> None:
        """Vectors, map, what is compared, and the evaluation items, for old and new rows."""
        ids = [self.ids[i] for i in self.rows]
        vectors = pa.table({"id": ids, "vector": pipeline.vector_lists(self.vectors.values)})
        (folder / "vectors").mkdir(parents=True, exist_ok=True)
        parts = sorted((self.old.folder / "vectors").glob("*.parquet"))
        for n, part in enumerate(parts):
            _link(part, folder / "vectors" / f"part-{n:05d}.parquet")
        if ids:
            schema.write_parquet(folder / "vectors" / f"part-{len(parts):05d}.parquet", vectors)
        if self.axes is not None:
            self.axes.save(folder / run_vectors.AXES)
        seen = pa.concat_tables([self.old.seen, self.found.select(features.SEEN).cast(self.old.seen.schema)])
        schema.write_parquet(folder / "seen.parquet", seen.sort_by("id"))
        if (items := self.old.folder / "eval.parquet").is_file():
            _link(items, folder / "eval.parquet")
        if (file := self.old.folder / "map.parquet").is_file():
            there = pq.read_table(file)
            schema.write_parquet(folder / "map.parquet", pa.concat_tables([there, self._map_places(there)]))

    def _map_places(self, there: pa.Table) -> pa.Table:
        """A place for each new row among the places of the old rows nearest to it, which stay where they are."""
        at = np.stack([np.array(there["x"]), np.array(there["y"])], 1)
        old = coverage.unit(self.old.vectors_of(there["id"].to_pylist()))
        new = coverage.unit(self.vectors.values)
        out = np.zeros((len(new), 2), np.float32)
        few = min(NEAR, len(old))
        for start in range(0, len(new) if few else 0, coverage.CHUNK):
            likeness = new[start : start + coverage.CHUNK] @ old.T
            near = np.argpartition(-likeness, few - 1, axis=1)[:, :few]
            close = np.take_along_axis(likeness, near, axis=1)
            weight = np.exp((close - close.max(1, keepdims=True)) / SHARPNESS)
            weight /= weight.sum(1, keepdims=True)
            out[start : start + coverage.CHUNK] = np.einsum("ij,ijk->ik", weight, at[near])
        out = np.round(out, 3)
        ids = [self.ids[i] for i in self.rows]
        return pa.table({"id": ids, "x": out[:, 0], "y": out[:, 1]}, schema=schema.MAP).cast(there.schema)

    def _conflicts_with_old(self) -> pa.Table:
        """Conflicts of the run, and what the new rows add: groups of their own, and answers to prompts of old."""
        told = pq.read_table(self.old.folder / "conflicts.parquet")
        group_of = dict(zip(told["id"].to_pylist(), told["group"].to_pylist(), strict=True))
        hashes = np.array(self.found["prompt_hash"])[self.rows]
        embedded = self._seen(list(self.old.vectors))
        same = embedded.filter(pc.is_in(embedded["prompt_hash"], pa.array(np.unique(hashes))))
        ids = same["id"].to_pylist()
        records = take_records(self.old.folder / "records", ids)
        members: dict[int, list[tuple[str, str | None, str]]] = collections.defaultdict(list)
        facts = (same["prompt_hash"].to_pylist(), ids, records["label"].to_pylist(), records["messages"].to_pylist())
        for h, id_, label, messages in zip(*facts, strict=True):
            members[h].append((id_, label, normalise(answer_of(messages))))
        for j, h in enumerate(hashes.tolist()):
            i = int(self.rows[j])
            members[h].append((self.ids[i], self.labels[i], normalise(self.answers[j])))
        fresh = max(group_of.values(), default=-1) + 1
        out: dict[str, list[Any]] = {name: [] for name in schema.CONFLICTS.names}
        for found in members.values():
            if len({(label, answer) for _, label, answer in found}) < 2:
                continue
            number = next((group_of[id_] for id_, _, _ in found if id_ in group_of), fresh)
            fresh += number == fresh
            for id_, label, answer in found:
                if id_ not in group_of:
                    for name, value in zip(out, (number, id_, label, answer), strict=True):
                        out[name].append(value)
        return pa.concat_tables([told.cast(schema.CONFLICTS), pa.table(out, schema=schema.CONFLICTS)])

    def _suspects_with_old(self) -> pa.Table:
        """Doubtful labels of old and of new rows; runs made before there was such a file have none to add."""
        file = self.old.folder / "suspects.parquet"
        told = [pq.read_table(file).cast(schema.SUSPECTS)] if file.is_file() else []
        both = pa.concat_tables([*told, self._suspects()])
        return both.sort_by([("margin", "descending"), ("id", "ascending")])

    def _facts(self, ledger: pa.Table) -> dict[str, Any]:
        """What the card says beside the numbers of the ledger."""
        before = read_json(self.old.folder / "card.json")
        found = {"rows": self.people.rows.counts()}
        everyone = self.decisions.summary(ledger["id"].to_pylist())
        fates = _sum(before.get("review", {}).get("must_keep", {}), self._must_keep_fates())
        warnings = [*before.get("warnings", []), *[w for w in self.warnings if w not in before.get("warnings", [])]]
        return {
            "personal": _sum(before.get("personal", {}), found),
            "review": {**everyone, "must_keep": fates},
            "warnings": warnings,
        }

    def _joined_funnel(self, ledger: pa.Table, seconds: float) -> dict[str, Any]:
        before, read = self.old.funnel, self.read
        self.suspects += before["suspect_labels"]
        unread = pq.read_metadata(self.old.folder / "records" / "quarantine.parquet").num_rows
        self.read = ReadResult(
            read.rows + before["read"] - unread,
            read.quarantined + unread,
            read.blank,
            _sum(before["formats"], read.formats),
            read.files,
            read.bytes,
        )
        return self._funnel(ledger, {"grow": seconds})


def _sum(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Counts added up, key by key."""
    return {
        k: _sum(a.get(k, {}), b.get(k, {})) if isinstance(a.get(k, b.get(k)), dict) else a.get(k, 0) + b.get(k, 0)
        for k in [*a, *[k for k in b if k not in a]]
    }


def _numbers_after(edits: Path, recipe: Recipe, source: Source) -> dict[str, dict[str, int]]:
    """Numbers for the placeholders of the new rows' personal data, none of which the run uses already.

    The values behind the old placeholders are written nowhere, so a value that occurs in both has two placeholders.
    """
    masked = recipe.curate.mask
    if not masked:
        return {}
    used: collections.Counter[str] = collections.Counter()
    for value in pq.read_table(edits, columns=["value"])["value"].to_pylist():
        for kind, n in re.findall(r"<([A-Z_]+)_([0-9]+)>", value):
            used[kind] = max(used[kind], int(n))
    numbers = personal.number([source], masked, recipe.seed_for("mask"))
    return {kind: {v: n + used[kind.upper()] for v, n in of.items()} for kind, of in numbers.items()}


def _number_on(records: Path, old: pa.ChunkedArray) -> None:
    """Let the ordinals of the new rows go on where those of wholly identical old rows end."""
    bases = pc.replace_substring_regex(old, "-[0-9]+$", "")
    files = [*sorted(records.glob("part-*.parquet")), records / "quarantine.parquet", records / "edits.parquet"]
    for file in files:
        table = pq.read_table(file)
        mine = pc.replace_substring_regex(table["id"], "-[0-9]+$", "")
        both = bases.filter(pc.is_in(bases, mine.combine_chunks())).to_pylist() if len(table) else []
        if not both:
            continue
        have = collections.Counter(both)
        ids = []
        for id_ in table["id"].to_pylist():
            base, _, ordinal = id_.rpartition("-")
            ids.append(f"{base}-{int(ordinal) + have[base]}")
        column = pa.array(ids, pa.string())
        schema.write_parquet(file, table.set_column(0, table.schema.field("id"), column))


def _join_records(old: Path, new: Path, into: Path) -> None:
    """The shards of both, and what lies beside them."""
    into.mkdir(parents=True, exist_ok=True)
    shards = [*sorted(old.glob("part-*.parquet")), *sorted(new.glob("part-*.parquet"))]
    for n, shard in enumerate(shards):
        _link(shard, into / f"part-{n:05d}.parquet")
    for name in ("quarantine", "edits"):
        both = pa.concat_tables([pq.read_table(f / f"{name}.parquet") for f in (old, new)])
        schema.write_parquet(into / f"{name}.parquet", both)


def _join_leaks(old: Path, new: Path, into: Path) -> None:
    """What was looked for before, with the leaks of the new rows added and what was looked for in them beside it."""
    before, found = read_json(old / "decontamination.json"), read_json(new / "decontamination.json")
    leaks = {"leaks": before["leaks"] + found["leaks"]}
    by_reason = _sum(before["leaks_by_reason"], found["leaks_by_reason"])
    more = [*before.get("grown", []), {"leaks": found["leaks"], "rephrased": found["rephrased"]}]
    schema.write_json(into / "decontamination.json", {**before, **leaks, "leaks_by_reason": by_reason, "grown": more})


def _link(file: Path, to: Path) -> None:
    """The same bytes under another name: no file of a run is ever written in place."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copy(file, to)
