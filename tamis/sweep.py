"""Settings tried stage by stage, on items that no gate will see: learning rate first, then rank, alpha, target modules.

    planned  ->  lr: three values  ->  r: the best lr with other ranks  ->  alpha  ->  target modules

The best of a stage is carried on. The rate comes first because it decides most and hardly depends on the rank with
LoRA's scale alpha / r (docs/concepts/r-alpha-targets.md); a grid of all would cost the product of the stages instead of
their sum.

Validation items are training rows: survivors of the curation that were not chosen, or, where all were, a part of the
chosen ones that is then not trained on. They never come from the evaluation set, and no near-duplicate of one is
trained on. Every arm is compared with the planned one on the same items; the p-values are Holm's over all of them,
since the best of several looks better than it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import arm_table
from tamis.cells import Cell, done_already, run_cells, value_of
from tamis.errors import DataError, RecipeError
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.schema import write_json
from tamis.tables import take_records

STAGES = ("lr", "r", "alpha", "target_modules")
PLANNED = "planned"
SHARE = 0.2  # of the chosen rows, at most, where there are no others to validate on


@dataclasses.dataclass(frozen=True)
class Material:
    """What a sweep trains on and asks.

    Attributes:
        rows: ids trained on, in selection order.
        items: `schema.EVAL`, disjoint from the rows and from their near-duplicates.
        origin: where the items come from, for people.
    """

    rows: list[str]
    items: pa.Table
    origin: str


def sweep(run: Run, recipe: Recipe, *, quiet: bool = False) -> dict[str, Any]:
    """Try the settings of `recipe.sweep`; what is trained already is not trained again.

    Args:
        run: curated; the caller holds its lock. Results go to `run.path / "sweep"`.
        recipe: its `sweep` says what is tried.
        quiet: no progress on stderr.

    Returns:
        {metric, items, origin, planned, best, stages: [{key, values, arms, best}], rows: table rows
        (`arm_table.rows_of`) with `settings`, advice, folder}; also in `sweep/result.json`, the table in
        `sweep/table.md`.

    Raises:
        RecipeError: there is nothing to try.
        DataError: there are too few rows to validate on.
    """
    home, material = run.path / "sweep", material_of(run, recipe)
    planned = planned_settings(run, recipe, material)
    metric = metric_of(recipe)
    cells = {PLANNED: _cell({}, planned, material)}
    chosen, best, stages = dict(planned), PLANNED, []

    def worked() -> dict[str, dict[str, Any]]:
        table = run_cells(run, recipe, list(cells.values()), home, items=material.items, quiet=quiet)
        return {row["cell"]: row for row in table.to_pylist()}

    done = worked()
    for key, values in tried(recipe, planned):
        arms = {best: chosen[key]}
        for value in values:
            changed = {k: v for k, v in chosen.items() if v != planned[k]} | {key: value}
            cell = _cell(changed, planned, material)
            cells[cell.name], arms[cell.name] = cell, value
        done = worked()
        best = max(arms, key=lambda name: (_good(done[name], metric), -value_of(done[name], "bits_per_byte")))
        chosen[key] = arms[best]
        stages.append({"key": key, "values": list(arms.values()), "arms": list(arms), "best": chosen[key]})
    rows = arm_table.rows_of(home, list(done.values()), PLANNED, metric, recipe.evaluate.price)
    for row in rows:
        row["settings"] = {**planned, **cells[row["arm"]].about["settings"]}
    result = {
        "metric": metric,
        "items": len(material.items),
        "trained_rows": len(material.rows),
        "origin": material.origin,
        "planned": planned,
        "best": {"arm": best, "settings": chosen},
        "stages": stages,
        "rows": rows,
        "advice": advice(rows, best),
    }
    write_json(home / "result.json", result)
    notes = [f"{len(material.items):,} items: {material.origin}. {result['advice']}"]
    arm_table.write(home, f"Sweep of {recipe.name}", notes, arm_table.grid(rows, PLANNED))
    return result | {"folder": str(home)}


def forecast(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What a sweep would take: {arms, done, seconds (of training), rows, items, origin, stages: {key: values}}."""
    from tamis.train.stage import forecast_arm

    material = material_of(run, recipe)
    planned = planned_settings(run, recipe, material)
    stages = dict(tried(recipe, planned))
    one = forecast_arm(recipe, take_records(run.curate / "records", material.rows)).seconds
    arms = 1 + sum(map(len, stages.values()))
    first = [_cell({}, planned, material)] + [_cell({"lr": v}, planned, material) for v in stages.get("lr", [])]
    done = done_already(run, recipe, first, run.path / "sweep", items=material.items)
    return {
        "arms": arms,
        "done": len(done),
        "seconds": one * (arms - len(done)),
        "rows": len(material.rows),
        "items": len(material.items),
        "origin": material.origin,
        "planned": planned,
        "stages": stages,
    }


