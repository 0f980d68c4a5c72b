"""Successive halving: weak candidates fall after few items, strong ones are asked on.

Jamieson and Talwalkar (2016, AISTATS, "Non-stochastic best arm identification and hyperparameter optimization"), after
the sequential halving of Karnin, Koren and Somekh (2013, ICML). As in the former, a candidate's answers are kept from
round to round. Three things are ours: rounds end at sizes that are given; two are left to the end, so that the winner
is told from its runner-up by pairs; and one that is *shown* to be worse than the leader, item by item, falls even if it
is of the better half, so that a clear race ends early.

What falls by halving alone was not shown to be worse: at 16 items hardly anything can be. The record says which is
which.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

LEFT = 2


class Score(NamedTuple):
    """What candidates are ordered by: the metric, then what tells equal ones apart. More is better; NaN is worst."""

    value: float
    tiebreak: float = math.nan

    def key(self) -> tuple[float, float]:
        return tuple(-math.inf if math.isnan(x) else x for x in self)  # type: ignore[return-value]


@dataclasses.dataclass(frozen=True)
class Cut:
    """The end of a round.

    Attributes:
        order: all of the round, best first.
        going_on: those that are asked on, in order; one alone has won.
        fallen: the others, and why.
    """

    order: list[str]
    going_on: list[str]
    fallen: dict[str, str]


def cut(scores: Mapping[str, Score], worse: Collection[str], *, left: int = LEFT, last: bool = False) -> Cut:
    """Who goes on after a round.

    Args:
        scores: of every candidate that was asked in it; of equal ones the earlier goes first.
        worse: those shown to be worse than the leader.
        left: so many go on, unless they are shown to be worse.
        last: after the last round nobody falls, there is nothing left to be asked.
    """
    order = sorted(scores, key=lambda name: scores[name].key(), reverse=True)  # stable: equal ones stay as they came
    if last:
        return Cut(order, order, {})
    half = max(left, math.ceil(len(order) / 2))
    going_on = [name for place, name in enumerate(order) if place < half and name not in worse]
    why = {n: "shown to be worse" if n in worse else "of the weaker half" for n in order if n not in going_on}
    return Cut(order, going_on, why)


def most_calls(candidates: int, rounds: Sequence[int], *, left: int = LEFT) -> int:
    """Most items that so many candidates are asked in all: if nothing is shown before the end."""
    alive, before, calls = candidates, 0, 0
    for size in rounds:
        calls += alive * (size - before)
        alive, before = min(alive, max(left, math.ceil(alive / 2))), size
    return calls
