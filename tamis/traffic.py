"""What is asked of a live model, from a log: does it still come from where the run's own rows did?

    prompts     where they lie: energy distance to the rows as they were found
    clusters    which of the run's clusters grew or shrank
    languages   their languages against the rows'
    cut         logged answers that ended at the token limit, against the release's
    parsed      logged answers that an answer could be taken from, against the release's

The rows as they were found, not the kept ones: selection evens out what is frequent, so a log that mirrors the data
would differ from what was kept by design.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import embed, intervals, loop, schema
from tamis.errors import EvidenceError
from tamis.evaluate import drift, prompt_log
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.stage import reader_for
from tamis.recipe import Recipe
from tamis.record import prompt_of
from tamis.run import Run
from tamis.tables import take_records

# Clusters that are named one by one.
NAMED = 3


@dataclasses.dataclass(frozen=True)
class Judged:
    """A log against a run.

    Attributes:
        rows: as gates in `verdict.json`, shorter.
        notes: sentences that count for nothing.
        about: the numbers.
        farthest: prompts least like any row, the least like first; empty where nothing drifted.
    """

    rows: list[dict[str, Any]]
    notes: list[str]
    about: dict[str, Any]
    farthest: list[str]


def row(id: str, verdict: str, said: str) -> dict[str, Any]:
    """One line of a check."""
    return {"id": id, "verdict": verdict, "severity": "required", "said": said}


def judge(run: Run, recipe: Recipe, release: Evidence, log: prompt_log.Log, rows: Any) -> Judged:
    """Judge the latest requests of a log.

    Args:
        run: the released run.
        recipe: its recipe.
        release: what the system said to the evaluation items when it was released.
        log: of the live model.
        rows: the training rows of the release (schema.RECORD), whose labels are answers too; None where they are gone.

    Raises:
        EvidenceError: the log is empty, or the run holds no rows to compare it with.
    """
    if not log.requests:
        raise EvidenceError("the log holds no prompt", why="an empty log is a logger that stopped, or no traffic")
    from tamis.curate.features import language

    log, seed = log.latest(drift.MOST), recipe.seed_for("monitor")
    known = _Known.of(run, seed)
    # all together: `lsa` fits its axes to what it is given, and texts that they were fitted to lie apart from others
    vectors = embed.embed([*log.prompts, *known.prompts], known.embedder)
    recent, old = vectors[: len(log.prompts)], vectors[len(log.prompts) :]
    found = drift.drift(recent, old[: drift.MOST], seed)
    clusters = _clusters(known, recent, old, seed)
    spoken = drift.mix([language(p) or "(none)" for p in log.prompts], known.languages[: drift.MOST], seed)
    names = _named(run, clusters)
    judged = [_prompts(found), *_cluster_rows(clusters, names), _languages(spoken, len(log.prompts))]
    cut = sum(finish == "length" for finish in log.finishes)
    if log.finishes:
        judged.append(cut_row("cut", release, cut, len(log.finishes), "logged"))
    parsed = _parsed(run, recipe, log.answers, rows)
    if parsed is not None:
        judged.append(_parsed_row(release, parsed, len(log.answers)))
    about = {
        **{key: value for key, value in dataclasses.asdict(found).items() if key != "farthest"},
        "clusters": {**dataclasses.asdict(clusters), "names": names} if clusters else None,
        "languages": dataclasses.asdict(spoken),
        "cut": _share(cut, len(log.finishes)),
        "parsed": _share(parsed, len(log.answers)),
        "unreadable": log.unreadable,
        "embedder": known.embedder,
    }
    notes = [f"{log.unreadable:,} lines of the log hold no prompt"] if log.unreadable else []
    if clusters is None:
        notes.append("not judged: clusters (the run's rows were drawn by a method that makes none)")
    moved = found.drifted or spoken.drifted or bool(clusters and clusters.changes)
    return Judged(judged, notes, about, [log.prompts[i] for i in found.farthest] if moved else [])


def _share(count: int | None, n: int) -> dict[str, Any]:
    return {"n": n, "share": count / n if n and count is not None else None}


# -------------------------------------------------------------------------------------------------- the run's rows


@dataclasses.dataclass(frozen=True)
class _Known:
    """A draw of the run's readable rows as they were found, in the order they were drawn. All of length n."""

    prompts: list[str]
    languages: list[str]
    clusters: list[int | None]
    embedder: str

    @classmethod
    def of(cls, run: Run, seed: int) -> _Known:
        ledger = _ledger(run, ["id", "language", "stage", "cluster"])
        try:
            embedder = schema.read_json(run.curate / "funnel.json").get("embedder") or "lsa"
        except (OSError, ValueError) as error:
            raise EvidenceError("the run's rows cannot be read", where=str(run.curate), why=str(error)) from None
        rows = [r for r in ledger.to_pylist() if r["stage"] not in ("clean", "split")]
        if not rows or not any((run.curate / "records").glob("*.parquet")):
            raise EvidenceError(
                "the run holds no rows to compare a log with", where=str(run.curate), hint="leave --log out"
            )
        rows = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[: 2 * drift.MOST]]
        messages = take_records(run.curate / "records", [r["id"] for r in rows])["messages"].to_pylist()
        prompts, languages = [prompt_of(m) for m in messages], [r["language"] or "(none)" for r in rows]
        return cls(prompts, languages, [r["cluster"] for r in rows], str(embedder))


