"""Does selection cover the survivors better than random, longest and stratified rows, and is a probe trained on it?

    python benchmarks/selection.py cover [FOLDER [NAME]]    distance to the nearest kept row, Vendi score, at equal size
    python benchmarks/selection.py probe [FOLDER [NAME]]    accuracy of a linear probe on the test questions of CLINC150
    python benchmarks/selection.py time [ROWS]              seconds of ordering so many rows (default 1,000,000)

FOLDER holds clinc150.json and t0_20k.jsonl.gz, default ../shared/data; NAME is a data set; the Vietnamese rows
are the built-in ones. Every method draws from the same rows, the survivors of `tamis curate`. Besides the methods of
the recipe: `gain` (facility location alone) and `farthest` (Gonzalez 1985, weighted by quality: how `cluster` chose
before), both in the same clusters. Vendi score: Friedman and Dieng (2023), TMLR, of the cosine kernel of the kept rows,
by its d x d form.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "study"))
import make

from tamis import data, embed, run_vectors
from tamis.curate import coverage, draws, sample
from tamis.curate.pipeline import curate
from tamis.models import cache_folder
from tamis.recipe import Recipe
from tamis.run import Run

SEEDS = range(5)
SHARES = (0.01, 0.02, 0.05, 0.10, 0.20)
SIZES = (150, 300, 750, 1500, 3000, 6000)
METHODS = ("cluster", "random", "longest", "stratified", "gain", "farthest")


def rows_of(name: str, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Training rows and test items."""
    if name == "T0 20k":
        with gzip.open(folder / "t0_20k.jsonl.gz") as stream:
            return [{k: r[k] for k in ("prompt", "completion")} for r in map(json.loads, stream)], []
    if name == "Vietnamese":
        file = Path(str(data.__path__[0])) / "tickets.jsonl"
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()], []
    splits, chance = json.loads((folder / "clinc150.json").read_text()), random.Random(7)
    intents = {intent for _, intent in splits["train"]}
    train = make.part(splits["train"], intents, 100, chance)
    test = make.part(splits["test"], intents, 30, chance)
    rows = make.dirtied(train, test, chance) if name.endswith("dirty") else train
    both = [
        [{"prompt": r["text"], "completion": r["intent"], "label": r["intent"]} for r in part] for part in (rows, test)
    ]
    return both[0], both[1]


def survivors(name: str, embedder: str, folder: Path) -> tuple[sample.Pool, np.ndarray, list[str]]:
    """The rows that curation leaves; vectors and labels of the test items."""
    rows, items = rows_of(name, folder)
    raw: dict[str, Any] = {"name": "r", "embedder": embedder, "curate": {"select": {"method": "random"}}}
    with tempfile.TemporaryDirectory() as text:
        for key, part in (("data", rows), ("eval", items)):
            if part:
                file = Path(text) / f"{key}.jsonl"
                file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in part), encoding="utf-8")
                raw[key] = {"path": str(file)}
        run = Run(Path(text) / "run")
        recipe = Recipe.check(raw)
        curate(run, recipe, quiet=True)
        pool = draws.pool(run, "survivors")
        if name == "Vietnamese":
            pool = only(pool, [v == "vi" for v in pool.fields["language"]])
        if not items:
            return pool, np.zeros((0, 1)), []
        asked = [r["prompt"] for r in items]
        if embedder == "lsa":
            vectors = run_vectors.beside(run.curate, asked, embedder).values
        else:
            vectors = embed.quantised(asked, embedder, cache_folder() / "vectors").values
    return pool, coverage.unit(vectors), [r["label"] for r in items]


def only(pool: sample.Pool, mask: list[bool]) -> sample.Pool:
    """Some of the rows."""
    at = np.flatnonzero(mask)
    pick = at.tolist()
    fields = {key: [values[i] for i in pick] for key, values in pool.fields.items()}
    ids = [pool.ids[i] for i in pick]
    return sample.Pool(ids, pool.vectors[at], pool.quality[at], pool.tokens[at], fields["label"], fields)


def ordered(pool: sample.Pool, method: str, seed: int) -> np.ndarray:
    """Positions of rows, best first."""
    if method not in ("gain", "farthest"):
        return sample.order(pool, method, seed)[0]
    groups = sample.cluster(pool, seed, None)
    n, weight = len(groups), np.maximum(pool.quality, 1e-3) ** 2
    if method == "gain":
        place = np.argsort(coverage.rank(pool.vectors, weight, np.ones(n), groups)[0])
        inside = [m[np.argsort(place[m])] for m in coverage.members(groups)]
    else:
        inside = [m[farthest(pool.vectors[m], weight[m])] for m in coverage.members(groups)]
    return sample.interleave(groups, inside, 0.5)


