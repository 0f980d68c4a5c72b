"""The whole line: curate, train, evaluate, gate, report. One arm in a plain run, several in a comparison."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis import schema
from tamis.errors import RecipeError
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


def run_all(run: Run, recipe: Recipe, arms: list[Arm] | None = None, *, quiet: bool = False) -> dict[str, Any]:
    """Run every stage that is not done yet.

    Args:
        run: the run folder; the caller holds its lock.
        recipe: what to do.
        arms: trainings to compare; default one, `main`, on the kept rows.
        quiet: no progress.

    Returns:
        {funnel, arms: {name: training summary}, comparison, verdict (None without a gate), seconds, skipped}.
    """
    from tamis.curate.pipeline import curate

    started = time.monotonic()
    arms = arms or [Arm("main")]
    run.path.mkdir(parents=True, exist_ok=True)
    run.recipe_file.write_text(recipe.dump(), encoding="utf-8")
    schema.write_json(run.path / "arms.json", {"arms": [a.name for a in arms]})
    _note(quiet, "curate")
    funnel = curate(run, recipe, quiet=quiet)
    items = eval_items(run)
    trained, evaluated = {}, []
    for i, arm in enumerate(arms):
        rows = rows_of(run, arm)
        trained[arm.name] = train(run, recipe, arm, rows, quiet)
        evaluated.append(evaluate(run, recipe, arm, items, rows, quiet, shared=i == 0))
    skipped = (
        funnel["skipped"]
        and all(t.get("skipped", True) for t in trained.values())
        and all(s.get("skipped") for e in evaluated for s in e["systems"].values())
    )
    result = {"funnel": funnel, "arms": trained, **conclude(run, recipe), "skipped": skipped}
    result["seconds"] = time.monotonic() - started
    return result


def rows_of(run: Run, arm: Arm) -> pa.Table:
    """The training rows of an arm, in selection order (schema.RECORD)."""
    if arm.method is None:
        ledger = pq.read_table(run.curate / "ledger.parquet", columns=["id", "verdict", "rank"])
        ids = ledger.filter(pc.equal(ledger["verdict"], "kept")).sort_by("rank")["id"].to_pylist()
    else:
        order = pq.read_table(run.curate / "order.parquet")
        ids = order.filter(pc.equal(order["method"], arm.method)).sort_by("rank")["id"].to_pylist()
        if not ids:
            raise RecipeError(f"the run has no order {arm.method!r}", where=str(run.curate / "order.parquet"))
    return take_records(run.curate / "records", ids[: arm.size])


def eval_items(run: Run) -> pa.Table:
    """The evaluation items of a run (schema.EVAL)."""
    file = run.curate / "eval.parquet"
    if not file.is_file():
        raise RecipeError(
            "there is nothing to evaluate on", where="eval", hint="eval: {path: FILE} or eval: {holdout: 0.1}"
        )
    return pq.read_table(file)


def train(run: Run, recipe: Recipe, arm: Arm, rows: pa.Table, quiet: bool) -> dict[str, Any]:
    """Train one arm, if any system under test is a tuned one."""
    if not {"tuned", "merged"} & {s for s in recipe.evaluate.systems if isinstance(s, str)}:
        return {"skipped": True}
    from tamis.train.stage import train_arm

    _note(quiet, f"train {arm.name} on {len(rows):,} rows")
    return train_arm(run, recipe, arm.name, rows, quiet=quiet)


def evaluate(
    run: Run, recipe: Recipe, arm: Arm, items: pa.Table, rows: pa.Table | None, quiet: bool, *, shared: bool
) -> dict[str, Any]:
    """Evaluate an arm's systems; `shared` adds those that do not depend on the arm."""
    from tamis.evaluate.stage import evaluate_arm
    from tamis.evaluate.systems import ARM_BOUND

    systems = [s for s in recipe.evaluate.systems if shared or s in ARM_BOUND]
    _note(quiet, f"evaluate {arm.name}: {', '.join(s if isinstance(s, str) else s.name for s in systems)}")
    return evaluate_arm(run, recipe, arm.name, items, rows, systems, quiet=quiet)


def conclude(run: Run, recipe: Recipe) -> dict[str, Any]:
    """Compare what was evaluated, judge it if there is a policy, and write the reports."""
    from tamis.evaluate.compare import compare
    from tamis.reports.markdown import write_markdown
    from tamis.reports.page_html import write_html
    from tamis.reports.report_json import write_report_json

    comparison = compare(run, recipe)
    verdict = judge(run, recipe.gate) if recipe.gate else None
    page = write_html(run)
    write_markdown(run)
    write_report_json(run)
    return {"comparison": comparison, "verdict": verdict, "report": page}


def judge(run: Run, policy: str | Path, arm: str | None = None) -> dict[str, Any]:
    """Judge a run by a policy file; writes `verdict.json` and `report/gates.junit.xml`."""
    from tamis.evaluate import render
    from tamis.evaluate.gate import judge as judge_arms
    from tamis.evaluate.policy import load_policy

    verdict = judge_arms(run, load_policy(policy), arm)
    schema.write_atomic(run.report / "gates.junit.xml", render.junit(verdict).encode())
    return verdict


def _note(quiet: bool, text: str) -> None:
    if not quiet:
        print(f"-- {text}", file=sys.stderr, flush=True)
