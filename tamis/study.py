"""How few rows are enough, and is choosing better than drawing at random? Sizes x methods x seeds, and the answer.

    study(run, recipe)

Every method draws after decontamination (curate/draws.py); a size is a prefix of a seed's order; all cells are trained
for the same number of epochs, or of steps, and asked the same items (tamis/cells.py). The proxy fits a quick model
instead of training: logistic regression on embeddings for labels, a byte model for texts. It is another model, so its
answer is about that one. Writes `cells.parquet`, `result.json`, `table.md` and `stability.parquet` into `study/` of
the run, `proxy/` for the proxy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tamis import arm_table, schema, study_words
from tamis.cells import WIDEST, Cell, done_already, run_cells
from tamis.errors import RecipeError, UserError
from tamis.intervals import noninferiority_n
from tamis.recipe import Recipe
from tamis.record import json_sha256
from tamis.run import Run
from tamis.stability import stability
from tamis.study_answer import REFERENCE, Plan, Yardstick, agreement, answer, cost_of
from tamis.study_order import affordable
from tamis.tables import take_records

DISCORDANCE = 0.10  # fine-tunes of one base differ on 5 to 20 % of the items
SPREAD = 0.15  # standard deviation of an item's difference between two of them, of scores from 0 to 1


def study(
    run: Run, recipe: Recipe, *, proxy: bool = False, even_so: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Train what is not trained yet, and answer.

    Args:
        run: curated; the caller holds its lock.
        recipe: its `study` says what is asked.
        proxy: fit a quick model in place of training.
        even_so: go on although the evaluation set is too small for the margin.
        quiet: no progress on stderr.

    Returns:
        `answer`, with `items`, `curation_s`, `left_out` (cells beyond `max_cost`), `stability`, `agreement` (of the
        proxy and training, where both were done on the same curation) and `folder`.

    Raises:
        UserError: it cannot be answered: sizes, items, metric, money; said before anything is trained.
    """
    plan, cells = planned(run, recipe, proxy=proxy, even_so=even_so)
    home = _home(run, proxy)
    chosen = _within_budget(run, recipe, plan, cells, home)
    table = run_cells(run, recipe, chosen, home, quiet=quiet).to_pylist()
    result = answer(table, plan, recipe.evaluate.price)
    result["items"] = len(table[0]["items"])
    result["curation_s"] = sum(schema.read_json(run.curate / "funnel.json")["seconds"].values())
    result["curation"] = schema.read_json(run.curate / "stage.json")["fingerprint"]
    result["left_out"] = len(cells) - len(chosen)
    result["stability"] = stability(run, recipe, plan.methods, plan.sizes, recipe.study.resamples, home)
    result["agreement"] = _agreement(run, result)
    schema.write_json(home / "result.json", result)
    result["folder"] = str(home)
    grid, lines = study_words.closing(result)
    arm_table.write(home, f"How few rows are enough: {recipe.name}", [f"{line}  " for line in lines[:-1]], grid)
    return result


def forecast(run: Run, recipe: Recipe, *, proxy: bool = False, even_so: bool = False) -> dict[str, Any]:
    """What the cells that are not done would take.

    Returns:
        {cells, done, left_out (beyond `max_cost`), points: [{method, size, left, seconds (of one training; None for the
        proxy)}], seconds, money (None without a price), currency, items}.
    """
    plan, every = planned(run, recipe, proxy=proxy, even_so=even_so)
    cells = _within_budget(run, recipe, plan, every, _home(run, proxy), remember=False)
    done = done_already(run, recipe, cells, _home(run, proxy))
    waiting = [cell for cell in cells if cell.name not in done]
    seconds = {} if plan.proxy else _seconds(run, recipe, waiting)
    points: dict[tuple[str, int], dict[str, Any]] = {}
    for cell in waiting:
        key = _arm(cell)
        point = {"method": key[0], "size": key[1], "left": 0, "seconds": seconds.get(key)}
        points.setdefault(key, point)["left"] += 1
    total = None if plan.proxy else float(sum(p["left"] * p["seconds"] for p in points.values()))
    price = recipe.evaluate.price
    return {
        "cells": len(cells),
        "done": len(done),
        "left_out": len(every) - len(cells),
        "points": list(points.values()),
        "seconds": total,
        "money": cost_of(total, price),
        "currency": price.currency,
        "items": pq.read_metadata(run.curate / "eval.parquet").num_rows,
    }