def farthest(vectors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """First a good row in the middle, then always the best in weight x distance to the rows before it."""
    unit = coverage.unit(vectors)
    distance, free = np.full(len(unit), 2.0), weight.copy()
    order = [int(np.argmax(np.sqrt(weight) * (1 + unit @ unit.mean(0))))]
    while len(order) < len(unit):
        free[order[-1]] = -1
        distance = np.minimum(distance, 1 - unit @ unit[order[-1]])
        order.append(int(np.argmax(free * (distance + 0.05))))
    return np.array(order)


def vendi(kept: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues of the kernel over n, which are those of the covariance of unit rows."""
    values = np.linalg.eigvalsh((kept.T @ kept).astype(np.float64) / len(kept))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def accuracy(pool: sample.Pool, vectors: np.ndarray, kept: np.ndarray, test: np.ndarray, right: list[str]) -> float:
    """Logistic regression on the kept rows, as `evaluate/baselines.py` sets it, tested on the test items."""
    from sklearn.linear_model import LogisticRegression

    labels = np.array([pool.labels[i] or "" for i in kept.tolist()])
    model = LogisticRegression(C=10.0, max_iter=500).fit(vectors[kept], labels)
    return float((model.predict(test) == np.array(right)).mean())


def cover(folder: Path, only_name: str | None) -> None:
    cases = [("CLINC150", "static"), ("CLINC150", "lsa"), ("CLINC150", embed.MINILM), ("T0 20k", "static")]
    cases += [("T0 20k", "lsa"), ("T0 20k", embed.MINILM), ("Vietnamese", "lsa")]
    print(
        "| data | embedder | rows kept | method | mean distance | p95 distance | Vendi |\n|---|---|---|---|---|---|---|"
    )
    for name, embedder in [c for c in cases if only_name in (None, c[0])]:
        pool, _, _ = survivors(name, embedder, folder)
        unit = coverage.unit(pool.vectors)
        orders = {m: [ordered(pool, m, s) for s in (SEEDS if m != "longest" else [0])] for m in METHODS}
        for share in SHARES:
            size = round(share * len(unit))
            for method, found in orders.items():
                kept = [unit[o[:size]] for o in found]
                near = [coverage.nearest_kept(unit, k)[0] for k in kept]
                told = [[d.mean() for d in near], [np.percentile(d, 95) for d in near], [vendi(k) for k in kept]]
                cells = " | ".join(spread(v, d) for v, d in zip(told, (3, 3, 1), strict=True))
                print(f"| {name} | {embedder.split('/')[-1]} | {size:,} | {method} | {cells} |", flush=True)


def probe(folder: Path, only_name: str | None) -> None:
    print(f"| data | embedder | method | {' | '.join(f'{s:,}' for s in SIZES)} |\n|---|---|---|{'---|' * len(SIZES)}")
    for name in ("CLINC150", "CLINC150 dirty") if only_name is None else (only_name,):
        for embedder in ("static", embed.MINILM):  # questions embedded by lsa alone have axes of their own
            pool, test, right = survivors(name, embedder, folder)
            unit = coverage.unit(pool.vectors)
            for method in ("cluster", "random", "gain", "farthest"):
                # one cluster a label: only chance differs by seed
                orders = [ordered(pool, method, s) for s in (SEEDS if method == "random" else [0])]
                got = [[accuracy(pool, unit, o[:size], test, right) for o in orders] for size in SIZES]
                cells = " | ".join(spread(values, 3) for values in got)
                print(f"| {name} | {embedder.split('/')[-1]} | {method} | {cells} |", flush=True)


def spread(values: Any, digits: int) -> str:
    """Mean, and the range over seeds where there is one to speak of."""
    low, high = (f"{f(values):.{digits}f}" for f in (min, max))
    return low if low == high else f"{np.mean(values):.{digits}f} ({low}-{high})"


def timed(rows: int) -> None:
    """Rows of random mixtures: as many clusters and as large ones as real rows have."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(2000, 256)).astype(np.float32)
    vectors = np.empty((rows, 256), np.int8)
    for start in range(0, rows, 1 << 16):
        part = centres[rng.integers(0, 2000, min(1 << 16, rows - start))]
        part = coverage.unit(part + 0.8 * rng.normal(size=part.shape).astype(np.float32))
        vectors[start : start + len(part)] = np.rint(127 * part)
    pool = sample.Pool([f"{i:07d}" for i in range(rows)], vectors, rng.random(rows), np.ones(rows), [None] * rows, {})
    started = time.perf_counter()
    groups = sample.cluster(pool, 7, None)
    clustered = time.perf_counter() - started
    started = time.perf_counter()
    sample.order(pool, "cluster", 7)
    print(
        f"{rows:,} rows, {groups.max() + 1} clusters: {clustered:.1f} s to cluster, "
        f"{time.perf_counter() - started - clustered:.1f} s to order"
    )


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "time":
        timed(int(rest[0]) if rest else 1_000_000)
    else:
        folder = Path(rest[0] if rest else "../shared/data")
        {"cover": cover, "probe": probe}[what](folder, rest[1] if rest[1:] else None)
