"""Ways of training on a part of CLINC150: accuracy, forgetting, time and memory side by side, see methods.md.

    python benchmarks/clinc150/prepare.py data_full.json --intents 30
    python benchmarks/methods.py general t0_20k.jsonl.gz    rows of other tasks, on which forgetting is measured
    tamis compare benchmarks/clinc150/methods.yaml
    python benchmarks/methods.py speed runs/methods         each training whole, in a process of its own

Memory and speed are measured apart: in one process an arm would count what the arm before has not given back.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent / "clinc150"
ROWS, SEED = 300, 7
SHORTEST, LONGEST = 20, 1500  # bytes of an answer, of a prompt: an answer of one byte has no bits per byte to speak of


def general(source: Path) -> None:
    """Draw rows of T0 (prompts for tasks of many kinds) and write `clinc150/general.jsonl`."""
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    fit = [
        row for row in rows if len(row["completion"].encode()) >= SHORTEST and len(row["prompt"].encode()) <= LONGEST
    ]
    drawn = random.Random(SEED).sample(fit, ROWS)
    file = HERE / "general.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in drawn), encoding="utf-8")
    print(f"{file}: {ROWS} of {len(fit):,} rows of {len(rows):,}")


def speed(run: Path, arms: list[str]) -> None:
    """Train by each way as it is planned, each in its own process, and print what it took as a table."""
    print("| way | training | tokens/s | peak memory | planned | micro-batch | steps | rate |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for arm in arms:
        done = subprocess.run(
            [sys.executable, __file__, "one", str(run), arm], check=True, capture_output=True, text=True
        )
        print(done.stdout.splitlines()[-1], flush=True)


def one(run: Path, arm: str) -> None:
    """Train one way on the chosen rows; tokens a second without the first two steps, when every kernel is made."""
    from tamis.loop import MAIN, rows_of
    from tamis.methods import OVERLAYS
    from tamis.recipe import Recipe
    from tamis.run import Run
    from tamis.schema import read_json
    from tamis.train.stage import train_arm

    recipe = Recipe.of_run(run).changed(OVERLAYS[arm])
    rows = rows_of(Run(run), MAIN[0])
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        told = train_arm(Run(Path(folder)), recipe, arm, rows, quiet=True)
        whole = time.perf_counter() - started
        log = Run(Path(folder)).train(arm) / "log.jsonl"
        steps = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        plan = read_json(log.with_name("plan.json"))
    tokens, seconds = (sum(step[name] for step in steps[2:]) for name in ("tokens", "seconds"))
    print(
        f"| {arm} | {whole:.0f} s | {tokens / seconds:,.0f} | {told['peak_mb'] / 1000:.2f} GB "
        f"| {told['estimate_mb'] / 1000:.2f} GB | {plan['micro_batch']} | {len(steps)} | {plan['lr']:.1e} |"
    )


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("what", choices=["general", "speed", "one"])
    reader.add_argument("path", type=Path)
    reader.add_argument("arms", nargs="*", default=["qlora", "lora", "full", "fp4", "int8"])
    asked = reader.parse_args()
    if asked.what == "general":
        general(asked.path)
    elif asked.what == "speed":
        speed(asked.path, asked.arms)
    else:
        one(asked.path, asked.arms[0])


if __name__ == "__main__":
    main()
