"""Rows of T0's mixture (Sanh et al. 2022, Apache-2.0) that ask for a summary, for the study of a task without labels.

    python benchmarks/study/summaries.py OUT                            # prompts under 350 characters, 60 items
    python benchmarks/study/summaries.py OUT --longest 2000 --items 200

Writes OUT/{train,test}.jsonl, drawn by seed; answers have 20 to 300 characters.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from pathlib import Path

ASKS = re.compile(r"summar|tl;dr|sum up|in a few words", re.IGNORECASE)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("out", type=Path)
    asked.add_argument("--source", type=Path, default=Path("../shared/data/t0_20k.jsonl.gz"))
    asked.add_argument("--longest", type=int, default=350, help="characters of a prompt")
    asked.add_argument("--items", type=int, default=60)
    asked.add_argument("--seed", type=int, default=7)
    given = asked.parse_args()
    with gzip.open(given.source, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    fit = [r for r in rows if ASKS.search(r["prompt"]) and len(r["prompt"]) < given.longest]
    fit = [r for r in fit if 20 < len(r["completion"]) < 300]
    random.Random(given.seed).shuffle(fit)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("test", fit[: given.items]), ("train", fit[given.items :])):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (given.out / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    print(f"{given.out}: {len(fit) - given.items:,} training rows, {given.items:,} test items")


if __name__ == "__main__":
    main()
