"""Answers logged by the LM Evaluation Harness (`samples_TASK_DATE.jsonl`) as a system.

The harness says for each item whether it was right; that is taken over, not judged again. What it does not give, and
what therefore comes from here, are paired intervals, gates and reports over results that exist already.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from tamis.errors import DataError
from tamis.record import json_sha256
from tamis.schema import SAMPLES

# Metrics of the harness that say right or wrong, in the order in which they are looked for.
RIGHT_OR_WRONG = ("exact_match", "acc", "acc_norm", "em")
UNPARSED = ("[invalid]", "[no_answer]", "")
_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d{2}-\d{2}T[\d.\-:]+)\.jsonl")


def is_samples(row: Any) -> bool:
    """Whether a line is a sample that the harness logged."""
    return isinstance(row, dict) and {"doc_id", "doc_hash", "target", "filtered_resps", "metrics"} <= row.keys()


def system(
    files: Iterable[Path], metric: str | None = None, filter: str | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """A system's answers to one or several tasks.

    Args:
        files: samples, one file per task. `results_DATE.json` beside them, if there, tells model, template and count.
        metric: of the harness, what says right or wrong; default the first of exact_match, acc, acc_norm, em.
        filter: of the harness, where a task has several (`strict-match`, `flexible-extract`).

    Returns:
        `schema.SAMPLES` (label: the task; component: items with the same document), and what `metrics.json` holds.

    Raises:
        DataError: no samples, several filters and none named, no metric that says right or wrong, an item twice.
    """
    rows: list[dict[str, Any]] = []
    used: set[str] = set()
    count, model, template, decoding = 0, None, None, []
    for file in files:
        logged = [r for r in _lines(file) if filter is None or r["filter"] == filter]
        _one_filter(logged, file, filter)
        task = match["task"] if (match := _NAME.fullmatch(file.name)) else file.stem
        name = metric or _metric_of(logged, file)
        used |= {f"{name}/{logged[0]['filter']}"}
        rows += [_sample(r, task, name, file) for r in logged]
        told = _results(file)
        count += told.get("n-samples", {}).get(task, {}).get("effective", len(logged))
        model = told.get("model_name") or model
        template = told.get("chat_template_sha") or template
        decoding.append(logged[0]["arguments"].get("gen_args_0", {}).get("arg_1") if _generated(logged[0]) else "ll")
    documents = {d: place for place, d in enumerate(sorted({r["document"] for r in rows}))}
    ids = [r["id"] for r in rows]
    if len(set(ids)) < len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise DataError("an item was logged twice", where=twice, why="the harness appends to a file that is there")
    rows.sort(key=lambda r: r["id"])
    about = {
        "kind": "classify",
        "items": count,
        "eval_set_sha256": json_sha256([[r["id"], r["document"], r["target_hash"]] for r in rows]),
        "prompt_sha256": json_sha256([[r["id"], r["prompt_sha256"]] for r in rows]),
        "template_sha256": template,
        "decoding_sha256": json_sha256(decoding),
        "model_sha256": None,
        "model": {"name": model},
        "extractor": f"lm-eval {', '.join(sorted(used))}",
    }
    samples = [{**r, "component": documents[r["document"]]} for r in rows]
    return pa.Table.from_pylist([{n: s.get(n) for n in SAMPLES.names} for s in samples], schema=SAMPLES), about


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the samples cannot be read", where=str(file), why=str(error)) from None
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError("a line is not JSON", where=f"{file}:{number}", why=str(error)) from None
        if not is_samples(row):
            raise DataError("a line is no sample of the LM Evaluation Harness", where=f"{file}:{number}")
        found.append(row)
    return found


def _one_filter(logged: list[dict[str, Any]], file: Path, filter: str | None) -> None:
    if not logged:
        why = f"no line has the filter {filter!r}" if filter else "the file is empty"
        raise DataError("there are no samples", where=str(file), why=why)
    there = sorted({r["filter"] for r in logged})
    if len(there) > 1:
        raise DataError(
            "the samples were read out in several ways", where=str(file), hint=f"--filter, one of: {', '.join(there)}"
        )


def _metric_of(logged: list[dict[str, Any]], file: Path) -> str:
    names = logged[0]["metrics"]
    for name in (*RIGHT_OR_WRONG, *names):
        if name in names and all(r.get(name) in (0, 1) for r in logged):
            return str(name)
    raise DataError(
        "no metric of these samples says right or wrong", where=str(file), why=f"there are: {', '.join(names)}"
    )


def _generated(row: dict[str, Any]) -> bool:
    """Whether a text was generated; else the likelihoods of several continuations were compared."""
    first = row["filtered_resps"][0]
    return not (isinstance(first, list) and len(first) == 2 and str(first[1]) in ("True", "False"))


def _sample(row: dict[str, Any], task: str, metric: str, file: Path) -> dict[str, Any]:
    if row.get(metric) not in (0, 1):
        raise DataError(
            f"the metric {metric!r} does not say right or wrong on item {row['doc_id']}",
            where=str(file),
            why=f"it is {row.get(metric)!r}; there are: {', '.join(row['metrics'])}",
        )
    output, answer, expected = _generation(row) if _generated(row) else _choice(row, metric)
    first = row["arguments"].get("gen_args_0", {}).get("arg_0", "")
    return {
        "id": f"{task}/{row['doc_id']:06d}" if isinstance(row["doc_id"], int) else f"{task}/{row['doc_id']}",
        "batch": 0,
        "prompt": first if isinstance(first, str) else json.dumps(first, ensure_ascii=False),
        "prompt_sha256": row.get("prompt_hash") or "",
        "output": _clean(output),
        "answer": _clean(answer),
        "expected": _clean(expected),
        "correct": row[metric] == 1,
        "parsed": answer is not None,
        "finish": "stop",
        "label": task,
        "document": row["doc_hash"],
        "target_hash": row.get("target_hash") or str(row["target"]),
    }


def _generation(row: dict[str, Any]) -> tuple[str | None, str | None, str]:
    said, taken = row["resps"][0], row["filtered_resps"][0]
    output = str(said[0] if isinstance(said, list) and said else said)
    taken = taken[0] if isinstance(taken, list) and taken else taken
    answer = None if taken is None or str(taken).strip() in UNPARSED else str(taken)
    return output, answer, str(row["target"])


def _choice(row: dict[str, Any], metric: str) -> tuple[str, str, str]:
    """The likeliest continuation, by its length in characters where the metric is a normalised one."""
    choices = [str(row["arguments"][f"gen_args_{i}"]["arg_1"]) for i in range(len(row["filtered_resps"]))]
    scores = [float(pair[0]) for pair in row["filtered_resps"]]
    if metric.endswith("_norm"):
        scores = [s / max(1, len(c)) for s, c in zip(scores, choices, strict=True)]
    chosen = choices[scores.index(max(scores))].strip()
    target = str(row["target"])
    right = choices[int(target)].strip() if target.isdigit() and int(target) < len(choices) else target
    return chosen, chosen, right


def _clean(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "replace").decode()


def _results(file: Path) -> dict[str, Any]:
    """What the harness wrote about the whole evaluation, if it lies beside the samples."""
    match = _NAME.fullmatch(file.name)
    beside = file.with_name(f"results_{match['date']}.json") if match else None
    if beside is None or not beside.is_file():
        return {}
    try:
        found = json.loads(beside.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
