"""The answer of `tamis choose`: everyone's numbers, the front, the recommended base, the recipe with it filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tamis import choose_words, schema
from tamis.choose_evidence import stored_bytes
from tamis.choose_facts import as_base
from tamis.models import quantisation_of

if TYPE_CHECKING:
    from tamis.choose import Looked, Race

HALVED = "Jamieson and Talwalkar 2016, after Karnin, Koren and Somekh 2013"
QUALITY, LATENCY, COST, MEMORY = "value", "p95_ms", "cost_per_1k", "memory_gb"


def told(one: Looked) -> dict[str, Any]:
    """What is said of every candidate, asked or not."""
    entrant, known = one.entrant, one.known
    status = "rejected" if one.rejected else "asked" if one.here else "not here"
    return {
        "name": entrant.name,
        "kind": entrant.kind,
        "origin": entrant.origin,
        "status": status,
        "rejected": list(one.rejected),
        "model": entrant.spec.model or entrant.spec.encoder,
        "model_sha256": entrant.model and entrant.model.sha256,
        "endpoint": entrant.spec.endpoint,
        "quantisation": entrant.spec.quantisation,
        "tuned": entrant.spec.tuned,
        "license": known.license,
        "languages": None if known.languages is None else list(known.languages),
        "parameters": entrant.facts.parameters,
        "average": entrant.facts.average,
        "source": entrant.facts.source,
        "context": known.context,
        "tokens_p99": known.tokens_p99,
        "tokens_per_word": known.tokens_per_word,
        "chat_template": known.chat_template,
        "training_gb": known.training_bytes and known.training_bytes / 1e9,
        MEMORY: known.serving_bytes and known.serving_bytes / 1e9,
    }


def result(race: Race, looked: Sequence[Looked]) -> dict[str, Any]:
    """What `choose` returns and writes, but for the folder."""
    rows = [told(one) for one in looked]
    fell = {s["name"]: (r["items"], s["fell"]) for r in race.rounds for s in r["standings"] if s["fell"]}
    finalists = race.finalists
    for row in rows:
        name = row["name"]
        if name in race.failed:
            row |= {"status": "rejected", "rejected": [f"it could not be asked: {race.failed[name]}"]}
        if name in race.judged and name not in race.failed:
            row |= _measured(race, name, name in finalists)
            row["fell"] = fell.get(name) and {"after": fell[name][0], "why": fell[name][1]}
    up = race.rounds[-1]["standings"][0]
    front = _front([r for r in rows if r["name"] in finalists], _higher_is_better(race.metric))
    for row in rows:
        row["on_front"] = row["name"] in front
    recommended = _recommended(race, rows, finalists)
    raced = [e for e in race.entrants.values() if e.kind != "encoder"]
    encoders = len(race.entrants) - len(raced)
    best = _best(race, finalists)
    written = _write_recipe(race, recommended["name"], encoders=any(r["kind"] == "encoder" for r in rows))
    return {
        "metric": race.metric,
        "unit": up["value"]["unit"],
        "kind": race.recipe.evaluate.task.kind,
        "confidence": race.recipe.choose.confidence,
        "seed": race.recipe.seed,
        "method": HALVED,
        "items": race.last,
        "planned_rounds": race.material.rounds,
        "rounds": race.rounds,
        "candidates": rows,
        "front": front,
        "best": best,
        "recommended": recommended,
        "currency": race.recipe.evaluate.price.currency,
        "calls": {
            "asked": sum(r["calls"] for r in race.rounds),
            "everything": len(raced) * race.material.rounds[-1],
            "timed": race.timed,
            "calibration": sum(
                e.about.get("decoding", {}).get("calibration_rows", 0)
                for e in race.judged.values()
                if e.system == "base"
            ),
            "encoders": encoders * race.material.rounds[-1],
        },
        "recipe": str(written),
    }


def _higher_is_better(metric: str) -> bool:
    from tamis.evaluate.metrics import lookup

    return bool(lookup(metric).direction == "up")


def _measured(race: Race, name: str, final: bool) -> dict[str, Any]:
    """Numbers of one that was asked; times and prices of finalists only."""
    entrant = race.entrants[name]
    found: dict[str, Any] = {
        "items": len(race.judged[name].answers),
        QUALITY: race.interval(name, race.metric),
        "bits_per_byte": race.interval(name, "bits_per_byte"),
        LATENCY: race.interval(name, "latency.e2e.p95") if final else None,
        COST: race.interval(name, f"cost.{race.recipe.evaluate.price.currency.lower()}_per_1k") if final else None,
    }
    if entrant.kind == "encoder" and (stored := stored_bytes(entrant)):
        from tamis.train.plan import FIXED, FRAGMENTATION

        found[MEMORY] = FRAGMENTATION * (stored + FIXED["cpu"]) / 1e9
    return found


def _front(rows: Sequence[dict[str, Any]], up: bool) -> list[str]:
    """Names of those that no other beats: at least as good in every number both have, better in one.

    Quality up (or down), p95 latency, cost of 1,000 requests and memory down; point values. A number that one of two
    lacks does not count between them.
    """

    def numbers(row: dict[str, Any]) -> list[float | None]:
        values = [(row.get(key) or {}).get("value") for key in (QUALITY, LATENCY, COST)] + [row.get(MEMORY)]
        signs = [1.0 if up else -1.0, -1.0, -1.0, -1.0]
        return [None if v is None or np.isnan(v) else s * v for v, s in zip(values, signs, strict=True)]

    def beats(a: dict[str, Any], b: dict[str, Any]) -> bool:
        pairs = [(x, y) for x, y in zip(numbers(a), numbers(b), strict=True) if x is not None and y is not None]
        return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)

    return [row["name"] for row in rows if not any(beats(other, row) for other in rows if other is not row)]


def _best(race: Race, finalists: Sequence[str]) -> str:
    return max(finalists, key=lambda name: race.score(name).key())


def _recommended(race: Race, rows: Sequence[dict[str, Any]], finalists: Sequence[str]) -> dict[str, Any]:
    """The best base that can be trained, its runner-up among the bases, and how it stands to the best of all."""
    bases = [name for name in finalists if race.entrants[name].kind == "base"]
    name = _best(race, bases)
    runner = next((n for n in bases if n != name), None)
    against = None if runner is None else _pair(race.judged[name], race.judged[runner], race)
    best = _best(race, finalists)
    ahead = None if best == name else _pair(race.judged[best], race.judged[name], race)
    by_name = {row["name"]: row for row in rows}
    entrant = race.entrants[name]
    found = {
        "name": name,
        "model": entrant.spec.model or race.recipe.model,
        "quantisation": quantisation_of(as_base(race.recipe, entrant.spec).train),
        "runner_up": runner,
        "against": against,
        "best": best,
        "ahead": ahead,
    }
    return found | {"why": choose_words.why(found, by_name, race.metric)}


def _pair(candidate: Any, reference: Any, race: Race) -> dict[str, Any]:
    from tamis.evaluate.versus import versus

    (pair,) = versus([candidate], reference, race.metric, race.recipe.choose.confidence)
    return {
        "delta": pair.delta.as_dict(race.unit),
        "p": pair.p,
        "told_apart": pair.told_apart(race.recipe.choose.confidence),
        "items": len(candidate.answers),
    }


def _write_recipe(race: Race, name: str, *, encoders: bool) -> Path:
    """The recipe with the chosen base, readable from anywhere; with the floor it has to beat where one was asked."""
    chosen = as_base(race.original, race.entrants[name].spec)
    systems = chosen.evaluate.systems
    if encoders and "linear" not in systems:
        plain = [s if isinstance(s, str) else s.model_dump(mode="json") for s in systems]
        chosen = chosen.changed({"evaluate.systems": [*plain, "linear"]})
    file = race.home / "recipe.yaml"
    head = "# Written by tamis choose: the base it recommends is filled in as `model`.\n"
    schema.write_atomic(file, (head + chosen.anywhere().dump()).encode("utf-8"))
    return file
