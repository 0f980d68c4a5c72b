"""Many trainings that differ in rows, seed or settings, all asked the same evaluation items: one table of outcomes.

    cells = [Cell("random-150-s1", ids, {"seed": 1}, {"method": "random", "size": 150})]
    table = run_cells(Run("runs/x"), recipe, cells, Path("runs/x/study"))

A cell is one training and one evaluation, by the very stages of a run (`train/stage.py`, `evaluate/stage.py`). Cells
are resumed one by one: a finished one is read back, an unfinished one goes on from its last checkpoint and its last
answered batch, and one whose inputs changed (rows, settings, items, model, versions) is done again. All of that is
known before a cell runs, so its adapter need not be kept. A metric that is added is computed from the answers at hand.

    HOME/cells.parquet                 schema.CELLS, rewritten after every cell
    HOME/cells/NAME/{cell.parquet, stage.json}
    HOME/arms/NAME/{train, evaluate/SYSTEM}   as in a run; without weights once the cell is done, unless they are kept
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis import schema
from tamis.errors import UserError
from tamis.intervals import Floats
from tamis.recipe import Recipe
from tamis.record import canonical_json, json_sha256
from tamis.run import Run, Stage, fingerprint
from tamis.tables import take_records

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "scikit-learn", "numpy")
NEVER_TIMED = {"evaluate.latency.requests": 0}
WIDEST = 16
"""Numbers per item up to which a metric's sufficient statistics are kept; macro F1 needs four per class."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training to be done and judged.

    Attributes:
        name: a folder name, unique among the cells of a home.
        rows: ids of the training rows (`schema.RECORD` of the run), in an order that does not depend on chance; for a
            cell that trains nothing (`system: base`, a baseline) the rows a baseline is fitted on, or none.
        overlay: dotted recipe keys and their values for this cell: `{"seed": 3, "train.lr": 1e-3}`.
        about: what the cell stands for; `method` and `size` become columns, the rest is kept as JSON.
        system: what is evaluated: `tuned`, or what is fitted on the rows (`linear`, `nearest`, `majority`, `bytes`).
    """

    name: str
    rows: Sequence[str]
    overlay: dict[str, Any] = dataclasses.field(default_factory=dict)
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    system: str = "tuned"


def run_cells(
    run: Run,
    recipe: Recipe,
    cells: Sequence[Cell],
    home: Path,
    *,
    items: pa.Table | None = None,
    keep_weights: bool = False,
    quiet: bool = False,
    on_cell: Callable[[int, dict[str, Any]], None] = lambda done, cell: None,
) -> pa.Table:
    """Train and evaluate every cell that is not done yet, in the order given.

    Args:
        run: a curated run: its records and its evaluation items are used. The caller holds its lock.
        recipe: what the cells have in common. No request is timed in a cell.
        cells: what to do; names must differ.
        home: where the results go; may hold cells of an earlier call, which are left as they are.
        items: what is asked (`schema.EVAL`); default the run's evaluation items.
        keep_weights: keep adapters; else they go once their cell is done.
        quiet: no progress on stderr.
        on_cell: called after each cell with the number of cells done and the cell's row of the table.

    Returns:
        `schema.CELLS`, one row per cell asked for, in the order given; also written to `home/cells.parquet`.

    Raises:
        UserError: two cells have one name, a name is no folder name, or a row is not in the run.
        DataError, RecipeError, StageFailed: as training and evaluation raise them.
    """
    _require_names(cells)
    items = _asked(run, items)
    workspace = Run(home)
    parts: list[pa.Table] = []
    for number, cell in enumerate(cells, 1):
        settings = recipe.changed({**NEVER_TIMED, **cell.overlay})
        rows = _records(run, cell)
        stage = Stage(home / "cells" / cell.name, _fingerprint(cell, settings, rows, items))
        if not stage.complete():
            stage.begin()
            stage.finish(**_work(workspace, settings, cell, rows, items, quiet))
        done = _read(stage, settings, cell) or _written(stage, workspace, settings, cell)
        if not keep_weights:
            _drop_weights(workspace, cell.name)
        parts.append(done)
        schema.write_parquet(home / "cells.parquet", pa.concat_tables(parts))
        on_cell(number, done.to_pylist()[0])
    return pa.concat_tables(parts) if parts else schema.CELLS.empty_table()


def done_already(
    run: Run, recipe: Recipe, cells: Sequence[Cell], home: Path, *, items: pa.Table | None = None
) -> set[str]:
    """Names of the cells that `run_cells` would read back instead of working. Loads no model."""
    items = _asked(run, items)
    found = set()
    for cell in cells:
        settings = recipe.changed({**NEVER_TIMED, **cell.overlay})
        if Stage(home / "cells" / cell.name, _fingerprint(cell, settings, _records(run, cell), items)).complete():
            found.add(cell.name)
    return found


def statistics_of(row: dict[str, Any], metric: str) -> Floats | None:
    """What a cell's items add up to for a metric: (items, k), in the order of its `items`; None if it was not kept.

    Args:
        row: of `schema.CELLS`, as `to_pylist` gives it.
        metric: a name of the registry. k is 1 for shares and means; others need `metrics.lookup(metric).statistic`.
    """
    for kept in row["outcomes"]:
        if kept["metric"] == metric:
            return np.asarray(kept["values"], dtype=np.float64).reshape(-1, kept["width"])
    return None


def value_of(row: dict[str, Any], metric: str) -> float:
    """A cell's value of a metric; NaN where it has none."""
    return next((m["value"] for m in row["metrics"] if m["metric"] == metric and m["value"] is not None), math.nan)


