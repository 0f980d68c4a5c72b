"""What the cells of a study say: the loss of every size against all rows, the smallest that is enough, the curve.

Works on finished cells alone (`schema.CELLS`) and knows no training; `study.py` makes the cells. Losses are oriented:
below zero is worse, whichever way the metric points.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tamis import power_law
from tamis.cells import statistics_of
from tamis.crossed import Contrast, Scores, contrast, fixed_sequence, needed
from tamis.intervals import Statistic, holm
from tamis.recipe import Price

REFERENCE = "all"


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """The metric that decides.

    Attributes:
        name: of the registry (`evaluate/metrics.py`).
        up: whether more is better.
        span: least and largest possible value of a share or a mean; None where there is none, or for corpus metrics.
        statistic: sums of shape (m, k) to values of shape (m,), for corpus metrics.
    """

    name: str = "accuracy"
    up: bool = True
    span: tuple[float, float] | None = (0.0, 1.0)
    statistic: Statistic | None = None

    @property
    def sign(self) -> int:
        return 1 if self.up else -1


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a study asks, with nothing left open.

    Attributes:
        margin: the loss against `all` that is still acceptable, in the metric's unit (0.02 of accuracy: two points).
        sizes: rows, none above what a method can draw from.
        methods: of `draws.POOLS`, beside `all`.
        seeds: trainings of each cell, at most: with a limit on the cost some have fewer.
        confidence: of the two-sided intervals; a recommendation is tested one-sided at half the rest.
        proxy: a quick model in place of training.
        yardstick: what is measured.
    """

    margin: float
    sizes: Sequence[int]
    methods: Sequence[str] = ("cluster", "random")
    seeds: int = 5
    confidence: float = 0.95
    proxy: bool = False
    yardstick: Yardstick = Yardstick()


def answer(table: Sequence[dict[str, Any]], plan: Plan, price: Price | None = None) -> dict[str, Any]:
    """What finished cells say.

    Args:
        table: rows of `schema.CELLS`, as `to_pylist` gives them. Sizes that have no cell are left out of the answer.
        plan: what was asked.
        price: of the machine, if it is known.

    Returns:
        {metric, up, span, margin, confidence, proxy, reference: point, points: [point], choosing: [{size, gain, p,
        p_holm}], recommended: {method: size or None}, verdicts: {method: enough, too few or open}, curves: {method:
        power law}, settled}. A point is {method, size, seeds, value, tokens, train_s, evaluate_s, cost; loss, p,
        verdict, needed}: `loss` is less `all` (negative is worse), `verdict` whether its interval lies above, below or
        across the margin, `needed` how many seeds or items would settle it. `gain` is `cluster` less `random`.
        Intervals are over seeds and items together (tamis/crossed.py).
    """
    arms: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in table:
        arms.setdefault((row["method"], row["size"]), []).append(row)
    by = plan.yardstick
    scores = {key: Scores(np.stack([_outcome(r, by.name) for r in rows]), by.statistic) for key, rows in arms.items()}
    components = table[0]["components"]
    whole = next(key for key in scores if key[0] == REFERENCE)
    reference = scores[whole]
    lend = {} if plan.proxy else {key: _nearest(key[1], scores) for key in scores}
    if plan.proxy:  # the same rows give the same model: no seed would change it
        reference = Scores(np.repeat(reference.rows, 2, axis=0), by.statistic)

    def point(key: tuple[str, int], arm: Scores) -> dict[str, Any]:
        seconds = _mean(arms[key], "train_s")
        found = contrast([arm], [1], components, span=by.span, borrow=_pick(lend, key))
        return {
            "method": key[0],
            "size": key[1],
            "seeds": len(arms[key]),
            "value": found.interval(plan.confidence).as_dict(),
            "tokens": _mean(arms[key], "tokens"),
            "train_s": seconds,
            "evaluate_s": _mean(arms[key], "evaluate_s"),
            "cost": cost_of(seconds, price or Price()),
        }

    points, recommended, verdicts = [], {}, {}
    for method in plan.methods:
        p_values = {}
        for size in (s for s in plan.sizes if (method, s) in scores):
            arm = scores[method, size]
            weights = [by.sign, -by.sign]
            pair = _pick(lend, (method, size), whole)
            loss = contrast([arm, reference], weights, components, span=by.span, borrow=pair)
            p_values[size] = loss.p_above(-plan.margin)
            points.append({**point((method, size), arm), "p": p_values[size], **_judged(loss, plan)})
        if not p_values:
            continue
        recommended[method] = min(fixed_sequence(p_values, (1 - plan.confidence) / 2), default=None)
        # the largest size speaks for its method: the smaller ones are tested only after it
        largest = next(p for p in points if (p["method"], p["size"]) == (method, max(p_values)))
        verdicts[method] = largest["verdict"]
    return {
        "metric": by.name,
        "up": by.up,
        "span": None if by.span is None or math.isinf(by.span[1]) else list(by.span),
        "margin": plan.margin,
        "confidence": plan.confidence,
        "proxy": plan.proxy,
        "reference": point(whole, reference),
        "points": points,
        "choosing": _gains(scores, components, plan, lend),
        "recommended": recommended,
        "verdicts": verdicts,
        "curves": power_law.curves(
            scores,
            components,
            plan.methods,
            REFERENCE,
            up=by.up,
            span=by.span,
            margin=plan.margin,
            confidence=plan.confidence,
        ),
        "settled": any(v != "open" for v in verdicts.values()),
        "currency": price.currency if price else None,
    }


