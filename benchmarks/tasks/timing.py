"""Time the systems of finished runs on an idle machine: alone, and in batches of 1, 4 and 16.

    python benchmarks/tasks/timing.py RUNS_FOLDER [TASK...]

A model in this process has no concurrent requests; as many at once means a batch of that size. 16 items by seed each,
after a warm-up. Cost: the machine's hour of the recipe at half of the capacity measured with 16 at once.

What was timed is kept in RUNS_FOLDER/timing.json, one system after the other, and not timed again: it can be stopped.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from tamis import intervals
from tamis.evaluate import timing
from tamis.evaluate.journal import batch_plan
from tamis.evaluate.metrics import durations
from tamis.evaluate.stage import _labels
from tamis.evaluate.systems import Setting, System, Workshop, name_of
from tamis.evaluate.task import Item, Reader, items_of
from tamis.loop import MAIN, eval_items, rows_of
from tamis.recipe import Latency, Recipe
from tamis.run import Run

TASKS = ("clinc150", "tickets_vi", "gsm8k", "summaries", "chat")
SYSTEMS = ("base", "tuned", "linear")
AT_ONCE = (1, 4, 16)
ITEMS = 16


def timed(system: System, items: list[Item], recipe: Recipe) -> dict[str, Any]:
    """Milliseconds of a request alone (median and bounds), items a second in batches, money per 1,000 items."""
    some = timing.drawn(items, ITEMS, recipe.seed_for("evaluate.latency"))
    asked = [dataclasses.replace(i, expected=None) for i in some]  # or their likelihood would be timed too
    system.prepare(items)
    system.answer(asked[:2])
    table = timing.measure(system, some, Latency(requests=ITEMS - 1, warmup=1), recipe.seed, lambda n: None)
    alone = intervals.quantile(durations(table, "e2e"), 0.5)
    rates = []
    for size in AT_ONCE:
        by_id = {i.id: i for i in asked}
        started = time.perf_counter()
        for ids in batch_plan(asked, size, system.length):
            system.answer([by_id[i] for i in ids])
        rates.append(len(asked) / (time.perf_counter() - started))
    price = 1000 * (recipe.evaluate.price.machine_hour or 0) / 3600 / rates[-1] / 0.5
    return {"alone_ms": [alone.value, alone.lower, alone.upper], "items_per_s": rates, "usd_per_1k": price}


def line(task: str, system: str, found: dict[str, Any]) -> str:
    value, lower, upper = found["alone_ms"]
    rates = " | ".join(f"{r:,.2f}" for r in found["items_per_s"])
    return (
        f"| {task} | {system} | {value:,.1f} ({lower or 0:,.1f} to {upper or 0:,.1f}) "
        f"| {rates} | {found['usd_per_1k']:.4f} |"
    )


def main() -> None:
    folder = Path(sys.argv[1])
    kept = folder / "timing.json"
    found = json.loads(kept.read_text()) if kept.is_file() else {}
    print("| task | system | p50 alone, ms (95 %) | 1 at once | 4 | 16, items/s | USD per 1k |")
    print("|---|---|---|---|---|---|---|")
    for task in sys.argv[2:] or TASKS:
        run = Run(folder / task)
        recipe = Recipe.of_run(run.path)
        wanted = [s for s in recipe.evaluate.systems if name_of(s) in SYSTEMS]
        if missing := [s for s in wanted if f"{task}/{name_of(s)}" not in found]:
            items, rows = items_of(eval_items(run), recipe.evaluate.task), rows_of(run, MAIN[0])
            reader = Reader.of(recipe.evaluate.task, items, _labels(rows, recipe.evaluate.task))
            with Workshop(Setting(run, recipe, "main", items, reader, rows)) as workshop:
                for spec in missing:
                    system = workshop.make(spec)
                    found[f"{task}/{name_of(spec)}"] = timed(system, items, recipe)
                    system.close()
                    kept.write_text(json.dumps(found, indent=1))
        for spec in wanted:
            print(line(task, name_of(spec), found[f"{task}/{name_of(spec)}"]), flush=True)


if __name__ == "__main__":
    main()
