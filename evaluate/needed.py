"""How many more items an open question needs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from tamis import intervals
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.measure import aligned
from tamis.evaluate.metrics import Metric
from tamis.intervals import Interval

Grown = Callable[[float], Interval]


def grown(metric: Metric, candidate: Evidence, baseline: Evidence | None, confidence: float) -> Grown | None:
    """The interval if there were `k` times as many items, in clusters like these; None where only widths can be scaled.

    Args:
        metric: of a proportion, else None is returned.
        candidate: whose items.
        baseline: None for the value itself, else for the paired difference.
        confidence: of the interval.
    """
    if metric.family != "proportion" or metric.rows is None or not len(candidate.answers):
        return None
    if baseline is None:
        right, clusters = metric.rows(candidate.answers), candidate.answers.components
        return None if right is None else lambda k: intervals.proportion(right, clusters, confidence, times=k)
    ours, theirs = aligned(candidate.answers, baseline.answers)
    a, b = metric.rows(ours), metric.rows(theirs)
    if a is None or b is None:
        return None
    return lambda k: intervals.paired_proportion(a, b, ours.components, confidence, times=k)


def more_items(
    interval: Interval, holds: Callable[[float], bool], limit: float, min_n: int = 1, scaled: Grown | None = None
) -> int | None:
    """About how many more items would settle whether a value holds, if they were like the ones at hand.

    Args:
        interval: what is known now.
        holds: whether a value is on the good side of the limit.
        limit: the limit itself.
        min_n: fewest items that are judged at all.
        scaled: from `grown`; without it, widths shrink with the square root of n.

    Returns:
        None where no realistic number would: the value sits on the limit, or nothing is known of its spread.
    """
    short = max(0, min_n - interval.n)
    if interval.method == "order statistics" and interval.note:
        return short or None  # the note says how many a percentile needs
    if interval.value == limit or (scaled is None and (interval.lower is None or interval.upper is None)):
        return short or None
    good = holds(interval.value)

    def settled(k: float) -> bool:
        now = scaled(k) if scaled else _narrowed(interval, k)
        return all(bound is not None and holds(bound) == good for bound in (now.lower, now.upper))

    factor = intervals.scale_until(settled)
    return None if factor is None else max(short, math.ceil(interval.n * (factor - 1)))


def _narrowed(interval: Interval, k: float) -> Interval:
    assert interval.lower is not None
    assert interval.upper is not None
    root = math.sqrt(k)
    return dataclasses.replace(
        interval,
        lower=interval.value - (interval.value - interval.lower) / root,
        upper=interval.value + (interval.upper - interval.value) / root,
    )
