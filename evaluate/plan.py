"""How many items a policy needs, before anything is spent: `tamis gate --plan`.

For each gate the fewest items (or timed requests) with which it passes with the given power, if the truth is as
assumed. What is assumed is part of the answer: nobody can plan without it, and a plan that hides it misleads.

| gate | assumed | formula |
|---|---|---|
| share, absolute | truth lies `headroom` on the good side of the limit | exact power of the Wilson bound |
| share, delta, with a margin | no difference; they disagree on a share `discordance` of the items | non-inferiority |
| share, delta, better by | a difference of `headroom` beyond the limit | the same, margin negative |
| percentile of a time | half of the tolerated share of requests is slower | exact power of the order statistic |
| anything else | spread as in the run at hand, a pilot; without one, unknown | normal |

Sources: survey of the field, research note 2.3; Lachin (1992) for paired proportions; Hahn and Meeker (1991).
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from typing import Any

import pyarrow.parquet as pq

from tamis import intervals
from tamis.errors import EvidenceError, UserError
from tamis.evaluate import measure
from tamis.evaluate.gate import Case, case_of
from tamis.evaluate.metrics import Metric, lookup
from tamis.evaluate.policy import Gate, Policy
from tamis.run import Run

DISCORDANCE = 0.10  # fine-tunes of one base differ on 5 to 20 % of the items (research note, section 2.3)
HEADROOM = 0.03
RELATIVE_HEADROOM = 0.05  # of the limit, for numbers that are no shares


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What a plan rests on.

    Attributes:
        power: chance to pass if the truth is as assumed.
        discordance: share of items on which candidate and baseline differ; None takes it from the run, else 10 %.
        headroom: how far on the good side of its limit the truth is, for shares.
    """

    power: float = 0.8
    discordance: float | None = None
    headroom: float = HEADROOM

    def __post_init__(self) -> None:
        for name in ("power", "discordance", "headroom"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise UserError(f"{name} is a share between 0 and 1, not {value:g}", where=f"--{name}")


@dataclasses.dataclass(frozen=True)
class Have:
    """What there is to judge by. Counts are of independent items: near-duplicates count once."""

    items: int | None = None
    slices: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    case: Case | None = None


def plan(policy: Policy, run: Run | None, arm: str | None, assumed: Assumptions) -> dict[str, Any]:
    """What every gate of a policy needs.

    Args:
        policy: from `load_policy`.
        run: its evaluation set says how many items there are, and its answers, if any, serve as a pilot.
        arm: whose answers; default the first.
        assumed: see there.

    Returns:
        {gates: [{id, metric, require, severity, needs, of, have, enough, assuming}], items, power}. `needs` is None
        where it cannot be known beforehand; `enough` is None where there is nothing to compare with.
    """
    have = _have(policy, run, arm)
    return {
        "policy": {"path": policy.path, "sha256": policy.sha256},
        "power": assumed.power,
        "items": have.items,
        "gates": [_row(gate, policy, have, assumed) for gate in policy.gates],
    }


def _have(policy: Policy, run: Run | None, arm: str | None) -> Have:
    if run is None:
        return Have()
    case = None
    try:
        case = case_of(run, policy, arm or next(iter(run.arms()), "main"))
        table = case.candidate.answers.table
    except EvidenceError:  # not evaluated yet: that is what a plan is for
        file = run.curate / "eval.parquet"
        if not file.is_file():
            return Have()
        table = pq.read_table(file, columns=list(_COLUMNS))
    rows = {(r["component"], r["label"], r["language"]) for r in table.select(_COLUMNS).to_pylist()}
    counts = {
        by: dict(Counter(str(v) for _, v in {(row[0], row[place]) for row in rows}))
        for place, by in enumerate(_COLUMNS)
        if place
    }
    return Have(len({component for component, _, _ in rows}), counts, case)


_COLUMNS = ("component", "label", "language")


def _row(gate: Gate, policy: Policy, have: Have, assumed: Assumptions) -> dict[str, Any]:
    metric = lookup(gate.metric)
    there = have.items
    alpha = (1 - (gate.confidence or policy.defaults.confidence)) / 2
    slices = have.slices.get(gate.by, {}) if gate.by else {}
    if slices and policy.defaults.multiplicity == "holm":
        alpha /= len(slices)  # Holm's first step: the slice that needs the most
    of = {"time": "requests", "load": "batches", "cost": "batches"}.get(metric.family, "items")
    if gate.slo is not None:
        of = "requests"
    needs, assuming = _needs(gate, metric, have.case, assumed, alpha)
    if needs is not None:
        needs = max(needs, gate.min_n or policy.defaults.min_n)
    if gate.by:
        of = f"items per {gate.by}"
        there = min(slices.values()) if slices else None
    if of == "requests":
        there = _timed(have.case)
    if of == "batches":
        there = None
    return {
        "id": gate.id,
        "metric": gate.metric,
        "require": gate.require,
        "severity": gate.severity,
        "needs": needs,
        "of": of,
        "have": there,
        "enough": None if needs is None or there is None else there >= needs,
        "assuming": assuming,
    }


def _timed(case: Case | None) -> int | None:
    if case is None or case.candidate.requests is None:
        return None
    return sum(not w for w in case.candidate.requests.column("warmup").to_pylist())


def _needs(gate: Gate, metric: Metric, case: Case | None, assumed: Assumptions, alpha: float) -> tuple[int | None, str]:
    requirement = gate.requirement
    if requirement.bound == "value":
        return 1, "judged on the value alone, so any number of items decides"
    if metric.family == "time" and requirement.of == "absolute":
        q = int(metric.id.rpartition(".p")[2]) / 100
        tail = (1 - q) / 2
        return _requests(q, tail, alpha, assumed.power), f"{tail:.2%} of the requests are slower than the limit"
    if gate.slo is not None:
        return _share(requirement.limit, metric, assumed, alpha)
    if metric.family == "proportion":
        if requirement.of == "delta":
            return _paired(gate, metric, case, assumed, alpha)
        return _share(requirement.limit, metric, assumed, alpha)
    return _from_pilot(gate, metric, case, assumed, alpha)


def _share(limit: float, metric: Metric, assumed: Assumptions, alpha: float) -> tuple[int | None, str]:
    """An absolute limit on a share; a metric that is better low is planned by its complement."""
    floor = limit if metric.direction == "up" else 1 - limit
    if not 0 <= floor < 1:
        return None, f"no {metric.id} is on the good side of {limit:g}"
    truth = floor + min(assumed.headroom, (1 - floor) / 2)
    shown = truth if metric.direction == "up" else 1 - truth
    return intervals.proportion_n(floor, truth, alpha=alpha, power=assumed.power), f"{metric.id} is {shown:.4g}"


def _paired(
    gate: Gate, metric: Metric, case: Case | None, assumed: Assumptions, alpha: float
) -> tuple[int | None, str]:
    limit = gate.requirement.limit
    margin = -limit if metric.direction == "up" else limit
    difference = 0.0 if margin > 0 else -margin + assumed.headroom
    discordance, source = assumed.discordance, "given"
    if discordance is None:
        seen = _discordance(metric, case)
        discordance, source = (DISCORDANCE, "assumed") if seen is None else (seen, "as in the run at hand")
        if (flips := _flips(case)) is not None and flips > discordance:
            discordance, source = flips, "as a system disagrees with itself"
    discordance = max(discordance, abs(difference))
    needs = intervals.noninferiority_n(margin, discordance, difference, alpha=alpha, power=assumed.power)
    gain = f"a gain of {difference:.4g}" if difference else "no difference"
    return needs, f"{gain}, the two disagree on {discordance:.1%} of the items ({source})"


def _flips(case: Case | None) -> float | None:
    """The larger A/A flip rate of the two sides; None where neither was asked again."""
    told = [e.about.get("again") for e in (case.candidate, case.baseline) if e is not None] if case else []
    return max((again["rate"]["value"] for again in told if again and again["items"]), default=None)


def _discordance(metric: Metric, case: Case | None) -> float | None:
    """Share of items on which the two differ, with one imagined: none seen does not mean that there are none."""
    if case is None or case.baseline is None or metric.rows is None:
        return None
    try:
        a, b = (metric.rows(answers) for answers in measure.aligned(case.candidate.answers, case.baseline.answers))
    except EvidenceError:
        return None
    return None if a is None or b is None else float((a != b).sum() + 1) / (len(a) + 1)


def _requests(q: float, tail: float, alpha: float, power: float) -> int:
    """Fewest timed requests whose q-quantile is bounded below a limit that a share `tail` of requests exceeds."""
    from scipy.stats import binom

    n = intervals.quantile_min_n(q, 1 - 2 * alpha)
    while True:
        # the bound is the value of this rank: it is within the limit if no more than n - rank requests exceed it
        rank = int(binom.ppf(1 - alpha, n, q)) + 1
        if rank <= n and binom.cdf(n - rank, n, tail) >= power:
            return n
        n += max(1, n // 100)


def _from_pilot(
    gate: Gate, metric: Metric, case: Case | None, assumed: Assumptions, alpha: float
) -> tuple[int | None, str]:
    """Scale the width that a pilot has; its standard error shrinks with the root of n."""
    from scipy.special import ndtri

    interval = _pilot(gate, metric, case)
    if interval is None or interval.lower is None or interval.upper is None:
        return None, "unknown before a pilot: evaluate about 100 items, then plan again with the run"
    spread = (interval.upper - interval.lower) / (2 * float(ndtri(0.975)))
    limit = gate.requirement.limit
    absolute = gate.requirement.of != "delta"
    distance = RELATIVE_HEADROOM * abs(limit if absolute and limit else interval.value) or RELATIVE_HEADROOM
    if not absolute and (margin := -limit if metric.direction == "up" else limit) > 0:
        distance = margin
    z = float(ndtri(1 - alpha) + ndtri(assumed.power))
    needs = math.ceil(interval.n * (z * spread / distance) ** 2)
    return max(2, needs), f"the truth is {distance:.4g} from the limit, spread as in the {interval.n} at hand"


def _pilot(gate: Gate, metric: Metric, case: Case | None) -> intervals.Interval | None:
    if case is None:
        return None
    try:
        if gate.requirement.of == "absolute" or case.baseline is None:
            return measure.absolute(case.candidate, metric.id, 0.95, case.price)
        how = measure.delta if gate.requirement.of == "delta" else measure.ratio
        return how(case.candidate, case.baseline, metric.id, 0.95, case.price)
    except EvidenceError:
        return None


def enough(found: dict[str, Any]) -> bool:
    """Whether no required gate is known to have too few items."""
    return all(row["enough"] is not False for row in found["gates"] if row["severity"] == "required")


def lines(found: dict[str, Any]) -> list[str]:
    """A line for each gate."""
    told = [f"to pass with a chance of {found['power']:.0%}, if the truth is as assumed:"]
    for row in found["gates"]:
        needs = "unknown" if row["needs"] is None else f"{row['needs']:,} {row['of']}"
        have = "" if row["have"] is None else f" (there are {row['have']:,}{'' if row['enough'] else ': TOO FEW'})"
        told.append(f"  {row['id']}: {row['metric']} {row['require']}: {needs}{have}; {row['assuming']}")
    return told
