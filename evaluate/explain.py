"""What a gate asks and why it ruled as it did, in sentences: `tamis gate --explain`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from tamis.evaluate.metrics import lookup
from tamis.evaluate.policy import Gate, Policy
from tamis.evaluate.render import measured, number

WIDTH = 110
SLICES_SHOWN = 5

# Where a method comes from, by the first word of its name in a verdict.
METHODS = {
    "wilson": "Wilson's score interval (1927)",
    "tango": "Tango's score interval for paired proportions (1998)",
    "t": "Student's t, clustered where items are near-duplicates (Miller 2024, appendix A)",
    "cluster": "cluster bootstrap, BCa (Efron 1987)",
    "paired": "paired cluster bootstrap on the sums of both systems, BCa (Efron 1987)",
    "order": "order statistics, no assumption on the distribution (Hahn and Meeker 1991)",
    "ratio,": "ratio of sums, Student's t by linearisation (Cochran 1977)",
    "machine": "price of an hour over the measured capacity",
    "token": "token prices, Student's t over items",
}


def explain(policy: Policy, verdict: dict[str, Any] | None) -> str:
    """Every gate of a policy; with a verdict also what was found and why that decides.

    Args:
        policy: from `load_policy`.
        verdict: from `judge` with this policy, or None to explain the policy alone.
    """
    arm = verdict["arms"][verdict["arm"]] if verdict else None
    blocks = [_head(policy, verdict)]
    rows = {row["id"]: row for row in arm["gates"]} if arm else {}
    for gate in policy.gates:
        row = rows.get(gate.id)
        lines = [
            f"{gate.id}" + (f"  {row['verdict']}" if row else "") + (" (warns only)" if gate.severity == "warn" else "")
        ]
        for name, told in (*_asks(gate, policy), *(_found(gate, row) if row else ())):
            lines += textwrap.wrap(told, WIDTH, initial_indent=f"  {name:<9}", subsequent_indent=" " * 11)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _head(policy: Policy, verdict: dict[str, Any] | None) -> str:
    of = policy.evidence
    lines = [
        f"policy {policy.path} ({policy.sha256[:12]}): {of.candidate} is judged"
        + (f" against {of.baseline}" if any(g.requirement.of != "absolute" for g in policy.gates) else ""),
    ]
    if must := [*policy.requires.checks, *(f"same {s}" for s in policy.requires.same)]:
        lines.append(f"before any number: {', '.join(must)} must hold, else the verdict is INVALID")
    if verdict is None:
        return "\n".join(lines)
    arm = verdict["arms"][verdict["arm"]]
    lines += [f"  broken: {why}" for why in arm["requires"]]
    lines.append(f"{verdict['verdict']} (exit code {verdict['exit_code']}): {_decisive(arm)}")
    return "\n".join(lines)


def _decisive(arm: dict[str, Any]) -> str:
    """Why the verdict is the one it is."""
    if arm["requires"]:
        return "the evidence cannot be trusted, whatever the numbers say"
    if arm["verdict"] == "PASS":
        excused = [r["id"] for r in arm["gates"] if r["verdict"] != "PASS"]
        return "every required gate passes" + (f"; excused: {', '.join(excused)}" if excused else "")
    decided = [r["id"] for r in arm["gates"] if r["verdict"] == arm["verdict"] and r["severity"] == "required"]
    return f"decided by {', '.join(decided)}; FAIL comes before INVALID before INCONCLUSIVE before PASS"


def _asks(gate: Gate, policy: Policy) -> Iterator[tuple[str, str]]:
    metric, requirement = lookup(gate.metric), gate.requirement
    side = {"lower": "the lower bound", "upper": "the upper bound", "value": "the value alone"}[requirement.bound]
    of = {
        "absolute": "",
        "delta": " of the difference to the baseline, item by item" if metric.quality else " of the difference",
        "ratio": " of the ratio to the baseline",
    }[requirement.of]
    unit = f" {metric.unit}" if metric.unit and requirement.of != "ratio" else ""
    confidence = gate.confidence or policy.defaults.confidence
    yield "measures", f"{metric.id}: {metric.what}. An item without an answer: {metric.missing}."
    yield (
        "asks",
        f"{side}{of} must be {requirement.op} {requirement.limit:g}{unit}, at {confidence:.0%} confidence"
        + (f", under {gate.at}" if gate.at else ""),
    )
    if requirement.of == "delta" and metric.quality and requirement.limit != 0:
        yield "meaning", _meaning(requirement.limit, metric.direction)
    if gate.by:
        adjusted = "adjusted by Holm for their number" if policy.defaults.multiplicity == "holm" else "not adjusted"
        yield "slices", f"each {gate.by} on its own, {adjusted}; the worst is the gate's verdict"
    if min_n := gate.min_n or (policy.defaults.min_n if policy.defaults.min_n > 1 else None):
        yield "fewest", f"below {min_n} nothing is certain"


def _meaning(limit: float, direction: str) -> str:
    loss = -limit if direction == "up" else limit
    if loss > 0:
        return f"non-inferiority: a loss of {loss:g} or more must be ruled out; no gain has to be shown"
    return f"superiority: a gain of more than {-loss:g} must be shown"


def _found(gate: Gate, row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if row["n"]:
        how = next((v for k, v in METHODS.items() if row["method"].split(" ")[0].rstrip(",") == k.rstrip(",")), "")
        yield "found", f"{measured(row)} {row['over']}, by {row['method']}" + (f": {how}" if how else "")
    yield "because", _because(gate, row)
    for part in _worst_slices(row):
        yield "slice", f"{part['slice']}: {part['verdict']}, {measured(part)}"
    if row["needed"]:
        yield "needs", f"about {row['needed']:,} more {row['over']} like these to settle it"
    if row["lever"]:
        yield "try", row["lever"]
    if waiver := row.get("waiver"):
        yield "waived", f"until {waiver['until']} by {waiver['by']}: {waiver['reason']}"


def _because(gate: Gate, row: dict[str, Any]) -> str:
    requirement, note = gate.requirement, row["note"]
    if row["verdict"] == "INVALID" or row.get("slices"):
        return str(note or "every slice passes")
    if requirement.bound == "value":
        return f"{note}; its interval is [{number(row['lower'])}, {number(row['upper'])}]"
    up = requirement.op[0] == ">"
    worst, best = (row["lower"], row["upper"]) if up else (row["upper"], row["lower"])
    limit = f"{requirement.op} {requirement.limit:g}"
    if row["verdict"] == "PASS":
        return f"even the unfavourable bound, {number(worst)}, is {limit}"
    if row["verdict"] == "FAIL":
        return f"not even the favourable bound, {number(best)}, is {limit}"
    if note:
        return str(note)
    return f"the limit lies inside the interval: {number(worst)} is not {limit}, {number(best)} is"


def _worst_slices(row: dict[str, Any]) -> list[dict[str, Any]]:
    parts = [p for p in row.get("slices") or [] if p["verdict"] != "PASS"]
    return parts[:SLICES_SHOWN]
