"""The evaluation stage: every system of an arm asked every item, journalled, timed, measured.

    for each system:   answer batch by batch (samples.jsonl)  ->  samples.parquet
                       timed requests                          ->  requests.parquet
                       metrics with intervals, provenance      ->  metrics.json
                       stage.json, last

Needs no training by Tamis: any model, adapter or endpoint with an evaluation file is enough.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tamis.errors import EvidenceError, RecipeError, StageFailed, require
from tamis.evaluate import again, judged, judging, load, looks, metrics, own, timing
from tamis.evaluate.environment import environment
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.journal import Journal, batch_plan
from tamis.evaluate.measure import absolute, of_answers
from tamis.evaluate.metrics import Answers
from tamis.evaluate.systems import (
    ARM_BOUND,
    Reply,
    Setting,
    System,
    Workshop,
    bound_to_arm,
    name_of,
    needs_model,
)
from tamis.evaluate.task import Item, Reader, items_of
from tamis.prompt import expected
from tamis.recipe import Recipe, SystemSpec, Task
from tamis.record import json_sha256
from tamis.run import Progress, Run, Stage, file_sha256, fingerprint, peak_memory_mb
from tamis.schema import read_json, write_json, write_parquet

LATENCIES = ("latency.e2e.p50", "latency.e2e.p95", "latency.ttft.p50", "latency.ttft.p95", "latency.tpot.p50")

# Whose version can change an answer. A baseline does not depend on torch.
MODEL_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers")
BASELINE_PACKAGES = ("scikit-learn", "numpy")


def evaluate_arm(
    run: Run,
    recipe: Recipe,
    arm: str,
    items: pa.Table,
    train_rows: pa.Table | None,
    systems: Sequence[str | SystemSpec],
    *,
    quiet: bool = False,
) -> dict[str, Any]:
    """Evaluate systems on the same items; what is complete already is not touched, and torch then not imported.

    Args:
        run: the run folder; `tuned` uses `run.train(arm) / "adapter"`.
        recipe: its `evaluate`, `model`, `train` (quantisation), `embedder` and `seed` count.
        arm: whose adapter and training rows.
        items: `schema.EVAL`.
        train_rows: `schema.RECORD`, what the arm was trained on; baselines and examples come from it. None if unknown.
        systems: names and specifications, in order of evaluation.
        quiet: no progress on stderr.

    Returns:
        `{"systems": {name: summary}, "seconds": ...}`; a summary has items, errors, seconds, skipped.

    Raises:
        DataError: the evaluation set cannot be used.
        RecipeError: a system cannot be made from what is there.
        MissingExtra: a needed package is not installed.
        StageFailed: every request of a system failed.
    """
    started = time.perf_counter()
    task = recipe.evaluate.task
    for id in task.metrics:
        _known(id)  # a misspelt one must not be found after hours of answering
    asked = items_of(items, task)
    setting = Setting(run, recipe, arm, asked, reader_for(task, items, train_rows), train_rows)
    done: dict[str, Any] = {}
    waiting: list[tuple[str | SystemSpec, Stage]] = []
    for spec in systems:
        stage = Stage(run.evaluate(arm, name_of(spec)), _fingerprint(spec, setting))
        if stage.complete():
            write_metrics(Evidence(arm, name_of(spec), stage.folder), recipe)  # metrics may have been added since
            done[name_of(spec)] = {**read_json(stage.file), "skipped": True}
        else:
            waiting.append((spec, stage))
    if any(needs_model(spec) for spec, _ in waiting):
        require(("torch", "transformers", "peft"), "train", "evaluating a language model")
    with Workshop(setting) as workshop:
        for spec, stage in waiting:
            done[name_of(spec)] = _evaluate(spec, stage, workshop, setting, quiet)
    for spec in systems:
        if load.ensure(run.evaluate(arm, name_of(spec)), spec, setting, quiet=quiet):
            done[name_of(spec)]["skipped"] = False
        evidence = Evidence(arm, name_of(spec), run.evaluate(arm, name_of(spec)))
        if judging.ensure(evidence, setting, quiet=quiet):
            done[name_of(spec)]["skipped"] = False
            write_metrics(Evidence(arm, name_of(spec), evidence.folder), recipe)
    ordered = {name_of(spec): done[name_of(spec)] for spec in systems}
    return {"systems": ordered, "seconds": time.perf_counter() - started}


def reader_for(task: Task, items: pa.Table, train_rows: pa.Table | None) -> Reader:
    """What reads answers to these items: its labels are those of the items and of the training rows.

    Raises:
        DataError: the evaluation set cannot be used.
    """
    return Reader.of(task, items_of(items, task), _labels(train_rows, task))


def _labels(train_rows: pa.Table | None, task: Task) -> list[str]:
    """Labels of the training rows; a model may answer with one that no evaluation item has."""
    if train_rows is None or task.kind != "classify":
        return []
    rows = train_rows.select(["messages", "label"]).to_pylist()
    return sorted({label for r in rows if (label := expected(r["messages"], r["label"], task))})


# ------------------------------------------------------------------------------------------------ fingerprint


def eval_sha256(items: Sequence[Item]) -> str:
    """Identity of an evaluation set: what is asked, what is right, what belongs together. The order does not matter."""
    rows = sorted([i.id, list(i.turns), i.expected, i.component] for i in items)
    return json_sha256(rows)


def _fingerprint(spec: str | SystemSpec, setting: Setting) -> str:
    recipe, name = setting.recipe, spec if isinstance(spec, str) else None
    inputs: dict[str, Any] = {
        "items": eval_sha256(setting.items),
        "batch": recipe.evaluate.batch,
        "reader": setting.reader.id,
        # what is measured on the answers does not change them: a metric that is added asks nothing again
        "task": recipe.evaluate.task.model_dump(mode="json") | {"metrics": []},
        "latency": recipe.evaluate.latency.model_dump(mode="json"),
        "seed": recipe.seed,
        "system": name or _told(spec),  # type: ignore[arg-type]
    }
    if recipe.evaluate.again:
        inputs["again"] = recipe.evaluate.again
    if _needs_rows(spec):
        inputs["training"] = _rows_sha(setting.train_rows)
        inputs["embedder"] = recipe.embedder
    if needs_model(spec):
        inputs |= _weights(spec, setting)
    whole = isinstance(spec, SystemSpec) and spec.tuned
    return fingerprint(inputs, MODEL_PACKAGES if needs_model(spec) or whole else BASELINE_PACKAGES)


def _told(spec: SystemSpec) -> dict[str, Any]:
    """What of a specification can change an answer; keys that came later count where they are used."""
    told = spec.model_dump(mode="json", exclude={"input_per_million", "output_per_million"})
    later = {"prompt": "plain", "quantisation": None, "encoder": None, "tuned": False}
    return {key: value for key, value in told.items() if key not in later or value != later[key]}


def _needs_rows(spec: str | SystemSpec) -> bool:
    """Whether a system is fitted on the training rows, or shown some of them."""
    if isinstance(spec, str):
        return spec in (*ARM_BOUND, "base-best") and spec not in ("tuned", "merged")
    return spec.prompt == "best" or spec.encoder is not None


def _weights(spec: str | SystemSpec, setting: Setting) -> dict[str, Any]:
    """Hashes of what a model's answers depend on. Does not import torch."""
    from tamis.models import quantisation_of, resolve

    recipe = setting.recipe
    model = recipe.model if isinstance(spec, str) else spec.model or recipe.model
    folder = setting.run.train(setting.arm)
    adapter = str(folder / "adapter") if spec == "tuned" else None if isinstance(spec, str) else spec.adapter
    if spec == "merged":
        model = str(folder / "merged")
    _require_folder(spec, adapter, folder / "merged")
    return {
        "model": resolve(model, trust_remote_code=recipe.train.trust_remote_code).sha256,
        "quantisation": quantisation_of(recipe.train),
        "adapter": None if adapter is None else _adapter_sha(Path(adapter)),
    }


