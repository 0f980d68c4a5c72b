"""What would have kept a row: the least change of the recipe or of the data that lets it pass, computed from the run.

Each stage is asked again about this one row. A rule is switched off and the row judged by the others; a threshold is
set above every better row that counts as its duplicate; a size is read off the selection order. What the next stage
makes of the row then is not known without doing it: `settle` does it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.curate import rules
from tamis.curate.features import record
from tamis.curate.rivals import rivals
from tamis.curate.why import fate
from tamis.recipe import Recipe, Rules
from tamis.record import answer_of, prompt_of
from tamis.run import Run
from tamis.tables import take_records

# Similarities and scores are rounded to four decimals: the next threshold above one is this much higher.
STEP = 1e-4
# Rounds of `settle`: there are no more stages that can drop a row.
ROUNDS = 6


@dataclasses.dataclass(frozen=True)
class Change:
    """Something to do differently.

    Attributes:
        key: a dotted key of the recipe, or `data` for rows to remove or mend.
        value: what to set the key to; for `curate.annotations` and `curate.select.must_keep` the line to add to the
            file; for `data` the rows it is about (ids, or FILE:LINE).
        sentence: the same for a reader, with the number that decided.
    """

    key: str
    value: Any
    sentence: str


@dataclasses.dataclass(frozen=True)
class WhyNot:
    """What would have kept a row.

    Attributes:
        id, verdict, stage, reason: its fate.
        changes: together they let the row pass the stage that dropped it. Empty for a kept row.
        instead: each of these alone would do as well.
        then: what may still stand in its way; None where nothing does.
        settled: its verdict once the changes were tried; None where they were not.
    """

    id: str
    verdict: str
    stage: str | None
    reason: str | None
    changes: list[Change]
    instead: list[Change]
    then: str | None
    settled: str | None = None


def why_not(run: Run, wanted: str) -> WhyNot:
    """Find what would have kept a row, by id, by the user's key or by `file:line`.

    Raises:
        UserError: no ledger, no recipe, or no such row.
    """
    row, recipe = fate(run.curate / "ledger.parquet", wanted), Recipe.of_run(run.path)
    if row["verdict"] == "kept":
        return WhyNot(row["id"], "kept", None, None, [], [], None)
    find, then = _STAGES[row["stage"]]
    changes, instead = find(run, recipe, row)
    unreadable = row["stage"] == "clean" and row["reason"] != "reviewed"
    if row["stage"] != "decontaminate" and not unreadable and _speaks_for_its_content(run, row["id"]):
        instead = [*instead, _keep(row)]
    if recipe.curate.select.size is None and row["stage"] == "deduplicate":
        then = None  # every survivor is kept
    return WhyNot(row["id"], row["verdict"], row["stage"], row["reason"], changes, instead, then)


def settle(run: Run, wanted: str) -> WhyNot:
    """Try the changes: curate again beside the run, and where another stage drops the row then, change that as well.

    Takes as long as curating does; what was embedded or scored is read from the cache. Nothing in the run changes.

    Returns:
        As `why_not`, with every change that was needed and the verdict it led to. A change of the data is not tried.

    Raises:
        UserError, RecipeError: as `why_not`; or the changed recipe cannot be carried out.
    """
    from tamis.curate.pipeline import curate

    asked = why_not(run, wanted)
    found, needed, recipe = asked, dict[str, Change](), Recipe.of_run(run.path)
    for _ in range(ROUNDS):
        needed |= {c.key: c for c in found.changes}
        if not found.changes or any(c.key == "data" for c in found.changes):
            break
        recipe = recipe.changed({c.key: c.value for c in found.changes})
        with tempfile.TemporaryDirectory() as folder:
            again = Run(Path(folder))
            curate(again, recipe, quiet=True)
            again.recipe_file.write_text(recipe.dump(), encoding="utf-8")
            found = why_not(again, asked.id)
    then = None if found.verdict == "kept" else found.then
    return dataclasses.replace(asked, changes=list(needed.values()), then=then, settled=found.verdict)


def sentences(found: WhyNot) -> list[str]:
    """The answer for a reader."""
    if found.verdict == "kept":
        return [f"row {found.id} was kept: nothing needs to change."]
    lines = [f"row {found.id} was dropped by {found.stage} ({found.reason}). To keep it:"]
    lines += [f"  {change.sentence}" for change in found.changes]
    lines += [f"  or {change.sentence}" for change in found.instead]
    if found.settled is not None:
        lines.append(f"tried: with all of these changes the row is {found.settled}.")
    elif found.then:
        lines.append(f"then {found.then}; --check tries it.")
    return lines


def _speaks_for_its_content(run: Run, id_: str) -> bool:
    """Whether a review decision `keep` would keep this row: of rows that say the same it keeps the first id."""
    ids = pq.read_table(run.curate / "ledger.parquet", columns=["id"])["id"].to_pylist()
    return bool(id_ == min(i for i in ids if i[:16] == id_[:16]))


def _keep(row: dict[str, Any]) -> Change:
    line = json.dumps({"content": row["id"][:16], "decision": "keep", "reviewer": "YOU"})
    return Change("curate.annotations", line, f"add {line} to the file that curate.annotations names")


def _of_clean(run: Run, recipe: Recipe, row: dict[str, Any]) -> tuple[list[Change], list[Change]]:
    if row["reason"] == "reviewed":
        file = recipe.curate.annotations
        return [Change("data", [file], f"take the decision `drop` about {row['id'][:16]} out of {file}")], []
    place = f"{row['file']}:{row['line']}"
    bad = pq.read_table(run.curate / "records" / "quarantine.parquet").to_pylist()
    detail = next(b["detail"] for b in bad if (b["id"], b["file"], b["line"]) == (row["id"], row["file"], row["line"]))
    return [Change("data", [place], f"mend {place}: {detail}")], []


def _of_split(run: Run, recipe: Recipe, row: dict[str, Any]) -> tuple[list[Change], list[Change]]:
    sentence = "evaluate on a file of its own (eval: {path: FILE}) instead of holding rows out"
    return [Change("eval", None, sentence)], []


def _of_score(run: Run, recipe: Recipe, row: dict[str, Any]) -> tuple[list[Change], list[Change]]:
    if row["reason"] == "ifd":
        left = [s.model_dump(mode="json") for s in recipe.curate.scorers if s.name != "ifd"]
        value = f"its IFD is {row['score_ifd']:.4f}, below 1 is kept"
        return [Change("curate.scorers", left, f"leave ifd out of curate.scorers ({value})")], []
    settings, changes = recipe.curate.rules, []
    messages = take_records(run.curate / "records", [row["id"]]).to_pylist()[0]
    prompt, answer = prompt_of(messages["messages"]), answer_of(messages["messages"])
    while (reason := rules.judge(prompt, answer, settings)) is not None:
        name = "empty" if reason.startswith("empty_") else reason
        settings = settings.model_copy(update={name: False})
        changes.append(Change(f"curate.rules.{name}", False, f"set curate.rules.{name}: false ({reason})"))
    changes += _language_rule(settings, row)
    fired = [spec for spec in settings.custom if rules.load_custom(spec)(record(messages))]
    if fired:
        others = [spec for spec in settings.custom if spec not in fired]
        changes.append(Change("curate.rules.custom", others, f"leave {', '.join(fired)} out of curate.rules.custom"))
    return changes, []


def _language_rule(settings: Rules, row: dict[str, Any]) -> list[Change]:
    if not settings.languages or row["language"] in settings.languages:
        return []
    wanted = sorted([*settings.languages, row["language"]])
    return [Change("curate.rules.languages", wanted, f"set curate.rules.languages: {wanted}")]


def _of_decontaminate(run: Run, recipe: Recipe, row: dict[str, Any]) -> tuple[list[Change], list[Change]]:
    item = Change("eval", row["witness"], f"take the evaluation item {row['witness']} out of the evaluation set")
    if row["reason"] == "leak_ngram":
        limit = min(round(row["similarity"] + STEP, 4), 1.0)
        sentence = (
            f"set curate.decontaminate.coverage: {limit} (it is {recipe.curate.decontaminate.coverage}; "
            f"{row['similarity']:.2%} of the item's words are in the row)"
        )
        return [Change("curate.decontaminate.coverage", limit, sentence)], [item]
    if row["reason"] == "leak_rephrased":
        sentence = (
            f"set curate.decontaminate.fdr: null (its likeness to {row['witness']} is {row['similarity']:.4f}, "
            f"the limit {row['similarity'] + row['slack']:.4f})"
        )
        return [Change("curate.decontaminate.fdr", None, sentence)], [item]
    sentence = "set curate.decontaminate.enabled: false, and the evaluation measures memory"
    return [Change("curate.decontaminate.enabled", False, sentence)], [item]


def _of_deduplicate(run: Run, recipe: Recipe, row: dict[str, Any]) -> tuple[list[Change], list[Change]]:
    columns = ["id", "verdict", "stage", "reason", "label", "language", "score_quality"]
    ledger = pq.read_table(run.curate / "ledger.parquet", columns=columns)
    stages = pc.is_in(ledger["stage"], value_set=pa.array([None, "deduplicate", "select"], pa.string()))
    embedded = ledger.filter(pc.or_(stages, pc.fill_null(pc.equal(ledger["reason"], "ifd"), False)))
    found = rivals(run, recipe, embedded, row["id"])
    without = Change("data", found.ids, f"remove what it repeats and is better: {_listed(found.ids)}")
    if found.exact:  # no threshold tells a row from its exact copy
        return [without], []
    settings, changes = recipe.curate.deduplicate, []
    for name, alike in (("near", found.near), ("semantic", found.semantic)):
        if not alike:
            continue
        closest = max(alike, key=lambda id_: (alike[id_], id_))
        limit = round(alike[closest] + STEP, 4)
        value = limit if limit <= 1 else None
        sentence = (
            f"set curate.deduplicate.{name}: {'null' if value is None else value} (it is {getattr(settings, name)}; "
            f"its likeness to {closest} is {alike[closest]:.4f})"
        )
        changes.append(Change(f"curate.deduplicate.{name}", value, sentence))
    return changes, [without]


def _of_select(run: Run, recipe: Recipe, row: dict[str, Any]) -> tuple[list[Change], list[Change]]:
    settings, changes = recipe.curate.select, []
    columns = ["rank", "label", "language", "source"]
    ledger = [
        r for r in pq.read_table(run.curate / "ledger.parquet", columns=columns).to_pylist() if r["rank"] is not None
    ]
    before = [r for r in ledger if r["rank"] < row["rank"]]
    for field, bounds in settings.quota.items():
        have = sum(r[field] == row[field] for r in before)
        if bounds.max is not None and have >= bounds.max:
            key = f"curate.select.quota.{field}.max"
            sentence = f"set {key}: {have + 1} (it is {bounds.max}; {have} better rows have the {field} {row[field]!r})"
            changes.append(Change(key, have + 1, sentence))
    value = _size_that_reaches(run, recipe, row["rank"], len(ledger))
    sentence = f"set curate.select.size: {value} (it is {settings.size}; the row is number {row['rank'] + 1:,})"
    changes.append(Change("curate.select.size", value, sentence))
    name = row["key"] or row["id"]
    return changes, [Change("curate.select.must_keep", name, f"name {name} in the file of curate.select.must_keep")]


def _size_that_reaches(run: Run, recipe: Recipe, rank: int, survivors: int) -> int | str:
    """The smallest size, in the recipe's unit, that takes the row at a rank (counted from 0)."""
    size = recipe.curate.select.size
    assert size is not None
    if size.unit == "rows":
        return rank + 1
    if size.unit == "share":
        return f"{math.ceil((rank + 1) / survivors * 1e6) / 1e4:g}%"
    before = [("method", "=", recipe.curate.select.method), ("rank", "<=", rank)]
    used = pq.read_table(run.curate / "order.parquet", columns=["tokens"], filters=before)["tokens"]
    return f"{sum(used.to_pylist())} tokens"


def _listed(ids: list[str], most: int = 5) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


_Finder = Callable[[Run, Recipe, dict[str, Any]], tuple[list[Change], list[Change]]]
_LATER = "decontamination, deduplication and selection look at it"
_STAGES: dict[str, tuple[_Finder, str | None]] = {
    "clean": (_of_clean, "all later stages look at it"),
    "split": (_of_split, "all later stages look at it"),
    "score": (_of_score, _LATER),
    "decontaminate": (_of_decontaminate, "deduplication and selection look at it"),
    "deduplicate": (_of_deduplicate, "selection ranks it among the survivors"),
    "select": (_of_select, None),
}
