"""Deduplication side by side with semhash and datasketch, which run in an environment of their own.

    pip install semhash==0.5.0 datasketch==2.0.0      (elsewhere)
    python benchmarks/dedup_speed.py semantic|near|large PEERS_PYTHON [FOLDER]

Writes the table to standard output. Both sides get the same texts, the same static embedder, the same vectors. No guard
on our side here: semhash has none. Recall is over pairs, against all pairs by brute force.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from tamis import embed, static
from tamis.curate import deduplicate, near, similar
from tamis.curate.normal import normalise

PEERS = Path(__file__).with_name("dedup_peers.py")


def load(name: str, folder: Path) -> list[str]:
    if name == "CLINC150":
        return [text for text, _ in json.loads((folder / "clinc150.json").read_text())["train"]]
    with gzip.open(folder / "t0_20k.jsonl.gz") as stream:
        return [json.loads(line)["prompt"] for line in stream]


def peer(python: str, texts: list[str], work: Path, **job: Any) -> tuple[dict[str, Any], np.ndarray]:
    (work / "texts.json").write_text(json.dumps(texts))
    spec = {**job, "texts": str(work / "texts.json"), "out": str(work / "pairs.npy")}
    done = subprocess.run([python, str(PEERS), json.dumps(spec)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]), np.load(work / "pairs.npy")


def ours(texts: list[str], vectors: np.ndarray, threshold: float) -> deduplicate.Fates:
    """The product's semantic pass over vectors: exact copies, pairs, one greedy pass; earlier rows are preferred."""
    n = len(texts)
    codes: dict[str, int] = {}
    return deduplicate.deduplicate(
        deduplicate.Rows(
            ids=[f"{i:07d}" for i in range(n)],
            quality=np.zeros(n),
            prompts=texts,
            texts=texts,
            answers=[""] * n,
            labels=[None] * n,
            exact=np.array([codes.setdefault(t, len(codes)) for t in texts]),
            bands=np.zeros((n, 1), np.uint64),
            vectors=vectors,
            truncated=np.zeros(n, bool),
        ),
        near=None,
        semantic=threshold,
        guard=False,
    )


def recall(found: np.ndarray, exact: np.ndarray, n: int) -> float:
    keys = [np.unique(p[:, 0] * n + p[:, 1]) for p in (found, exact)]
    return float(np.isin(keys[1], keys[0]).mean()) if len(keys[1]) else float("nan")


