"""Ways of training on the same rows and items: full, LoRA, QLoRA and its quantisations; and what each makes forget.

    base, base at its best     ->  the items
    each way of training       ->  the items, and rows of another kind before and after

Forgetting is the rise of bits per byte on the reference answers of general rows, over that of the base as it came: a
number that exists whatever a model answers, and is paired row by row.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tamis import arm_table
from tamis.cells import Cell, run_cells
from tamis.errors import RecipeError, StageFailed
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.schema import write_json
from tamis.tables import take_records

OVERLAYS: dict[str, dict[str, Any]] = {
    "qlora": {"train.method": "qlora"},
    "lora": {"train.method": "lora"},
    "full": {"train.method": "full"},
    "nf4": {"train.method": "qlora", "train.quantisation": "nf4"},
    "fp4": {"train.method": "qlora", "train.quantisation": "fp4"},
    "int8": {"train.method": "qlora", "train.quantisation": "int8"},
}
UNTRAINED = ("base", "base-best")
FORGETTING = "bits_per_byte"


def compare(run: Run, recipe: Recipe, *, quiet: bool = False) -> dict[str, Any]:
    """Train and evaluate every way that `recipe.compare` names; what is done already is not done again.

    Args:
        run: curated; the caller holds its lock. Results and the trained weights go to `run.path / "compare"`.
        recipe: its `compare` says what is compared.
        quiet: no progress on stderr.

    Returns:
        {metric, reference, items, general (rows; None where none are given), rows: table rows (`arm_table.rows_of`),
        with `forgetting` (interval of the rise in bits per byte), failed: {arm: why}, folder}; also in
        `compare/result.json`, the table in `compare/table.md`.

    Raises:
        RecipeError: no arm can be trained.
    """
    from tamis.evaluate.metrics import primary

    home, metric = run.path / "compare", primary(recipe.evaluate.task.kind)
    done, failed = _trained(run, recipe, home, quiet)
    reference = next(row["cell"] for row in done if row["cell"] not in UNTRAINED)
    rows = arm_table.rows_of(home, done, reference, metric, recipe.evaluate.price)
    general = _forgetting(home, recipe, rows, quiet)
    result = {
        "metric": metric,
        "reference": reference,
        "items": pq.read_metadata(run.curate / "eval.parquet").num_rows,
        "general": general,
        "rows": rows,
        "failed": failed,
    }
    write_json(home / "result.json", result)
    grid, lines = closing(result | {"folder": str(home)})
    arm_table.write(home, f"Ways of training compared on {recipe.name}", [f"{line}." for line in lines[:-1]], grid)
    return result | {"folder": str(home)}


def cells_of(run: Run, recipe: Recipe) -> list[Cell]:
    """What is trained and asked: the base first, then the ways of training in the recipe's order."""
    from tamis.loop import MAIN, rows_of

    rows = rows_of(run, MAIN[0])["id"].to_pylist()
    # unquantised: what training started from, whatever it was rounded to afterwards
    untrained = [Cell(name, rows, OVERLAYS["lora"], system=name) for name in UNTRAINED]
    return untrained + [Cell(name, rows, OVERLAYS[name]) for name in recipe.compare.arms]


def _trained(run: Run, recipe: Recipe, home: Path, quiet: bool) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The cells that could be done, and why the others could not. One that does not fit the memory stops no other."""
    done: list[Cell] = []
    failed: dict[str, str] = {}
    error: RecipeError | StageFailed | None = None
    for cell in cells_of(run, recipe):
        try:
            run_cells(run, recipe, [*done, cell], home, keep_weights=True, quiet=quiet)
            done.append(cell)
        except (RecipeError, StageFailed) as reason:
            if cell.name in UNTRAINED or not _memory(reason):
                raise
            failed[cell.name], error = f"{reason.what}{': ' + reason.why if reason.why else ''}", reason
    if all(cell.name in UNTRAINED for cell in done):
        raise error or RecipeError("there is nothing to compare", where="compare.arms", hint="compare: {arms: [lora]}")
    table = run_cells(run, recipe, done, home, keep_weights=True, quiet=quiet)
    return table.to_pylist(), failed


def _memory(reason: RecipeError | StageFailed) -> bool:
    """Whether an arm was too large for this machine, and not wrong."""
    from tamis.train.plan import DoesNotFit
    from tamis.train.sft import OutOfMemory

    return isinstance(reason, (DoesNotFit, OutOfMemory))


# ---------------------------------------------------------------------------------------------- forgetting


@dataclasses.dataclass(frozen=True)
class _General(Run):
    """The cells' trainings, evaluated on general rows in a place of their own."""

    def evaluate(self, arm: str, system: str) -> Path:
        return self.path / "general" / arm / system


