"""The canary: a run's evaluation items put to a live endpoint, judged by the run's own gates and against its release.

    same-quality   the task's first metric, live less released, paired item by item
    same-form      share of outputs an answer could be taken from, likewise
    same-length    share of outputs cut at the token limit, likewise
    errors         share of requests that failed
    same-speed     median time of a request over that of the reference, an earlier check of this endpoint

A policy's gates come first. One on something that no endpoint shows (perplexity, a load, hardware, a time against a
model in another process) is named as not judged, neither passed nor failed.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from pathlib import Path
from typing import Any

import yaml

from tamis.evaluate import gate, measure
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.gate import Case
from tamis.evaluate.metrics import lookup, primary
from tamis.evaluate.policy import Gate, Policy, parse_policy
from tamis.run import Run

MOST_ERRORS = 0.05
WHERE = Path("tamis monitor")


@dataclasses.dataclass(frozen=True)
class Limits:
    """How far a live model may be from its release.

    Attributes:
        margin: loss that is tolerated: of a share as it stands (0.05 is five points), of another number times the
            released value.
        slower: times the reference's median that a request may take.
    """

    margin: float = 0.05
    slower: float = 2.0


@dataclasses.dataclass(frozen=True)
class Judged:
    """Rows as in `verdict.json`, gates that could not be judged, and the share of items answered as released."""

    rows: list[dict[str, Any]]
    left_out: list[str]
    agreement: float
    broken: list[str]


def judge(
    run: Run,
    live: Evidence,
    release: Evidence,
    reference: Evidence | None,
    policy: Policy | None,
    limits: Limits,
    today: datetime.date,
) -> Judged:
    """Judge what a live endpoint answered.

    Args:
        run: the released run; it holds what the policy compares with.
        live: from the endpoint.
        release: the system that passed the gate.
        reference: an earlier check of this endpoint, for its times; None where there is none.
        policy: the run's; None where it has none.
        limits: see there.
        today: decides which waivers are in force.

    Raises:
        EvidenceError: the two did not answer the same items.
    """
    own = _own(live, release, limits)
    case = Case(live, release, None)
    broken = gate.broken_requirements(run, own, case)
    rows: list[dict[str, Any]] = []
    left_out = []
    if policy is not None:
        theirs = Case(live, gate.baseline_of(run, release.arm, policy), None)
        for asked in policy.gates:
            if why := _no_business(asked, live):
                left_out.append(f"{asked.id} ({asked.metric}): {why}")
                continue
            row = gate.judge_gate(asked, policy, theirs)
            if waiver := policy.waiver_for(row["id"], today):
                row["waiver"] = waiver.model_dump(mode="json")
            rows.append(row)
    rows += [gate.judge_gate(asked, own, case) for asked in own.gates]
    if reference is not None and live.requests is not None:
        speed = _policy(
            [{"id": "same-speed", "metric": "latency.e2e.p50", "require": f"ratio.upper <= {limits.slower:g}"}]
        )
        rows.append(gate.judge_gate(speed.gates[0], speed, Case(live, reference, None)))
    return Judged(rows, left_out, _agreement(live, release), broken)


def measured(evidence: Evidence) -> dict[str, float]:
    """The numbers that are followed from check to check, by metric; what was not measured is left out."""
    names = [primary(str(evidence.about["kind"])), "parse_rate", "truncation_rate", "error_rate", "latency.e2e.p50"]
    found = {name: measure.absolute(evidence, name) for name in names}
    return {name: float(f.value) for name, f in found.items() if f.n and not math.isnan(f.value)}


def _own(live: Evidence, release: Evidence, limits: Limits) -> Policy:
    kind = str(release.about["kind"])
    closed = kind in ("classify", "regress")
    ids = {
        "same-quality": primary(kind),
        **({"same-form": "parse_rate"} if closed else {}),
        "same-length": "truncation_rate",
    }
    gates = [_within(id, metric, release, limits.margin) for id, metric in ids.items()]
    return _policy([*gates, {"id": "errors", "metric": "error_rate", "require": f"upper <= {MOST_ERRORS:g}"}])


def _within(id: str, name: str, release: Evidence, margin: float) -> dict[str, Any]:
    """A gate that the released value is not lost by more than the margin."""
    metric = lookup(name)
    if metric.family != "proportion":
        margin *= abs(measure.absolute(release, name).value) or 1.0
    unit = f" {metric.unit}" if metric.unit else ""
    bound = f"delta.lower > -{margin:.6g}" if metric.direction == "up" else f"delta.upper < {margin:.6g}"
    return {"id": id, "metric": name, "require": bound + unit}


def _policy(gates: list[dict[str, Any]]) -> Policy:
    raw = {"version": 1, "requires": {"same": ["eval_set", "extractor"], "checks": ["complete"]}, "gates": gates}
    return parse_policy(yaml.safe_dump(raw), WHERE)


def _no_business(asked: Gate, live: Evidence) -> str | None:
    """Why an endpoint's answers cannot say anything to a gate; None where they can."""
    metric = lookup(asked.metric)
    if asked.at is not None or asked.slo is not None or metric.family == "load":
        return "a check measures no load"
    if metric.family == "cost":
        return "a check knows no price"
    if metric.family == "time":
        if live.requests is None:
            return "the run times no requests (evaluate.latency.requests)"
        return None if asked.requirement.of == "absolute" else "the baseline ran in another process"
    if metric.rows is not None and metric.rows(live.answers) is None:
        return "no endpoint shows it"
    return None


def _agreement(live: Evidence, release: Evidence) -> float:
    """Share of items answered as the release answered them: by the answer, where there is one, else by the text."""
    a, b = measure.aligned(live.answers, release.answers)
    same: list[bool] = [bool(x == y and x is not None) for x, y in zip(a["answer"], b["answer"], strict=True)]
    return sum(same) / len(same)
