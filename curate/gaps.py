"""Where rows are missing: clusters in which the evaluation fails and nothing was kept; how many rows to write there.

Read from the run folder alone: the evaluation's samples by their schema, the ledger's clusters, the stored vectors.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import run_vectors, schema
from tamis.curate import coverage, sample
from tamis.errors import UserError, did_you_mean
from tamis.recipe import Recipe
from tamis.record import prompt_of
from tamis.run import Run

# Dropped rows named per gap: one of them may do, and saves the writing.
SPARE = 3


@dataclasses.dataclass(frozen=True)
class Gap:
    """A cluster with wrong answers and no kept row.

    Attributes:
        cluster: its number in the ledger; None where the label has no row at all, or the run has no clusters of its own
            and these were made for this question (then `gap` is the only name).
        gap: its number here, from 1, most wrong answers first.
        label: of its items; None where they have none.
        items, wrong: evaluation items that belong here, and how many of them are answered wrongly.
        rows: training rows that belong here, all of them dropped.
        write: how many rows to write: as many per item as stand in the clusters that are answered no worse than all.
        spare: ids of dropped rows of the cluster, nearest to the wrong items first.
    """

    gap: int
    cluster: int | None
    label: str | None
    items: int
    wrong: int
    rows: int
    write: int
    spare: list[str]

    def sentence(self) -> str:
        """The same for a reader."""
        where = f"label {self.label}" if self.label is not None else "rows without a label"
        where += f", cluster {self.cluster}" if self.cluster is not None else ""
        told = f"gap {self.gap} ({where}): {self.wrong} of {self.items} items wrong, none of {self.rows} rows kept"
        return f"{told}; write {self.write}" + (f", or keep {', '.join(self.spare)}" if self.spare else "")


@dataclasses.dataclass(frozen=True)
class Gaps:
    """All gaps of a run, and what `write` rests on.

    Attributes:
        arm, system: whose answers.
        items, wrong: of the whole evaluation.
        gaps: most wrong answers first.
        per_item: kept rows per evaluation item in the clusters that are answered no worse than all together.
    """

    arm: str
    system: str
    items: int
    wrong: int
    gaps: list[Gap]
    per_item: float


def find(run: Run, arm: str | None = None, system: str | None = None) -> Gaps:
    """Find the clusters in which a system fails and nothing was kept.

    An item belongs to the cluster of its nearest training row, of the rows with its label where it has one.

    Args:
        run: a curated and evaluated run.
        arm: default the first.
        system: default `tuned`, else the first.

    Raises:
        UserError: nothing was evaluated, the arm or system is unknown, or the task has no right answers.
    """
    arm, system = _which(run, arm, system)
    samples = pq.read_table(run.evaluate(arm, system) / "samples.parquet", columns=["id", "correct"])
    correct = {i: c for i, c in zip(*(samples[n].to_pylist() for n in ("id", "correct")), strict=True) if c is not None}
    if not correct:
        raise UserError(
            "the samples do not say what is right", where=f"{arm}/{system}", hint="gaps wants a task with right answers"
        )
    items = [i for i in pq.read_table(run.curate / "eval.parquet").to_pylist() if i["id"] in correct]
    columns = ["id", "label", "verdict", "cluster", "rank", "score_quality"]
    rows = pq.read_table(run.curate / "ledger.parquet", columns=columns)
    rows = rows.filter(pc.is_valid(rows["rank"])).to_pylist()
    row_vectors, item_vectors = _vectors(run, [r["id"] for r in rows], [prompt_of(i["messages"]) for i in items])
    clusters = _clusters(run, rows, row_vectors)
    nearest = _nearest(rows, row_vectors, items, item_vectors)
    return _gaps(arm, system, rows, row_vectors, clusters, items, item_vectors, nearest, correct)


def _which(run: Run, arm: str | None, system: str | None) -> tuple[str, str]:
    arms = [a for a in run.arms() if run.systems(a)]
    if not arms:
        raise UserError("nothing is evaluated in this run", where=str(run.path), hint="tamis evaluate RECIPE")
    if arm is not None and arm not in arms:
        raise UserError(f"no arm {arm!r} is evaluated", where=str(run.path), hint=did_you_mean(arm, arms))
    arm = arm or arms[0]
    systems = run.systems(arm)
    if system is not None and system not in systems:
        raise UserError(f"no system {system!r} is evaluated", where=arm, hint=did_you_mean(system, systems))
    return arm, system or ("tuned" if "tuned" in systems else systems[0])


def _vectors(run: Run, ids: list[str], prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of training rows and of items in one space: (n, d) and (m, d) float32."""
    have, values = run_vectors.stored(run.curate)
    place = {id_: i for i, id_ in enumerate(have)}
    items = run_vectors.beside(run.curate, prompts, schema.read_json(run.curate / "funnel.json")["embedder"])
    return coverage.unit(values[[place[i] for i in ids]]), coverage.unit(items.values)


def _clusters(run: Run, rows: list[dict[str, Any]], vectors: np.ndarray) -> list[int]:
    """The ledger's clusters; where the method had none, clusters as `curate.select` would make them."""
    found = [int(r["cluster"]) for r in rows if r["cluster"] is not None]
    if len(found) == len(rows):
        return found
    seed = Recipe.of_run(run.path).seed_for("select")
    labels = [r["label"] for r in rows]
    coarse = np.rint(vectors * 127).astype(np.int8)
    none = np.zeros(len(rows))
    made: list[int] = sample.cluster(
        sample.Pool([r["id"] for r in rows], coarse, none, none, labels, {}), seed, None
    ).tolist()
    return made


