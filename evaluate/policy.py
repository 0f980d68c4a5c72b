"""The gate policy: what a release must show, in a YAML file.

    version: 1
    evidence: {candidate: tuned, baseline: base-best}
    defaults: {confidence: 0.95, min_n: 200}
    requires: {same: [eval_set], checks: [complete, adapter_live]}
    gates:
      - {id: floor,   metric: accuracy, require: "lower >= 0.82"}
      - {id: no-loss, metric: accuracy, require: "delta.lower > -0.02"}
      - {id: speed,   metric: latency.e2e.p95, require: "upper <= 800 ms"}
      - {id: slices,  metric: accuracy, by: language, min_n: 40, require: "delta.lower > -0.05", severity: warn}
    waivers: [{gate: slices, until: 2026-12-31, by: name, reason: text}]

A requirement reads `[delta.|ratio.](lower|upper|value) OPERATOR NUMBER [UNIT]`. Whatever is wrong in a policy is an
error before any number is read: a misspelt metric must not become a gate that nothing fails.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from tamis.errors import PolicyError, did_you_mean
from tamis.evaluate import judged
from tamis.evaluate.champion import FILE
from tamis.evaluate.metrics import Metric, lookup
from tamis.recipe import line_of
from tamis.userfile import relocated

SAME = ("eval_set", "prompt", "template", "extractor", "decoding", "model")
CHECKS = ("complete", "adapter_live", "no_contamination", "load_valid")
SLICES = ("label", "language")

# What may be written for a unit, and what one of it is in the unit of the registry.
UNITS: dict[str, dict[str, float]] = {
    "ms": {"ms": 1, "s": 1000, "us": 0.001},
    "requests/s": {"requests/s": 1, "rps": 1},
}

_REQUIRE = re.compile(
    r"(?:(?P<of>delta|ratio)\.)?(?P<bound>lower|upper|value)\s*(?P<op>>=|<=|>|<)\s*"
    r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>[A-Za-z%][\w/%]*)?"
)
_TIME = re.compile(r"(?P<number>\d+\.?\d*|\.\d+)\s*(?P<unit>[A-Za-z]+)")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EvidenceOf(_Strict):
    """What is judged, and against what."""

    candidate: str = "tuned"
    baseline: str = "base"
    """A system of the run, `RUN:SYSTEM` or `RUN:ARM/SYSTEM` (another run folder), `champion` (the file `champion.json`
    beside the policy), or a champion file by its name, `last-release.json`, counted from the policy too."""


class Defaults(_Strict):
    """For gates that do not say otherwise."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    min_n: int = Field(default=1, ge=1)
    min_kappa: float = Field(default=0.4, ge=0, lt=1)
    """What the lower bound of kappa between judge and people must reach before a gate rests on the judge. 0.4 is where
    agreement is called moderate (Landis and Koch 1977)."""
    multiplicity: Literal["holm", "none"] = "holm"
    """Among the slices of one gate. Required gates are never adjusted: all of them must pass."""


class Requires(_Strict):
    """Integrity of the evidence, checked before any number. One that fails makes the verdict INVALID."""

    same: list[str] = ["eval_set"]
    checks: list[str] = ["complete"]

    @field_validator("same")
    @classmethod
    def _known_same(cls, value: list[str]) -> list[str]:
        return _all_known(value, SAME, "requirement")

    @field_validator("checks")
    @classmethod
    def _known_checks(cls, value: list[str]) -> list[str]:
        return _all_known(value, CHECKS, "check")


class At(_Strict):
    """The conditions a latency, load or cost gate is about. Evidence from others makes it INVALID."""

    arrival: Literal["closed", "poisson", "constant"] | None = None
    concurrency: int | None = Field(default=None, ge=1)
    rate: float | None = Field(default=None, gt=0)
    engine: str | None = None
    hardware: str | None = None

    def __str__(self) -> str:
        return ", ".join(f"{k} {v}" for k, v in self.model_dump(exclude_none=True).items())


class Requirement(_Strict):
    """A parsed `require`. `limit` is in the unit of the metric's registry entry."""

    of: Literal["absolute", "delta", "ratio"]
    bound: Literal["lower", "upper", "value"]
    op: Literal[">=", "<=", ">", "<"]
    limit: float

    def holds(self, value: float) -> bool:
        """Whether a value is on the good side of the limit. NaN never is."""
        if self.op == ">=":
            return value >= self.limit
        if self.op == "<=":
            return value <= self.limit
        return value > self.limit if self.op == ">" else value < self.limit


