"""Does every removed row keep a neighbour, and is what an exact pass drops dropped?

    python benchmarks/coverage.py [FOLDER]      writes the table to standard output

Rows of T0 and CLINC150 embedded by `static`, at cosine 0.80, 0.90 and 0.95. Exact: the same greedy pass over all
pairs of
the whole table by brute force, the same guard asked of every pair beforehand. Beside it, without guard as their authors
have it: the rule of SemDeDup (Abbas et al. 2023: within k-means clusters, drop a row that is similar to any earlier
one)
and union-find over all pairs (keep the best row of each component).
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


def load(name: str, folder: Path) -> deduplicate.Rows:
    if name == "CLINC150":
        data = json.loads((folder / "clinc150.json").read_text())["train"]
        prompts, answers, labels = [a for a, _ in data], [b for _, b in data], [b for _, b in data]
    else:
        with gzip.open(folder / "t0_20k.jsonl.gz") as stream:
            rows = [json.loads(line) for line in stream]
        prompts, answers, labels = [r["prompt"] for r in rows], [r["completion"] for r in rows], [None] * len(rows)
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
    """All pairs at the threshold, in float64 from integers, one row at a time."""
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1)
    norms[norms == 0] = np.inf
    found = []
    for i in range(len(wide) - 1):
        cosine = np.round(wide[i + 1 :] @ wide[i] / norms[i] / norms[i + 1 :], 4)
        j = np.flatnonzero(cosine >= threshold) + i + 1
        found.append(np.stack([np.full(len(j), i), j], 1))
    return np.concatenate(found)


def exact_greedy(rows: deduplicate.Rows, pairs: np.ndarray, guard: Guard | None) -> np.ndarray:
    """(n,) bool, dropped. Written apart from the product: a plain walk over neighbour lists."""
    n = len(rows.ids)
    neighbours: list[list[int]] = [[] for _ in range(n)]
    for i, j in pairs.tolist():
        neighbours[i].append(j)
        neighbours[j].append(i)
    dropped, done, seen = np.zeros(n, bool), np.zeros(n, bool), {}  # type: ignore[var-annotated]
    for i in sorted(range(n), key=lambda r: (-rows.quality[r], rows.ids[r])):
        copy = int(rows.exact[i]) in seen
        kept = [j for j in neighbours[i] if done[j] and not dropped[j]]
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


def main(folder: Path) -> None:
    print("| data | cosine | guard | dropped | exact pass drops | of which dropped | uncovered | best kept | s |")
    print("|---|---|---|---|---|---|---|---|---|")
    others = []
    for name in ("CLINC150", "T0 20k"):
        rows = load(name, folder)
        n = len(rows.ids)
        place = np.lexsort((np.array(rows.ids), -rows.quality)).argsort()
        for threshold in (0.80, 0.90, 0.95):
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
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"))
