"""Time the systems of finished runs on an idle machine: alone, and in batches of 1, 4 and 16.

    python benchmarks/tasks/timing.py RUNS_FOLDER [TASK...]

A model in this process has no concurrent requests; as many at once means a batch of that size. 16 items by seed each,
after a warm-up. Cost: the machine's hour of the recipe at half of the capacity measured with 16 at once.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tamis import intervals
from tamis.evaluate import timing
from tamis.evaluate.journal import batch_plan
from tamis.evaluate.metrics import durations
from tamis.evaluate.stage import _labels
from tamis.evaluate.systems import Setting, Workshop, name_of
from tamis.evaluate.task import Reader, items_of
from tamis.loop import MAIN, eval_items, rows_of
from tamis.recipe import Latency, Recipe
from tamis.run import Run

TASKS = ("clinc150", "tickets_vi", "gsm8k", "summaries", "chat")
SYSTEMS = ("base", "tuned", "linear")
AT_ONCE = (1, 4, 16)
ITEMS = 16


def main() -> None:
    folder = Path(sys.argv[1])
    print("| task | system | p50 alone, ms (95 %) | 1 at once | 4 | 16, items/s | USD per 1k |")
    print("|---|---|---|---|---|---|---|")
    for task in sys.argv[2:] or TASKS:
        run = Run(folder / task)
        recipe = Recipe.of_run(run.path)
        items, rows = items_of(eval_items(run), recipe.evaluate.task), rows_of(run, MAIN[0])
        reader = Reader.of(recipe.evaluate.task, items, _labels(rows, recipe.evaluate.task))
        setting = Setting(run, recipe, "main", items, reader, rows)
        some = timing.drawn(items, ITEMS, recipe.seed_for("evaluate.latency"))
        with Workshop(setting) as workshop:
            for spec in (s for s in recipe.evaluate.systems if name_of(s) in SYSTEMS):
                system = workshop.make(spec)
                system.prepare(items)
                system.answer(some[:2])
                table = timing.measure(system, some, Latency(requests=ITEMS - 1, warmup=1), recipe.seed, lambda n: None)
                alone = intervals.quantile(durations(table, "e2e"), 0.5)
                rates = []
                for size in AT_ONCE:
                    by_id = {i.id: i for i in some}
                    started = time.perf_counter()
                    for ids in batch_plan(some, size, system.length):
                        system.answer([by_id[i] for i in ids])
                    rates.append(len(some) / (time.perf_counter() - started))
                price = 1000 * (recipe.evaluate.price.machine_hour or 0) / 3600 / rates[-1] / 0.5
                told = [f"{r:.2f}" for r in rates]
                bounds = f"{alone.lower or 0:.0f} to {alone.upper or 0:.0f}"
                print(
                    f"| {task} | {name_of(spec)} | {alone.value:.0f} ({bounds}) | {' | '.join(told)} | {price:.4f} |",
                    flush=True,
                )
                system.close()


if __name__ == "__main__":
    main()
