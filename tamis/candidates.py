"""Candidates for a base model: those the recipe names, the catalogue's, a leaderboard file's; what is known of each.

A name is resolved where the recipe names it, if need be by downloading it, as everywhere. A model of the catalogue or
of a leaderboard is asked only if it is on this machine already: nobody has 15 GB fetched by a list.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

from tamis import data
from tamis.errors import DataError, did_you_mean
from tamis.models import ResolvedModel, at_hand, resolve
from tamis.recipe import Candidate, Recipe

# Columns of `open-llm-leaderboard/contents`; the arrow is part of the name.
AVERAGE, NAME, SIZE, LICENCE = "Average ⬆️", "fullname", "#Params (B)", "Hub License"
TEMPLATE, FLAGGED, THERE, EXPERTS = "Chat Template", "Flagged", "Available on the hub", "MoE"
SIZES = ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocabulary", "tied", "context", "kind")


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a model without loading it; None is not known.

    Attributes:
        license: as the hub writes it.
        languages: ISO 639-1.
        parameters: number of weights.
        chat_template: whether it has one.
        sizes: what `train.plan.Shape` is made of.
        average: on a leaderboard.
        source: where this was read.
    """

    license: str | None = None
    languages: tuple[str, ...] | None = None
    parameters: float | None = None
    chat_template: bool | None = None
    sizes: dict[str, Any] | None = None
    average: float | None = None
    source: str | None = None


@dataclasses.dataclass(frozen=True)
class Entrant:
    """One candidate.

    Attributes:
        spec: how it is asked; its name is a folder's.
        origin: who named it.
        facts: what is known of it.
        model: where its weights lie; None for an endpoint, an encoder, and a model that is not on this machine.
    """

    spec: Candidate
    origin: Literal["recipe", "catalogue", "leaderboard"]
    facts: Facts
    model: ResolvedModel | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def kind(self) -> Literal["base", "endpoint", "encoder"]:
        """A base can be trained here; the others are what it has to beat."""
        return "endpoint" if self.spec.endpoint else "encoder" if self.spec.encoder else "base"


def entrants(recipe: Recipe) -> Iterator[Entrant]:
    """All candidates: the recipe's (its `model` first), the catalogue's, the leaderboard's by rank. No model twice.

    Raises:
        RecipeError: the recipe names a model that there is not.
        DataError: the leaderboard file cannot be read as one.
    """
    asked, trusted = recipe.choose, recipe.train.trust_remote_code
    known = catalogue()
    specs = [c if isinstance(c, Candidate) else Candidate(name=_folder(c), model=c) for c in asked.candidates]
    if not any(s.model == recipe.model and s.quantisation is None for s in specs):
        specs.insert(0, Candidate(name=_folder(recipe.model), model=recipe.model))
    specs = _distinct(specs)
    for spec in specs:
        model = resolve(spec.model, trust_remote_code=trusted) if spec.local and spec.model else None
        facts = known.get(spec.model or "", Facts())
        if model is not None:
            facts = _said_by_card(model.path, facts)
        yield Entrant(spec, "recipe", _said_by_recipe(spec, facts), model)
    seen, names = {spec.model for spec in specs}, {spec.name for spec in specs}
    listed: list[tuple[Literal["catalogue", "leaderboard"], str, Facts]] = []
    if asked.catalogue:
        listed += [("catalogue", name, facts) for name, facts in known.items()]
    if asked.leaderboard:
        for name, facts in leaderboard(Path(asked.leaderboard)).items():
            known_too = dataclasses.replace(known[name], average=facts.average) if name in known else facts
            listed.append(("leaderboard", name, known_too))
    for origin, name, facts in listed:
        if name not in seen:
            seen.add(name)
            spec = Candidate(name=_unlike(_folder(name), names), model=name)
            names.add(spec.name)
            yield Entrant(spec, origin, facts, at_hand(name))


def _distinct(specs: list[Candidate]) -> list[Candidate]:
    """The same with names that differ: two folders of different owners may end alike."""
    names: set[str] = set()
    found = []
    for spec in specs:
        found.append(spec.model_copy(update={"name": _unlike(spec.name, names)}))
        names.add(found[-1].name)
    return found


def _unlike(name: str, names: set[str]) -> str:
    """A name that is none of these: with a number behind it where it is one."""
    return next(n for n in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2))) if n not in names)


