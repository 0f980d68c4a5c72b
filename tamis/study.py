"""How few rows are enough, and is choosing better than drawing at random? Sizes x methods x seeds, and the answer.

    study(run, recipe)

Every method draws after decontamination (curate/draws.py); a size is a prefix of a seed's order; all cells are trained
for the same number of epochs and asked the same items (tamis/cells.py). The proxy fits logistic regression on
embeddings instead of training: seconds, and another model, so its answer is about that one.
Writes `cells.parquet`, `result.json` and `table.md` into `study/` of the run, `proxy/` for the proxy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tamis import arm_table, schema, study_words
from tamis.cells import Cell, done_already, run_cells, statistics_of
from tamis.crossed import Contrast, Scores, contrast, fixed_sequence, needed
from tamis.errors import UserError
from tamis.intervals import holm, noninferiority_n
from tamis.recipe import Price, Recipe
from tamis.run import Run
from tamis.tables import take_records

DISCORDANCE = 0.10  # fine-tunes of one base differ on 5 to 20 % of the items
REFERENCE = "all"
SPAN = (0.0, 1.0)  # of accuracy


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a study asks, with nothing left open.

    Attributes:
        margin: the loss against `all` that is still acceptable, in accuracy (0.02).
        sizes: rows, none above what a method can draw from.
        methods: of `draws.POOLS`, beside `all`.
        seeds: trainings of each cell.
        confidence: of the two-sided intervals; a recommendation is tested one-sided at half the rest.
        proxy: logistic regression on embeddings in place of training.
    """

    margin: float
    sizes: Sequence[int]
    methods: Sequence[str] = ("cluster", "random")
    seeds: int = 5
    confidence: float = 0.95
    proxy: bool = False


