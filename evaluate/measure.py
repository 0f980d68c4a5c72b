"""Numbers with intervals from evidence: absolute, difference (delta) and ratio to a baseline, for any metric.

`metrics.py` says what a metric is, `tamis/intervals.py` how sure one can be; this file joins them. Comparison, gate
and slices all come through here, so they cannot disagree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from tamis import intervals
from tamis.errors import EvidenceError
from tamis.evaluate import cost
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.metrics import Answers, Metric, durations, lookup
from tamis.intervals import Floats, Interval
from tamis.recipe import Price

SEED = 7  # of the bootstrap draws; a constant, so that the same evidence gives the same bounds in every run
NOT_MEASURED = "not measured for this system"


def absolute(evidence: Evidence, id: str, confidence: float = 0.95, price: Price | None = None) -> Interval:
    """A system's value of a metric.

    Returns:
        An interval; `n` is 0 and the value NaN where the system has no such number.

    Raises:
        KeyError: unknown metric.
        EvidenceError: files that cannot be read.
    """
    metric = lookup(id)
    if metric.quality:
        return of_answers(evidence.answers, metric, confidence)
    if metric.family == "time":
        if evidence.requests is None:
            return intervals.missing("order statistics", NOT_MEASURED, over="requests", confidence=confidence)
        _, kind, percentile = id.split(".")
        return intervals.quantile(durations(evidence.requests, kind), int(percentile[1:]) / 100, confidence)
    if id == "load.attainment":
        return intervals.missing("wilson", "a gate on it needs slo: {ttft: 800 ms}", confidence=confidence)
    if metric.family == "load":
        return cost.throughput(evidence, confidence)
    return _priced(evidence, metric, confidence, price)


def attained(evidence: Evidence, slo: Mapping[str, float], confidence: float = 0.95) -> Interval:
    """Share of the timed requests that were answered within every limit, Wilson bounds.

    A failed request is not within, nor is one whose tokens are unknown where `tpot` is limited. An answer of one token
    has no time per further token, so that limit does not concern it.

    Args:
        evidence: at one load.
        slo: limits in milliseconds by duration: `ttft`, `e2e`, `tpot`.
        confidence: of the two-sided interval.
    """
    if evidence.requests is None:
        return intervals.missing("wilson", NOT_MEASURED, over="requests", confidence=confidence)
    rows = [r for r in evidence.requests.to_pylist() if not r["warmup"]]
    found = intervals.proportion([_within_slo(r, slo) for r in rows], None, confidence)
    return dataclasses.replace(found, over="requests")


def _within_slo(row: dict[str, Any], slo: Mapping[str, float]) -> bool:
    if row["status"] != "ok" or row["first_s"] is None or row["last_s"] is None:
        return False
    took = {"ttft": row["first_s"] - row["sent_s"], "e2e": row["last_s"] - row["sent_s"]}
    if "tpot" in slo:
        if row["output_tokens"] is None:
            return False
        took["tpot"] = (row["last_s"] - row["first_s"]) / max(1, row["output_tokens"] - 1)
    return all(1e3 * took[kind] <= limit for kind, limit in slo.items())


def _priced(evidence: Evidence, metric: Metric, confidence: float, price: Price | None) -> Interval:
    if price is None or price.currency.upper() != metric.unit:
        given = price.currency if price else "none"
        return intervals.missing("cost", f"prices are given in {given}, not {metric.unit}", confidence=confidence)
    return (cost.per_1k if metric.id.endswith("_1k") else cost.per_correct)(evidence, price, confidence)


def of_answers(answers: Answers, metric: Metric, confidence: float = 0.95) -> Interval:
    """The value of a quality metric on some answers (a whole evaluation, or a slice of one)."""
    assert metric.rows is not None
    if len(answers) == 0:
        return intervals.missing(metric.family, "no items", confidence=confidence)
    rows = metric.rows(answers)
    if rows is None:
        return intervals.missing(metric.family, "does not apply to these answers", confidence=confidence)
    clusters = answers.components
    if metric.family == "proportion":
        return intervals.proportion(rows[:, 0], clusters, confidence)
    if metric.family == "mean":
        return _within(intervals.mean(rows[:, 0], clusters, confidence, pseudo=_extremes(metric)), metric.span)
    assert metric.statistic is not None
    pseudo = metric.pseudo(answers) if metric.pseudo else None
    return intervals.bootstrap(rows, metric.statistic, clusters, confidence, seed=SEED, pseudo=pseudo)


def _extremes(metric: Metric) -> tuple[float, ...]:
    """Least and largest score of a bounded metric; nothing for others."""
    return metric.span if all(math.isfinite(v) for v in metric.span) else ()


def _within(interval: Interval, span: tuple[float, float]) -> Interval:
    lower = None if interval.lower is None else max(span[0], interval.lower)
    upper = None if interval.upper is None else min(span[1], interval.upper)
    return dataclasses.replace(interval, lower=lower, upper=upper)


def delta(
    candidate: Evidence, baseline: Evidence, id: str, confidence: float = 0.95, price: Price | None = None
) -> Interval:
    """Candidate less baseline: paired by item for quality, from both intervals for time, load and cost.

    Raises:
        EvidenceError: the two did not answer the same items.
    """
    metric = lookup(id)
    if metric.quality:
        return delta_of_answers(*aligned(candidate.answers, baseline.answers), metric, confidence)
    return _joined(candidate, baseline, id, confidence, price, lambda a, b: a - b)


def delta_of_answers(candidate: Answers, baseline: Answers, metric: Metric, confidence: float = 0.95) -> Interval:
    """Paired difference of a quality metric. Both must hold the same items in the same order: `aligned`."""
    assert metric.rows is not None
    if len(candidate) == 0:
        return intervals.missing(metric.family, "no items", confidence=confidence)
    a, b = metric.rows(candidate), metric.rows(baseline)
    if a is None or b is None:
        return intervals.missing(metric.family, "does not apply to both", confidence=confidence)
    clusters = candidate.components
    if metric.family == "proportion":
        return intervals.paired_proportion(a[:, 0], b[:, 0], clusters, confidence)
    if metric.family == "mean":
        reach = metric.span[1] - metric.span[0]
        pseudo = (-reach, reach) if math.isfinite(reach) else ()
        return intervals.mean(a[:, 0] - b[:, 0], clusters, confidence, pseudo=pseudo)
    return _paired_bootstrap(metric, a, b, _paired_pseudo(metric, candidate), clusters, confidence)


def _paired_pseudo(metric: Metric, answers: Answers) -> Floats | None:
    """Imagined pairs on which the two disagree, one each way."""
    if metric.pseudo is None:
        return None
    right, wrong = metric.pseudo(answers)
    return np.stack([np.concatenate([right, wrong]), np.concatenate([wrong, right])])


def _paired_bootstrap(
    metric: Metric, a: Floats, b: Floats, pseudo: Floats | None, clusters: np.ndarray, confidence: float
) -> Interval:
    statistic = metric.statistic
    assert statistic is not None
    width = a.shape[1]

    def difference(sums: Floats) -> Floats:
        return statistic(sums[:, :width]) - statistic(sums[:, width:])

    rows = np.concatenate([a, b], axis=1)
    found = intervals.bootstrap(rows, difference, clusters, confidence, seed=SEED, pseudo=pseudo)
    return dataclasses.replace(found, method=f"paired {found.method}")


def ratio(
    candidate: Evidence, baseline: Evidence, id: str, confidence: float = 0.95, price: Price | None = None
) -> Interval:
    """Candidate over baseline, from the intervals of both; for times, load and cost."""
    return _joined(candidate, baseline, id, confidence, price, _over)


def _over(a: float, b: float) -> float:
    if b == 0:
        return math.nan if a == 0 else math.inf
    return math.nan if math.isinf(a) and math.isinf(b) else a / b


def _joined(
    candidate: Evidence,
    baseline: Evidence,
    id: str,
    confidence: float,
    price: Price | None,
    how: Callable[[float, float], float],
) -> Interval:
    """Join two intervals at the confidence at which both hold together (Bonferroni): conservative, no assumption.

    The bounds are those of the worst and the best combination, which is right for differences, and for ratios of
    positive quantities.
    """
    joint = 1 - (1 - confidence) / 2
    a, b = (absolute(e, id, joint, price) for e in (candidate, baseline))
    if math.isnan(a.value) or math.isnan(b.value):
        which = candidate if math.isnan(a.value) else baseline
        why = f"{which.name}: {a.note if which is candidate else b.note}"
        return intervals.missing("Bonferroni", why, over=a.over, confidence=confidence)
    lower = None if a.lower is None or b.upper is None else how(a.lower, b.upper)
    upper = None if a.upper is None or b.lower is None else how(a.upper, b.lower)
    note = a.note or b.note
    return Interval(
        how(a.value, b.value), lower, upper, min(a.n, b.n), f"{a.method}, Bonferroni", a.over, confidence, note
    )


def aligned(candidate: Answers, baseline: Answers) -> tuple[Answers, Answers]:
    """Both in the order of item ids.

    Raises:
        EvidenceError: not the same items, an item twice, or other right answers.
    """
    for answers in (candidate, baseline):
        if len(set(answers["id"])) < len(answers):
            raise EvidenceError("an item was answered twice", why=f"{len(answers)} answers, fewer items")
    theirs, ours = set(baseline["id"]), set(candidate["id"])
    if theirs != ours:
        raise EvidenceError(
            "candidate and baseline did not answer the same items",
            why=f"{len(ours - theirs)} only by the candidate, {len(theirs - ours)} only by the baseline",
            hint="tamis evaluate RECIPE",
        )
    a, b = (Answers(x.table.take(pc.sort_indices(x.table.column("id")))) for x in (candidate, baseline))
    if a["expected"] != b["expected"]:
        raise EvidenceError("candidate and baseline were judged by different right answers")
    return a, b


def sliced(answers: Answers, by: str) -> dict[str, Answers]:
    """The answers by value of a column (`label`, `language`), values in order; items without one are `(none)`."""
    values = [v if v is not None else "(none)" for v in answers[by]]
    return {
        value: Answers(answers.table.filter(np.asarray([v == value for v in values]))) for value in sorted(set(values))
    }
