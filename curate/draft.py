"""An evaluation set drafted from the data: for people to review, then frozen by hash, and taken out of training.

    tamis evaluate RECIPE --build eval.jsonl     a draft, stratified, one row of each near-duplicate component drawn
    ... review: "ok" or "drop" in every row, labels and answers put right ...
    tamis evaluate RECIPE --freeze eval.jsonl    eval.frozen.json: the hash, and the training rows that leave
    eval: {path: eval.jsonl, frozen: eval.frozen.json}

A component leaves training as a whole: a twin of an evaluation item would have been learnt by heart. One row of it is
asked, since a second would say almost the same.
"""

from __future__ import annotations

import collections
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tamis import schema
from tamis.curate import features, near, personal
from tamis.curate.normal import normalise
from tamis.errors import DataError, UserError
from tamis.recipe import Recipe
from tamis.record import prompt_of
from tamis.tables import Source, read_records, read_shards

REVIEW = ("ok", "drop")
SUFFIX = ".frozen.json"


def draft(recipe: Recipe, source: Source, output: Path, count: int, twin: float) -> dict[str, Any]:
    """Write a draft.

    Strata are the labels, where the rows have any, else the languages; each gets its share of the components, and at
    least one (largest remainders).

    Args:
        recipe: its seed, masks and task.
        source: the rows to draw from.
        output: a JSON Lines file that is not there yet.
        count: items wanted.
        twin: Jaccard similarity from which two prompts belong together.

    Returns:
        {path, items, rows, components, leaving (training rows that would leave), strata: {name: items}}.

    Raises:
        UserError: the file is there already: somebody may have reviewed it.
        DataError: the data cannot be read, or holds fewer components than items are wanted.
    """
    if output.exists():
        raise UserError(
            "the file is there already, reviewed perhaps", where=str(output), hint="name another, or remove it"
        )
    masked = recipe.curate.mask
    numbers = personal.number([source], masked, recipe.seed_for("mask")) if masked else {}
    with tempfile.TemporaryDirectory(prefix="tamis-draft-") as folder:
        read_records(source, Path(folder), editing=personal.Personal(numbers).editing())
        table = read_shards(Path(folder)).sort_by("id")
    prompts = [prompt_of(m) for m in table["messages"].to_pylist()]
    texts = [normalise(p) for p in prompts]
    pairs, _ = near.near_pairs(texts, near.signatures(texts), twin)
    component = near.components(len(texts), pairs)
    strata = _strata(table, prompts)
    picked = _drawn(component, strata, count, np.random.default_rng(recipe.seed_for("evaluate.build")))
    members = collections.defaultdict(list)
    for at, number in enumerate(component.tolist()):
        members[number].append(at)
    ids = table["id"].to_pylist()
    lines = []
    for at in picked:
        row = table.slice(at, 1).to_pylist()[0]
        messages = [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
        lines.append(
            {
                "messages": messages,
                **({"label": row["label"]} if row["label"] is not None else {}),
                "review": None,
                "stratum": strata[at],
                "from": f"{row['file']}:{row['line']}",
                "leaving": [ids[i] for i in members[int(component[at])]],
            }
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    schema.write_atomic(output, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in lines).encode())
    return {
        "path": str(output),
        "items": len(lines),
        "rows": len(ids),
        "components": len(members),
        "leaving": sum(len(r["leaving"]) for r in lines),
        "strata": dict(sorted(collections.Counter(r["stratum"] for r in lines).items())),
    }


def _strata(table: pa.Table, prompts: list[str]) -> list[str]:
    labels = table["label"].to_pylist()
    if all(label is None for label in labels):
        return [features.language(p) or "unknown" for p in prompts]
    return [label if label is not None else "(none)" for label in labels]


def _drawn(component: np.ndarray, strata: list[str], count: int, rng: np.random.Generator) -> list[int]:
    """Places of the drawn rows, at most one of a component, in order."""
    order = rng.permutation(len(component))
    first: dict[int, int] = {}
    for at in order.tolist():  # whichever comes first stands for its component
        first.setdefault(int(component[at]), at)
    if count > len(first):
        raise DataError(
            f"{count:,} items are wanted, and the data holds {len(first):,} that are not near-duplicates of each other",
            hint=f"--items {max(1, len(first) // 10)}",
        )
    by_stratum: dict[str, list[int]] = collections.defaultdict(list)
    for at in first.values():
        by_stratum[strata[at]].append(at)
    picked = []
    for name, share in _shares({n: len(v) for n, v in by_stratum.items()}, count).items():
        picked += by_stratum[name][:share]
    return sorted(picked)


def _shares(sizes: dict[str, int], count: int) -> dict[str, int]:
    """So many of each stratum: in proportion, at least one each where there are items enough, `count` in all."""
    whole = sum(sizes.values())
    least = 1 if count >= len(sizes) else 0
    exact = {name: count * size / whole for name, size in sizes.items()}
    found = {name: min(sizes[name], max(least, int(value))) for name, value in exact.items()}
    while (missing := count - sum(found.values())) != 0:
        step = 1 if missing > 0 else -1
        # the one that is furthest from its exact share, and that can still give or take
        able = [n for n in sorted(sizes) if (found[n] < sizes[n] if step > 0 else found[n] > least)]
        chosen = max(able, key=lambda n: step * (exact[n] - found[n]))
        found[chosen] += step
    return found


# ------------------------------------------------------------------------------------------------------ freezing


def freeze(path: Path) -> dict[str, Any]:
    """Take the dropped rows out of a reviewed draft, and write beside it what it is from now on.

    Returns:
        {path, frozen (the file written), sha256, items, dropped, leaving}.

    Raises:
        DataError: the file is no draft, or rows were not reviewed.
    """
    rows = _reviewed(path)
    kept = [row for row in rows if row["review"] == "ok"]
    if not kept:
        raise DataError("the review drops every row", where=str(path))
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept).encode()
    schema.write_atomic(path, data)
    frozen = path.with_suffix(SUFFIX)
    leaving = sorted({id_ for row in kept for id_ in row["leaving"]})
    digest = hashlib.sha256(data).hexdigest()
    schema.write_json(frozen, {"file": path.name, "sha256": digest, "items": len(kept), "leaving": leaving})
    return {
        "path": str(path),
        "frozen": str(frozen),
        "sha256": digest,
        "items": len(kept),
        "dropped": len(rows) - len(kept),
        "leaving": len(leaving),
    }


