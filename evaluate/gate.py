"""The gate: evidence and a policy in, a verdict and an exit code out.

    PASS           the whole interval is on the good side of the limit          exit 0
    FAIL           the whole interval is on the bad side                        exit 1
    INCONCLUSIVE   the limit lies inside; says how many more items would tell   exit 3
    INVALID        the evidence cannot be trusted; says why                     exit 4

See docs/decisions/0005-verdicts-and-exit-codes.md. Reads files only: no model, no torch.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import yaml

from tamis import intervals
from tamis.errors import EvidenceError, ExitCode
from tamis.evaluate import champion, judged, levels, measure
from tamis.evaluate import needed as needed_
from tamis.evaluate.cost import Tariff
from tamis.evaluate.evidence import UNKNOWN, Evidence, find
from tamis.evaluate.levers import lever
from tamis.evaluate.metrics import Answers, Metric, lookup
from tamis.evaluate.policy import At, Gate, Policy, Requirement
from tamis.intervals import Interval
from tamis.recipe import Price
from tamis.run import Run
from tamis.schema import read_json, write_atomic, write_json

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]

# The first that occurs among the required gates is the verdict.
ORDER: tuple[Verdict, ...] = ("FAIL", "INVALID", "INCONCLUSIVE", "PASS")
EXIT: dict[Verdict, ExitCode] = {
    "PASS": ExitCode.DONE,
    "FAIL": ExitCode.FAIL,
    "INCONCLUSIVE": ExitCode.INCONCLUSIVE,
    "INVALID": ExitCode.INVALID,
}
# Metrics that rest on the extractor: when it got nothing out of any output, they say nothing about the model.
EXTRACTED = ("accuracy", "macro_f1", "parse_rate", "mae", "rmsle")


@dataclasses.dataclass(frozen=True)
class Ruling:
    """A verdict with its reason."""

    verdict: Verdict
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Case:
    """What a gate is judged on. `baseline` is None where no gate compares."""

    candidate: Evidence
    baseline: Evidence | None
    price: Price | None


def judge(run: Run, policy: Policy, arm: str | None = None, *, today: datetime.date | None = None) -> dict[str, Any]:
    """Judge every arm of a run and write `verdict.json`: `verdict_on`, then `write`."""
    verdict = verdict_on(run, policy, arm, today)
    write(run, policy, verdict)
    return verdict


def write(run: Run, policy: Policy, verdict: dict[str, Any]) -> None:
    """Keep a verdict in its run, with a copy of the champion that was compared with: it can be replayed from there."""
    if (file := policy.champion) is not None and file.is_file() and file.resolve() != run.champion.resolve():
        write_atomic(run.champion, file.read_bytes())
    write_json(run.verdict, verdict)


def verdict_on(run: Run, policy: Policy, arm: str | None, today: datetime.date | None = None) -> dict[str, Any]:
    """The verdict on a run, arm by arm; nothing is written.

    Args:
        run: a run with complete evaluations.
        policy: from `load_policy`.
        arm: the arm whose verdict is the run's; default: the first.
        today: decides which waivers are in force; default: today (UTC).

    Returns:
        What `verdict.json` holds. `exit_code` is what the shell shall see.
    """
    today = today or datetime.datetime.now(datetime.UTC).date()
    arms = [a for a in run.arms() if run.systems(a)] or [arm or "main"]
    first = arm or arms[0]
    judged = {name: judge_arm(run, policy, name, today) for name in dict.fromkeys([first, *arms])}
    shas = sorted({side["sha256"] for a in judged.values() for side in a["evidence"]})
    top = judged[first]
    return {
        "verdict": top["verdict"],
        "exit_code": top["exit_code"],
        "arm": first,
        "policy": {"path": policy.path, "sha256": policy.sha256, "text": policy.text},
        "evidence": policy.evidence.model_dump(),
        "evidence_sha256": hashlib.sha256("\n".join(shas).encode()).hexdigest(),
        "judged": today.isoformat(),
        "arms": judged,
    }


def judge_arm(run: Run, policy: Policy, arm: str, today: datetime.date) -> dict[str, Any]:
    """One arm's verdict: requirements first, then every gate."""
    environment: dict[str, Any] = {}
    try:
        case = case_of(run, policy, arm)
        environment = case.candidate.environment
        broken = broken_requirements(run, policy, case)
    except EvidenceError as error:
        case, broken = None, [str(error).replace("\n", " ")]
    if case is None:
        gates = [_row(gate, Ruling("INVALID", broken[0])) for gate in policy.gates]
    else:
        gates = [judge_gate(gate, policy, case) for gate in policy.gates]
    for row in gates:
        if waiver := policy.waiver_for(row["id"], today):
            row["waiver"] = waiver.model_dump(mode="json")
    verdict = "INVALID" if broken else overall([row for row in gates if counts(row)])
    sides = {"candidate": case.candidate, "baseline": case.baseline} if case else {}
    return {
        "verdict": verdict,
        "exit_code": int(EXIT[verdict]),
        "requires": broken,
        "environment": environment,
        "gates": gates,
        "evidence": [{"side": k, "name": e.name, "sha256": e.sha256} for k, e in sides.items() if e is not None],
    }