def semantic(python: str, folder: Path, work: Path) -> None:
    model = static.load("static")
    print(
        "| data | from vectors: Tamis s | semhash s | ratio | recall of pairs: Tamis | semhash | end to end: Tamis s "
        "(embedding) | semhash s (embedding) | ratio |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name in ("CLINC150", "T0 20k"):
        texts = load(name, folder)
        floats = model.encode(texts)
        floats /= np.maximum(np.linalg.norm(floats, axis=1, keepdims=True), 1e-9)
        np.save(work / "vectors.npy", floats)
        theirs, pairs = peer(
            python, texts, work,
            job="semhash", threshold=0.9, model=str(static.distilled()), vectors=str(work / "vectors.npy"),
        )  # fmt: skip
        start = time.perf_counter()
        ours(texts, embed.to_int16(floats), 0.9)
        given = time.perf_counter() - start
        start = time.perf_counter()
        vectors = embed.quantised(texts, "static").fine
        encoding = time.perf_counter() - start
        ours(texts, vectors, 0.9)
        whole = time.perf_counter() - start
        place: dict[str, int] = {}
        unique = np.array([i for i, t in enumerate(texts) if place.setdefault(t, i) == i])
        wide = floats[unique].astype(np.float64)
        exact = np.concatenate(
            [
                np.stack([np.full(len(j), unique[i]), unique[j]], 1)
                for i in range(len(wide) - 1)
                for j in [np.flatnonzero(wide[i + 1 :] @ wide[i] >= 0.9) + i + 1]
            ]
        )
        mine, _ = similar.cosine_pairs(embed.to_int16(floats)[unique], 0.9)
        print(
            f"| {name} | {given:.2f} | {theirs['given']:.2f} | {theirs['given'] / given:.1f} "
            f"| {recall(unique[mine], exact, len(texts)):.4f} | {recall(pairs, exact, len(texts)):.4f} "
            f"| {whole:.2f} ({encoding:.2f}) | {theirs['whole']:.2f} ({theirs['encoding']:.2f}) "
            f"| {theirs['whole'] / whole:.1f} |",
            flush=True,
        )


def exact_jaccard(texts: list[str], asked: np.ndarray, threshold: float) -> np.ndarray:
    """All pairs (asked row, other row) by intersecting sets, as (smaller, larger)."""
    hashes, starts = near.shingles(texts)
    columns = np.unique(hashes, return_inverse=True)[1]
    sets = sparse.csr_matrix((np.ones(len(columns), np.int32), columns, starts))
    sets.sum_duplicates()
    sets.data[:] = 1
    sizes = np.diff(sets.indptr)
    found = []
    for part in np.array_split(asked, max(1, len(asked) // 50)):
        common = (sets[part] @ sets.T).tocoo()
        i, j = part[common.row], common.col
        similarity = np.round(common.data / (sizes[i] + sizes[j] - common.data), 4)
        keep = (similarity >= threshold) & (i != j)
        found.append(np.stack([i[keep], j[keep]], 1))
    return np.sort(np.concatenate(found), axis=1)


def near_copies(python: str, texts: list[str], name: str, work: Path) -> None:
    texts = list(dict.fromkeys(map(normalise, texts)))
    theirs, pairs = peer(python, texts, work, job="datasketch", threshold=0.85)
    start = time.perf_counter()
    mine, _ = near.near_pairs(texts, near.signatures(texts), 0.85)
    seconds = time.perf_counter() - start
    asked = np.random.default_rng(7).choice(len(texts), min(len(texts), 2000), replace=False)
    exact = exact_jaccard(texts, asked, 0.85)
    print(
        f"| {name}, {len(texts):,} distinct | {seconds:.1f} | {theirs['seconds']:.1f} "
        f"| {theirs['seconds'] / seconds:.1f} | {len(mine):,} | {len(pairs):,} | {recall(mine, exact, len(texts)):.4f} "
        f"| {recall(pairs, exact, len(texts)):.4f} | {len(exact):,} |",
        flush=True,
    )


def sentences(folder: Path, n: int) -> list[str]:
    """n short rows: stretches of 12 words of T0, and for every fifth row a copy with one word left out."""
    stretches: list[str] = []
    for prompt in load("T0", folder):
        found = prompt.split()
        stretches += [" ".join(found[i : i + 12]) for i in range(0, len(found) - 12, 12)]
    rng = np.random.default_rng(7)
    base = [stretches[i] for i in rng.choice(len(stretches), int(n / 1.2), replace=False)]
    copies = [" ".join(w for k, w in enumerate(t.split()) if k != 11) for t in base[: n - len(base)]]
    return base + copies


if __name__ == "__main__":
    what, peers = sys.argv[1:3]
    data = Path(sys.argv[3] if len(sys.argv) > 3 else "../shared/data")
    with tempfile.TemporaryDirectory() as scratch:
        if what == "semantic":
            semantic(peers, data, Path(scratch))
        else:
            print(
                "| data | Tamis s | datasketch s | ratio | pairs: Tamis | datasketch | recall: Tamis | datasketch "
                "| exact pairs of 2,000 rows |\n|---|---|---|---|---|---|---|---|---|"
            )
            rows = load("T0", data) if what == "near" else sentences(data, 300_000)
            near_copies(peers, rows, "T0 20k" if what == "near" else "300,000 stretches of T0", Path(scratch))
