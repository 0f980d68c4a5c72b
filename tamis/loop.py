"""The whole line: curate, train, evaluate, gate, report. One arm in a plain run, several in a comparison."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from tamis import schema, tables
from tamis.errors import DataError, RecipeError, UserError, did_you_mean, of_disk
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.tables import take_records


@dataclasses.dataclass(frozen=True)
class Arm:
    """One training of a run: the first `size` rows of one order."""

    name: str
    method: str | None = None
    """An order of `order.parquet`; None is the rows that the ledger keeps."""
    size: int | None = None


JUNIT = "gates.junit.xml"  # in the report's folder

MAIN = (Arm("main"),)
"""What a plain run has: one arm, on the rows that the ledger keeps."""


def run_all(run: Run, recipe: Recipe, arms: Sequence[Arm] = MAIN, *, quiet: bool = False) -> dict[str, Any]:
    """Run every stage that is not done yet.

    Args:
        run: the run folder; the caller holds its lock.
        recipe: what to do.
        arms: trainings to compare; default one, `main`, on the kept rows.
        quiet: no progress.

    Returns:
        {funnel, arms: {name: training summary}, comparison, verdict (None without a gate), report, changed (whether
        the run now says something else than before), seconds, skipped (nothing was done and nothing changed)}.
    """
    started = time.monotonic()
    _require_ends(recipe)
    funnel = prepare(run, recipe, arms, quiet=quiet)
    trained = train(run, recipe, arms, quiet=quiet)
    evaluated = evaluate(run, recipe, arms, quiet=quiet)
    skipped = (
        (funnel is None or funnel["skipped"])
        and all(t["skipped"] for t in trained.values())
        and all(s["skipped"] for s in evaluated)
    )
    concluded = conclude(run, recipe)
    result = {"funnel": funnel, "arms": trained, **concluded, "skipped": skipped and not concluded["changed"]}
    result["seconds"] = time.monotonic() - started
    return result


def prepare(run: Run, recipe: Recipe, arms: Sequence[Arm] = MAIN, *, quiet: bool = False) -> dict[str, Any] | None:
    """Write down what the run does, and curate.

    Returns:
        The funnel; None for a recipe without `data`, where only the evaluation set is read.

    Raises:
        DataError: curation keeps no row.
    """
    from tamis.curate.pipeline import curate, write_items

    with written_down(run, recipe):
        draws = {a.name: {"method": a.method, "size": a.size} for a in arms}
        schema.write_json(run.path / "arms.json", {"arms": list(draws), "draws": draws})
        if recipe.data is None:
            write_items(run, recipe)
            return None
        _note(quiet, "curate")
        funnel = curate(run, recipe, quiet=quiet)
    if not funnel["kept"]:
        reasons = [f"{reason} {n:,}" for dropped in funnel["dropped"].values() for reason, n in dropped.items()]
        raise DataError(
            f"none of the {funnel['read']:,} rows is left to work with",
            where=str(run.curate / "ledger.parquet"),
            why=f"dropped: {', '.join(reasons)}",
            hint=f"tamis why {run.path} FILE:LINE tells what took a row",
        )
    return funnel


@contextlib.contextmanager
def written_down(run: Run, recipe: Recipe) -> Iterator[None]:
    """Keep the recipe in the run folder. What it says is undone where the rows are still those of the recipe before."""
    files = (run.recipe_file, run.path / "arms.json", run.verdict, run.report / JUNIT)
    before = {f: f.read_bytes() for f in files if f.is_file()}
    write_down(run, recipe)
    try:
        yield
    except Exception:
        if (run.curate / "stage.json").is_file():
            for file, text in before.items():
                schema.write_atomic(file, text)
        raise


def write_down(run: Run, recipe: Recipe) -> None:
    """Keep the recipe in the run folder. One that no longer names a gate takes the verdict of the last one with it."""
    run.path.mkdir(parents=True, exist_ok=True)
    if recipe.gate is None and run.recipe_file.is_file() and _names_gate(run.recipe_file):
        for file in (run.verdict, run.report / JUNIT):
            file.unlink(missing_ok=True)
    run.recipe_file.write_text(recipe.dump(), encoding="utf-8")


def _names_gate(file: Path) -> bool:
    try:
        return bool(yaml.safe_load(file.read_text(encoding="utf-8"))["gate"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return False


def arms_of(run: Run) -> list[Arm]:
    """The arms a run was made with, so that it can be made again."""
    try:
        draws = schema.read_json(run.path / "arms.json")["draws"]
    except (OSError, ValueError, KeyError):
        return list(MAIN)
    return [Arm(name, draw["method"], draw["size"]) for name, draw in draws.items()]


def forecast(run: Run, recipe: Recipe, arms: Sequence[Arm] = MAIN) -> dict[str, Any]:
    """What a run would take, without doing it: exact where the data is curated already, else from rows drawn at random.

    Returns:
        {curated, scoring (`forecast_scoring`; None where it is done), train: {arm: {rows, tokens, trained_tokens,
        steps, seconds, memory_gb, free_gb, device, choices, warnings}}, items (of a hold-out
        about; None without an evaluation set), requests, asking (`evaluate.forecast.Asking` of
        each endpoint), refused (why asking would not start), money (None without a price), currency}.
    """
    from tamis.curate.pipeline import stage_of

    stage = stage_of(run, recipe) if recipe.data else None
    curated = stage is not None and stage.complete()
    trains = {"tuned", "merged"} & {s for s in recipe.evaluate.systems if isinstance(s, str)}
    found: dict[str, Any] = {"curated": curated or stage is None, "train": {}, "items": None, "requests": 0}
    found["held_out"] = bool(recipe.eval and recipe.eval.holdout)
    found["scoring"] = None if found["curated"] else forecast_scoring(recipe)
    if stage is not None and trains:
        from tamis.train.stage import forecast_arm

        drawn = None if curated else _drawn(recipe)
        for arm in arms:
            rows = drawn if drawn is not None else rows_of(run, arm)
            told = forecast_arm(recipe, rows[: arm.size] if arm.size else rows)
            plan = told.plan
            found["train"][arm.name] = {
                "rows": told.rows,
                "tokens": told.tokens,
                "trained_tokens": told.trained_tokens,
                "steps": plan.steps,
                "seconds": told.seconds,
                "memory_gb": plan.estimate_bytes / 1e9,
                "free_gb": plan.hardware.memory / 1e9,
                "device": plan.device,
                "choices": [dataclasses.asdict(c) for c in plan.choices],
                "warnings": list(plan.warnings),
            }
    if recipe.eval:
        count = len(_lengths(recipe))
        found["items"] = min(count, recipe.eval.limit or count)
        found["requests"] = found["items"] * len(recipe.evaluate.systems)
    found["asking"], found["refused"] = _asked(recipe, found["items"])
    price = recipe.evaluate.price
    seconds = sum(a["seconds"] for a in found["train"].values())
    found["money"] = None if price.machine_hour is None else price.machine_hour * seconds / 3600
    return found | {"currency": price.currency}


def _asked(recipe: Recipe, items: int | None) -> tuple[list[dict[str, Any]], str | None]:
    """What the endpoints would be asked, and why that would not start."""
    from tamis.evaluate.forecast import asking, refuse

    asked = asking(recipe, _lengths(recipe)[:items])
    try:
        refuse(recipe, asked)
    except UserError as refused:
        return [dataclasses.asdict(a) for a in asked], str(refused)
    return [dataclasses.asdict(a) for a in asked], None


def refuse_asking(recipe: Recipe) -> None:
    """Stop before curating and training if the endpoints may not be asked: no consent, or above `max_cost`."""
    from tamis.evaluate.forecast import asking, refuse

    asked = any(not isinstance(s, str) and s.endpoint for s in recipe.evaluate.systems) or recipe.evaluate.judge
    lengths = _lengths(recipe) if asked else []
    limit = recipe.eval.limit if recipe.eval else None
    refuse(recipe, asking(recipe, lengths[:limit]))


def _lengths(recipe: Recipe) -> list[int]:
    """Bytes of the evaluation items as they lie in their file; of a hold-out, those of every so manieth row."""
    source, share = recipe.data, recipe.eval.holdout if recipe.eval else None
    if recipe.eval is None or (recipe.eval.path is None and source is None):
        return []
    if share is not None and source is not None:
        every = [len(raw) for _, raw, _ in tables.rows_of(tables.Source(source.paths, source.format))]
        # whole components are held out until the share is reached: a row more than it, not one fewer
        return [every[int(i / share)] for i in range(int(share * len(every)) + 1) if int(i / share) < len(every)]
    rows = tables.rows_of(tables.Source(recipe.eval.paths, recipe.eval.format))
    return [len(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "replace")) for row in rows]


def forecast_scoring(recipe: Recipe) -> dict[str, Any]:
    """What curating would take: its rows, and what its model scorers cost. Nothing is scored, nothing is sent.

    Returns:
        {rows, size (what the recipe keeps, in words), currency, scorers: [{scorer, rows, tokens, minutes, money (None
        where no price is known), where, note}], refused (why scoring would not start, else None)}.
    """
    from tamis.curate.scoring import dry_run

    found = dry_run(recipe)
    return {
        "rows": found.rows,
        "size": str(recipe.curate.select.size or "all that survive"),
        "currency": recipe.evaluate.price.currency,
        "scorers": [dataclasses.asdict(f) for f in found.forecasts],
        "refused": found.refused and str(found.refused),
    }


def show_labels(run: Run, recipe: Recipe, arm: Arm, count: int) -> list[dict[str, Any]]:
    """The first rows of an arm as the model sees them, and which of their tokens are trained; nothing is done.

    Returns:
        {id, heading, segments: [(text, trained)]} of each; rows drawn at random where the data is not curated yet.
    """
    from tamis.curate.pipeline import stage_of
    from tamis.train.show_labels import heading, segments
    from tamis.train.stage import labels_of_arm

    if recipe.data is None:
        raise RecipeError("this recipe trains on nothing", where="data", hint="data: {path: FILE}")
    rows = rows_of(run, arm) if stage_of(run, recipe).complete() else _drawn(recipe)
    tokenizer, labelled = labels_of_arm(recipe, rows)
    return [{"id": r.id, "heading": heading(r), "segments": segments(tokenizer, r)} for r in labelled[:count]]


def _drawn(recipe: Recipe) -> pa.Table:
    """As many rows as the recipe keeps, drawn at random from the readable ones (schema.RECORD)."""
    from tamis.curate.features import estimated_tokens
    from tamis.curate.pipeline import training_source

    size = recipe.curate.select.size
    with tempfile.TemporaryDirectory() as folder:
        total = tables.read_records(training_source(recipe), Path(folder)).rows
        ids = sorted(tables.read_shards(Path(folder), ["id"])["id"].to_pylist())
        shuffled = np.random.default_rng(recipe.seed_for("forecast")).permutation(total)
        wanted = total
        if size is not None:
            wanted = min(total, round(size.amount if size.unit == "rows" else size.amount * total))
        if size is not None and size.unit == "tokens":
            some = take_records(Path(folder), [ids[i] for i in shuffled[:200].tolist()])["messages"]
            wanted = min(total, max(1, round(size.amount / estimated_tokens(some).mean())))
        return take_records(Path(folder), [ids[i] for i in shuffled[:wanted].tolist()])


def rows_of(run: Run, arm: Arm) -> pa.Table:
    """The training rows of an arm, in selection order (schema.RECORD)."""
    if arm.method is None:
        ids = kept_ids(run)
    else:
        order = pq.read_table(run.curate / "order.parquet")
        ids = order.filter(pc.equal(order["method"], arm.method)).sort_by("rank")["id"].to_pylist()
        if not ids:
            raise RecipeError(f"the run has no order {arm.method!r}", where=str(run.curate / "order.parquet"))
    return take_records(run.curate / "records", ids[: arm.size])


def kept_ids(run: Run) -> list[str]:
    """Ids of the rows that the ledger keeps, in selection order."""
    ledger = pq.read_table(run.curate / "ledger.parquet", columns=["id", "verdict", "rank"])
    kept: list[str] = ledger.filter(pc.equal(ledger["verdict"], "kept")).sort_by("rank")["id"].to_pylist()
    return kept


def _require_ends(recipe: Recipe) -> None:
    """Refuse at once what would otherwise fail after hours of training.

    Raises:
        RecipeError: the recipe names no evaluation set.
        PolicyError: its gate policy is missing or wrong.
    """
    from tamis.evaluate.policy import load_policy

    refuse_asking(recipe)
    if recipe.eval is None:
        raise _no_items("tamis curate and tamis train do without")
    if recipe.gate:
        load_policy(recipe.gate)


def _no_items(note: str) -> RecipeError:
    return RecipeError(
        "there is nothing to evaluate on",
        where="eval",
        hint=f"eval: {{path: FILE}} or eval: {{holdout: 0.1}}; {note}",
    )


def eval_items(run: Run) -> pa.Table:
    """The evaluation items of a run (schema.EVAL)."""
    file = run.curate / "eval.parquet"
    if not file.is_file():
        raise _no_items(f"tamis curate RECIPE then writes {file}")
    return pq.read_table(file)


def train(run: Run, recipe: Recipe, arms: Sequence[Arm] = MAIN, *, quiet: bool = False) -> dict[str, dict[str, Any]]:
    """Train the arms, if any system under test is a tuned one: summaries by arm."""
    if not {"tuned", "merged"} & {s for s in recipe.evaluate.systems if isinstance(s, str)}:
        return {}
    from tamis.train.stage import train_arm

    found = {}
    for arm in arms:
        rows = rows_of(run, arm)
        _note(quiet, f"train {arm.name} on {len(rows):,} rows")
        found[arm.name] = train_arm(run, recipe, arm.name, rows, quiet=quiet)
    return found


def export(run: Run, recipe: Recipe, arm: str | None, to: str, output: Path | None) -> dict[str, Any]:
    """Export a trained arm, the first if none is named, once it answers like what was evaluated: its manifest."""
    from tamis.train.export import export_arm

    arms = {a.name: a for a in arms_of(run)}
    name = arm or next(iter(arms))
    if name not in arms:
        raise RecipeError(f"the run has no arm {name!r}", where=str(run.path), hint=did_you_mean(name, arms))
    tables = [eval_items(run)] if (run.curate / "eval.parquet").is_file() else []
    if recipe.data is not None:
        tables.append(rows_of(run, arms[name]))
    return export_arm(run, recipe, name, tables, to=to, output=output)


def evaluate(run: Run, recipe: Recipe, arms: Sequence[Arm] = MAIN, *, quiet: bool = False) -> list[dict[str, Any]]:
    """Evaluate the arms' systems; those that do not depend on an arm are evaluated once, in the first.

    Returns:
        A summary per system and arm.
    """
    from tamis.evaluate.stage import evaluate_arm
    from tamis.evaluate.systems import bound_to_arm

    items, found = eval_items(run), []
    for arm in arms:
        systems = [s for s in recipe.evaluate.systems if arm == arms[0] or bound_to_arm(s)]
        _note(quiet, f"evaluate {arm.name}: {', '.join(s if isinstance(s, str) else s.name for s in systems)}")
        rows = rows_of(run, arm) if recipe.data else None
        found += evaluate_arm(run, recipe, arm.name, items, rows, systems, quiet=quiet)["systems"].values()
    return found


def conclude(run: Run, recipe: Recipe) -> dict[str, Any]:
    """Compare what was evaluated, judge it if there is a policy, and write the reports.

    Returns:
        {comparison, verdict (None without a gate), report, changed}. Comparing takes no stage's work, so it is done
        every time; `changed` tells whether it came to another result (another policy, another price) or to its first.
    """
    from tamis.evaluate.compare import compare
    from tamis.reports.markdown import write_markdown
    from tamis.reports.page_html import write_html
    from tamis.reports.report_json import write_report_json

    before = _said(run)
    comparison = compare(run, recipe)
    verdict = judge(run, recipe.gate) if recipe.gate else None
    page = write_html(run)
    write_markdown(run)
    write_report_json(run)
    return {"comparison": comparison, "verdict": verdict, "report": page, "changed": _said(run) != before}


def _said(run: Run) -> list[Any]:
    """What the files of a conclusion say, the day of judging apart: null for one that is not there, or not whole."""
    found: list[Any] = [(run.report / "report.html").is_file()]
    for file in (run.comparison, run.verdict):
        try:
            said = json.loads(file.read_bytes())
        except (OSError, ValueError):
            said = None
        found.append(said and {key: value for key, value in said.items() if key != "judged"})
    return found


def judge(run: Run, policy: str | Path, arm: str | None = None, *, keep: bool = True) -> dict[str, Any]:
    """Judge a run by a policy file; writes `verdict.json` and `report/gates.junit.xml`.

    Args:
        run: a run with complete evaluations.
        policy: the file.
        arm: whose verdict is the run's; default the first.
        keep: whether a verdict that cannot be written is an error; else that is said on stderr, and it counts.
    """
    from tamis.evaluate import gate, render
    from tamis.evaluate.policy import load_policy

    asked = load_policy(policy)
    verdict = gate.verdict_on(run, asked, arm)
    try:
        gate.write(run, asked, verdict)
        schema.write_atomic(run.report / JUNIT, render.junit(verdict).encode())
    except OSError as error:
        if keep or (told := of_disk(error)) is None:
            raise
        print(f"the verdict could not be written: {told.why} ({run.path}); it counts all the same", file=sys.stderr)
    return verdict


def bring_in(
    run: Run, systems: dict[str, list[Path]], metric: str | None, filter: str | None, hardware: str | None
) -> dict[str, Any]:
    """Write what other tools measured into a run, compare it and report it."""
    from tamis.evaluate.interchange import bring_in as write

    told = write(run, systems, metric=metric, filter=filter, hardware=hardware)
    # only what comparing reads: a recipe of its own would invite to evaluate the imported systems again
    raw = {"name": "imported", "eval": {"path": "imported"}, "evaluate": {"task": {"kind": "classify"}}}
    return {"systems": told, **conclude(run, Recipe.check(raw))}


def replay(run: Run) -> dict[str, Any]:
    """The verdict that a run holds, found again from its files; writes nothing."""
    from tamis.evaluate import replay as again

    return again.replay(run)


def explain_policy(policy: str | Path, verdict: dict[str, Any] | None = None) -> str:
    """What each gate of a policy asks; with a verdict also why it ruled so."""
    from tamis.evaluate.explain import explain
    from tamis.evaluate.policy import load_policy

    return explain(load_policy(policy), verdict)


def plan_gates(
    run: Run | None, policy: str | Path, arm: str | None, power: float, discordance: float | None, headroom: float
) -> dict[str, Any]:
    """What each gate of a policy needs: the plan, `lines` to read, and whether the run has `enough`."""
    from tamis.evaluate import plan
    from tamis.evaluate.policy import load_policy

    found = plan.plan(load_policy(policy), run, arm, plan.Assumptions(power, discordance, headroom))
    return found | {"enough": plan.enough(found), "lines": plan.lines(found)}


def promote(
    run: Run, system: str | None, arm: str | None, output: Path | None, reason: str | None, outputs: bool
) -> dict[str, Any]:
    """Write a system of a run as champion, by default beside the policy that judged it."""
    from tamis.evaluate import champion
    from tamis.evaluate.evidence import find

    try:
        verdict = schema.read_json(run.verdict)
    except (OSError, ValueError):
        verdict = None
    if output is None and verdict is None:
        raise UserError(
            "where shall the champion lie?", where=str(run.path), hint="--output FILE, or tamis gate RUN first"
        )
    file = output or Path(verdict["policy"]["path"] if verdict else "").parent / champion.FILE
    if verdict is not None:
        system, arm = system or verdict["evidence"]["candidate"], arm or verdict["arm"]
    evidence = find(run, arm or next(iter(run.arms()), "main"), system or "tuned")
    made = champion.promote(run, evidence, file, verdict=verdict, reason=reason, outputs=outputs)
    return {
        "champion": str(file),
        "name": f"{made['run']}, {evidence.name}",
        "items": len(made["items"]),
        "bytes": file.stat().st_size,
        "hardware": evidence.environment.get("hardware"),
        "engine": evidence.environment.get("engine"),
        "sha256": made["sha256"],
    }


def _note(quiet: bool, text: str) -> None:
    if not quiet:
        print(f"-- {text}", file=sys.stderr, flush=True)