def _require_folder(spec: str | SystemSpec, adapter: str | None, merged: Path) -> None:
    if spec == "merged" and not merged.is_dir():
        raise RecipeError("the merged model is not there", where=str(merged), hint="tamis export RUN --to merged")
    if adapter is not None and not Path(adapter).is_dir():
        hint = "tamis train RECIPE, or leave `tuned` out of evaluate.systems" if spec == "tuned" else None
        raise RecipeError("there is no adapter to evaluate", where=adapter, hint=hint)


def _adapter_sha(folder: Path) -> str:
    from tamis.evaluate.local import adapter_sha256

    return adapter_sha256(folder)


def _rows_sha(rows: pa.Table | None) -> str | None:
    return None if rows is None else json_sha256(rows.select(["id", "label"]).to_pylist())


# ------------------------------------------------------------------------------------------------- one system


def _evaluate(
    spec: str | SystemSpec, stage: Stage, workshop: Workshop, setting: Setting, quiet: bool
) -> dict[str, Any]:
    started = time.perf_counter()
    name, latency = name_of(spec), setting.recipe.evaluate.latency
    system = workshop.make(spec)
    stage.begin()
    requests = latency.requests + latency.warmup if latency.requests else 0
    progress = Progress(stage.folder, f"evaluate {setting.arm}/{name}", len(setting.items) + requests, "items", quiet)
    try:
        system.prepare(setting.items)
        plan = batch_plan(setting.items, setting.recipe.evaluate.batch, system.length)
        journal = Journal(stage.folder, plan)
        _answer(system, journal, setting, progress)
        samples = journal.table([i.id for i in setting.items])
        errors = sum(e is not None for e in samples.column("error").to_pylist())
        if errors == len(setting.items):
            journal.file.unlink()  # else the same command would read these failures back
            raise StageFailed(
                f"every request to {name!r} failed",
                where=_where(spec),
                why=samples.column("error")[0].as_py(),
                hint="mend the cause and run the same command",
            )
        write_parquet(stage.folder / "samples.parquet", samples)
        repeated = _again(system, setting, samples)
        if requests:
            seed = setting.recipe.seed_for("evaluate.latency")
            base = len(setting.items)
            table = timing.measure(system, setting.items, latency, seed, lambda n: progress.update(base + n, "timing"))
            write_parquet(stage.folder / "requests.parquet", table)
        about = _about(system, spec, setting, samples, journal) | {"again": repeated}
    finally:
        system.close()
    write_json(stage.folder / "metrics.json", about)
    write_metrics(Evidence(setting.arm, name, stage.folder), setting.recipe)
    summary = {
        "system": name,
        "items": len(setting.items),
        "errors": errors,
        "seconds": time.perf_counter() - started,
        "peak_mb": peak_memory_mb(),
    }
    looks.note(setting.run, about["eval_set_sha256"], setting.arm, name)
    stage.finish(**summary)
    return {**summary, "skipped": False}