def _require_names(cells: Sequence[Cell]) -> None:
    names = [c.name for c in cells]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise UserError(f"{name!r} cannot name a cell", why="it becomes a folder: letters, digits, . _ -")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise UserError(f"two cells are named {twice!r}")


def _asked(run: Run, items: pa.Table | None) -> pa.Table:
    return pq.read_table(run.curate / "eval.parquet") if items is None else items


def _records(run: Run, cell: Cell) -> pa.Table | None:
    return take_records(run.curate / "records", list(cell.rows)) if cell.rows else None


def _fingerprint(cell: Cell, settings: Recipe, rows: pa.Table | None, items: pa.Table) -> str:
    """Of everything that can change a cell's outcome. Hashes weights, loads none."""
    from tamis.models import resolve

    model = None
    if cell.system not in ("linear", "nearest", "majority", "bytes"):
        model = resolve(settings.model, trust_remote_code=settings.train.trust_remote_code).sha256
    return fingerprint(
        {
            "rows": None if rows is None else json_sha256(rows.select(["id", "messages", "label"]).to_pylist()),
            "items": json_sha256(items.select(["id", "messages", "label", "component"]).to_pylist()),
            "train": settings.train.model_dump(mode="json", exclude={"save_steps", "serve"}),
            "task": settings.evaluate.task.model_dump(mode="json", exclude={"metrics"}),
            "batch": settings.evaluate.batch,
            "embedder": settings.embedder if model is None else None,
            "model": model,
            "seed": settings.seed,
            "system": cell.system,
        },
        PACKAGES,
    )


def _work(
    workspace: Run, settings: Recipe, cell: Cell, rows: pa.Table | None, items: pa.Table, quiet: bool
) -> dict[str, Any]:
    """Train and evaluate; what the two stages say of themselves."""
    from tamis.evaluate.stage import evaluate_arm
    from tamis.machine import forget_peak
    from tamis.train.stage import train_arm

    forget_peak()
    trained: dict[str, Any] = {}
    if cell.system == "tuned":
        if rows is None:
            raise UserError("a cell that is trained needs rows", where=cell.name)
        trained = train_arm(workspace, settings, cell.name, rows, quiet=quiet)
    told = evaluate_arm(workspace, settings, cell.name, items, rows, [cell.system], quiet=quiet)["systems"]
    return {"trained": trained, "evaluated": told[cell.system]}