class Gate(_Strict):
    """One requirement on one metric."""

    id: str = Field(min_length=1)
    metric: str
    require: str
    at: At | None = None
    slo: dict[Literal["ttft", "e2e", "tpot"], str] | None = Field(default=None, min_length=1)
    """For `load.attainment`: the times within which a request must be answered, `{ttft: 800 ms, tpot: 50 ms}`."""
    by: str | None = None
    min_n: int | None = Field(default=None, ge=1)
    confidence: float | None = Field(default=None, gt=0.5, lt=1)
    severity: Literal["required", "warn"] = "required"
    uncalibrated: bool = False
    """Take a judge that nobody has compared with people; only for `judge.` metrics."""

    @model_validator(mode="after")
    def _sound(self) -> Gate:
        metric = _metric(self.metric)
        parse_requirement(self.require, metric)
        if self.by is not None:
            _all_known([self.by], SLICES, "slice")
            if metric.family not in ("proportion", "mean"):
                raise ValueError(f"{metric.id} cannot be judged by slice; take a metric that is a mean over items")
            if self.requirement.of == "ratio" or self.requirement.bound == "value":
                raise ValueError("slices are judged by lower, upper, delta.lower or delta.upper")
        if (self.slo is None) == (metric.id == "load.attainment"):
            raise ValueError("load.attainment, and nothing else, has an slo: write slo: {ttft: 800 ms}")
        if self.slo is not None:
            if self.requirement.of != "absolute":
                raise ValueError("load.attainment is judged by itself; write lower >= 0.95")
            _ = self.slo_ms  # every limit is a time
        if self.uncalibrated and metric.id not in judged.METRICS:
            raise ValueError(f"`uncalibrated` is for {' and '.join(judged.METRICS)}")
        if self.at is not None and metric.family not in ("time", "load", "cost"):
            raise ValueError(f"`at` is for latency, load and cost; {metric.id} does not depend on it")
        return self

    @property
    def requirement(self) -> Requirement:
        return parse_requirement(self.require, lookup(self.metric))

    @property
    def slo_ms(self) -> dict[str, float]:
        """The limits of `slo` in milliseconds."""
        found: dict[str, float] = {}
        for kind, text in (self.slo or {}).items():
            match = _TIME.fullmatch(text.strip())
            if match is None or match["unit"].lower() not in UNITS["ms"] or not float(match["number"]) > 0:
                raise ValueError(f"slo: {kind}: {text!r} is no time; write for example '800 ms'")
            found[kind] = float(match["number"]) * UNITS["ms"][match["unit"].lower()]
        return found


class Waiver(_Strict):
    """A gate that may fail until a date, and who says so."""

    gate: str
    until: datetime.date
    by: str = Field(min_length=1)
    reason: str = Field(min_length=1)

    def holds_on(self, day: datetime.date) -> bool:
        """Whether it is in force; its last day counts. An expired waiver is as if it were not there."""
        return day <= self.until


