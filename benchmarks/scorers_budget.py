"""Budgeted scoring: IFD of 4,000 rows of at most 256 tokens, then 5 % of them to predict the rest, 20 times.

    python benchmarks/scorers_budget.py score            # about 11 minutes on one core, resumable: run it until done
    python benchmarks/scorers_budget.py cover            # 20 splits from what was scored, a minute

Rows: raw and revised instruction pairs of experts (CoachLM), the first 4,000 by id that have at most 256 tokens.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from tamis.curate.ifd import Ifd, tokens_of
from tamis.record import content_hash
from tamis.spans import Turns

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ROWS, TOKENS = 4000, 256
DATA = Path(__file__).parents[2] / "shared" / "data" / "coachlm_expert_revisions.json"


def conversations(file: Path) -> dict[str, Turns]:
    """Both versions of every row, by content hash, sorted by it."""
    out = {}
    for row in json.loads(file.read_text(encoding="utf-8")):
        for version in ("Raw", "Revised"):
            asked = "\n".join(t for t in (row[f"{version} Instruction"], row[f"{version} Input"]) if t)
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row[f"{version} Response"]}]
            out[content_hash(turns)] = turns
    return dict(sorted(out.items()))


def rows_of(file: Path, scorer: Ifd) -> list[Turns]:
    found = []
    for turns in conversations(file).values():
        example = scorer.example(turns)
        if example is not None and len(example.ids) <= TOKENS:
            found.append(turns)
    return found[:ROWS]


def score(file: Path) -> tuple[list[Turns], Any, dict[str, Any]]:
    """IFD of all rows; what is in the cache costs nothing."""
    import torch

    torch.set_num_threads(1)  # beside other work two threads wait for each other in every operation
    scorer = Ifd.of(MODEL)
    rows = rows_of(file, scorer)
    started = time.monotonic()
    values, about = scorer.score(rows, folder=Path(sys.argv[0]).parent / ".progress", quiet=False)
    about["seconds"] = round(time.monotonic() - started, 1)
    about["longest"] = max(tokens_of(e, scorer.header) for e in map(scorer.example, rows) if e)
    return rows, values, about


if __name__ == "__main__":
    what, data = sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else DATA
    if what == "score":
        print(json.dumps(score(data)[2], indent=1))