def counts(row: dict[str, Any]) -> bool:
    """Whether a gate takes part in the verdict. A waiver excuses a number, never evidence that cannot be trusted."""
    if row["severity"] == "warn":
        return False
    return not (row.get("waiver") and row["verdict"] != "INVALID")


def overall(rows: list[dict[str, Any]]) -> Verdict:
    """The worst verdict of some gates, PASS where there are none."""
    found = {row["verdict"] for row in rows}
    return next((v for v in ORDER if v in found), "PASS")


# ----------------------------------------------------------------------------------------------- the evidence


def case_of(run: Run, policy: Policy, arm: str) -> Case:
    """The evidence that a policy names, for one arm.

    Raises:
        EvidenceError: it is not there, or cannot be read.
    """
    return Case(find(run, arm, policy.evidence.candidate), baseline_of(run, arm, policy), _price(run))


def baseline_of(run: Run, arm: str, policy: Policy) -> Evidence | None:
    """What a policy compares an arm with; None where no gate compares.

    Raises:
        EvidenceError: it is not there, or cannot be read.
    """
    if all(gate.requirement.of == "absolute" for gate in policy.gates):
        return None
    if policy.champion is not None:
        return champion.load(policy.champion)
    name = policy.evidence.baseline
    if ":" not in name:
        return find(run, arm, name)
    folder, _, system = name.rpartition(":")
    other = Run(Path(folder))
    theirs, _, system = system.rpartition("/")
    return find(other, theirs or (other.arms() or [arm])[0], system)