def _nearest(
    rows: list[dict[str, Any]], row_vectors: np.ndarray, items: list[dict[str, Any]], item_vectors: np.ndarray
) -> list[int | None]:
    """For each item the nearest row with its label (any row where it has none); None where there is no such row."""
    by_label: dict[str | None, list[int]] = collections.defaultdict(list)
    for j, row in enumerate(rows):
        by_label[row["label"]].append(j)
    out: list[int | None] = []
    for item, vector in zip(items, item_vectors, strict=True):
        pool = by_label.get(item["label"], []) if item["label"] is not None else list(range(len(rows)))
        out.append(pool[int(np.argmax(np.round(row_vectors[pool] @ vector, 4)))] if pool else None)
    return out


def _gaps(
    arm: str,
    system: str,
    rows: list[dict[str, Any]],
    row_vectors: np.ndarray,
    clusters: list[int],
    items: list[dict[str, Any]],
    item_vectors: np.ndarray,
    nearest: list[int | None],
    correct: dict[str, bool],
) -> Gaps:
    members: dict[Any, list[int]] = collections.defaultdict(list)
    for j, c in enumerate(clusters):
        members[c].append(j)
    asked: dict[Any, list[int]] = collections.defaultdict(list)
    for k, (item, row) in enumerate(zip(items, nearest, strict=True)):
        asked[("no row", item["label"]) if row is None else clusters[row]].append(k)
    kept = {c: sum(rows[j]["verdict"] == "kept" for j in m) for c, m in members.items()}
    wrong = {c: [k for k in ks if not correct[items[k]["id"]]] for c, ks in asked.items()}
    total = sum(map(len, wrong.values()))
    overall = total / max(len(items), 1)
    served = [c for c in asked if kept.get(c, 0) and len(wrong[c]) <= overall * len(asked[c])]
    per_item = sum(kept[c] for c in served) / sum(len(asked[c]) for c in served) if served else 1.0
    empty = [c for c in asked if wrong[c] and not kept.get(c, 0)]
    empty.sort(key=lambda c: (-len(wrong[c]), items[asked[c][0]]["id"]))
    gaps = []
    for number, c in enumerate(empty, 1):
        here, ours = members.get(c, []), c in members and rows[members[c][0]]["cluster"] is not None
        gaps.append(
            Gap(
                number,
                int(c) if ours else None,
                items[asked[c][0]]["label"],
                len(asked[c]),
                len(wrong[c]),
                len(here),
                max(1, math.ceil(round(per_item * len(asked[c]), 6))),
                _spare(here, rows, row_vectors, item_vectors[wrong[c]]),
            )
        )
    return Gaps(arm, system, len(items), total, gaps, round(per_item, 4))


def _spare(members: list[int], rows: list[dict[str, Any]], row_vectors: np.ndarray, wrong: np.ndarray) -> list[str]:
    if not members:
        return []
    closest = np.round((row_vectors[members] @ wrong.T).max(1), 4)
    order = sorted(range(len(members)), key=lambda a: (-closest[a], rows[members[a]]["id"]))
    return [rows[members[a]]["id"] for a in order[:SPARE]]


def write_template(found: Gaps, run: Run, file: Path) -> int:
    """Write one empty row for each that is wanted, in the shape of the run's own data.

    The writer fills the empty fields, adds the file to `data.path` and names it in `curate.select.must_keep`: its rows
    are then kept whatever their rank. Rows left empty fall to the rules. The template quotes no evaluation item: a row
    that copies one would be removed as a leak.

    Returns:
        How many rows were written.

    Raises:
        UserError: the file is there already, or cannot be written.
    """
    if file.exists():
        raise UserError("the file is there already", where=str(file), hint="name another with -o, or remove it")
    recipe = Recipe.of_run(run.path)
    formats = schema.read_json(run.curate / "funnel.json")["formats"]
    shape = max(formats, key=lambda f: (formats[f], f))
    lines = [
        json.dumps(row_to_fill(recipe, shape, f"gap-{gap.gap}-{n + 1}", gap.label), ensure_ascii=False)
        for gap in found.gaps
        for n in range(gap.write)
    ]
    try:
        schema.write_atomic(file, "".join(line + "\n" for line in lines).encode("utf-8", "replace"))
    except OSError as error:
        raise UserError("the template cannot be written", where=str(file), why=error.strerror) from None
    return len(lines)


def row_to_fill(recipe: Recipe, shape: str, key: str, label: str | None, prompt: str = "") -> dict[str, Any]:
    """A row in one of the shapes that are read, for a person to complete: empty where it says nothing."""
    columns = recipe.data.columns if recipe.data else None
    row: dict[str, Any] = {(columns.id if columns else None) or "id": key}
    # for a classification the answer is the label, which is known
    answer = label if label is not None else ""
    if shape == "messages":
        row["messages"] = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    elif shape == "sharegpt":
        row["conversations"] = [{"from": "human", "value": prompt}, {"from": "gpt", "value": answer}]
    elif shape == "alpaca":
        row |= {"instruction": prompt, "input": "", "output": answer}
    elif shape == "columns" and columns is not None:
        row[columns.prompt or "prompt"] = prompt
        if columns.completion or not columns.label:
            row[columns.completion or "completion"] = answer
    else:
        row |= {"prompt": prompt, "completion": answer}
    if label is not None:
        row[(columns.label if columns else None) or "label"] = label
    return row
