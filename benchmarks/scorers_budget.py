"""Budgeted scoring: IFD of 4,000 rows of at most 256 tokens, then 5 % of them to predict the rest, 20 times.

    python benchmarks/scorers_budget.py score      # 11 minutes on one core, resumable: run it again until it is done
    python benchmarks/scorers_budget.py cover      # 20 samples of what was scored, beside split-conformal; a minute
    python benchmarks/scorers_budget.py batches    # one row at a time against sixteen, in bf16 and fp32; three minutes

Rows: raw and revised instruction pairs of experts (CoachLM), the first 4,000 by content hash that have at most 256
tokens.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tamis import embed
from tamis.curate import budget
from tamis.curate.ifd import Ifd, tokens_of
from tamis.record import content_hash
from tamis.run import peak_memory_mb
from tamis.spans import Turns

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ROWS, TOKENS = 4000, 256
SAMPLE, SPLITS, CONFIDENCE = 200, 20, 0.9
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
    scorer = Ifd.of(MODEL, dtype="bfloat16")  # coverage is the question here, not the last digit
    rows = rows_of(file, scorer)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        values, about = scorer.score(rows, folder=Path(folder), quiet=False)
    about["seconds"] = round(time.monotonic() - started, 1)
    about["peak_mb"] = round(peak_memory_mb())
    return rows, values, about


def cover(file: Path) -> None:
    from scipy.stats import spearmanr

    rows, values, about = score(file)
    ids = [content_hash(turns) for turns in rows]
    prompts, answers = ([turns[i]["content"] for turns in rows] for i in (0, 1))
    share = SAMPLE / len(rows)
    print(
        f"{len(rows)} rows, {about['tokens']:,} tokens; quantiles of IFD {np.percentile(values, [1, 10, 50, 90, 99])}"
    )
    print(f"rows scored {SAMPLE} ({share:.1%}), tokens about {about['tokens'] * share:,.0f}")
    for embedder in ("lsa", embed.MINILM):
        vectors = embed.quantised(prompts, embedder).values
        x = budget.predictors(vectors, budget.row_features(prompts, answers))
        for name in ("cv+", "split"):
            found = []
            for seed in range(SPLITS):
                order = budget.draw(ids, vectors, SAMPLE, seed)
                rest = np.sort(order[SAMPLE:])
                if name == "cv+":
                    told = budget.predict(lambda r: values[r], order, x, SAMPLE, bounds=(0.0, math.inf))
                    value, low, high = told.values[rest], told.low[rest], told.high[rest]
                else:
                    value, low, high = split_conformal(x, values, order[:SAMPLE], rest)
                inside = np.mean((low <= values[rest]) & (values[rest] <= high))
                found.append((inside, spearmanr(value, values[rest]).statistic, np.mean(high - low) / 2))
            coverage, rank, width = np.array(found).T
            print(
                f"{embedder[-16:]:18}{name:7}coverage mean {coverage.mean():.3f} sd {coverage.std():.3f} "
                f"min {coverage.min():.3f} max {coverage.max():.3f}  Spearman {rank.mean():.3f} "
                f"half width {width.mean():.3f}"
            )


def split_conformal(x: Any, values: Any, sample: Any, rest: Any) -> tuple[Any, Any, Any]:
    """Lei et al. 2018, algorithm 2: half of the sample fits, half calibrates."""
    half = len(sample) // 2
    chance = np.random.default_rng(int(sample[0])).permutation(sample)
    model = budget._ridge(x[chance[:half]], values[chance[:half]])
    residuals = np.sort(np.abs(values[chance[half:]] - model(x[chance[half:]])))
    width = residuals[min(math.ceil(CONFIDENCE * (len(residuals) + 1)), len(residuals)) - 1]
    value = model(x[rest])
    return value, value - width, value + width


def batches(file: Path) -> None:
    import torch

    torch.set_num_threads(1)
    rows = rows_of(file, Ifd.of(MODEL))[:160]
    for dtype in ("bfloat16", "float32"):
        scorer = Ifd.of(MODEL, dtype=dtype)
        examples = {f"{i:04}x": e for i, e in enumerate(map(scorer.example, rows)) if e}
        tokens = sum(tokens_of(e, scorer.header) for e in examples.values())
        scorer.measure(list(examples.values())[:2])
        started = time.monotonic()
        alone = {key: scorer.measure([e])[0].ifd for key, e in examples.items()}
        between = time.monotonic()
        together = {}
        for keys in scorer.plan(examples):
            found = scorer.measure([examples[k] for k in keys])
            together |= {k: f.ifd for k, f in zip(keys, found, strict=True)}
        ended = time.monotonic()
        apart = np.array([abs(together[k] / alone[k] - 1) for k in examples])
        print(
            f"{dtype}: {len(examples)} rows, {tokens} tokens, alone {tokens / (between - started):.0f} tokens/s, "
            f"in batches {tokens / (ended - between):.0f} tokens/s; relative difference of IFD "
            f"median {np.median(apart):.2e}, 99 % {np.quantile(apart, 0.99):.2e}, most {apart.max():.2e}"
        )


if __name__ == "__main__":
    what, data = sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else DATA
    if what == "score":
        print(json.dumps(score(data)[2], indent=1))
    else:
        {"cover": cover, "batches": batches}[what](data)
