"""Whether Tamis's trainer learns as much from the same tokens as TRL's: several seeds, paired, on held-out rows.

    python benchmarks/equal_loss.py --seeds 1 2 3 --folder runs/equal_loss

For each seed the trainings of throughput.py beside the same base, at the same rate, schedule and rank: the plain script
(our dtype, micro-batch and no checkpointing, for time's sake) and `train_arm`. Both are given the same labels here: a
plain script also trains the line break behind the stop token. What is left is Tamis's own doing: adapters in fp32, rows
packed, logits of labelled positions only. Seeds that are done are not done again. Results: throughput.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import stats

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args()
    means = []
    print("| seed | base | trl | tamis | tamis less trl | of that, over rows |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    for seed in asked.seeds:
        folder = asked.folder / str(seed)
        if not (folder / "losses.json").is_file():
            train_both(folder, seed, asked.rows)
        found = json.loads((folder / "losses.json").read_text())
        tokens = np.array(found["tokens"])
        base, trl, tamis = (np.array(found["nats"][name]) for name in ("base", "ours", "tamis"))
        apart = (tamis - trl) / tokens.mean()  # a row's part of the difference of the means
        error = apart.std(ddof=1) / len(apart) ** 0.5
        means.append(apart.mean())
        losses = " | ".join(f"{nats.sum() / tokens.sum():.3f}" for nats in (base, trl, tamis))
        print(f"| {seed} | {losses} | {apart.mean():+.3f} | standard error {error:.3f} |", flush=True)
    if len(means) > 1:
        half = stats.t.ppf(0.975, len(means) - 1) * stats.sem(means)
        print(f"\nMean difference over seeds: {np.mean(means):+.3f} nats per answer token, 95 % +- {half:.3f} (t)")


def train_both(folder: Path, seed: int, rows: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    own = [sys.executable, str(HERE / "throughput.py"), "--folder", str(folder), "--rows", str(rows)]
    own += ["--seed", str(seed), "--our-labels", "--do"]
    subprocess.run([*own, "prepare"], check=True, stdout=sys.stderr)
    subprocess.run(
        [sys.executable, str(HERE / "plain_sft.py"), str(folder / "ours.json")], check=True, stdout=sys.stderr
    )
    subprocess.run([*own, "tamis"], check=True, stdout=sys.stderr)
    subprocess.run([*own, "losses"], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