def _price(run: Run) -> Price | None:
    """The price in the run's recipe; None where there is no recipe to read."""
    try:
        raw = yaml.safe_load(run.recipe_file.read_text(encoding="utf-8"))
        return Price.model_validate(raw["evaluate"]["price"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def broken_requirements(run: Run, policy: Policy, case: Case) -> list[str]:
    """The requirements that the evidence does not meet, in words; empty where all hold."""
    broken = [why for check in policy.requires.checks if (why := CHECKS[check](run, case))]
    if case.baseline is not None:
        for what in policy.requires.same:
            key = "extractor" if what == "extractor" else f"{what}_sha256"
            ours, theirs = (e.about.get(key) for e in (case.candidate, case.baseline))
            if ours is None or ours != theirs:
                broken.append(f"{what}: {case.candidate.name} and {case.baseline.name} differ ({_short(ours, theirs)})")
    return broken


def _short(*hashes: Any) -> str:
    return " and ".join(str(h)[:12] if h is not None else "unknown" for h in hashes)


def _complete(run: Run, case: Case) -> str | None:
    for evidence in filter(None, (case.candidate, case.baseline)):
        ids = evidence.answers["id"]
        if len(set(ids)) < len(ids):
            return f"complete: {evidence.name} holds an item twice"
        if len(ids) != evidence.about.get("items"):
            return f"complete: {evidence.name} answered {len(ids)} of {evidence.about.get('items')} items"
    return None


def _adapter_live(run: Run, case: Case) -> str | None:
    adapter = case.candidate.about.get("adapter") or {}
    return None if adapter.get("alive") is True else f"adapter_live: not shown for {case.candidate.name}"


def _no_contamination(run: Run, case: Case) -> str | None:
    try:
        found = read_json(run.curate / "decontamination.json")
    except (OSError, ValueError):
        return "no_contamination: this run holds no decontamination.json"
    return None if found.get("checked") is True else "no_contamination: the training rows were not checked"


def _load_valid(run: Run, case: Case) -> str | None:
    requests = case.candidate.requests
    if requests is not None and not all(requests.column("warmup").to_pylist()):
        return None
    loads = [levels.invalid_because(level) for level in levels.levels_of(case.candidate)]
    if None in loads:
        return None
    return f"load_valid: {loads[0] if loads else f'no timed request of {case.candidate.name}'}"


CHECKS: dict[str, Callable[[Run, Case], str | None]] = {
    "complete": _complete,
    "adapter_live": _adapter_live,
    "no_contamination": _no_contamination,
    "load_valid": _load_valid,
}


# -------------------------------------------------------------------------------------------------- one gate


def judge_gate(gate: Gate, policy: Policy, case: Case) -> dict[str, Any]:
    """The row of one gate: verdict, interval, what is still needed, what might help."""
    metric, requirement = lookup(gate.metric), gate.requirement
    try:
        case = _under(gate.at, case)
        if why := _untrusted(gate, metric, requirement, case) or _misjudged(gate, policy, case):
            return _row(gate, Ruling("INVALID", why))
        if gate.by:
            return _judge_slices(gate, policy, case, metric, requirement)
        confidence = gate.confidence or policy.defaults.confidence
        interval = _interval(gate, metric, requirement, case, confidence)
    except EvidenceError as error:
        return _row(gate, Ruling("INVALID", str(error).replace("\n", " ")))
    min_n = gate.min_n or policy.defaults.min_n
    ruling = decide(interval, requirement, metric, min_n)
    if ruling.verdict == "PASS" and (why := _cannot_fail(requirement, metric, case)):
        ruling = dataclasses.replace(ruling, note="; ".join(filter(None, (ruling.note, why))))
    needed = None
    if ruling.verdict == "INCONCLUSIVE":
        against = None if requirement.of == "absolute" else case.baseline
        grown = needed_.grown(metric, case.candidate, against, confidence) if requirement.of != "ratio" else None
        needed = needed_.more_items(interval, requirement.holds, requirement.limit, min_n, grown)
    help_ = lever(case.candidate, metric, ruling.verdict) if ruling.verdict in ("FAIL", "INVALID") else None
    return _row(gate, ruling, interval, metric, needed=needed, lever=help_)


def _row(
    gate: Gate, ruling: Ruling, interval: Interval | None = None, metric: Metric | None = None, **more: Any
) -> dict[str, Any]:
    known = interval if interval is not None else intervals.missing("none", ruling.note or "")
    return {
        "id": gate.id,
        "metric": gate.metric,
        "require": gate.require,
        "at": str(gate.at) if gate.at else None,
        "by": gate.by,
        "severity": gate.severity,
        "verdict": ruling.verdict,
        "value": known.value,
        "lower": known.lower,
        "upper": known.upper,
        "limit": gate.requirement.limit,
        "n": known.n,
        "unit": (metric or lookup(gate.metric)).unit if gate.requirement.of != "ratio" else None,
        "method": known.method,
        "over": known.over,
        "confidence": known.confidence,
        "note": "; ".join(dict.fromkeys(t for t in (ruling.note, known.note) if t)) or None,
        "needed": None,
        "lever": None,
        **more,
    }


def decide(interval: Interval, requirement: Requirement, metric: Metric, min_n: int = 1) -> Ruling:
    """The verdict that an interval gives.

    A bound that is None (not resolved) can neither pass nor fail. An infinite time or price is a number (every
    request failed); an infinite or missing quality is no evidence.
    """
    if interval.n == 0:
        return Ruling("INVALID", interval.note or "no items")
    if math.isnan(interval.value) or (metric.quality and math.isinf(interval.value)):
        return Ruling("INVALID", interval.note or "the value is not a number")
    if any(b is not None and math.isnan(b) for b in (interval.lower, interval.upper)):
        return Ruling("INVALID", "a bound is not a number")
    if interval.n < min_n:
        return Ruling("INCONCLUSIVE", f"{interval.n} {interval.over} are fewer than min_n {min_n}")
    if requirement.bound == "value":
        verdict: Verdict = "PASS" if requirement.holds(interval.value) else "FAIL"
        return Ruling(verdict, "judged on the value alone: the interval was not looked at")
    worst, best = interval.lower, interval.upper
    if metric.direction == "down":
        worst, best = best, worst
    if worst is not None and requirement.holds(worst):
        return Ruling("PASS")
    if best is not None and not requirement.holds(best):
        return Ruling("FAIL")
    return Ruling("INCONCLUSIVE")


def _untrusted(gate: Gate, metric: Metric, requirement: Requirement, case: Case) -> str | None:
    """Why the evidence cannot carry this gate, before any number is read; None where it can."""
    sides = [case.candidate] if requirement.of == "absolute" else [case.candidate, case.baseline]
    for evidence in filter(None, sides):
        answers = evidence.answers
        if metric.quality and len(answers) and all(e is not None for e in answers["error"]):
            return f"every request of {evidence.name} failed: {answers['error'][0]}"
        if metric.id in EXTRACTED and len(answers) and not any(answers["parsed"]):
            return f"no answer could be taken from any output of {evidence.name} (parse rate 0)"
    for evidence in filter(None, sides):
        if why := (gate.at and _other_conditions(gate.at, evidence)) or levels.invalid_because(evidence):
            return why
    if requirement.of != "absolute" and case.baseline is not None and _by_the_clock(metric, case):
        ours, theirs = (e.environment.get("hardware") for e in (case.candidate, case.baseline))
        if UNKNOWN in (ours, theirs):
            return "the hardware of an imported measurement is not known; import it with --hardware"
        both_local = not (case.candidate.about.get("remote") or case.baseline.about.get("remote"))
        if both_local and ours != theirs:
            return f"timed on different machines: {ours} and {theirs}"
    return None


def _cannot_fail(requirement: Requirement, metric: Metric, case: Case) -> str | None:
    """Why a pass says little: the baseline has less to lose than the gate allows."""
    margin = -requirement.limit
    if requirement.of != "delta" or metric.family != "proportion" or metric.direction != "up" or margin <= 0:
        return None
    assert case.baseline is not None
    theirs = measure.absolute(case.baseline, metric.id).value
    if theirs >= margin:
        return None
    return f"says little: {case.baseline.name} has {theirs:.3g}, so not even 0 would lose the margin of {margin:g}"


def _misjudged(gate: Gate, policy: Policy, case: Case) -> str | None:
    """Why a gate may not rest on what a judge said."""
    if gate.metric not in judged.METRICS:
        return None
    sides = [case.candidate, None if gate.requirement.of == "absolute" else case.baseline]
    for evidence in filter(None, sides):
        least = policy.defaults.min_kappa
        if why := judged.not_to_be_trusted(evidence.folder, least, uncalibrated=gate.uncalibrated):
            return f"{evidence.name}: {why}"
    return None


def _by_the_clock(metric: Metric, case: Case) -> bool:
    """Whether a number is one of the machine it was measured on; a price by the token is not."""
    if metric.family != "cost":
        return metric.family in ("time", "load")
    price = case.price or Price()
    return any(Tariff.of(e, price).input_per_million is None for e in (case.candidate, case.baseline) if e is not None)


def _under(at: At | None, case: Case) -> Case:
    """Both sides at the load that a gate is about, where it was measured."""
    wanted = at.model_dump(include=set(levels.KEYS), exclude_none=True) if at else {}
    if not wanted:
        return case
    candidate = levels.at(case.candidate, wanted) or case.candidate
    baseline = case.baseline and (levels.at(case.baseline, wanted) or case.baseline)
    return dataclasses.replace(case, candidate=candidate, baseline=baseline)


def _other_conditions(at: At, evidence: Evidence) -> str | None:
    have = {**(evidence.about.get("load") or {}), **evidence.environment}
    for key, wanted in at.model_dump(exclude_none=True).items():
        if have.get(key) != wanted:
            return f"measured at {key} {have.get(key, 'unknown')}, the gate is about {wanted}"
    return None


def _interval(gate: Gate, metric: Metric, requirement: Requirement, case: Case, confidence: float) -> Interval:
    if gate.slo is not None:
        return measure.attained(case.candidate, gate.slo_ms, confidence)
    if requirement.of == "absolute":
        return measure.absolute(case.candidate, metric.id, confidence, case.price)
    assert case.baseline is not None
    how = measure.delta if requirement.of == "delta" else measure.ratio
    return how(case.candidate, case.baseline, metric.id, confidence, case.price)


# --------------------------------------------------------------------------------------------------- slices


def _judge_slices(gate: Gate, policy: Policy, case: Case, metric: Metric, requirement: Requirement) -> dict[str, Any]:
    """Every slice on its own, Holm-adjusted; the gate's verdict is the worst of them."""
    confidence = gate.confidence or policy.defaults.confidence
    min_n = gate.min_n or policy.defaults.min_n
    rows = [
        _Slice(name, at, decide(at(confidence), requirement, metric, min_n))
        for name, at in _slices(gate, case, metric, requirement)
    ]
    if not rows:
        return _row(gate, Ruling("INVALID", "no items"))
    alpha = (1 - confidence) / 2
    tested = [r for r in rows if r.ruling.verdict != "INVALID" and r.at(confidence).n >= min_n]
    if policy.defaults.multiplicity == "holm":
        good = intervals.holm([_tail(r.at, requirement, metric, good=True) for r in tested])
        bad = intervals.holm([_tail(r.at, requirement, metric, good=False) for r in tested])
        for row, p_good, p_bad in zip(tested, good, bad, strict=True):
            verdict: Verdict = "PASS" if p_good <= alpha else "FAIL" if p_bad <= alpha else "INCONCLUSIVE"
            row.ruling, row.p = Ruling(verdict, row.ruling.note), min(p_good, p_bad)
    slices = [
        {
            "slice": r.name,
            "verdict": r.ruling.verdict,
            "note": r.ruling.note,
            "p_adjusted": r.p,
            **r.at(confidence).as_dict(),
        }
        for r in rows
    ]
    worst = next(v for v in ORDER if any(r.ruling.verdict == v for r in rows))
    at_fault = [str(s["slice"]) for s in slices if s["verdict"] == worst]
    note = None if worst == "PASS" else f"{worst.lower()} in {len(at_fault)} of {len(rows)}: {', '.join(at_fault[:5])}"
    shown = next(r for r in rows if r.ruling.verdict == worst).at(confidence)
    return _row(gate, Ruling(worst, note), dataclasses.replace(shown, note=None), metric, slices=slices)


@dataclasses.dataclass
class _Slice:
    name: str
    at: Callable[[float], Interval]
    ruling: Ruling
    p: float | None = None


def _slices(
    gate: Gate, case: Case, metric: Metric, requirement: Requirement
) -> list[tuple[str, Callable[[float], Interval]]]:
    assert gate.by is not None

    def one(ours: Answers, theirs: Answers | None) -> Callable[[float], Interval]:
        if theirs is None:
            return lambda confidence: measure.of_answers(ours, metric, confidence)
        return lambda confidence: measure.delta_of_answers(ours, theirs, metric, confidence)

    if requirement.of == "absolute":
        return [(name, one(part, None)) for name, part in measure.sliced(case.candidate.answers, gate.by).items()]
    assert case.baseline is not None
    ours, theirs = measure.aligned(case.candidate.answers, case.baseline.answers)
    others = measure.sliced(theirs, gate.by)
    return [(name, one(part, others[name])) for name, part in measure.sliced(ours, gate.by).items()]


def _tail(at: Callable[[float], Interval], requirement: Requirement, metric: Metric, *, good: bool) -> float:
    """One-sided p-value that a slice is on the good (or bad) side: where the interval just touches the limit."""
    down = metric.direction == "down"

    def clear(alpha: float) -> bool:
        interval = at(1 - 2 * alpha)
        bound = interval.upper if good == down else interval.lower
        return bound is not None and requirement.holds(bound) == good

    low, high = 1e-12, 0.5 - 1e-9
    if not clear(high):
        return 1.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if clear(middle) else (middle, high)
    return high