def advice(rows: list[dict[str, Any]], best: str) -> str:
    """What a careful reader would do with the table."""
    told = [r for r in rows if r["told_apart"]]
    worse = [r["arm"] for r in told if not r["better"]]
    said = f" Certainly worse than planned: {', '.join(worse)}." if worse else ""
    winner = next(r for r in rows if r["arm"] == best)
    if best == PLANNED:
        return f"Nothing did better than the planned settings.{said}"
    changed = ", ".join(f"train.{k}: {v}" for k, v in winner["settings"].items() if _differs(rows, k, v))
    if winner["told_apart"]:
        return (
            f"{best} is better than planned beyond chance: {changed}. Its value here is the best of {len(rows)}, so "
            f"too high; tamis run measures it anew on the evaluation set.{said}"
        )
    return f"The best, {best} ({changed}), is not told apart from the planned settings: keep those.{said}"


def _differs(rows: list[dict[str, Any]], key: str, value: Any) -> bool:
    return bool(next(r for r in rows if r["arm"] == PLANNED)["settings"][key] != value)


# ------------------------------------------------------------------------------------------- rows and items


def material_of(run: Run, recipe: Recipe) -> Material:
    """Split what a run may train on into rows and validation items.

    Raises:
        DataError: too few rows.
    """
    ledger = pq.read_table(run.curate / "ledger.parquet", columns=["id", "verdict", "stage", "rank"])
    kept = ledger.filter(pc.equal(ledger["verdict"], "kept")).sort_by("rank")["id"].to_pylist()
    spare = ledger.filter(pc.equal(ledger["stage"], "select")).sort_by("id")["id"].to_pylist()
    seed, wanted = recipe.seed_for("sweep"), recipe.sweep.items
    if len(spare) >= wanted:
        drawn = np.random.default_rng(seed).permutation(len(spare))[: 5 * wanted]  # more than needed: twins go
        items = _items(run, recipe, kept, [spare[i] for i in sorted(drawn.tolist())], wanted)
        if len(items) >= wanted // 2:
            origin = "rows that survived the curation and were not chosen to train on"
            return Material(kept, items, origin)
    wanted = min(wanted, round(SHARE * len(kept)))
    if wanted < 5:
        raise DataError(
            f"{len(kept)} rows are too few to hold some out for validation", hint="a larger curate.select.size"
        )
    held = set(_items(run, recipe, [], kept, wanted)["id"].to_pylist())
    rows, items = [i for i in kept if i not in held], [i for i in kept if i in held]
    asked = _items(run, recipe, rows, items, wanted)
    return Material(rows, asked, f"{len(held):,} of the chosen rows, which this sweep does not train on")


def _items(run: Run, recipe: Recipe, rows: list[str], candidates: list[str], wanted: int) -> pa.Table:
    """So many of the candidates, stratified by label, none of them a near-duplicate of a row that is trained on."""
    from tamis.curate.pipeline import as_items, limited

    both = as_items(take_records(run.curate / "records", [*rows, *candidates]))
    trained = set(both["component"].to_pylist()[: len(rows)])
    mine = both.slice(len(rows))
    free = [c not in trained for c in mine["component"].to_pylist()]
    return limited(mine.filter(pa.array(free, pa.bool_())).sort_by("id"), wanted, recipe.seed_for("sweep"))