def study(
    run: Run, recipe: Recipe, *, proxy: bool = False, even_so: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """Train what is not trained yet, and answer.

    Args:
        run: curated; the caller holds its lock.
        recipe: its `study` says what is asked.
        proxy: fit logistic regression on embeddings in place of training.
        even_so: go on although the evaluation set is too small for the margin.
        quiet: no progress on stderr.

    Returns:
        `answer`, with `items`, `curation_s` and `folder`.

    Raises:
        UserError: it cannot be answered: sizes, items, kind of task; said before anything is trained.
    """
    plan, cells = planned(run, recipe, proxy=proxy, even_so=even_so)
    home = _home(run, proxy)
    table = run_cells(run, recipe, cells, home, quiet=quiet).to_pylist()
    result = answer(table, plan, recipe.evaluate.price)
    result["items"] = len(table[0]["items"])
    result["curation_s"] = sum(schema.read_json(run.curate / "funnel.json")["seconds"].values())
    schema.write_json(home / "result.json", result)
    result["folder"] = str(home)
    grid, lines = study_words.closing(result)
    arm_table.write(home, f"How few rows are enough: {recipe.name}", [f"{line}  " for line in lines[:-1]], grid)
    return result


def forecast(run: Run, recipe: Recipe, *, proxy: bool = False, even_so: bool = False) -> dict[str, Any]:
    """What the cells that are not done would take.

    Returns:
        {cells, done, points: [{method, size, left, seconds (of one training; None for the proxy)}], seconds, money
        (None without a price), currency, items}.
    """
    plan, cells = planned(run, recipe, proxy=proxy, even_so=even_so)
    done = done_already(run, recipe, cells, _home(run, proxy))
    points: dict[tuple[str, int], dict[str, Any]] = {}
    for cell in cells:
        if cell.name in done:
            continue
        key = (cell.about["method"], cell.about["size"])
        if key not in points:
            seconds = None if plan.proxy else _training_seconds(run, recipe, cell)
            points[key] = {"method": key[0], "size": key[1], "left": 0, "seconds": seconds}
        points[key]["left"] += 1
    seconds = None if plan.proxy else float(sum(p["left"] * p["seconds"] for p in points.values()))
    price = recipe.evaluate.price
    return {
        "cells": len(cells),
        "done": len(done),
        "points": list(points.values()),
        "seconds": seconds,
        "money": _cost(seconds, price),
        "currency": price.currency,
        "items": pq.read_metadata(run.curate / "eval.parquet").num_rows,
    }


def _training_seconds(run: Run, recipe: Recipe, cell: Cell) -> float:
    from tamis.train.stage import forecast_arm

    return forecast_arm(recipe.changed(cell.overlay), take_records(run.curate / "records", list(cell.rows))).seconds


def _home(run: Run, proxy: bool) -> Any:
    return run.path / ("proxy" if proxy else "study")


def _cost(seconds: float | None, price: Price) -> float | None:
    return None if seconds is None or price.machine_hour is None else price.machine_hour * seconds / 3600


# ------------------------------------------------------------------------------------------------- what is trained


def planned(run: Run, recipe: Recipe, *, proxy: bool = False, even_so: bool = False) -> tuple[Plan, list[Cell]]:
    """The plan of a recipe and its cells, seed by seed, so that an early stop leaves whole comparisons.

    Raises:
        UserError: it cannot be answered.
    """
    from tamis.curate import draws

    asked = recipe.study
    _require_answerable(run, recipe, even_so)
    pools = {m: draws.pool(run, draws.POOLS[m]) for m in (*asked.methods, REFERENCE)}
    most = min(len(pools[m].ids) for m in asked.methods)
    sizes = _halves(most) if asked.sizes == "auto" else sorted(set(asked.sizes))
    if not sizes or sizes[-1] > most:
        raise UserError(
            f"a size of {max(sizes, default=1):,} is above the {most:,} rows there are to draw from",
            where="study.sizes",
            hint=f"sizes up to {most:,}",
        )
    plan = Plan(asked.margin, sizes, asked.methods, asked.seeds, asked.confidence, proxy)
    common = {"train.epochs": asked.epochs or recipe.train.epochs, "train.early_stopping": None}
    system, found = "linear" if proxy else "tuned", []
    for seed in range(recipe.seed, recipe.seed + plan.seeds):
        for method in (*plan.methods, REFERENCE):
            fixed = method in draws.FIXED
            if method == REFERENCE and proxy and seed > recipe.seed:
                continue  # nothing in it depends on the seed
            ids = draws.ordered(run, recipe, method, recipe.seed if fixed else seed, pools[method])
            for size in (len(ids),) if method == REFERENCE else sizes:
                about = {"method": method, "size": size}
                overlay = {"seed": seed, **common}
                found.append(Cell(f"{method}-{size}-s{seed}", ids[:size], overlay, about, system))
    return plan, found


def _halves(most: int) -> list[int]:
    """A sixteenth to a half, to two digits."""
    return sorted({int(float(f"{most / part:.2g}")) for part in (16, 8, 4, 2)} - {0})


def _require_answerable(run: Run, recipe: Recipe, even_so: bool) -> None:
    if recipe.evaluate.task.kind != "classify":
        raise UserError("a study judges by accuracy so far", where="evaluate.task.kind", hint="kind: classify")
    components = pq.read_table(run.curate / "eval.parquet", columns=["component"])["component"]
    have, asked = len(components.unique()), recipe.study
    needs = noninferiority_n(asked.margin, DISCORDANCE, 0.0, alpha=(1 - asked.confidence) / 2)
    if have < needs and not even_so:
        raise UserError(
            f"{have:,} independent items are too few for a margin of {asked.margin:g}: about {needs:,} are needed",
            where="eval",
            why=f"two models are taken to differ on {DISCORDANCE:.0%} of the items, for a chance of 80 %",
            hint="more items, a larger study.margin, or --even-so",
        )


# --------------------------------------------------------------------------------------------------- the answer


def answer(table: Sequence[dict[str, Any]], plan: Plan, price: Price | None = None) -> dict[str, Any]:
    """What finished cells say.

    Args:
        table: rows of `schema.CELLS`, as `to_pylist` gives them.
        plan: what was asked.
        price: of the machine, if it is known.

    Returns:
        {margin, confidence, proxy, reference: point, points: [point], choosing: [{size, gain, p, p_holm}], recommended:
        {method: size or None}, verdicts: {method: enough, too few or open}, settled}. A point is {method, size, seeds,
        accuracy, train_s, cost; loss, p, verdict, needed}: `loss` is less `all` (negative is worse), `verdict` whether
        its interval lies above, below or across the margin, `needed` how many seeds or items would settle it. `gain` is
        `cluster` less `random`. Intervals are over seeds and items together (tamis/crossed.py).
    """
    arms: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in table:
        arms.setdefault((row["method"], row["size"]), []).append(row)
    scores = {key: Scores(np.stack([_accuracy(r) for r in rows])) for key, rows in arms.items()}
    components = table[0]["components"]
    whole = next(key for key in scores if key[0] == REFERENCE)
    reference = scores[whole]
    lenders = [] if plan.proxy else [s for s in scores.values() if s.seeds > 1]
    if plan.proxy:  # the same rows give the same model: no seed would change it
        reference = Scores(np.repeat(reference.rows, 2, axis=0))

    def point(key: tuple[str, int], arm: Scores) -> dict[str, Any]:
        times = [r["train_s"] for r in arms[key] if r.get("train_s") is not None]
        seconds = float(np.mean(times)) if times else None
        return {
            "method": key[0],
            "size": key[1],
            "seeds": len(arms[key]),
            "accuracy": contrast([arm], [1], components, span=SPAN).interval(plan.confidence).as_dict(),
            "train_s": seconds,
            "cost": _cost(seconds, price or Price()),
        }

    points, recommended, verdicts = [], {}, {}
    for method in plan.methods:
        p_values = {}
        for size in plan.sizes:
            arm = scores[method, size]
            loss = contrast([arm, reference], [1, -1], components, span=SPAN, borrow=lenders)
            p_values[size] = loss.p_above(-plan.margin)
            points.append({**point((method, size), arm), "p": p_values[size], **_judged(loss, plan)})
        recommended[method] = min(fixed_sequence(p_values, (1 - plan.confidence) / 2), default=None)
        # the largest size speaks for its method: the smaller ones are tested only after it
        largest = next(p for p in points if (p["method"], p["size"]) == (method, max(plan.sizes)))
        verdicts[method] = largest["verdict"]
    return {
        "margin": plan.margin,
        "confidence": plan.confidence,
        "proxy": plan.proxy,
        "reference": point(whole, reference),
        "points": points,
        "choosing": _gains(scores, components, plan),
        "recommended": recommended,
        "verdicts": verdicts,
        "settled": any(v != "open" for v in verdicts.values()),
        "currency": price.currency if price else None,
    }


def _judged(loss: Contrast, plan: Plan) -> dict[str, Any]:
    interval = loss.interval(plan.confidence)
    assert interval.lower is not None
    assert interval.upper is not None
    limit = -plan.margin
    verdict = "enough" if interval.lower > limit else "too few" if interval.upper < limit else "open"
    missing = needed(loss, limit, confidence=plan.confidence).as_dict() if verdict == "open" else None
    return {"loss": interval.as_dict(), "verdict": verdict, "needed": missing}


def _gains(scores: dict[tuple[str, int], Scores], components: Any, plan: Plan) -> list[dict[str, Any]]:
    """`cluster` less `random` at every size, with p-values adjusted for all of the sizes."""
    if not {"cluster", "random"} <= set(plan.methods):
        return []
    gains: list[dict[str, Any]] = []
    for size in plan.sizes:
        gain = contrast([scores["cluster", size], scores["random", size]], [1, -1], components, span=SPAN)
        above = gain.p_above(0.0)
        interval = gain.interval(plan.confidence).as_dict()
        gains.append({"size": size, "gain": interval, "p": min(1.0, 2 * min(above, 1 - above))})
    adjusted = holm([g["p"] for g in gains])
    return [{**gain, "p_holm": p} for gain, p in zip(gains, adjusted, strict=True)]


def _accuracy(row: dict[str, Any]) -> np.ndarray:
    found = statistics_of(row, "accuracy")
    assert found is not None
    return found