def cost_of(seconds: float | None, price: Price) -> float | None:
    """Money for so long on the machine; None where either is unknown."""
    return None if seconds is None or price.machine_hour is None else price.machine_hour * seconds / 3600


def _judged(loss: Contrast, plan: Plan) -> dict[str, Any]:
    interval = loss.interval(plan.confidence)
    assert interval.lower is not None
    assert interval.upper is not None
    limit = -plan.margin
    verdict = "enough" if interval.lower > limit else "too few" if interval.upper < limit else "open"
    missing = needed(loss, limit, confidence=plan.confidence).as_dict() if verdict == "open" else None
    return {"loss": interval.as_dict(), "verdict": verdict, "needed": missing}


def _gains(
    scores: dict[tuple[str, int], Scores], components: Any, plan: Plan, lend: dict[tuple[str, int], list[Scores]]
) -> list[dict[str, Any]]:
    """`cluster` less `random` at every size, with p-values adjusted for all of the sizes."""
    by = plan.yardstick
    gains: list[dict[str, Any]] = []
    for size in plan.sizes:
        if not {("cluster", size), ("random", size)} <= set(scores):
            continue
        pair = [scores["cluster", size], scores["random", size]]
        both = _pick(lend, ("cluster", size), ("random", size))
        gain = contrast(pair, [by.sign, -by.sign], components, span=by.span, borrow=both)
        above = gain.p_above(0.0)
        interval = gain.interval(plan.confidence).as_dict()
        gains.append({"size": size, "gain": interval, "p": min(1.0, 2 * min(above, 1 - above))})
    adjusted = holm([g["p"] for g in gains])
    return [{**gain, "p_holm": p} for gain, p in zip(gains, adjusted, strict=True)]


def agreement(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any] | None:
    """Whether two answers put methods and sizes in the same order: Spearman's rank correlation of their points.

    Args:
        one: an answer, say the proxy's.
        other: an answer on the same data, say that of training; it may have another metric and other sizes.

    Returns:
        {spearman, points}: over the points that both have, `all` among them, better is higher; None for fewer than
        four, where nearly any order can come of chance.
    """
    from scipy.stats import spearmanr

    def values(found: dict[str, Any]) -> dict[tuple[str, int], float]:
        sign = 1 if found["up"] else -1
        return {(p["method"], p["size"]): sign * p["value"]["value"] for p in [*found["points"], found["reference"]]}

    a, b = values(one), values(other)
    common = sorted(a.keys() & b.keys())
    if len(common) < 4:
        return None
    rho = spearmanr([a[k] for k in common], [b[k] for k in common]).statistic
    return {"spearman": float(rho) if math.isfinite(rho) else None, "points": len(common)}


def _nearest(size: int, scores: dict[tuple[str, int], Scores]) -> list[Scores]:
    """The arms trained more than once whose size is nearest, by ratio: luck shrinks as rows are added."""
    found = {key: abs(math.log(key[1] / size)) for key, arm in scores.items() if arm.seeds > 1}
    return [scores[key] for key, far in found.items() if far == min(found.values())]


def _pick(lend: dict[tuple[str, int], list[Scores]], *keys: tuple[str, int]) -> list[list[Scores]]:
    return [lend[key] for key in keys] if lend else []


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float | None:
    found = [r[key] for r in rows if r.get(key) is not None]
    return float(np.mean(found)) if found else None


def _outcome(row: dict[str, Any], metric: str) -> np.ndarray:
    found = statistics_of(row, metric)
    if found is None:
        raise KeyError(f"the cell {row.get('cell')!r} has no outcomes of {metric!r}, item by item")
    return found