def _home(run: Run, proxy: bool) -> Path:
    return run.path / ("proxy" if proxy else "study")


def _arm(cell: Cell) -> tuple[str, int]:
    return cell.about["method"], cell.about["size"]


def _seconds(run: Run, recipe: Recipe, cells: Sequence[Cell]) -> dict[tuple[str, int], float]:
    """Forecast of one training of each method and size."""
    from tamis.train.stage import forecast_arm

    found: dict[tuple[str, int], float] = {}
    for cell in cells:
        if _arm(cell) not in found:
            rows = take_records(run.curate / "records", list(cell.rows))
            found[_arm(cell)] = forecast_arm(recipe.changed(cell.overlay), rows).seconds
    return found


def _within_budget(
    run: Run, recipe: Recipe, plan: Plan, cells: list[Cell], home: Path, *, remember: bool = True
) -> list[Cell]:
    """The cells that `max_cost` pays for. What was chosen once stays, since a forecast differs from run to run."""
    limit, price = recipe.study.max_cost, recipe.evaluate.price
    if limit is None or plan.proxy:
        return cells
    if price.machine_hour is None:
        raise RecipeError(
            "study.max_cost needs to know what the machine costs",
            where="evaluate.price.machine_hour",
            hint="price: {machine_hour: 2.50}",
        )
    asked = json_sha256([limit, price.machine_hour, [[c.name, list(c.rows), c.overlay] for c in cells]])
    file = home / "budget.json"
    known = schema.read_json(file) if file.is_file() else {}
    if known.get("asked") == asked:
        return [cell for name in known["cells"] for cell in cells if cell.name == name]
    seconds = _seconds(run, recipe, cells)
    money = {key: price.machine_hour * s / 3600 for key, s in seconds.items()}
    chosen = affordable(cells, money, limit, price.currency)
    if remember:
        schema.write_json(file, {"asked": asked, "cells": [c.name for c in chosen]})
    return chosen


def _agreement(run: Run, result: dict[str, Any]) -> dict[str, Any] | None:
    """With the other kind of answer, if that was given on the same curation."""
    file = _home(run, not result["proxy"]) / "result.json"
    other = schema.read_json(file) if file.is_file() else {}
    return agreement(result, other) if other.get("curation") == result["curation"] else None


# ------------------------------------------------------------------------------------------------- what is trained


def planned(run: Run, recipe: Recipe, *, proxy: bool = False, even_so: bool = False) -> tuple[Plan, list[Cell]]:
    """The plan of a recipe and its cells, seed by seed, so that an early stop leaves whole comparisons.

    Raises:
        UserError: it cannot be answered.
    """
    from tamis.curate import draws

    asked = recipe.study
    yardstick = _yardstick(run, recipe, proxy)
    _require_items(run, recipe, yardstick, even_so)
    pools = {m: draws.pool(run, draws.POOLS[m]) for m in (*asked.methods, REFERENCE)}
    most = min(len(pools[m].ids) for m in asked.methods)
    sizes = _halves(most) if asked.sizes == "auto" else sorted(set(asked.sizes))
    if not sizes or sizes[-1] > most:
        raise UserError(
            f"a size of {max(sizes, default=1):,} is above the {most:,} rows there are to draw from",
            where="study.sizes",
            hint=f"sizes up to {most:,}",
        )
    plan = Plan(asked.margin, sizes, asked.methods, asked.seeds, asked.confidence, proxy, yardstick)
    system, found, whole = _system(recipe, proxy), [], len(pools[REFERENCE].ids)
    # nothing in a proxy of all rows depends on the seed
    of_all = 1 if proxy else min(asked.seeds, asked.reference_seeds or asked.seeds)
    for seed in range(recipe.seed, recipe.seed + plan.seeds):
        for method in (*plan.methods, REFERENCE):
            if method == REFERENCE and seed - recipe.seed >= of_all:
                continue
            fixed = method in draws.FIXED
            ids = draws.ordered(run, recipe, method, recipe.seed if fixed else seed, pools[method])
            for size in (whole,) if method == REFERENCE else sizes:
                about = {"method": method, "size": size}
                overlay = {"seed": seed, "train.epochs": _epochs(recipe, size, whole), "train.early_stopping": None}
                found.append(Cell(f"{method}-{size}-s{seed}", ids[:size], overlay, about, system))
    return plan, found


