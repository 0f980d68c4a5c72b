"""The verdict and its gates as a reader sees them."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from tamis.reports import written_numbers as written
from tamis.reports.measures import Measure, mapping, measure, number, rows, text, whole
from tamis.reports.metric_names import named

# The first word of a report. See docs/decisions/0005-verdicts-and-exit-codes.md.
WORDS = {
    "PASS": "Ship",
    "FAIL": "Do not ship",
    "INCONCLUSIVE": "Not certain",
    "INVALID": "Cannot be trusted",
}
# Never colour alone: every verdict has a sign and a word.
SIGNS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?", "INVALID": "!"}
RESULTS = {"PASS": "pass", "FAIL": "fail", "INCONCLUSIVE": "not certain", "INVALID": "invalid"}
DID = {"PASS": "passed", "FAIL": "failed", "INCONCLUSIVE": "not certain", "INVALID": "invalid"}
WORST_FIRST = ("FAIL", "INVALID", "INCONCLUSIVE", "PASS")

_REQUIRE = re.compile(r"(?:(?P<of>delta|ratio)\.)?(?P<bound>lower|upper|value)\s*(?P<op>>=|<=|>|<)")
_OPS = {">=": "≥", "<=": "≤", ">": ">", "<": "<"}


@dataclasses.dataclass(frozen=True)
class SliceRow:
    """One slice of a gate that is judged by slices."""

    name: str
    verdict: str
    measure: Measure
    note: str | None


@dataclasses.dataclass(frozen=True)
class GateRow:
    """One gate.

    Attributes:
        require: as the policy says it: `delta.lower > -0.02`.
        measure: what was measured, with the interval that was judged.
        distance: from the judged bound to the limit, positive on the good side; None where there is no bound.
        lever: what is most likely to help, from this run.
        slices: where it is judged by slices, each of them.
    """

    id: str
    metric: str
    require: str
    bound: str
    op: str
    limit: float | None
    severity: str
    verdict: str
    measure: Measure
    distance: float | None
    needed: int | None
    note: str | None
    lever: str | None
    at: str | None
    by: str | None
    waiver: str | None
    slices: tuple[SliceRow, ...] = ()

    @property
    def label(self) -> str:
        """The metric in words: `accuracy against the baseline`."""
        against = {"delta": " against the baseline", "ratio": " as a multiple of the baseline"}
        by = f", by {self.by}" if self.by else ""
        at = f", at {self.at}" if self.at else ""
        return f"{named(self.metric).label}{against.get(self.measure.of, '')}{by}{at}"

    @property
    def limit_text(self) -> str:
        """`≥ 82.0%`."""
        value = written.quantity(self.metric, self.limit, self.measure.unit, self.measure.of)
        return f"{_OPS.get(self.op, self.op)} {value}"

    @property
    def counts(self) -> bool:
        """Whether it takes part in the verdict."""
        return self.severity != "warn" and not (self.waiver and self.verdict != "INVALID")

    @property
    def distance_text(self) -> str:
        """How far the judged bound is from the limit: `2.1 points to spare`, `short by 0.3 points`."""
        if self.distance is None:
            return written.DASH
        of = "ratio" if self.measure.of == "ratio" else "delta"
        size = written.quantity(self.metric, abs(self.distance), self.measure.unit, of).lstrip("+±")
        return f"{size} to spare" if self.distance >= 0 else f"short by {size}"

    @property
    def remark(self) -> str:
        """Everything else worth saying, in one line."""
        more = f"about {written.count(self.needed)} more items would tell" if self.needed else None
        parts = (self.note, more, f"waived: {self.waiver}" if self.waiver else None)
        return "; ".join(p for p in (*parts, "warning only" if self.severity == "warn" else None) if p)


@dataclasses.dataclass(frozen=True)
class ArmVerdict:
    """What the gate says of one arm."""

    arm: str
    verdict: str
    exit_code: int | None
    requires: tuple[str, ...]
    gates: tuple[GateRow, ...]

    @property
    def word(self) -> str:
        return WORDS.get(self.verdict, WORDS["INVALID"])

    @property
    def worst_first(self) -> list[GateRow]:
        """Gates that decide first, then by how bad."""
        rank = {v: i for i, v in enumerate(WORST_FIRST)}
        return sorted(self.gates, key=lambda g: (rank.get(g.verdict, 1), not g.counts))

    @property
    def sentence(self) -> str:
        """What follows the word: how many gates did what."""
        if self.requires:
            return "the evidence does not meet what the policy requires of it."
        counted = [g for g in self.gates if g.counts]
        if not counted:
            return "no gate counts."
        found = [(sum(g.verdict == v for g in counted), DID[v]) for v in WORST_FIRST]
        (first, did), *rest = [(n, did) for n, did in found if n]
        if not rest:
            return f"{_all(len(counted))} {did}." if len(counted) > 1 else f"the only gate {did}."
        return ", ".join([f"{first} of {len(counted)} gates {did}", *(f"{n} {did}" for n, did in rest)]) + "."

    @property
    def reasons(self) -> list[str]:
        """One sentence for each gate that did not pass, and for each requirement that does not hold."""
        gates = [_reason(g) for g in self.worst_first if g.verdict != "PASS" and g.counts]
        return [*(f"{r}." for r in self.requires), *gates]


@dataclasses.dataclass(frozen=True)
class VerdictView:
    """`verdict.json`."""

    verdict: str
    exit_code: int | None
    arm: str
    candidate: str
    baseline: str
    policy_path: str
    policy_sha256: str
    evidence_sha256: str
    judged: str | None
    arms: tuple[ArmVerdict, ...]

    @property
    def word(self) -> str:
        return WORDS.get(self.verdict, WORDS["INVALID"])

    @property
    def main(self) -> ArmVerdict | None:
        """The arm whose verdict is that of the run."""
        return next((a for a in self.arms if a.arm == self.arm), self.arms[0] if self.arms else None)


def verdict_view(raw: dict[str, Any]) -> VerdictView:
    """Read `verdict.json`.

    Raises:
        KeyError, TypeError, ValueError: it is not a verdict.
    """
    evidence, policy = mapping(raw.get("evidence")), mapping(raw.get("policy"))
    return VerdictView(
        verdict=str(raw["verdict"]),
        exit_code=whole(raw.get("exit_code")),
        arm=str(raw["arm"]),
        candidate=text(evidence.get("candidate")) or "tuned",
        baseline=text(evidence.get("baseline")) or "base",
        policy_path=text(policy.get("path")) or "",
        policy_sha256=text(policy.get("sha256")) or "",
        evidence_sha256=text(raw.get("evidence_sha256")) or "",
        judged=text(raw.get("judged")),
        arms=tuple(_arm(name, value) for name, value in raw["arms"].items()),
    )


def _arm(name: str, raw: dict[str, Any]) -> ArmVerdict:
    return ArmVerdict(
        arm=name,
        verdict=str(raw["verdict"]),
        exit_code=whole(raw.get("exit_code")),
        requires=tuple(str(r) for r in raw.get("requires") or ()),
        gates=tuple(_gate(g) for g in raw["gates"]),
    )


def _gate(raw: dict[str, Any]) -> GateRow:
    require = str(raw.get("require") or "")
    parsed = _REQUIRE.match(require.strip())
    of = (parsed["of"] if parsed else None) or "absolute"
    metric = str(raw["metric"])
    found, limit = measure(raw, metric, of), number(raw.get("limit"))
    side, op = (parsed["bound"], parsed["op"]) if parsed else ("value", "")
    return GateRow(
        id=str(raw["id"]),
        metric=metric,
        require=require,
        bound=side,
        op=op,
        limit=limit,
        severity=text(raw.get("severity")) or "required",
        verdict=str(raw["verdict"]),
        measure=found,
        distance=_distance(getattr(found, side), limit, op),
        needed=whole(raw.get("needed")),
        note=text(raw.get("note")),
        lever=text(raw.get("lever")),
        at=text(raw.get("at")),
        by=text(raw.get("by")),
        waiver=_waiver(raw.get("waiver")),
        slices=tuple(_slice(s, metric, found.unit, of) for s in rows(raw.get("slices"))),
    )


def _slice(raw: dict[str, Any], metric: str, unit: str | None, of: str) -> SliceRow:
    found = dataclasses.replace(measure(raw, metric, of), unit=unit)
    return SliceRow(str(raw.get("slice")), str(raw.get("verdict")), found, text(raw.get("note")))


def _waiver(raw: Any) -> str | None:
    if not isinstance(raw, dict):
        return None
    return f"{raw.get('reason')} ({raw.get('by')}, until {raw.get('until')})"


def _distance(bound: float | None, limit: float | None, op: str) -> float | None:
    if bound is None or limit is None or abs(bound) == float("inf"):
        return None
    return bound - limit if op.startswith(">") else limit - bound


def _reason(gate: GateRow) -> str:
    name = (
        named(gate.metric).label if gate.measure.of != "delta" else f"{named(gate.metric).label} against the baseline"
    )
    if gate.verdict == "INVALID":
        return f"{gate.id}: {gate.note or 'the evidence cannot be trusted'}."
    span = (
        f" ({gate.measure.per_cent} interval {gate.measure.interval})" if gate.measure.interval != written.DASH else ""
    )
    what = f"{gate.id}: {name} is {gate.measure.text}{span}, the limit {gate.limit_text}"
    if gate.verdict == "INCONCLUSIVE" and gate.needed:
        return f"{what}; about {written.count(gate.needed)} more items would tell."
    return f"{what}."


def _all(n: int) -> str:
    return "both gates" if n == 2 else f"all {n} gates"
