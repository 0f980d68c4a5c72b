"""Results that other tools measured, as systems of a run: then they are compared, gated and reported like ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tamis.errors import DataError
from tamis.evaluate import from_guidellm, from_lm_eval, levels
from tamis.evaluate.environment import versions
from tamis.evaluate.evidence import UNKNOWN, Evidence
from tamis.evaluate.measure import absolute, of_answers
from tamis.evaluate.metrics import lookup
from tamis.record import json_sha256
from tamis.run import Run, file_sha256
from tamis.schema import SAMPLES, write_json, write_parquet

ARM = "imported"
# Right or wrong is the other tool's judgement; these are computed from it and from the texts.
METRICS = ("accuracy", "parse_rate", "chrf", "rouge_l")


def bring_in(
    run: Run,
    systems: Mapping[str, Sequence[Path]],
    *,
    metric: str | None = None,
    filter: str | None = None,
    hardware: str | None = None,
) -> dict[str, Any]:
    """Write systems into a run from files of the LM Evaluation Harness and of GuideLLM.

    Args:
        run: a run folder; systems of the same name in it are replaced.
        systems: files by system: samples of the harness (one per task), and at most one GuideLLM report.
        metric: of the harness, what says right or wrong.
        filter: of the harness, where its samples were read out in several ways.
        hardware: what served the models. Without it, times may be judged but never compared.

    Returns:
        {system: {items, loads, files}}.

    Raises:
        DataError: a file of no known kind, or one that cannot be used.
        EvidenceError: a report that leaves requests out.
    """
    read = {name: _read(name, files, metric, filter) for name, files in systems.items()}
    sets = {about["eval_set_sha256"] for _, about, _ in read.values() if about is not None}
    if len(sets) > 1:
        raise DataError(
            "these systems were asked different items",
            where=", ".join(str(f) for files in systems.values() for f in files),
            why="documents and targets have other hashes, so nothing can be paired",
            hint="import one task of each, evaluated with the same data and limit",
        )
    shared = next(iter(sets), json_sha256([]))
    told = {}
    for name, (samples, about, loads) in read.items():
        folder = run.evaluate(ARM, name)
        for old in folder.glob("*"):
            old.unlink()
        write_parquet(folder / "samples.parquet", samples)
        if loads:
            levels.write(folder, loads)
        files = {str(f): file_sha256(f) for f in systems[name]}
        write_json(folder / "metrics.json", _about(name, about, shared, files, len(samples), hardware or UNKNOWN))
        _measure(Evidence(ARM, name, folder), bool(loads))
        write_json(folder / "stage.json", {"fingerprint": json_sha256(files), "system": name, "imported": files})
        told[name] = {"items": len(samples), "loads": len(loads), "files": list(files)}
    return told


def _read(
    name: str, files: Sequence[Path], metric: str | None, filter: str | None
) -> tuple[pa.Table, dict[str, Any] | None, list[tuple[dict[str, Any], pa.Table]]]:
    samples: list[Path] = []
    loads: list[tuple[dict[str, Any], pa.Table]] = []
    for file in files:
        content = _whole(file)
        if content is None:
            samples.append(file)
            continue
        if loads:
            raise DataError(f"{name!r} has two reports of loads", where=str(file), hint="import one")
        loads = from_guidellm.levels(content, str(file))
    if not samples:
        return pa.Table.from_pylist([], schema=SAMPLES), None, loads
    table, about = from_lm_eval.system(samples, metric, filter)
    return table, about, loads


def _whole(file: Path) -> dict[str, Any] | None:
    """A GuideLLM report, or None for a file whose first line is a sample of the harness."""
    try:
        with file.open(encoding="utf-8") as lines:
            first = lines.readline()
            text = first + lines.read() if file.suffix == ".json" else first
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError("the file cannot be read", where=str(file), why=str(error).split("\n")[0]) from None
    if from_guidellm.is_report(content):
        return dict(content)
    if from_lm_eval.is_samples(content):
        return None
    raise DataError(
        "the file is neither samples of the LM Evaluation Harness nor a GuideLLM report",
        where=str(file),
        hint="lm_eval --log_samples writes samples_TASK_DATE.jsonl, guidellm writes benchmarks.json",
    )


def _about(
    name: str, about: dict[str, Any] | None, shared: str, files: dict[str, str], items: int, hardware: str
) -> dict[str, Any]:
    """What is known of an imported system."""
    engine = about["extractor"].split(" ")[0] if about else "guidellm"
    known = about or {"kind": "classify", "items": items, "eval_set_sha256": shared, "extractor": None}
    return {
        "system": name,
        "arm": ARM,
        "uses_arm": False,
        "remote": False,
        "adapter": None,
        "environment": {
            "engine": f"{engine} (imported)",
            "device": UNKNOWN,
            "hardware": hardware,
            "machine": hardware,
            "versions": versions(),
        },
        "load": None,
        "batches": [],
        "imported": files,
        "metrics": {},
        **known,
    }


def _measure(evidence: Evidence, loaded: bool) -> None:
    found = {}
    for id in METRICS if len(evidence.answers) else ():
        interval = of_answers(evidence.answers, lookup(id))
        if interval.n:
            found[id] = interval.as_dict()
    if loaded:
        first = levels.levels_of(evidence)[0]
        for id in ("latency.ttft.p50", "latency.ttft.p95", "latency.e2e.p50", "latency.e2e.p95", "load.throughput"):
            interval = absolute(first, id)
            if interval.n:
                found[id] = interval.as_dict(lookup(id).unit)
    about = {k: v for k, v in evidence.about.items() if k != "schema_version"}
    write_json(evidence.folder / "metrics.json", {**about, "metrics": found})