def _forgetting(home: Path, recipe: Recipe, rows: list[dict[str, Any]], quiet: bool) -> int | None:
    """Add to each trained row what it forgot; the number of general rows, or None where the recipe names none."""
    if recipe.compare.general is None:
        return None
    from tamis.evaluate.evidence import Evidence
    from tamis.evaluate.measure import absolute
    from tamis.evaluate.stage import evaluate_arm
    from tamis.evaluate.versus import versus

    items, folder = _general_items(home, recipe), _General(home)
    evidence = {}
    for row in rows:
        name, system = row["arm"], row["system"]
        if system == "base-best":  # the same weights as the base
            continue
        # the reference answers are scored and nothing is generated but a token
        asked = recipe.changed(
            {
                **(OVERLAYS["lora"] if name in UNTRAINED else OVERLAYS[name]),
                "evaluate.task": {"kind": "generate", "max_tokens": 1},
                "evaluate.latency.requests": 0,
            }
        )
        evaluate_arm(folder, asked, name, items, None, [system], quiet=quiet)
        evidence[name] = Evidence(name, system, folder.evaluate(name, system))
    told = versus([e for name, e in evidence.items() if name != "base"], evidence["base"], FORGETTING)
    held = {v.arm: v for v in told}
    for row in rows:
        if row["arm"] in evidence:
            row["general"] = absolute(evidence[row["arm"]], FORGETTING).as_dict("bits/byte")
        if v := held.get(row["arm"]):
            row["forgetting"] = v.delta.as_dict("bits/byte") | {"p_holm": v.p_holm, "told_apart": v.told_apart()}
    return len(items)


def _general_items(home: Path, recipe: Recipe) -> pa.Table:
    from tamis.curate.pipeline import write_items

    read = Run(home / "general" / "rows")
    whole = recipe.model_dump(mode="json")
    whole |= {"data": None, "eval": whole["compare"]["general"]}
    whole["evaluate"]["task"] = {"kind": "generate"}
    whole["evaluate"]["systems"] = ["base"]
    write_items(read, Recipe.check(whole))
    return pq.read_table(read.curate / "eval.parquet")


# ------------------------------------------------------------------------------------------------ before, after


def forecast(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What it would take: {arms: {name: {seconds, memory_gb, free_gb, device} or {error}}, seconds, items}."""
    from tamis.loop import MAIN, rows_of
    from tamis.train.plan import DoesNotFit
    from tamis.train.stage import forecast_arm

    rows = take_records(run.curate / "records", rows_of(run, MAIN[0])["id"].to_pylist())
    arms: dict[str, Any] = {}
    for name in recipe.compare.arms:
        try:
            told = forecast_arm(recipe.changed(OVERLAYS[name]), rows)
        except DoesNotFit as error:
            arms[name] = {"error": error.what}
            continue
        arms[name] = {
            "seconds": told.seconds,
            "memory_gb": told.plan.estimate_bytes / 1e9,
            "free_gb": told.plan.hardware.memory / 1e9,
            "device": told.plan.device,
        }
    items = pq.read_metadata(run.curate / "eval.parquet").num_rows
    return {"arms": arms, "seconds": sum(a.get("seconds", 0.0) for a in arms.values()), "items": items}


def closing(result: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    """For the terminal: the table, and the lines below it."""
    lines = [f"{result['items']:,} items; differences from {result['reference']}, p-values for all of them together"]
    lines += [f"{arm} was not trained: {why}" for arm, why in result["failed"].items()]
    lines.append(
        f"forgetting: rise in bits per byte over the base, on {result['general']:,} general rows"
        if result["general"]
        else "forgetting was not measured: compare: {general: {path: FILE}}"
    )
    return arm_table.grid(result["rows"], result["reference"]), [*lines, f"table   {result['folder']}/table.md"]