def _again(system: System, setting: Setting, samples: pa.Table) -> dict[str, Any] | None:
    """The A/A check that the recipe asks for."""
    if not (count := setting.recipe.evaluate.again):
        return None
    first = dict(zip(samples.column("id").to_pylist(), samples.column("answer").to_pylist(), strict=True))
    seed = setting.recipe.seed_for("evaluate.again")
    return again.asked_again(system, setting.items, first, setting.reader, count, seed)


def time_requests(
    run: Run,
    recipe: Recipe,
    arm: str,
    items: pa.Table,
    train_rows: pa.Table | None,
    spec: SystemSpec,
    *,
    quiet: bool = False,
) -> Path:
    """Time requests to one system, one at a time, without asking it the items; not again if that is done.

    Returns:
        The folder in `run` that holds `requests.parquet` (`schema.REQUESTS`).

    Raises:
        RecipeError, StageFailed: the system cannot be made, or does not answer.
    """
    task, latency = recipe.evaluate.task, recipe.evaluate.latency
    asked = items_of(items, task)
    setting = Setting(run, recipe, arm, asked, Reader.of(task, asked, _labels(train_rows, task)), train_rows)
    stage = Stage(run.evaluate(arm, spec.name), _fingerprint(spec, setting))
    if stage.complete():
        return stage.folder
    with Workshop(setting) as workshop:
        system = workshop.make(spec)
        stage.begin()
        progress = Progress(stage.folder, f"time {arm}", latency.warmup + latency.requests, "requests", quiet)
        try:
            system.prepare(asked)
            table = timing.measure(system, asked, latency, recipe.seed_for("evaluate.latency"), progress.update)
        finally:
            system.close()
    write_parquet(stage.folder / "requests.parquet", table)
    stage.finish(requests=len(table))
    return stage.folder


def _where(spec: str | SystemSpec) -> str:
    return str(spec.endpoint or spec.model) if isinstance(spec, SystemSpec) else spec


def _answer(system: System, journal: Journal, setting: Setting, progress: Progress) -> None:
    """Ask for the batches that the journal does not hold."""
    whole = journal.resume()
    by_id = {i.id: i for i in setting.items}
    count = sum(len(journal.plan[b]) for b in whole)
    progress.update(count)
    for number, ids in enumerate(journal.plan):
        if number in whole:
            continue
        batch = [by_id[i] for i in ids]
        answered = system.answer(batch)
        if all(r.down for r in answered.replies):  # not the items' fault, so no wrong answers
            raise StageFailed(
                f"{setting.arm}/{journal.file.parent.name} stopped answering after {count:,} of {len(by_id):,} items",
                where=str(journal.file),
                why=answered.replies[0].error,
                hint="mend the cause and run the same command; what was answered is kept",
            )
        rows = [_sample(i, r, setting.reader) for i, r in zip(batch, answered.replies, strict=True)]
        journal.append(number, rows, answered.seconds)
        count += len(batch)
        progress.update(count)


