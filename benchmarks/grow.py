"""Does a grown run cover the data as well as one curated at once, and does it take time by the new rows only?

    python benchmarks/grow.py [FOLDER [EMBEDDER]]      writes the tables to standard output
    python benchmarks/grow.py FOLDER lsa times          the second of them alone

First half curated, second half added, against everything curated at once, kept rows the same in number; and the time
of adding 1,000 to 8,000 rows to runs of 2,000 to 10,000.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tamis.curate import coverage, grow
from tamis.curate.pipeline import curate
from tamis.recipe import Recipe, Size
from tamis.run import Run


def rows_of(name: str, folder: Path) -> list[dict[str, str]]:
    if name == "CLINC150":
        found = json.loads((folder / "clinc150.json").read_text())["train"]
        rows = [{"prompt": p, "completion": label, "label": label} for p, label in found]
    else:
        with gzip.open(folder / "t0_20k.jsonl.gz") as stream:
            rows = [{k: r[k] for k in ("prompt", "completion")} for r in map(json.loads, stream)]
    return [rows[i] for i in np.random.default_rng(7).permutation(len(rows))]


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def curated(folder: Path, name: str, rows: list[dict[str, str]], size: int, embedder: str) -> Run:
    raw: dict[str, Any] = {"name": name, "data": {"path": write(folder / f"{name}.jsonl", rows)}, "embedder": embedder}
    recipe = Recipe.check({**raw, "curate": {"select": {"size": size}}})
    run = Run(folder / name)
    curate(run, recipe, quiet=True)
    run.recipe_file.write_text(recipe.dump(), encoding="utf-8")
    return run


def covered(everyone: Run, run: Run) -> dict[str, Any]:
    table = pq.read_table(everyone.curate / "vectors")
    ids = table["id"].to_pylist()
    vectors = np.array(table["vector"].to_pylist(), np.int8)
    ledger = pq.read_table(run.curate / "ledger.parquet")
    kept = set(ledger.filter(pc.equal(ledger["verdict"], "kept"))["id"].to_pylist())
    # a row that the run at once dropped before it was embedded cannot be placed; there are a handful
    return coverage.summary(coverage.nearest_kept(vectors, vectors[[i in kept for i in ids]])[0]) | {"kept": len(kept)}


def covers(source: Path, embedder: str) -> None:
    print("| data | kept | mean at once | mean grown | p95 at once | p95 grown | s at once | s half | s grow |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in ("CLINC150", "T0 20k"):
        rows = rows_of(name, source)
        half = len(rows) // 2
        for size in (600, 1500, 3000):
            with tempfile.TemporaryDirectory() as text:
                folder = Path(text)
                seconds = []
                started = time.perf_counter()
                once = curated(folder, "once", rows, size, embedder)
                seconds.append(time.perf_counter() - started)
                started = time.perf_counter()
                first = curated(folder, "half", rows[:half], size // 2, embedder)
                seconds.append(time.perf_counter() - started)
                new = write(folder / "new.jsonl", rows[half:])
                started = time.perf_counter()
                grow.grow(first, grown := Run(folder / "grown"), [new], Size("rows", size // 2), quiet=True)
                seconds.append(time.perf_counter() - started)
                a, b = covered(once, once), covered(once, grown)
                print(
                    f"| {name} | {b['kept']:,} | {a['mean']:.4f} | {b['mean']:.4f} ({b['mean'] / a['mean'] - 1:+.1%}) "
                    f"| {a['p95']:.4f} | {b['p95']:.4f} ({b['p95'] / a['p95'] - 1:+.1%}) "
                    f"| {' | '.join(f'{s:.1f}' for s in seconds)} |",
                    flush=True,
                )


def takes(source: Path, embedder: str) -> None:
    print("\n| rows of the run | new rows | s |\n|---|---|---|")
    rows = rows_of("T0 20k", source)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        for old, news in ((10_000, (1000, 2000, 4000, 8000)), (2000, (1000, 4000))):
            run = curated(folder, f"old{old}", rows[:old], old // 10, embedder)
            for new in news:
                file = write(folder / f"new{old}-{new}.jsonl", rows[10_000 : 10_000 + new])
                started = time.perf_counter()
                grow.grow(run, Run(folder / f"grown{old}-{new}"), [file], quiet=True)
                print(f"| {old:,} | {new:,} | {time.perf_counter() - started:.1f} |", flush=True)


if __name__ == "__main__":
    folder, embedder, *only = [*sys.argv[1:], *["../shared/data", "static"][len(sys.argv[1:]) :]]
    if not only:
        covers(Path(folder), embedder)
    takes(Path(folder), embedder)
