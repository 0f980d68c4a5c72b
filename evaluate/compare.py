"""All systems of a run side by side: values with intervals, paired differences, price. Writes `comparison.json`.

Reports read that file and compute nothing. numpy and scipy only: no model, no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tamis import intervals
from tamis.errors import EvidenceError
from tamis.evaluate import cost, levels, looks, measure, needed, spending
from tamis.evaluate.evidence import Evidence, all_of
from tamis.evaluate.metrics import Answers, lookup, primary
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.schema import read_json, write_json

CONFIDENCE = 0.95
BASELINES = ("linear", "nearest", "majority")


def compare(run: Run, recipe: Recipe) -> dict[str, Any]:
    """Compare every complete evaluation of a run and write `comparison.json`.

    Raises:
        EvidenceError: nothing was evaluated, or systems answered different evaluation sets.
    """
    everything = all_of(run)
    if not everything:
        raise EvidenceError("nothing was evaluated in this run", where=str(run.path), hint="tamis evaluate RECIPE")
    _require_one_set(everything)
    first = everything[0]
    kind = recipe.evaluate.task.kind
    comparison = {
        "confidence": CONFIDENCE,
        "task": kind,
        "primary": primary(kind),
        "items": max(len(e.answers) for e in everything),
        "components": max(len(set(e.answers["component"])) for e in everything),
        "eval_sha256": first.about["eval_set_sha256"],
        "looks": looks.told(run, first.about["eval_set_sha256"]),
        "price": recipe.evaluate.price.model_dump(),
        "spending": spending.spending(everything, recipe.evaluate.price),
        "environment": _environment(everything),
        "systems": [_system(run, e, recipe) for e in everything],
        "pairs": [row for a, b in pairs_of(everything) for row in _pair(a, b, kind)],
    }
    write_json(run.comparison, comparison)
    return comparison


def _require_one_set(everything: list[Evidence]) -> None:
    sets = {e.about["eval_set_sha256"]: e for e in everything}
    if len(sets) > 1:
        a, b, *_ = sets.values()
        raise EvidenceError(
            "systems of this run answered different evaluation sets",
            where=f"{a.folder} and {b.folder}",
            hint="tamis run RECIPE evaluates again what is out of date",
        )


def _environment(everything: list[Evidence]) -> dict[str, Any]:
    """That of the first language model, else of the first system; others are named where they differ."""
    models = [e for e in everything if e.system not in BASELINES]
    chief = (models or everything)[0].environment
    others = {e.name: e.environment["hardware"] for e in everything if e.environment["hardware"] != chief["hardware"]}
    return {**chief, "others": others}


def _system(run: Run, evidence: Evidence, recipe: Recipe) -> dict[str, Any]:
    about = evidence.about
    training = _training(run.train(evidence.arm)) if about["uses_arm"] else {}
    return {
        "arm": evidence.arm,
        "system": evidence.system,
        "name": evidence.name if about["uses_arm"] else evidence.system,
        "uses_arm": about["uses_arm"],
        "train_rows": training.get("rows"),
        "train_seconds": training.get("seconds"),
        "metrics": {**about["metrics"], **_prices(evidence, recipe)},
        "failed_metrics": about.get("failed_metrics") or {},
        "errors": sum(e is not None for e in evidence.answers["error"]),
        "retries": about.get("retries", 0),
        "requests": _requests(evidence),
        "loads": [_load(level) for level in levels.levels_of(evidence)],
        "output_tokens": about.get("output_tokens"),
        "environment": evidence.environment,
        "evidence_sha256": evidence.sha256,
    }


def _training(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "stage.json")
    except (OSError, ValueError):
        return {}


def _prices(evidence: Evidence, recipe: Recipe) -> dict[str, Any]:
    """Prices that are known; a missing price has no entry."""
    price = recipe.evaluate.price
    currency = price.currency.lower()
    found = {
        f"cost.{currency}_per_1k": cost.per_1k(evidence, price, CONFIDENCE),
        f"cost.{currency}_per_correct": cost.per_correct(evidence, price, CONFIDENCE),
    }
    return {id: interval.as_dict(price.currency) for id, interval in found.items() if interval.n}


def _load(level: levels.AtLevel) -> dict[str, Any]:
    """A measured load: its times and what it answered, and why it is no evidence where it is none."""
    ids = ("latency.ttft.p50", "latency.ttft.p95", "latency.e2e.p50", "latency.e2e.p95", "load.throughput")
    found = {id: measure.absolute(level, id, CONFIDENCE) for id in ids}
    return {
        **{key: level.level.get(key) for key in levels.KEYS},
        "requests": _requests(level),
        "invalid": levels.invalid_because(level),
        "metrics": {id: interval.as_dict(lookup(id).unit) for id, interval in found.items() if interval.n},
    }


def _requests(evidence: Evidence) -> dict[str, int]:
    if evidence.requests is None:
        return {"timed": 0, "warmup": 0, "failed": 0}
    rows = evidence.requests.to_pylist()
    timed = [r for r in rows if not r["warmup"]]
    return {
        "timed": len(timed),
        "warmup": len(rows) - len(timed),
        "failed": sum(r["status"] != "ok" for r in timed),
    }


# ------------------------------------------------------------------------------------------------------ pairs


def pairs_of(everything: list[Evidence]) -> list[tuple[Evidence, Evidence]]:
    """Who is compared with whom.

    Every system that is no baseline against what it should beat (base, base at its best, the baselines of its arm),
    and each against its namesake in the later arms.
    """
    found: list[tuple[Evidence, Evidence]] = []
    everything = [e for e in everything if len(e.answers)]  # an imported load has no answers to pair
    free = {e.system: e for e in everything if not e.about["uses_arm"]}
    for candidate in everything:
        own = {e.system: e for e in everything if e.arm == candidate.arm}
        if candidate.system not in ("base", *BASELINES):
            rivals = [free.get(name) or own.get(name) for name in ("base", "base-best", *BASELINES)]
            found += [(candidate, r) for r in rivals if r is not None and r.folder != candidate.folder]
    arms = list(dict.fromkeys(e.arm for e in everything))
    for candidate in everything:
        later = arms[arms.index(candidate.arm) + 1 :]
        found += [(candidate, e) for e in everything if e.system == candidate.system and e.arm in later]
    return found


def _pair(candidate: Evidence, baseline: Evidence, kind: str) -> list[dict[str, Any]]:
    """One row per metric of the task that both have, the primary one first."""
    a, b = measure.aligned(candidate.answers, baseline.answers)
    rows = []
    names = [id for id in candidate.about["metrics"] if id in baseline.about["metrics"] and _is_quality(id)]
    for id in sorted(names, key=lambda id: id != primary(kind)):
        metric = lookup(id)
        delta = measure.delta_of_answers(a, b, metric, CONFIDENCE)
        if not delta.n:
            continue
        row: dict[str, Any] = {
            "candidate": {"arm": candidate.arm, "system": candidate.system},
            "baseline": {"arm": baseline.arm, "system": baseline.system},
            "metric": id,
            "direction": metric.direction,
            "delta": delta.as_dict(metric.unit),
        }
        if metric.family == "proportion":
            grown = needed.grown(metric, candidate, baseline, CONFIDENCE)
            row |= _outcomes(a, b, id)
            row["examples_needed"] = _until_told_apart(delta, grown)
        if id == "accuracy":
            row["gain"] = gain(a, b)
        rows.append(row)
    return rows


def _is_quality(id: str) -> bool:
    try:
        return lookup(id).quality
    except KeyError:
        return False


def _outcomes(a: Answers, b: Answers, id: str) -> dict[str, Any]:
    rows = lookup(id).rows
    assert rows is not None
    ours, theirs = rows(a), rows(b)
    assert ours is not None
    assert theirs is not None
    table = {
        "both_right": int(((ours > 0) & (theirs > 0)).sum()),
        "fixed": int((ours > theirs).sum()),
        "broken": int((ours < theirs).sum()),
        "both_wrong": int(((ours == 0) & (theirs == 0)).sum()),
    }
    # McNemar's test takes every item for independent; where they come in clusters the interval alone tells
    alone = len(set(a["component"])) == len(a)
    p = intervals.mcnemar_exact(table["fixed"], table["broken"]) if alone else None
    return {"table": table, "mcnemar_p": p}


def _until_told_apart(delta: intervals.Interval, grown: needed.Grown | None) -> int | None:
    """Further items until the difference could be told from none; 0 where it can be."""
    if delta.lower is not None and delta.upper is not None and (delta.lower > 0 or delta.upper < 0):
        return 0
    return needed.more_items(delta, lambda value: value > 0, 0.0, 1, grown)


def gain(candidate: Answers, baseline: Answers) -> dict[str, float | None]:
    """The difference in accuracy as form (more outputs hold an answer) and skill (more answers are right).

    accuracy = parse rate x accuracy given parsed. The change of each factor is weighted by the mean of the other, so
    that the two parts sum to the difference exactly. Where one side never gave an answer its skill is unknown: the
    whole difference is form, and skill is None.
    """
    p, q = (sum(x["parsed"]) / len(x) for x in (candidate, baseline))
    right_p, right_q = (sum(bool(c) for c in x["correct"]) / len(x) for x in (candidate, baseline))
    if p == 0 or q == 0:
        return {"format": right_p - right_q, "skill": None}
    s, t = right_p / p, right_q / q
    return {"format": (p - q) * (s + t) / 2, "skill": (s - t) * (p + q) / 2}