def _ledger(run: Run, columns: list[str]) -> pa.Table:
    """Columns of the ledger.

    Raises:
        EvidenceError: it cannot be read, or an older Tamis wrote it without one of them.
    """
    file = run.curate / "ledger.parquet"
    try:
        have = pq.read_schema(file).names
        if not (lacking := [name for name in columns if name not in have]):
            return pq.read_table(file, columns=columns)
    except (OSError, ValueError) as error:
        raise EvidenceError("the run's rows cannot be read", where=str(file), why=str(error)) from None
    raise EvidenceError(
        f"the ledger has no column {lacking[0]!r}, so a log cannot be compared",
        where=str(file),
        why="an older Tamis wrote this run",
        hint=f"tamis curate {run.recipe_file} --run {run.path} writes it anew; or leave --log out",
    )


def _clusters(known: _Known, recent: np.ndarray, old: np.ndarray, seed: int) -> drift.Mix | None:
    """Shares of the run's clusters in the log and in the rows; None where the run has no clusters.

    Half of the rows say where the clusters lie (their means), the other half is compared, so that to the means both
    sides are texts never seen: rows lie nearer to means that they are part of than any log could.
    """
    half = min(drift.MOST, len(old) // 2)
    members: dict[int, list[int]] = collections.defaultdict(list)
    for i, cluster in enumerate(known.clusters[half:], half):
        if cluster is not None:
            members[cluster].append(i)
    if not members:
        return None
    numbers = sorted(members)
    means = np.stack([old[members[c]].mean(0) for c in numbers])
    at = [[str(numbers[i]) for i in drift.nearest(side, means)] for side in (recent, old[:half])]
    return drift.mix(at[0], at[1], seed)


def _named(run: Run, clusters: drift.Mix | None) -> dict[str, str]:
    """What the clusters that changed are about: the prompt of their best row, and its label."""
    if clusters is None or not clusters.changes:
        return {}
    table = _ledger(run, ["id", "cluster", "rank"])
    chosen = table.filter(pc.is_in(table["cluster"], pa.array([int(c.name) for c in clusters.changes], pa.int32())))
    chosen = chosen.sort_by([("rank", "descending")])
    best = dict(zip(chosen["cluster"].to_pylist(), chosen["id"].to_pylist(), strict=True))  # the last one stays
    ids = [best[int(change.name)] for change in clusters.changes]
    records = take_records(run.curate / "records", ids)
    told = zip(records["messages"].to_pylist(), records["label"].to_pylist(), strict=True)
    texts = [" ".join([*([f"[{label}]"] if label else []), *prompt_of(m).split()])[:60] for m, label in told]
    return {change.name: text for change, text in zip(clusters.changes, texts, strict=True)}


def _parsed(run: Run, recipe: Recipe, answers: list[str], rows: Any) -> int | None:
    """How many answers hold one that could be counted; None where any text is an answer, or none was logged."""
    task = recipe.evaluate.task
    if task.kind not in ("classify", "regress") or not answers:
        return None
    reader = reader_for(task, loop.eval_items(run), rows)
    return sum(reader.read(answer) is not None for answer in answers)


# --------------------------------------------------------------------------------------------------------- rows


def _prompts(found: drift.Drift) -> dict[str, Any]:
    if found.p is None:
        few = f"{found.n} prompts against {found.reference} rows: fewer than {drift.FEWEST} say nothing"
        return row("prompts", "INCONCLUSIVE", few)
    said = (
        f"energy distance {found.distance:.3f} of {found.n:,} prompts from {found.reference:,} rows, p = {found.p:.3g}"
    )
    return row("prompts", "FAIL" if found.drifted else "PASS", said)


def _cluster_rows(found: drift.Mix | None, names: dict[str, str]) -> list[dict[str, Any]]:
    if found is None or found.p is None:
        return []
    if not found.changes:
        return [row("clusters", "PASS", f"none of {len({*found.recent, *found.curated})} grew or shrank")]
    told = [
        f"cluster {c.name} ({names[c.name]}) {'grew' if c.recent > c.known else 'shrank'} from {c.known:.1%} to "
        f"{c.recent:.1%}, adjusted p = {c.p:.3g}"
        for c in found.changes[:NAMED]
    ]
    more = f"; and {len(found.changes) - NAMED} more" if len(found.changes) > NAMED else ""
    return [row("clusters", "FAIL", "; ".join(told) + more)]


def _languages(found: drift.Mix, n: int) -> dict[str, Any]:
    told = ", ".join(f"{k} {v:.0%}" for k, v in list(found.recent.items())[:3])
    known = ", ".join(f"{k} {v:.0%}" for k, v in list(found.curated.items())[:3])
    said = f"{told} of {n:,} prompts; {known} of the rows" + (f", p = {found.p:.3g}" if found.p is not None else "")
    return row("languages", "INCONCLUSIVE" if found.p is None else "FAIL" if found.drifted else "PASS", said)


def cut_row(id: str, release: Evidence, cut: int, n: int, whose: str) -> dict[str, Any]:
    """More answers cut at the token limit than the release had on its items: both Wilson intervals must part.

    Args:
        id: of the row.
        release: what the released system said to the evaluation items.
        cut: answers cut, of `n`.
        n: answers whose end is known.
        whose: "logged", say.
    """
    lower, _ = intervals.wilson(cut, n)
    before = [finish == "length" for finish in release.answers["finish"]]
    _, upper = intervals.wilson(sum(before), len(before))
    said = f"{cut / n:.1%} of {n:,} {whose} answers cut at the token limit, {sum(before) / len(before):.1%} at release"
    return row(id, "FAIL" if lower > upper else "PASS", said)


def _parsed_row(release: Evidence, parsed: int, n: int) -> dict[str, Any]:
    """Fewer answers in the right form than the release gave: both Wilson intervals must part."""
    _, upper = intervals.wilson(parsed, n)
    before = release.answers["parsed"]
    lower, _ = intervals.wilson(sum(before), len(before))
    said = f"an answer is found in {parsed / n:.1%} of {n:,} logged answers, {sum(before) / len(before):.1%} at release"
    return row("parsed", "FAIL" if upper < lower else "PASS", said)


# ---------------------------------------------------------------------------------------------------- rows to write


def write_prompts(run: Run, recipe: Recipe, prompts: list[str], file: Path) -> None:
    """Prompts as rows without an answer, in the shape of the run's own data, so that they can be added to it."""
    from tamis.curate.gaps import row_to_fill

    formats = schema.read_json(run.curate / "funnel.json")["formats"]
    shape = max(formats, key=lambda f: (formats[f], f))
    label = "" if recipe.evaluate.task.kind == "classify" else None
    rows = (row_to_fill(recipe, shape, f"{file.parent.name}-{n}", label, p) for n, p in enumerate(prompts, 1))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    schema.write_atomic(file, text.encode("utf-8", "replace"))
