"""How few rows are enough, and is choosing better than drawing at random? Sizes x methods x seeds, and the answer.

    study(run, recipe, Plan(margin=0.02, sizes=(150, 300)))

Every method draws after decontamination (curate/draws.py); a size is a prefix of a seed's order; all cells are trained
for the same number of epochs and asked the same items (tamis/cells.py). `proxy` fits logistic regression on embeddings
instead of training: seconds, and another model, so its answer is about that one.
Writes `study/cells.parquet` and `study/result.json` (`proxy/` for the proxy) below the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tamis import schema
from tamis.cells import Cell, run_cells, statistics_of
from tamis.crossed import Scores, contrast, fixed_sequence, needed
from tamis.errors import UserError
from tamis.intervals import noninferiority_n
from tamis.recipe import Recipe
from tamis.run import Run

DISCORDANCE = 0.10  # fine-tunes of one base differ on 5 to 20 % of the items
REFERENCE = "all"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a study asks.

    Attributes:
        margin: the loss against `all` that is still acceptable, in points of accuracy (0.02).
        sizes: rows, each below the size of the pools.
        methods: of `draws.POOLS`, beside `all`.
        seeds: trainings of each cell.
        confidence: of the two-sided intervals; a recommendation is tested one-sided at half the rest.
        proxy: logistic regression on embeddings in place of training.
        even_so: go on although the evaluation set is too small for the margin.
    """

    margin: float
    sizes: Sequence[int]
    methods: Sequence[str] = ("cluster", "random")
    seeds: int = 5
    confidence: float = 0.95
    proxy: bool = False
    even_so: bool = False


def study(run: Run, recipe: Recipe, plan: Plan, *, quiet: bool = False) -> dict[str, Any]:
    """Train what is not trained yet, and answer. The caller holds the run's lock; the run is curated.

    Raises:
        UserError: the plan cannot be answered: margin, seeds, sizes or items; said before anything is trained.
    """
    cells = grid(run, recipe, plan)
    home = run.path / ("proxy" if plan.proxy else "study")
    table = run_cells(run, recipe, cells, home, quiet=quiet).to_pylist()
    result = answer(table, plan)
    schema.write_json(home / "result.json", result)
    return result


def grid(run: Run, recipe: Recipe, plan: Plan) -> list[Cell]:
    """The cells of a plan, seed by seed, so that an early stop leaves whole comparisons."""
    from tamis.curate import draws

    _check(plan, run, recipe)
    pools = {m: draws.pool(run, draws.POOLS[m]) for m in (*plan.methods, REFERENCE)}
    most = min(len(pools[m].ids) for m in plan.methods)
    if max(plan.sizes) > most:
        raise UserError(
            f"a size of {max(plan.sizes):,} is above the {most:,} rows there are to draw from",
            where="sizes",
            hint=f"sizes up to {most:,}",
        )
    system, found = "linear" if plan.proxy else "tuned", []
    for seed in range(recipe.seed, recipe.seed + plan.seeds):
        for method in (*plan.methods, REFERENCE):
            fixed = method in draws.FIXED
            if method == REFERENCE and plan.proxy and seed > recipe.seed:
                continue  # nothing in it depends on the seed
            ids = draws.ordered(run, recipe, method, recipe.seed if fixed else seed, pools[method])
            for size in (len(ids),) if method == REFERENCE else sorted(plan.sizes):
                about = {"method": method, "size": size}
                found.append(Cell(f"{method}-{size}-s{seed}", ids[:size], {"seed": seed}, about, system))
    return found


def _check(plan: Plan, run: Run, recipe: Recipe) -> None:
    if recipe.evaluate.task.kind != "classify":
        raise UserError("a study judges by accuracy so far", where="evaluate.task.kind", hint="kind: classify")
    if not 0 < plan.margin < 1:
        raise UserError(
            f"a margin of {plan.margin:g} cannot be shown",
            where="margin",
            why="no finite number of items proves a loss of exactly nothing",
            hint="the loss you would accept, such as 0.02",
        )
    if plan.seeds < 2:
        raise UserError("one seed cannot tell luck from rows", where="seeds", hint="seeds: 5")
    if not plan.sizes or min(plan.sizes) < 1:
        raise UserError("a study needs sizes of one row or more", where="sizes", hint="sizes: 150, 300, 600")
    components = pq.read_table(run.curate / "eval.parquet", columns=["component"])["component"]
    have = len(components.unique())
    needs = noninferiority_n(plan.margin, DISCORDANCE, 0.0, alpha=(1 - plan.confidence) / 2)
    if have < needs and not plan.even_so:
        raise UserError(
            f"{have:,} independent items are too few for a margin of {plan.margin:g}: about {needs:,} are needed",
            where="eval",
            why=f"two models are taken to differ on {DISCORDANCE:.0%} of the items, for a chance of 80 %",
            hint="more items, a larger margin, or even_so",
        )


def answer(table: Sequence[dict[str, Any]], plan: Plan) -> dict[str, Any]:
    """What finished cells say; the table of `run_cells` as a list.

    Returns:
        {points: [{method, size, seeds, accuracy, loss, p, needed}], choosing: [{size, gain}], recommended: {method:
        size or None}}. `loss` is less `all` (negative is worse), `gain` is `cluster` less `random`, both over seeds and
        items. `needed` says how many seeds or items would settle a size that is not settled.
    """
    arms: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in table:
        arms.setdefault((row["method"], row["size"]), []).append(row)
    scores = {key: Scores(np.stack([_accuracy(r) for r in rows])) for key, rows in arms.items()}
    components = table[0]["components"]
    reference = next(s for (m, _), s in scores.items() if m == REFERENCE)
    lenders = [] if plan.proxy else [s for s in scores.values() if s.seeds > 1]
    if plan.proxy:  # the same rows give the same model: no seed would change it
        reference = Scores(np.repeat(reference.rows, 2, axis=0))
    alpha, span = (1 - plan.confidence) / 2, (0.0, 1.0)
    points, recommended = [], {}
    for method in plan.methods:
        p_values = {}
        for size in sorted(plan.sizes):
            arm = scores[method, size]
            loss = contrast([arm, reference], [1, -1], components, span=span, borrow=lenders)
            interval = loss.interval(plan.confidence)
            p_values[size] = loss.p_above(-plan.margin)
            assert interval.lower is not None
            assert interval.upper is not None
            open_ = interval.lower <= -plan.margin <= interval.upper
            points.append(
                {
                    "method": method,
                    "size": size,
                    "seeds": arm.seeds,
                    "accuracy": contrast([arm], [1], components, span=span).interval(plan.confidence).as_dict(),
                    "loss": interval.as_dict(),
                    "p": p_values[size],
                    "needed": needed(loss, -plan.margin, confidence=plan.confidence).as_dict() if open_ else None,
                }
            )
        recommended[method] = min(fixed_sequence(p_values, alpha), default=None)
    gains = []
    if {"cluster", "random"} <= set(plan.methods):
        for size in sorted(plan.sizes):
            gain = contrast([scores["cluster", size], scores["random", size]], [1, -1], components, span=span)
            gains.append({"size": size, "gain": gain.interval(plan.confidence).as_dict()})
    return {
        "margin": plan.margin,
        "confidence": plan.confidence,
        "proxy": plan.proxy,
        "reference": float(reference.values().mean()),
        "points": points,
        "choosing": gains,
        "recommended": recommended,
    }


def _accuracy(row: dict[str, Any]) -> np.ndarray:
    found = statistics_of(row, "accuracy")
    assert found is not None
    return found