def _wanted(settings: Recipe) -> list[str]:
    from tamis.evaluate import metrics

    return metrics.for_task(settings.evaluate.task.kind, settings.evaluate.task.metrics)


def _read(stage: Stage, settings: Recipe, cell: Cell) -> pa.Table | None:
    """The row of a finished cell, or None where it was not written yet, or with other metrics."""
    try:
        row = pq.read_table(stage.folder / "cell.parquet", schema=schema.CELLS).to_pylist()[0]
    except (OSError, pa.ArrowInvalid, IndexError):
        return None
    if settings_of(row).get("asked") != _wanted(settings):
        return None
    return pa.Table.from_pylist([{**row, **_labels(cell, settings)}], schema=schema.CELLS)


def _labels(cell: Cell, settings: Recipe) -> dict[str, Any]:
    """What a cell stands for: changes nothing in its outcome, so it may be said otherwise later."""
    about = dict(cell.about)
    return {
        "cell": cell.name,
        "method": about.pop("method", None),
        "size": about.pop("size", len(cell.rows)),
        "about": canonical_json({**about, "overlay": cell.overlay, "asked": _wanted(settings)}),
    }


def _written(stage: Stage, workspace: Run, settings: Recipe, cell: Cell) -> pa.Table:
    """The row of a finished cell, from the answers it left."""
    from tamis.evaluate.evidence import Evidence
    from tamis.evaluate.stage import write_metrics

    evidence = Evidence(cell.name, cell.system, workspace.evaluate(cell.name, cell.system))
    write_metrics(evidence, settings)
    found = schema.read_json(evidence.folder / "metrics.json")["metrics"]
    told = schema.read_json(stage.file)
    trained, evaluated = told["trained"], told["evaluated"]
    row = {
        **_labels(cell, settings),
        "seed": settings.seed,
        "system": cell.system,
        "rows": trained.get("rows", len(cell.rows)),
        "trained_tokens": trained.get("trained_tokens"),
        "tokens": trained.get("tokens"),
        "steps": trained.get("steps"),
        "final_loss": trained.get("final_loss"),
        "train_s": trained.get("seconds"),
        "evaluate_s": evaluated["seconds"],
        "peak_mb": max(trained.get("peak_mb", 0.0), evaluated["peak_mb"]),
        "metrics": [{"metric": name, "value": found[name]["value"]} for name in _wanted(settings) if name in found],
        "items": evidence.answers["id"],
        "components": evidence.answers["component"],
        "outcomes": _outcomes(evidence, settings),
    }
    table = pa.Table.from_pylist([row], schema=schema.CELLS)
    schema.write_parquet(stage.folder / "cell.parquet", table)
    return table


def _outcomes(evidence: Any, settings: Recipe) -> list[dict[str, Any]]:
    """Sufficient statistics per item of every quality metric that is narrow enough to be kept."""
    from tamis.evaluate import metrics

    found = []
    for name in _wanted(settings):
        metric = metrics.lookup(name)
        rows = None if metric.rows is None else metric.rows(evidence.answers)
        if rows is not None and rows.shape[1] <= WIDEST:
            found.append({"metric": name, "width": rows.shape[1], "values": rows.ravel().tolist()})
    return found


def _drop_weights(workspace: Run, name: str) -> None:
    for folder in ("adapter", "checkpoints"):
        shutil.rmtree(workspace.train(name) / folder, ignore_errors=True)


def settings_of(row: dict[str, Any]) -> dict[str, Any]:
    """A cell's overlay and what else was said of it."""
    with contextlib.suppress(ValueError, TypeError):
        return dict(json.loads(row["about"]))
    return {}
