"""Does every removed row keep a neighbour, and is what an exact pass drops dropped?

    python benchmarks/coverage.py [FOLDER [NAME [COSINE...]]]      NAME: "CLINC150", "T0 20k" or "all at hand"

Rows of T0 and CLINC150 embedded by `static`, at cosine 0.80, 0.90 and 0.95; then all rows at hand in one table: more
than the 40,000 up to which the product compares every pair. Exact: the same greedy pass over all pairs of the whole
table by brute force, the same guard asked of every pair. Beside it, without guard as their authors have it: the rule of
SemDeDup (Abbas et al. 2023: within k-means clusters, drop a row that is similar to any earlier one) and union-find over
all pairs (keep the best row of each component).
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy import sparse

from tamis import embed
from tamis.curate import deduplicate, sample, similar
from tamis.curate.guard import Guard
from tamis.curate.near import signatures
from tamis.curate.normal import hash64, normalise

BLOCK = 512


ALL = "all at hand"


def raw(name: str, folder: Path) -> list[tuple[str, str, str | None]]:
    """Prompt, answer, label."""
    if name == "T0 20k":
        with gzip.open(folder / "t0_20k.jsonl.gz") as stream:
            return [(r["prompt"], r["completion"], None) for r in map(json.loads, stream)]
    if name == "GSM8K":
        files = (folder / f"gsm8k_{part}.jsonl" for part in ("train", "test"))
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [(r["question"], r["answer"], None) for r in rows]
    parts = json.loads((folder / "clinc150.json").read_text())
    if name == "CLINC150":
        return [(a, b, b) for a, b in parts["train"]]
    return [
        *[(a, b, b) for part in ("train", "val", "test") for a, b in parts[part]],
        *raw("T0 20k", folder),
        *raw("GSM8K", folder),
    ]


def load(name: str, folder: Path) -> deduplicate.Rows:
    prompts, answers, labels = map(list, zip(*raw(name, folder), strict=True))
    texts = [normalise(p) for p in prompts]
    answers = [normalise(a) for a in answers]
    exact = [hash64("\0".join([t, a, label or ""])) for t, a, label in zip(texts, answers, labels, strict=True)]
    vectors = embed.quantised(prompts, "static")
    quality = np.round(np.random.default_rng(7).random(len(texts)), 4)
    return deduplicate.Rows(
        ids=[f"{i:06d}" for i in range(len(texts))],
        quality=quality,
        prompts=prompts,
        texts=texts,
        answers=answers,
        labels=labels,
        exact=np.array(exact, np.int64),
        bands=signatures(texts),
        vectors=vectors.fine,
        truncated=vectors.truncated,
    )


def brute(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """All pairs at the threshold, in float64 from integers, a block of rows at a time."""
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    norms[norms == 0] = np.inf
    found = []
    for start in range(0, len(wide), BLOCK):
        cosine = wide[start : start + BLOCK] @ wide[start:].T / norms[start : start + BLOCK, None]
        i, j = np.nonzero(np.round(cosine / norms[start:], 4) >= threshold)
        pairs = np.stack([i, j], 1)[j > i]
        found.append((pairs + start).astype(np.int32))
    return np.concatenate(found)


def exact_greedy(rows: deduplicate.Rows, pairs: np.ndarray, guard: Guard | None) -> np.ndarray:
    """(n,) bool, dropped. Written apart from the product: a plain walk over neighbour lists."""
    n = len(rows.ids)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    edges = np.searchsorted(both[:, 0], np.arange(n + 1))
    dropped, done, seen = np.zeros(n, bool), np.zeros(n, bool), {}  # type: ignore[var-annotated]
    for i in sorted(range(n), key=lambda r: (-rows.quality[r], rows.ids[r])):
        copy = int(rows.exact[i]) in seen
        beside = both[edges[i] : edges[i + 1], 1]
        kept = beside[done[beside] & ~dropped[beside]].tolist()
        if guard is not None:
            kept = [j for j in kept if same_answer(rows, i, j) and guard.same(rows.prompts[i], rows.prompts[j])]
        dropped[i] = copy or bool(kept)
        seen[int(rows.exact[i])] = i
        done[i] = True
    return dropped


def same_answer(rows: deduplicate.Rows, i: int, j: int) -> bool:
    if rows.labels[i] is not None:
        return rows.labels[i] == rows.labels[j]
    return rows.answers[i] == rows.answers[j]


def covered(rows: deduplicate.Rows, fallen: np.ndarray, witness: np.ndarray, threshold: float) -> np.ndarray:
    """Whether a row, or an exact copy of it (equal but for signs and capitals), is as similar to its witness as
    asked."""
    copies: dict[int, list[int]] = {}
    for i, value in enumerate(rows.exact.tolist()):
        copies.setdefault(value, []).append(i)
    out = np.zeros(len(fallen), bool)
    for at, (i, j) in enumerate(zip(fallen.tolist(), witness.tolist(), strict=True)):
        group = copies[int(rows.exact[i])]
        pairs = np.stack([group, np.full(len(group), j)], 1)
        out[at] = rows.exact[i] == rows.exact[j] or bool((similar.cosines(rows.vectors, pairs) >= threshold).any())
    return out


def uncovered(n: int, dropped: np.ndarray, pairs: np.ndarray) -> float:
    """Share of removed rows without any kept row at the threshold."""
    near = np.zeros(n, bool)
    for a, b in ((0, 1), (1, 0)):
        near[pairs[~dropped[pairs[:, b]], a]] = True
    return float((dropped & ~near).sum() / max(dropped.sum(), 1))


def semdedup(rows: deduplicate.Rows, pairs: np.ndarray) -> np.ndarray:
    n = len(rows.ids)
    pool = sample.Pool(rows.ids, embed.coarse(rows.vectors), rows.quality, np.zeros(n), [None] * n, {})
    cells = sample.cluster(pool, 7, 100)
    place = np.lexsort((np.array(rows.ids), -rows.quality)).argsort()
    inside = pairs[cells[pairs[:, 0]] == cells[pairs[:, 1]]]
    dropped = np.zeros(len(rows.ids), bool)
    dropped[np.where(place[inside[:, 0]] > place[inside[:, 1]], inside[:, 0], inside[:, 1])] = True
    return dropped


def union_find(rows: deduplicate.Rows, pairs: np.ndarray) -> np.ndarray:
    n = len(rows.ids)
    graph = sparse.coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), shape=(n, n))
    labels = sparse.csgraph.connected_components(graph, directed=False)[1]
    order = np.lexsort((np.array(rows.ids), -rows.quality, labels))
    dropped = np.ones(n, bool)
    dropped[order[np.concatenate([[True], np.diff(labels[order]) != 0])]] = False
    return dropped


def main(folder: Path, names: list[str], cosines: list[float]) -> None:
    print("| data | cosine | guard | dropped | exact pass drops | of which dropped | uncovered | best kept | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    others = []
    for name in names:
        rows = load(name, folder)
        n = len(rows.ids)
        place = np.lexsort((np.array(rows.ids), -rows.quality)).argsort()
        for threshold in cosines:
            pairs = brute(rows.vectors, threshold)
            for guarded in (True, False):
                start = time.perf_counter()
                fates = deduplicate.deduplicate(rows, near=None, semantic=threshold, guard=guarded)
                seconds = time.perf_counter() - start
                dropped = fates.kind >= 0
                witness = fates.witness[dropped]
                bad = int((~covered(rows, np.flatnonzero(dropped), witness, threshold) | dropped[witness]).sum())
                better = float((place[witness] < place[dropped]).mean())
                want = exact_greedy(rows, pairs, Guard(rows.prompts) if guarded else None)
                kept = float((want & dropped).sum() / max(want.sum(), 1))
                print(
                    f"| {name} | {threshold:.2f} | {'yes' if guarded else 'no'} | {dropped.sum():,} | {want.sum():,} "
                    f"| {kept:.2%} | {bad} | {better:.1%} | {seconds:.1f} |",
                    flush=True,
                )
            shares = [uncovered(n, rule(rows, pairs), pairs) for rule in (semdedup, union_find)]
            others.append(f"| {name} | {threshold:.2f} | {shares[0]:.1%} | {shares[1]:.1%} |")
    print("\n| data | cosine | SemDeDup's rule leaves uncovered | union-find leaves uncovered |\n|---|---|---|---|")
    print("\n".join(others))


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"),
        sys.argv[2:3] or ["CLINC150", "T0 20k", ALL],
        [float(cosine) for cosine in sys.argv[3:]] or [0.80, 0.90, 0.95],
    )