class Policy(_Strict):
    """A checked policy. Make it with `load_policy`."""

    version: Literal[1] = 1
    evidence: EvidenceOf = EvidenceOf()
    defaults: Defaults = Defaults()
    requires: Requires = Requires()
    gates: list[Gate] = Field(min_length=1)
    waivers: list[Waiver] = []
    _path: str = PrivateAttr(default="")
    _text: str = PrivateAttr(default="")
    _champion: Path | None = PrivateAttr(default=None)

    @property
    def path(self) -> str:
        return self._path

    @property
    def text(self) -> str:
        """The policy as it was written."""
        return self._text

    @property
    def sha256(self) -> str:
        """Of the policy file's bytes."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    @property
    def champion(self) -> Path | None:
        """The champion file to compare with; None where the baseline is no champion."""
        return self._champion

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        ids = [g.id for g in self.gates]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"gate id {twice[0]!r} is used twice")
        for waiver in self.waivers:
            if waiver.gate not in ids:
                raise ValueError(f"a waiver names the unknown gate {waiver.gate!r}; {did_you_mean(waiver.gate, ids)}")
        if all(g.severity == "warn" for g in self.gates):
            raise ValueError("every gate only warns, so nothing could fail; make at least one required")
        return self

    def waiver_for(self, gate: str, day: datetime.date) -> Waiver | None:
        """The waiver in force for a gate on a day."""
        return next((w for w in self.waivers if w.gate == gate and w.holds_on(day)), None)


def parse_requirement(text: str, metric: Metric) -> Requirement:
    """Parse a `require` and check it against the metric: unit, direction, and which bound can refuse.

    Raises:
        ValueError: with the way to write it right.
    """
    match = _REQUIRE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"require {text!r} is not understood; write for example {_example(metric)!r}")
    of, bound, op = match["of"] or "absolute", match["bound"], match["op"]
    good = ">" if metric.direction == "up" else "<"
    side = "lower" if metric.direction == "up" else "upper"
    if op[0] != good:
        better = "higher" if good == ">" else "lower"
        raise ValueError(f"{metric.id} is better when {better}, so {op!r} is the wrong way round; use {good!r}")
    if bound not in (side, "value"):
        raise ValueError(f"{text!r} asks the kinder bound of {metric.id}; write {side!r}, the one that can refuse")
    if of == "ratio" and metric.quality:
        raise ValueError(f"a ratio is for latency, load and cost; write delta.{side} for {metric.id}")
    limit = float(match["number"]) * _factor(match["unit"], of, metric)
    return Requirement.model_validate({"of": of, "bound": bound, "op": op, "limit": limit})


def _factor(unit: str | None, of: str, metric: Metric) -> float:
    if of == "ratio" or metric.unit is None:
        if unit is not None:
            kind = "a ratio" if of == "ratio" else metric.id
            raise ValueError(f"{kind} has no unit, {unit!r} was given; write 82 % as 0.82")
        return 1.0
    units = UNITS.get(metric.unit, {metric.unit.lower(): 1.0})
    if unit is None:
        raise ValueError(f"{metric.id} has a unit; write one of: {', '.join(units)}")
    if unit.lower() not in units:
        raise ValueError(f"unknown unit {unit!r} for {metric.id}; write one of: {', '.join(units)}")
    return units[unit.lower()]


def _example(metric: Metric) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    return f"lower >= 0.9{unit}" if metric.direction == "up" else f"upper <= 0.9{unit}"


def _metric(id: str) -> Metric:
    try:
        return lookup(id)
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def _all_known(values: list[str], known: tuple[str, ...], what: str) -> list[str]:
    for value in values:
        if value not in known:
            raise ValueError(f"unknown {what} {value!r}; {did_you_mean(value, known)}")
    return values


def load_policy(path: str | Path) -> Policy:
    """Read and check a policy file.

    Raises:
        PolicyError: missing, empty, not YAML, an unknown key, metric, slice or unit, a duplicate id, no gates, a
            requirement that no number could fail. Names file and line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise PolicyError(
            "there is no such policy", where=str(path), hint="docs: a policy needs at least `gates`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError("the policy cannot be read", where=str(path), why=str(error)) from None
    return parse_policy(text, path)


def parse_policy(text: str, path: Path, *, champion: Path | None = None) -> Policy:
    """Check the text of a policy.

    Args:
        text: YAML.
        path: where it comes from: named in errors, and what the files that it names are counted from.
        champion: takes the place of the champion file that the policy names.

    Raises:
        PolicyError: see `load_policy`.
    """
    try:
        raw = yaml.safe_load(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise PolicyError("the policy is not YAML", where=place, why=str(getattr(error, "problem", error))) from None
    except ValueError as error:  # 2026-02-30 looks like a date and is none
        raise PolicyError("the policy holds a date that does not exist", where=str(path), why=str(error)) from None
    if twice := _duplicate_key(root):
        raise PolicyError(
            f"the key {twice[0]!r} is there twice", where=f"{path}:{twice[1]}", why="the first would be lost"
        )
    if not isinstance(raw, dict):
        raise PolicyError("a policy is a mapping with at least `gates`", where=str(path), why=f"it holds {_kind(raw)}")
    _relocate(raw.get("gates"), path.parent)
    try:
        policy = Policy.model_validate(raw)
    except ValidationError as error:
        problems = [_problem(e, path, root) for e in error.errors()]
        (where, first), *more = problems
        why = "; ".join(f"{place}: {problem}" for place, problem in more) or None
        raise PolicyError(first, where=where, why=why) from None
    policy._path, policy._text = str(path), text
    named = policy.evidence.baseline
    if named == "champion" or named.endswith(".json"):
        policy._champion = champion or path.parent / (FILE if named == "champion" else named)
    return policy


def _relocate(gates: Any, folder: Path) -> None:
    """Count the files of the user's own metrics from the policy."""
    for gate in gates if isinstance(gates, list) else ():
        if isinstance(gate, dict) and isinstance(gate.get("metric"), str):
            gate["metric"] = relocated(gate["metric"], folder)


def _kind(raw: Any) -> str:
    return "nothing" if raw is None else f"a {type(raw).__name__}"


def _problem(error: Any, path: Path, root: yaml.Node | None) -> tuple[str, str]:
    place = error["loc"]
    dotted = ".".join(str(p) for p in place)
    line = line_of(root, place)
    where = f"{path}:{line}:{dotted}" if line and dotted else f"{path}:{dotted}" if dotted else str(path)
    if error["type"] == "extra_forbidden":
        return where, f"unknown key {place[-1]!r}; {did_you_mean(str(place[-1]), _keys(place[:-1]))}"
    if error["type"] == "missing":
        return where, f"the key {dotted!r} is missing"
    if error["type"] == "too_short" and place == ("gates",):
        return where, "a policy without gates would pass anything"
    return where, str(error["msg"]).removeprefix("Value error, ")


def _keys(place: tuple[Any, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "evidence": EvidenceOf,
        "defaults": Defaults,
        "requires": Requires,
        "gates": Gate,
        "waivers": Waiver,
        "at": At,
    }
    names = [p for p in place if isinstance(p, str)]
    model = models.get(names[-1], Policy) if names else Policy
    return list(model.model_fields)


def _duplicate_key(node: yaml.Node | None) -> tuple[str, int] | None:
    """A key that a mapping holds twice, and its line; YAML readers keep the last one without a word."""
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                return str(key.value), key.start_mark.line + 1
            seen.add(key.value)
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = list(node.value)
    return next((found for child in children if (found := _duplicate_key(child))), None)
