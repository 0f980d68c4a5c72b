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
import shutil
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tamis import arm_table, choose_answer, choose_words, endpoint, halving, loop, schema
from tamis.candidates import Entrant, entrants
from tamis.choose_evidence import joined, stored_bytes
from tamis.choose_facts import Ground, as_base, look
from tamis.errors import DataError, EvidenceError, RecipeError, StageFailed, UserError
from tamis.halving import Score
from tamis.hard_filters import Known
from tamis.models import quantisation_of
from tamis.prompt import expected
from tamis.recipe import Recipe
from tamis.run import Run

# What is halved among its own kind, and how many of it are left to the last round.
POOLS = (("base", halving.LEFT), ("endpoint", 1))
ENDPOINTS = "endpoints.json"
MOST_LOOKED = 200  # of a leaderboard of thousands; it begins with the best


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
        everything, timed, calibration, encoders}, notes, recipe, folder}; also in `choose/result.json`.

    Raises:
        DataError: there are no items, or too few.
        RecipeError: no base is left, or an unknown model is named.
        EvidenceError: an endpoint serves another model than the one it was asked for before.
    """
    metric = metric_of(recipe)
    material = _material(run, recipe)
    looked = list(looked_at(run, recipe))
    _require_bases(looked)
    race = Race(run, recipe, material, [one.entrant for one in looked if one.asked], metric, quiet)
    race.hold()
    result = choose_answer.result(race, looked)
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
        enough = listed >= recipe.choose.most and absent >= recipe.choose.most
        if entrant.origin != "recipe" and (enough or len(found) >= MOST_LOOKED):
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
        "candidates": [choose_answer.told(one) for one in looked],
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


class Race:
    """The rounds, one after the other; everything asked is on disk before the next is asked."""

    def __init__(
        self, run: Run, recipe: Recipe, material: Material, field: list[Entrant], metric: str, quiet: bool
    ) -> None:
        self.home, self.original = run.path / "choose", recipe
        self.recipe, self.material, self.metric, self.quiet = _settled(recipe, material), material, metric, quiet
        self.timing = self.recipe.changed({"evaluate.latency": recipe.evaluate.latency.model_dump(mode="json")})
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
            if len(self._of("base", alive)) == 1 < len(self._of("base", list(self.entrants))):
                break  # decided; one that never had a rival is asked on, for what it has to beat
        for name, entrant in self.entrants.items():
            if entrant.kind == "encoder" and self._ask(entrant, 0, self.material.rounds[-1]):
                self._judge(name, self.last)
        if self.original.evaluate.latency.requests:
            for name in self.finalists:
                if self.entrants[name].kind != "encoder":
                    self._time(self.entrants[name])

    @property
    def finalists(self) -> list[str]:
        """Of the last round those that did not fall, best first, and the runner-up in any case; and the encoders."""
        found = []
        for kind, left in POOLS:
            standings = [s for s in self.rounds[-1]["standings"] if s["kind"] == kind]
            found += [s["name"] for place, s in enumerate(standings) if place < left or not s["fell"]]
        return found + [n for n, e in self.entrants.items() if e.kind == "encoder" and n in self.judged]

    def _of(self, kind: str, names: list[str]) -> list[str]:
        return [name for name in names if self.entrants[name].kind == kind]

    def _ask(self, entrant: Entrant, start: int, stop: int) -> bool:
        """Whether a candidate answered these items. What keeps one from it (a window too short) is noted, and told."""
        from tamis.evaluate.stage import evaluate_arm

        place = Run(self.home / "asked" / f"{start + 1}-{stop}")
        items, rows = self.material.items.slice(start, stop - start), self.material.rows
        # an encoder is fitted once: it is timed where it is asked
        recipe = self.timing if entrant.kind == "encoder" else self.recipe
        try:
            spec = self._spec(entrant, place)
            told = evaluate_arm(place, recipe, entrant.name, items, rows, [spec], quiet=self.quiet)
        except RecipeError as error:
            self.failed[entrant.name] = f"{error.what}{': ' + error.why if error.why else ''}"
            return False
        except StageFailed as error:
            if entrant.kind == "endpoint":
                error.what = f"the candidate {entrant.name}: {error.what}"
                error.why = f"{error.why}; {_serves(entrant)}"
            raise
        if entrant.kind == "endpoint" and not told["systems"][spec.name]["skipped"]:
            try:
                _model_of(entrant, self._endpoints()[_address(entrant)])
            except EvidenceError:  # whose answers these are is not known: they must not be read back
                shutil.rmtree(place.evaluate(entrant.name, spec.name))
                raise
        return True

    def _spec(self, entrant: Entrant, place: Run) -> Any:
        """How a candidate is asked; its folder is named by what it is."""
        spec = entrant.spec.model_copy(update={"name": entrant.kind})
        if entrant.kind == "base":
            return spec.model_copy(update={"quantisation": quantisation_of(as_base(self.recipe, entrant.spec).train)})
        if entrant.kind == "encoder":
            return spec
        return spec.model_copy(update={"model": self._served(entrant, place)})

    def _served(self, entrant: Entrant, place: Run) -> str:
        """The model an endpoint is asked for: the one it was asked for before, if there was one."""
        known = self._endpoints().get(_address(entrant))
        if known is not None and entrant.spec.model not in (None, known["model"]):
            known = None  # the recipe names another now: that one is asked from the start
        answered = (place.evaluate(entrant.name, entrant.kind) / "stage.json").is_file()
        if known is not None and answered:  # nobody need be there for what is answered
            return str(known["model"])
        found = _model_of(entrant, known)
        schema.write_json(self.home / ENDPOINTS, {"endpoints": {**self._endpoints(), _address(entrant): found}})
        return str(found["model"])

    def _endpoints(self) -> dict[str, Any]:
        try:
            return dict(schema.read_json(self.home / ENDPOINTS)["endpoints"])
        except (OSError, ValueError, KeyError):
            return {}

    def _end(self, kind: str, alive: list[str], size: int) -> tuple[halving.Cut, list[dict[str, Any]]]:
        """Who of one kind goes on after a round, and how they stand."""
        if not alive:
            return halving.Cut([], [], {}), []
        scores = {name: self.score(name) for name in self._by_size(alive)}
        leader = max(scores, key=lambda name: scores[name].key())
        against = self._versus([n for n in alive if n != leader], leader)
        level = (1 - self.recipe.choose.confidence) / len(self.material.rounds)  # a look after every round
        worse = {name for name, v in against.items() if v.p_holm <= level and v.better is False}
        cut = halving.cut(scores, worse, left=dict(POOLS)[kind], last=size == self.material.rounds[-1])
        return cut, [
            {
                "name": name,
                "kind": kind,
                "value": self.interval(name, self.metric),
                "bits_per_byte": _finite(self._value(name, "bits_per_byte")),
                "delta": (other := against.get(name)) and other.delta.as_dict(self.unit),
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
        return sorted(names, key=lambda name: (stored_bytes(self.entrants[name]) or float("inf"), name))

    def _judge(self, name: str, size: int) -> None:
        items, rounds = self.material.items.slice(0, size), self.material.rounds
        self.judged[name] = joined(self.home, self.entrants[name], items, rounds, self.recipe)

    def score(self, name: str) -> Score:
        from tamis.evaluate.metrics import lookup

        value, bits = self._value(name, self.metric), self._value(name, "bits_per_byte")
        return Score(value if lookup(self.metric).direction == "up" else -value, -bits)

    def _value(self, name: str, metric: str) -> float:
        from tamis.evaluate.measure import absolute

        return float(absolute(self.judged[name], metric, price=self.recipe.evaluate.price).value)

    def interval(self, name: str, metric: str) -> dict[str, Any]:
        from tamis.evaluate.measure import absolute
        from tamis.evaluate.metrics import lookup

        found = absolute(self.judged[name], metric, self.recipe.choose.confidence, self.recipe.evaluate.price)
        return found.as_dict(lookup(metric).unit)

    @property
    def unit(self) -> str | None:
        from tamis.evaluate.metrics import lookup

        return lookup(self.metric).unit

    def _time(self, entrant: Entrant) -> None:
        from tamis.evaluate.stage import time_requests

        place = Run(self.home / "timed")
        spec = self._spec(entrant, place)
        items, rows, latency = self.material.items, self.material.rows, self.original.evaluate.latency
        folder = time_requests(place, self.timing, entrant.name, items, rows, spec, quiet=self.quiet)
        self.timed += latency.requests + latency.warmup
        shutil.copyfile(folder / "requests.parquet", self.judged[entrant.name].folder / "requests.parquet")
        self.judged[entrant.name] = dataclasses.replace(self.judged[entrant.name])  # what it read before is forgotten


def _settled(recipe: Recipe, material: Material) -> Recipe:
    """The recipe every part is evaluated by: all labels named, or a part would know only its own."""
    task = recipe.evaluate.task
    changes: dict[str, Any] = {"evaluate.load": {}, "evaluate.latency.requests": 0}  # the last are timed, at the end
    if task.kind == "classify" and task.labels == "from-data":
        tables = [t.select(["messages", "label"]).to_pylist() for t in (material.items, material.rows)]
        labels = {expected(r["messages"], r["label"], task) for rows in tables for r in rows}
        changes["evaluate.task.labels"] = sorted(label for label in labels if label)
    return recipe.changed(changes)


def _require_some(alive: list[str], failed: dict[str, str]) -> None:
    if not alive:
        name, why = next(iter(failed.items()))
        raise RecipeError("no candidate could be asked", where="choose.candidates", why=f"{name}: {why}")


def _address(entrant: Entrant) -> str:
    return f"{entrant.name} {entrant.spec.endpoint}"


def _serves(entrant: Entrant) -> str:
    try:
        served = endpoint.models_of(endpoint.Endpoint(str(entrant.spec.endpoint), "", entrant.spec.key_env))
    except EvidenceError as error:
        return error.what
    return "it does not say what it serves" if served is None else f"it serves {', '.join(served[:8]) or 'nothing'}"


def _model_of(entrant: Entrant, known: dict[str, Any] | None) -> dict[str, Any]:
    """The one model that an endpoint is asked for.

    Args:
        entrant: whose.
        known: what this returned before, if it did.

    Returns:
        {model, listed: whether the endpoint names it among those that it serves; some serve what they do not name}.

    Raises:
        EvidenceError: it named the model before and names others now.
        UserError: the recipe names none, and it serves several or does not say.
    """
    spec = entrant.spec
    served = endpoint.models_of(endpoint.Endpoint(str(spec.endpoint), spec.model or "", spec.key_env))
    wanted = known["model"] if known else spec.model
    if wanted is None:
        if served is None or len(served) != 1:
            raise UserError(
                f"which model of {entrant.name}?", where=spec.endpoint, why=_serves(entrant), hint="model: NAME"
            )
        wanted = served[0]
    listed = served is not None and wanted in served
    if known and known["listed"] and served is not None and not listed:
        raise EvidenceError(
            f"the endpoint {entrant.name} no longer serves {wanted}",
            where=spec.endpoint,
            why=f"{_serves(entrant)}; the answers so far are those of {wanted}",
            hint=f"serve {wanted} again, or give the candidate another name: the new one is then asked from the start",
        )
    return {"model": wanted, "listed": listed}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