# ------------------------------------------------------------------------------------------------ settings


def metric_of(recipe: Recipe) -> str:
    """What decides.

    Raises:
        RecipeError: no such quality metric.
    """
    from tamis.evaluate.metrics import lookup, primary

    name = recipe.sweep.metric or primary(recipe.evaluate.task.kind)
    try:
        quality = lookup(name).quality
    except KeyError as error:
        raise RecipeError("there is no such metric", where="sweep.metric", why=str(error)) from None
    if not quality:
        raise RecipeError(f"{name} is no metric of answers", where="sweep.metric", hint="accuracy, bits_per_byte, ...")
    return str(name)


def planned_settings(run: Run, recipe: Recipe, material: Material) -> dict[str, Any]:
    """What the plan chooses for the swept keys, with nothing left to `auto`."""
    from tamis.train.stage import forecast_arm

    plan = forecast_arm(recipe, take_records(run.curate / "records", material.rows)).plan
    found: dict[str, Any] = {"lr": plan.lr}
    if plan.r is not None:
        found |= {"r": plan.r, "alpha": plan.alpha, "target_modules": recipe.train.target_modules}
    return found


def tried(recipe: Recipe, planned: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Stage by stage, the values beside the planned one; stages without any are left out.

    Raises:
        RecipeError: no stage has one.
    """
    found = []
    for key in STAGES:
        if key not in planned:
            continue  # full tuning has a rate only
        asked = getattr(recipe.sweep, key)
        values = _spread(key, planned[key], recipe) if asked == "auto" else asked
        if others := [v for v in values if v != planned[key]]:
            found.append((key, others))
    if not found:
        raise RecipeError("there is nothing to try", where="sweep", hint="sweep: {lr: [1e-4, 3e-4, 1e-3]}, or lr: auto")
    yield from found


def _spread(key: str, planned: Any, recipe: Recipe) -> list[Any]:
    """Values about the planned one: rates a factor of three apart, ranks of four, alphas of two."""
    if key == "target_modules":
        return _families_own(recipe)
    factor = {"lr": 3, "r": 4, "alpha": 2}[key]
    if key == "r":
        return sorted({max(1, planned // factor), planned * factor})
    return [float(f"{planned / factor:.3g}"), float(f"{planned * factor:.3g}")]


def _families_own(recipe: Recipe) -> list[Any]:
    """All linear layers, and what PEFT adapts by default in models of this family; only the first for unknown ones."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    from tamis.models import resolve
    from tamis.train.plan import shape_of

    trusted = recipe.train.trust_remote_code
    kind = shape_of(resolve(recipe.model, trust_remote_code=trusted).path, trust_remote_code=trusted).kind
    own = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind)
    return ["all-linear", *([list(own)] if own else [])]


def _cell(changed: dict[str, Any], planned: dict[str, Any], material: Material) -> Cell:
    """A training that differs from the planned one in these settings."""
    changed = {k: changed[k] for k in STAGES if k in changed and changed[k] != planned[k]}
    parts = [f"{k.removesuffix('_modules')}-{_written(v)}" for k, v in changed.items()]
    return Cell(
        "_".join(parts) or PLANNED,
        material.rows,
        {f"train.{key}": value for key, value in changed.items()},
        {"settings": changed},
    )


def _written(value: Any) -> str:
    return "-".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def _good(row: dict[str, Any], metric: str) -> float:
    """The metric, turned so that more is better; worst where it is none."""
    from tamis.evaluate.metrics import lookup

    value = value_of(row, metric)
    if np.isnan(value):
        return -np.inf
    return value if lookup(metric).direction == "up" else -value


def closing(result: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    """For the terminal: the table, and the lines below it."""
    best = result["best"]["settings"]
    keys = ", ".join(f"{k}: {v}" for k, v in best.items())
    return arm_table.grid(result["rows"], PLANNED), [
        f"{result['items']:,} items: {result['origin']}",
        f"best    {result['best']['arm']} ({keys})",
        result["advice"],
        f"table   {Path(result['folder']) / 'table.md'}",
    ]