def _epochs(recipe: Recipe, size: int, whole: int) -> float:
    epochs = recipe.study.epochs or recipe.train.epochs
    if recipe.study.equal == "epochs":
        return epochs
    batch = recipe.train.batch
    if batch == "auto":
        raise RecipeError(
            "equal steps want one batch size for all",
            where="train.batch",
            why="left to the plan, small sizes get smaller batches",
            hint="train: {batch: 8}",
        )
    return epochs * math.ceil(whole / batch) / math.ceil(size / batch)


def _halves(most: int) -> list[int]:
    """A sixteenth to a half, to two digits."""
    return sorted({int(float(f"{most / part:.2g}")) for part in (16, 8, 4, 2)} - {0})


def _system(recipe: Recipe, proxy: bool) -> str:
    if not proxy:
        return "tuned"
    return "linear" if recipe.evaluate.task.kind == "classify" else "bytes"


def _yardstick(run: Run, recipe: Recipe, proxy: bool) -> Yardstick:
    """The metric that decides.

    Raises:
        UserError: it is no metric of the answers, its items are not kept, or the proxy has none of it.
    """
    from tamis.evaluate import metrics

    task, name = recipe.evaluate.task, recipe.study.metric or metrics.primary(recipe.evaluate.task.kind)
    computed = metrics.for_task(task.kind, task.metrics)
    if name not in computed:
        raise UserError(
            f"{name!r} is not computed for this task",
            where="study.metric",
            hint=f"one of {', '.join(computed)}, or name it in evaluate.task.metrics",
        )
    if _system(recipe, proxy) == "bytes" and name != "bits_per_byte":
        raise UserError(
            "the proxy of a task without labels answers in bits per byte",
            where="study.metric",
            why=f"it writes nothing that {name} could judge",
            hint="study: {metric: bits_per_byte, margin: 0.02}, a margin in bits per byte, or train: without --proxy",
        )
    metric = metrics.lookup(name)
    labels = pq.read_table(run.curate / "eval.parquet", columns=["label"])["label"]
    if name == "macro_f1" and 4 * len(labels.unique()) > WIDEST:
        raise UserError(
            "macro F1 of so many classes is too wide to be kept item by item", where="study.metric", hint="accuracy"
        )
    span = (0.0, 1.0) if metric.family == "proportion" else metric.span if metric.family == "mean" else None
    return Yardstick(name, metric.direction == "up", span, metric.statistic)


def _require_items(run: Run, recipe: Recipe, by: Yardstick, even_so: bool) -> None:
    """Enough independent items for the margin. Of metrics without bounds nothing is known before they are measured."""
    if by.span is None or math.isinf(by.span[1]):
        return
    components = pq.read_table(run.curate / "eval.parquet", columns=["component"])["component"]
    have, asked = len(components.unique()), recipe.study
    if by.span == (0.0, 1.0) and asked.margin >= 1:
        raise UserError(f"a margin of {asked.margin:g} is the whole range of {by.name}", where="study.margin")
    share = by.name in ("accuracy", "parse_rate", "exact_match", "error_rate", "truncation_rate")
    variance = DISCORDANCE if share else (SPREAD * (by.span[1] - by.span[0])) ** 2
    needs = noninferiority_n(asked.margin, variance, 0.0, alpha=(1 - asked.confidence) / 2)
    if have < needs and not even_so:
        apart = f"differ on {DISCORDANCE:.0%} of the items" if share else f"differ by {SPREAD:g} an item"
        raise UserError(
            f"{have:,} independent items are too few for a margin of {asked.margin:g}: about {needs:,} are needed",
            where="eval",
            why=f"two models are taken to {apart}, for a chance of 80 %",
            hint="more items, a larger study.margin, or --even-so",
        )
