"""The data card: what the kept rows are made of and what was done to them; `card.json` and, for people, `card.md`.

A forbidden licence blocks: one such row and the run is refused before anything is made of the data, with the rows
listed in `curate/refused.json`. Dropping them would hide that they were in the data at all; its owner decides.
"""

from __future__ import annotations

import collections
import fnmatch
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import schema
from tamis.errors import DataError
from tamis.recipe import Recipe
from tamis.tables import read_shards

UNKNOWN = "unknown"
# Above this many values of a field the card lists the most frequent and counts the rest.
MOST = 50


def plain_licence(name: str) -> str:
    """One spelling of a licence: "CC BY-NC 4.0" becomes "cc-by-nc-4.0". A `*` stays."""
    return re.sub(r"[^a-z0-9.+*]+", "-", name.casefold()).strip("-")


def refuse_forbidden(folder: Path, forbidden: list[str]) -> None:
    """Stop where a row has a forbidden licence; nothing that was read of the data stays in the folder.

    Args:
        folder: the stage's, with `records` in it.
        forbidden: licences, spelt in any way; `*` stands for anything ("cc-by-nc-*").

    Raises:
        DataError: names each licence with its rows, and the first place.
    """
    if not forbidden:
        return
    patterns = [plain_licence(f) for f in forbidden]
    table = read_shards(folder / "records", ["license", "file", "line", "id"])
    names = [n for n in table["license"].unique().to_pylist() if n is not None]
    bad = [n for n in names if any(fnmatch.fnmatchcase(plain_licence(n), p) for p in patterns)]
    rows = table.filter(pc.is_in(table["license"], pa.array(bad, pa.string()))).to_pylist()
    if not rows:
        return
    rows.sort(key=lambda r: (r["file"], r["line"]))
    counts = dict(sorted(collections.Counter(r["license"] for r in rows).items()))
    shutil.rmtree(folder / "records")
    schema.write_json(folder / "refused.json", {"forbidden": forbidden, "licenses": counts, "rows": rows})
    raise DataError(
        f"{len(rows):,} of {len(table):,} rows have a forbidden licence",
        where=f"{rows[0]['file']}:{rows[0]['line']} (row {rows[0]['id']})",
        why="; ".join(f"{name}: {count:,} rows" for name, count in counts.items()),
        hint=f"take the rows listed in {folder / 'refused.json'} out of the data, "
        "or their licence out of curate.forbid_licenses",
    )


def write(folder: Path, recipe: Recipe, funnel: dict[str, Any], ledger: pa.Table, **facts: Any) -> None:
    """Write `card.json` and `card.md`.

    Args:
        folder: the stage's, with `records/edits.parquet` and `decontamination.json` in it.
        recipe: the settings.
        funnel: how many rows each stage and reason took.
        ledger: schema.LEDGER.
        facts: `personal` (counts per kind, of the rows and of the evaluation items), `review` (`Review.summary`),
            `warnings` (sentences).
    """
    edits = pq.read_table(folder / "records" / "edits.parquet").to_pylist()
    kept = ledger.filter(pc.equal(ledger["verdict"], "kept"))
    ids = set(kept["id"].to_pylist())
    was = {e["id"]: e["was"] for e in edits if e["kind"] == "relabelled" and e["was"] is not None}
    before = [was.get(i, v) for i, v in zip(ledger["id"].to_pylist(), ledger["label"].to_pylist(), strict=True)]
    card = {
        "name": recipe.name,
        "data": {"path": recipe.data.path if recipe.data else None, "formats": funnel["formats"]},
        "rows": {"read": funnel["read"], "kept": funnel["kept"]},
        "dropped": funnel["dropped"],
        **{
            name: {"read": counts(ledger[column].to_pylist()), "kept": counts(kept[column].to_pylist())}
            for name, column in (("sources", "source"), ("licenses", "license"), ("languages", "language"))
        },
        "labels": {"read": counts(before), "kept": counts(kept["label"].to_pylist())},
        "forbidden_licenses": recipe.curate.forbid_licenses,
        "masked_kinds": recipe.curate.mask,
        "edits": {kind: _edited(edits, kind, ids) for kind in ("masked", "relabelled")},
        "leaks": schema.read_json(folder / "decontamination.json"),
        "suspect_labels": funnel["suspect_labels"],
        **facts,
        "embedder": funnel["embedder"],
        "seed": recipe.seed,
        "settings": recipe.curate.model_dump(mode="json"),
    }
    schema.write_json(folder / "card.json", card)
    schema.write_atomic(folder / "card.md", markdown(card).encode("utf-8", "replace"))