def _sample(item: Item, reply: Reply, reader: Reader) -> dict[str, Any]:
    """One row of `schema.SAMPLES`, and in the journal its retries. A failed request is a wrong answer."""
    answer = reader.read(reply.output)
    return {
        "id": item.id,
        "prompt": reply.prompt,
        "prompt_sha256": reply.prompt_sha256,
        "output": reply.output,
        "answer": answer,
        "expected": reader.reference(item.expected),
        "correct": reader.right(answer, item.expected),
        "parsed": answer is not None,
        "finish": "error" if reply.error is not None else reply.finish,
        "prompt_tokens": reply.prompt_tokens,
        "output_tokens": reply.output_tokens,
        "nll": reply.nll,
        "nll_tokens": reply.nll_tokens,
        "nll_bytes": reply.nll_bytes,
        "error": reply.error,
        "component": item.component,
        "label": item.label,
        "language": item.language,
        **({"retries": reply.retries} if reply.retries else {}),
    }


def _about(
    system: System, spec: str | SystemSpec, setting: Setting, samples: pa.Table, journal: Journal
) -> dict[str, Any]:
    """What was evaluated on what: everything a gate may require to be the same."""
    told = system.about()
    prompts = sorted(zip(samples.column("id").to_pylist(), samples.column("prompt_sha256").to_pylist(), strict=True))
    return {
        "system": name_of(spec),
        "arm": setting.arm,
        "kind": setting.reader.kind,
        "uses_arm": bound_to_arm(spec),
        "items": len(setting.items),
        "eval_set_sha256": eval_sha256(setting.items),
        "prompt_sha256": json_sha256(prompts),
        "extractor": setting.reader.id,
        "environment": environment(told.pop("engine"), told.pop("device")),
        "batches": journal.batches(),
        "retries": sum(row.get("retries", 0) for row in journal.rows),
        "batch_size": setting.recipe.evaluate.batch,
        "prompt_tokens": _total(samples, "prompt_tokens"),
        "output_tokens": _total(samples, "output_tokens"),
        **told,
    }


def _total(samples: pa.Table, column: str) -> int | None:
    values = samples.column(column).to_pylist()
    return None if any(v is None for v in values) else sum(values)


def write_metrics(evidence: Evidence, recipe: Recipe) -> None:
    """Write the numbers of a system into its `metrics.json`, unless these very numbers are there.

    All but its price, which a changed recipe may change without a new evaluation. A metric of the user's that fails is
    in `failed_metrics` with file and line: the answers were expensive, and a gate on it is INVALID anyway.
    """
    task = recipe.evaluate.task
    judgements = evidence.folder / judged.TABLE
    further = judged.METRICS if judgements.is_file() else ()
    wanted = {id: _known(id) for id in metrics.for_task(task.kind, (*task.metrics, *further))}
    asked = json_sha256([[id, own.source(id)] for id in wanted])
    if further:
        asked = json_sha256([asked, file_sha256(judgements)])
    about = {k: v for k, v in evidence.about.items() if k != "schema_version"}
    if about.get("metrics_sha256") == asked:
        return
    found, failed = _metrics(evidence, wanted)
    write_json(
        evidence.folder / "metrics.json",
        {**about, "metrics": found, "failed_metrics": failed, "metrics_sha256": asked},
    )


def _metrics(evidence: Evidence, wanted: dict[str, metrics.Metric]) -> tuple[dict[str, Any], dict[str, str]]:
    """Numbers by name, and why one of the user's own has none."""
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for id, metric in wanted.items():
        try:
            interval = of_answers(evidence.answers, metric)
        except EvidenceError as error:
            failed[id] = " ".join(str(error).split())
            continue
        if interval.n:
            found[id] = {**interval.as_dict(metric.unit), "signature": metrics.signature(id)}
    for id in (*(LATENCIES if evidence.requests is not None else ()), "load.throughput"):
        interval = absolute(evidence, id)
        if interval.n:
            found[id] = interval.as_dict(metrics.lookup(id).unit)
    if (repeated := evidence.about.get("again")) and repeated["items"]:
        found["flip_rate"] = repeated["rate"]
    if (skill := _given_parsed(evidence.answers)) is not None:
        found["accuracy_given_parsed"] = skill
    return found, failed


def _known(id: str) -> metrics.Metric:
    try:
        metric = metrics.lookup(id)
    except KeyError as error:
        raise RecipeError(str(error.args[0]), where="evaluate.task.metrics") from None
    if not metric.quality:
        raise RecipeError(f"{id} is measured anyway", where="evaluate.task.metrics", hint=f"leave {id} out")
    return metric


def _given_parsed(answers: Answers) -> dict[str, Any] | None:
    """Accuracy among the outputs that held an answer: skill apart from form."""
    from tamis.intervals import proportion

    pairs = zip(answers["correct"], answers["parsed"], answers["component"], strict=True)
    kept = [(c, k) for c, parsed, k in pairs if parsed and c is not None]
    if not kept or answers["correct"][0] is None:
        return None
    return proportion([c for c, _ in kept], [k for _, k in kept]).as_dict()
