"""Systems side by side: what `comparison.json` holds, in the order a reader wants it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from tamis.reports import written_numbers as written
from tamis.reports.load_view import Level, levels
from tamis.reports.measures import Measure, mapping, measure, number, rows, text, whole
from tamis.reports.metric_names import metric_order, named

# How each built-in system is spoken of.
SPOKEN = {
    "tuned": "the tuned model",
    "base": "the untuned base",
    "base-best": "the base at its best (labels in the prompt)",
    "merged": "the merged model",
    "linear": "a linear classifier on embeddings",
    "nearest": "the nearest training row's answer",
    "majority": "always the most frequent answer",
}
SHORT = {**SPOKEN, "base-best": "the base at its best"}
# Baselines that need no language model at all. If one of them wins, the report says so.
PLAIN_BASELINES = ("linear", "nearest", "majority")

ACCURACY_LIKE = ("accuracy", "exact_match", "rouge_l", "chrf", "bleu", "mae")
LATENCY = "latency.e2e.p95"


@dataclasses.dataclass(frozen=True)
class SystemRow:
    """One system of one arm with everything measured of it.

    Attributes:
        errors: requests that failed.
        uses_arm: whether the arm's rows made it.
        retries: requests that were sent again.
        loads: what was measured of it under load, the lightest first.
    """

    arm: str
    system: str
    metrics: dict[str, Measure]
    train_rows: int | None
    train_seconds: float | None
    errors: int
    uses_arm: bool
    retries: int = 0
    loads: tuple[Level, ...] = ()
    role: Literal["candidate", "baseline", "other"] = "other"

    def get(self, metric: str) -> Measure:
        """The measure of a metric, unknown where it was not taken."""
        return self.metrics.get(metric) or Measure(metric, None)

    @property
    def cost(self) -> Measure | None:
        """Cost of 1,000 requests, in whatever currency."""
        found = (m for id_, m in self.metrics.items() if id_.startswith("cost.") and id_.endswith("_per_1k"))
        return next(found, None)


@dataclasses.dataclass(frozen=True)
class PairRow:
    """Two systems on the same items."""

    candidate: tuple[str, str]
    baseline: tuple[str, str]
    metric: str
    delta: Measure
    both_right: int | None
    fixed: int | None
    broken: int | None
    both_wrong: int | None
    mcnemar_p: float | None
    examples_needed: int | None
    format_gain: float | None
    skill_gain: float | None

    @property
    def has_table(self) -> bool:
        return None not in (self.both_right, self.fixed, self.broken, self.both_wrong)

    @property
    def sure(self) -> int:
        """+1 the candidate is better, -1 it is worse, 0 these items do not tell."""
        if self.delta.lower is None or self.delta.upper is None:
            return 0
        sign = -1 if named(self.metric).direction == "down" else 1
        return sign if self.delta.lower > 0 else -sign if self.delta.upper < 0 else 0


@dataclasses.dataclass(frozen=True)
class SystemsView:
    """All systems and pairs. `several_arms` decides whether a name carries its arm."""

    task: str | None
    primary: str
    items: int | None
    components: int | None
    eval_sha256: str
    confidence: float
    environment: dict[str, Any]
    systems: tuple[SystemRow, ...]
    pairs: tuple[PairRow, ...]
    spending: tuple[str, ...] = ()
    """What each system costs a month and where an API stops being cheaper, a sentence each."""
    looks: int = 0
    """Systems that were evaluated on these items so far, in this run and those beside it."""

    @property
    def several_arms(self) -> bool:
        return len({s.arm for s in self.systems}) > 1

    @property
    def metrics(self) -> list[str]:
        """Metrics that any system has a number for, quality first."""
        return sorted({id_ for s in self.systems for id_, m in s.metrics.items() if m.known}, key=metric_order)

    def label(self, arm: str, system: str) -> str:
        """A system's name for tables and figures; the arm is part of it only where it matters."""
        row = self.find(arm, system)
        return f"{arm} / {system}" if self.several_arms and (row is None or row.uses_arm) else system

    def find(self, arm: str, system: str) -> SystemRow | None:
        return next((s for s in self.systems if (s.arm, s.system) == (arm, system)), None)

    def anywhere(self, arm: str, system: str) -> SystemRow | None:
        """A system of this arm, else of whichever arm evaluated it."""
        return self.find(arm, system) or next((s for s in self.systems if s.system == system), None)

    def pair(self, candidate: tuple[str, str], baseline_system: str, baseline_arm: str | None = None) -> PairRow | None:
        """The pair on the primary metric; without `baseline_arm`, the own arm's baseline first, then any arm's."""
        found = [
            p
            for p in self.pairs
            if p.candidate == candidate and p.baseline[1] == baseline_system and p.metric == self.primary
        ]
        if baseline_arm is not None:
            found = [p for p in found if p.baseline[0] == baseline_arm]
        elif baseline_system == candidate[1]:
            return None  # the same system of another arm is no baseline
        return next((p for p in found if p.baseline[0] == candidate[0]), found[0] if found else None)

    def across_arms(self, candidate: tuple[str, str]) -> list[PairRow]:
        """The same system trained on other rows."""
        return [
            p
            for p in self.pairs
            if p.metric == self.primary and p.candidate == candidate and p.baseline[1] == candidate[1]
        ]