def counts(values: list[str | None]) -> dict[str, int]:
    """Rows per value, most frequent first; None counts as unknown, and what is beyond MOST values as others."""
    found = collections.Counter(UNKNOWN if v is None else v for v in values)
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(n for _, n in ranked[MOST:])
    return dict(ranked[:MOST]) | ({f"{len(ranked) - MOST} others": rest} if rest else {})


def _edited(edits: list[dict[str, Any]], kind: str, kept: set[str]) -> dict[str, int]:
    ids = {e["id"] for e in edits if e["kind"] == kind}
    return {"rows": len(ids), "kept_rows": len(ids & kept)}


def markdown(card: dict[str, Any]) -> str:
    """The card as a page. Names from the data stand in code spans, so that none of them is taken for markup."""
    rows, edits, review = card["rows"], card["edits"], card["review"]
    out = [f"# Data card: {card['name']}", ""]
    out += [f"**{rows['kept']:,} of {rows['read']:,} rows kept.**", *(f"\n> {w}" for w in card["warnings"])]
    out += ["", "| stage | reason | rows dropped |", "|---|---|---:|"]
    out += [
        f"| {stage} | {_code(reason)} | {count:,} |"
        for stage, reasons in card["dropped"].items()
        for reason, count in reasons.items()
    ]
    for title, name in (
        ("Sources", "sources"),
        ("Licences", "licenses"),
        ("Languages", "languages"),
        ("Labels", "labels"),
    ):
        read, kept = card[name]["read"], card[name]["kept"]
        out += ["", f"## {title}", "", "| | read | kept |", "|---|---:|---:|"]
        out += [f"| {_code(v)} | {read.get(v, 0):,} | {kept.get(v, 0):,} |" for v in dict.fromkeys([*read, *kept])]
    forbidden = ", ".join(map(_code, card["forbidden_licenses"])) or "none"
    out += ["", f"Forbidden licences: {forbidden}. No row has one: a run with such a row is refused.", ""]
    out += ["## Personal data", "", "| kind | in rows | mentions | values | in evaluation items | masked |"]
    out += ["|---|---:|---:|---:|---:|---|"]
    for kind, found in card["personal"]["rows"].items():
        items = card["personal"]["items"][kind]["rows"]
        masked = "yes" if kind in card["masked_kinds"] else "no"
        out.append(
            f"| {kind} | {found['rows']:,} | {found['mentions']:,} | {found['values']:,} | {items:,} | {masked} |"
        )
    leaks = card["leaks"]
    checked = (
        f"{leaks['leaks']:,} rows leak one of {leaks['items']:,} evaluation items."
        if leaks["checked"]
        else ("Not checked: there is no evaluation set, or the check is off.")
    )
    out += ["", "## Leaks of the evaluation set", "", checked]
    if leaks["held_out"]:
        out.append(f"{leaks['held_out']:,} rows were held out for evaluation.")
    out += ["", "## Review and edits", ""]
    out += [
        f"- {_code(name)}: " + ", ".join(f"{n:,} {decision}" for decision, n in made.items())
        for name, made in review["reviewers"].items()
    ]
    out += [
        f"- {review['unmatched']:,} decisions match no row; {review['overruled']:,} were overruled by a later one",
        f"- {edits['masked']['rows']:,} rows masked, {edits['masked']['kept_rows']:,} of them kept",
        f"- {edits['relabelled']['rows']:,} rows relabelled, {edits['relabelled']['kept_rows']:,} of them kept",
        f"- {card['suspect_labels']:,} labels that their neighbours contradict",
        "- every edit: `records/edits.parquet`; every row's fate: `ledger.parquet`",
    ]
    out += ["", "## Settings", "", f"Seed {card['seed']}, embedder {_code(card['embedder'])}.", "", "```json"]
    out += [json.dumps(card["settings"], ensure_ascii=False, indent=1), "```", ""]
    return "\n".join(out)


def _code(value: str) -> str:
    """A value as a code span of one line, safe in a table."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "/")
    return f"`{text[:80]}`" if text else "` `"