def _folder(model: str) -> str:
    """The last part of a model's name, fit for a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model.rstrip("/").rsplit("/", 1)[-1]).strip(".-") or "model"


# ------------------------------------------------------------------------------------------------- the catalogue


@functools.cache
def catalogue() -> dict[str, Facts]:
    """The models Tamis knows of, by name, small ones first (data/catalogue.yaml)."""
    raw = yaml.safe_load((Path(next(iter(data.__path__))) / "catalogue.yaml").read_text(encoding="utf-8"))
    return {
        entry["name"]: Facts(
            license=entry["license"],
            languages=None if entry["languages"] is None else tuple(entry["languages"]),
            parameters=float(entry["parameters"]),
            chat_template=entry["chat_template"],
            sizes={key: entry[key] for key in SIZES},
            source=f"catalogue of {raw['checked']}: {'; '.join(raw['sources'][s] for s in entry['source'])}",
        )
        for entry in raw["models"]
    }


def _said_by_card(folder: Path, facts: Facts) -> Facts:
    """What the model card in a folder says stands over the catalogue."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        raw = yaml.safe_load(head[1]) if head else {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raw = {}
    card = raw if isinstance(raw, dict) else {}
    spoken = card.get("language")
    languages = tuple(str(s) for s in spoken) if isinstance(spoken, list) else (str(spoken),) if spoken else None
    return dataclasses.replace(
        facts,
        license=str(card["license"]) if card.get("license") else facts.license,
        languages=languages or facts.languages,
        source=facts.source or (f"model card in {folder}" if card else None),
    )


def _said_by_recipe(spec: Candidate, facts: Facts) -> Facts:
    """What the recipe says stands over all else."""
    languages = facts.languages if spec.languages is None else tuple(spec.languages)
    return dataclasses.replace(facts, license=spec.license or facts.license, languages=languages)


# ------------------------------------------------------------------------------------------------- a leaderboard


def leaderboard(file: Path) -> dict[str, Facts]:
    """The models of an Open LLM Leaderboard `contents` file, best average first.

    Models that were flagged, or are no longer on the hub, are left out; of several entries of one model the best
    counts. The leaderboard was closed in March 2025 and knows nothing newer.

    Raises:
        DataError: no such file, or a table with other columns.
    """
    table = _read(file)
    lacking = [c for c in (NAME, AVERAGE, SIZE, LICENCE) if c not in table.column_names]
    if lacking:
        raise DataError(
            f"the leaderboard file has no column {lacking[0]!r}",
            where=str(file),
            why=f"its columns are {', '.join(map(repr, table.column_names[:8]))}"
            + (", ..." if len(table.column_names) > 8 else ""),
            hint=did_you_mean(lacking[0], table.column_names)
            if len(table.column_names) < 8
            else "the file is open-llm-leaderboard/contents, data/train-00000-of-00001.parquet, unchanged",
        )
    best: dict[str, Facts] = {}
    for row in table.to_pylist():
        average, name = _number(row[AVERAGE]), str(row[NAME] or "")
        if average is None or not name or _yes(row.get(FLAGGED)) or _yes(row.get(THERE)) is False:
            continue
        if name in best and (best[name].average or 0.0) >= average:
            continue
        size = _number(row[SIZE])
        best[name] = Facts(
            license=str(row[LICENCE] or "").strip() or None,
            parameters=size * 1e9 if size and size > 0 else None,
            chat_template=_yes(row.get(TEMPLATE)),
            average=average,
            source=str(file),
        )
    if not best:
        raise DataError("the leaderboard file names no model that could be had", where=str(file))
    return dict(sorted(best.items(), key=lambda item: (-(item[1].average or 0.0), item[0])))


def _read(file: Path) -> pa.Table:
    try:
        if file.suffix == ".csv":
            return pyarrow.csv.read_csv(file)
        return pq.read_table(file)
    except FileNotFoundError:
        raise DataError("there is no such leaderboard file", where=str(file)) from None
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            "the leaderboard file is neither Parquet nor CSV",
            where=str(file),
            why=str(error).splitlines()[0],
            hint="its name must end in .parquet or .csv",
        ) from None


def _number(value: Any) -> float | None:
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if found == found else None  # NaN is no number


def _yes(value: Any) -> bool | None:
    """Truth as Parquet and CSV write it."""
    if value is None or isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).strip().lower())