def _reviewed(path: Path) -> list[dict[str, Any]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError("the draft cannot be read", where=str(path), why=str(error)) from None
    if not rows or not all(isinstance(r, dict) and {"messages", "review", "leaving"} <= r.keys() for r in rows):
        raise DataError("this is no draft", where=str(path), hint="tamis evaluate RECIPE --build FILE makes one")
    open_ = [number for number, row in enumerate(rows, 1) if row["review"] not in REVIEW]
    if open_:
        raise DataError(
            f"{len(open_):,} of {len(rows):,} rows are not reviewed",
            where=f"{path}:{open_[0]}",
            hint='write "ok" or "drop" as review',
        )
    return rows


def leaving(path: Path, frozen: Path) -> set[str]:
    """Ids of the training rows that a frozen evaluation set takes out.

    Args:
        path: the evaluation file.
        frozen: what `freeze` wrote.

    Raises:
        DataError: the evaluation file is not the frozen one.
    """
    try:
        told = schema.read_json(frozen)
        digest, ids = str(told["sha256"]), set(told["leaving"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("this does not freeze anything", where=str(frozen), why=repr(error)) from None
    now = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
    if now != digest:
        raise DataError(
            "the evaluation set is not the one that was frozen",
            where=str(path),
            why=f"its SHA-256 is {now[:12]}, frozen was {digest[:12]}",
            hint="take the change back, or freeze it anew: tamis evaluate RECIPE --freeze FILE",
        )
    return ids