def systems_view(raw: dict[str, Any], candidate: str, baseline: str) -> SystemsView:
    """Read `comparison.json`.

    Args:
        raw: the file.
        candidate: name of the system that is judged.
        baseline: name of the system it is judged against.

    Raises:
        KeyError, TypeError, ValueError: it is not a comparison.
    """
    pairs = tuple(_pair(p) for p in rows(raw.get("pairs")))
    systems = tuple(_system(s, candidate, baseline) for s in raw["systems"])
    return SystemsView(
        task=text(raw.get("task")),
        primary=text(raw.get("primary")) or _primary(pairs, systems),
        items=whole(raw.get("items")),
        components=whole(raw.get("components")),
        eval_sha256=text(raw.get("eval_sha256")) or "",
        confidence=number(raw.get("confidence")) or 0.95,
        environment=mapping(raw.get("environment")),
        systems=tuple(sorted(systems, key=lambda s: ("candidate", "baseline", "other").index(s.role))),
        pairs=pairs,
        spending=tuple(t for t in mapping(raw.get("spending")).get("lines") or () if isinstance(t, str)),
        looks=whole(mapping(raw.get("looks")).get("looks")) or 0,
    )


def honest_notes(view: SystemsView, arm: str, candidate: str) -> list[str]:
    """What a reader must not miss: a baseline without a language model that does as well or better."""
    notes = []
    for name in PLAIN_BASELINES:
        pair = view.pair((arm, candidate), name)
        theirs, ours = view.anywhere(arm, name), view.anywhere(arm, candidate)
        if pair is None or theirs is None or ours is None or pair.sure > 0 or not pair.delta.known:
            continue
        label = named(view.primary).label
        numbers = f"{label} {theirs.get(view.primary).text} against {ours.get(view.primary).text}"
        span = f"the tuned model differs by {pair.delta.text}, {pair.delta.per_cent} interval {pair.delta.interval}"
        spoken = SHORT[name]
        if pair.sure < 0:
            notes.append(
                f"`{name}`, {spoken}, beats the tuned model: {numbers} ({span}). For this task it is the better "
                f"choice unless you need answers only a language model can write."
            )
        else:
            notes.append(
                f"`{name}`, {spoken}, does as well as far as these items tell: {numbers} ({span}). "
                f"It is smaller and faster; weigh that before you ship the tuned model."
            )
    return notes


def gain_note(pair: PairRow | None) -> str | None:
    """How much of the gain is format (answers that can be read at all) and how much is skill."""
    if pair is None or pair.format_gain is None or pair.metric != "accuracy":
        return None
    if pair.skill_gain is None:
        return (
            f"Of {SHORT.get(pair.baseline[1], pair.baseline[1])} hardly an answer could be read at all, so the whole "
            f"difference ({written.points(pair.format_gain)}) is format; what it could do is not known."
        )
    return (
        f"Of the difference to {SHORT.get(pair.baseline[1], pair.baseline[1])}, {written.points(pair.format_gain)} are "
        f"format (answers that can be read at all) and {written.points(pair.skill_gain)} are skill (right once read)."
    )


def _system(raw: dict[str, Any], candidate: str, baseline: str) -> SystemRow:
    name = str(raw["system"])
    return SystemRow(
        arm=str(raw["arm"]),
        system=name,
        metrics={str(id_): measure(m, str(id_)) for id_, m in raw["metrics"].items() if isinstance(m, dict)},
        train_rows=whole(raw.get("train_rows")),
        train_seconds=number(raw.get("train_seconds")),
        errors=whole(raw.get("errors")) or 0,
        uses_arm=bool(raw.get("uses_arm", raw.get("train_rows"))),
        retries=whole(raw.get("retries")) or 0,
        loads=levels(raw.get("loads")),
        role="candidate" if name == candidate else "baseline" if name == baseline else "other",
    )


def _pair(raw: dict[str, Any]) -> PairRow:
    metric, table, gain = str(raw["metric"]), mapping(raw.get("table")), mapping(raw.get("gain"))
    return PairRow(
        candidate=_name(raw["candidate"]),
        baseline=_name(raw["baseline"]),
        metric=metric,
        delta=measure(raw["delta"], metric, "delta"),
        both_right=whole(table.get("both_right")),
        fixed=whole(table.get("fixed")),
        broken=whole(table.get("broken")),
        both_wrong=whole(table.get("both_wrong")),
        mcnemar_p=number(raw.get("mcnemar_p")),
        examples_needed=whole(raw.get("examples_needed")),
        format_gain=_gain(gain.get("format")),
        skill_gain=_gain(gain.get("skill")),
    )


def _gain(value: Any) -> float | None:
    """A gain is a number, or an interval whose value is meant."""
    return number(value.get("value")) if isinstance(value, dict) else number(value)


def _name(raw: dict[str, Any]) -> tuple[str, str]:
    return str(raw["arm"]), str(raw["system"])


def _primary(pairs: tuple[PairRow, ...], systems: tuple[SystemRow, ...]) -> str:
    """The metric that systems are paired on; else the first quality metric there is."""
    if pairs:
        return pairs[0].metric
    have = {id_ for s in systems for id_, m in s.metrics.items() if m.known}
    return next((m for m in ACCURACY_LIKE if m in have), min(have, key=metric_order, default="accuracy"))
