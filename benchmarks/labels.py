"""Are labels that were flipped at random found, and are those found flipped?

    python benchmarks/labels.py [FOLDER]                 tables on standard output
    python benchmarks/labels.py FOLDER --save FILE.npz   also keeps one case for labels_cleanlab.py

5 % of CLINC150's labels go to another of its 150 intents, drawn at random. The first table says where the validation
part (other rows) would put the threshold; `curate.agreement.MARGIN` is higher and was set with the training part's
curve in sight (labels.md). Labels that are wrong in CLINC150 itself count as false alarms.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tamis import data, embed
from tamis.curate import agreement
from tamis.curate.features import language
from tamis.curate.normal import hash64, normalise

DATA = Path(str(data.__path__[0]))
SHARE, PRECISION = 0.05, 0.95
EMBEDDERS = (embed.MINILM, "static", "lsa")


def load(folder: Path, part: str) -> tuple[list[str], list[str]]:
    data = json.loads((folder / "clinc150.json").read_text())[part]
    return [text for text, _ in data], [label for _, label in data]


def flipped(labels: list[str], seed: int) -> tuple[list[str], np.ndarray]:
    """The labels with some of them wrong, and which ones are."""
    rng, names = np.random.default_rng(seed), sorted(set(labels))
    wrong = np.zeros(len(labels), bool)
    wrong[rng.choice(len(labels), round(SHARE * len(labels)), replace=False)] = True
    other = rng.integers(1, len(names), len(labels))
    return [
        names[(names.index(label) + int(step)) % len(names)] if bad else label
        for label, bad, step in zip(labels, wrong, other, strict=True)
    ], wrong


def old_rule(vectors: np.ndarray, labels: list[str], copies: np.ndarray) -> np.ndarray:
    """Hardly a neighbour carries the label and most agree on another one: what was used before (0.1, 0.6)."""
    names = sorted(set(labels))
    own = agreement.label_agreement(vectors, list(labels), copies)
    rival = np.zeros(len(labels))
    _, first, group = np.unique(copies, return_index=True, return_inverse=True)
    near, cosine = agreement.nearest(vectors[first], agreement.NEIGHBOURS)
    weight = np.maximum(cosine, 0) ** 2
    weight /= weight.sum(1, keepdims=True)
    codes = np.array([names.index(label) for label in labels])
    for i, g in enumerate(group.tolist()):
        share = np.bincount(codes[first[near[g]]], weight[g], len(names))
        share[codes[i]] = 0
        rival[i] = share.max()
    return (own < 0.1) & (rival > 0.6)


def told(found: np.ndarray, wrong: np.ndarray) -> tuple[float, float]:
    """Recall and precision."""
    return float((found & wrong).sum() / wrong.sum()), float((found & wrong).sum() / max(found.sum(), 1))


def threshold(margin: np.ndarray, wrong: np.ndarray) -> float:
    """The lowest margin from which precision is as asked."""
    order = np.argsort(-margin, kind="stable")
    precision = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    return float(margin[order[np.flatnonzero(precision >= PRECISION)[-1]]])


def crossed(embedder: str, vectors: np.ndarray, labels: list[str], copies: np.ndarray) -> str:
    """The margin read off the rows of half of the intents, used on those of the other half, and the other way round.

    Flips that nothing was chosen on. The model learns all intents, so that margins mean what they mean in the product.
    """
    names, fixed, lines = sorted(set(labels)), [], []
    for seed in range(10):
        noisy, wrong = flipped(labels, 2000 + seed)
        margin = agreement.label_margin(vectors, list(noisy), copies)
        fixed.append(told(margin > agreement.MARGIN, wrong))
        mine = {names[i] for i in np.random.default_rng(300 + seed).permutation(len(names))[: len(names) // 2]}
        half = np.array([label in mine for label in noisy])
        for seen in (half, ~half):
            limit = threshold(margin[seen], wrong[seen])
            lines.append((limit, *told(margin[~seen] >= limit, wrong[~seen])))
    cells = [mean([f[k] for f in fixed]) for k in (0, 1)] + [mean([line[k] for line in lines]) for k in range(3)]
    return f"| {embedder.split('/')[-1]} | {' | '.join(cells)} |"


def tickets() -> None:
    """The built-in data: 28 intents, without the rows whose label is wrong by design and without their copies."""
    print(f"\nBuilt-in tickets, margin {agreement.MARGIN}, 10 seeds\n")
    print("| tickets | embedder | rows | recall | precision |\n|---|---|---|---|---|")
    rows, truth = (
        [json.loads(line) for line in (DATA / f"{name}.jsonl").open(encoding="utf-8")] for name in ("tickets", "truth")
    )
    planted = {r["key"] for r in truth if r["kind"] != "paraphrase"}
    asked = [(prompt(r), r["intent"]) for r in rows if r["ticket_id"] not in planted]
    for tongue, embedder in (("en", embed.MINILM), ("en", "lsa"), ("vi", "lsa")):
        texts, labels = map(list, zip(*[a for a in asked if language(a[0]) == tongue], strict=True))
        copies = np.array([hash64(normalise(t)) for t in texts])
        vectors, got = embed.quantised(texts, embedder).values, []
        for seed in range(10):
            noisy, wrong = flipped(labels, seed)
            got.append(told(agreement.label_margin(vectors, list(noisy), copies) > agreement.MARGIN, wrong))
        cells = " | ".join(mean([g[k] for g in got]) for k in (0, 1))
        print(f"| {tongue} | {embedder.split('/')[-1]} | {len(texts):,} | {cells} |", flush=True)


def prompt(row: dict[str, Any]) -> str:
    """What a ticket asks, in either of the data's two forms."""
    return str(row["instruction"] if "instruction" in row else row["messages"][0]["content"])


def halves(vectors: np.ndarray, labels: list[str], copies: np.ndarray) -> None:
    """The margin read off half of the intents, used on the other half: what it is worth on labels it has not seen."""
    print("\nMargin from 75 of the intents, used on the other 75, 10 draws\n")
    print("| margin | recall | precision |\n|---|---|---|")
    names, lines = sorted(set(labels)), []
    for seed in range(10):
        mine = {names[i] for i in np.random.default_rng(100 + seed).permutation(len(names))[: len(names) // 2]}
        side, cases = np.array([label in mine for label in labels]), []
        for rows in (np.flatnonzero(side), np.flatnonzero(~side)):
            noisy, wrong = flipped([labels[i] for i in rows], seed)
            cases.append((agreement.label_margin(vectors[rows], list(noisy), copies[rows]), wrong))
        limit = threshold(*cases[0])
        lines.append((limit, *told(cases[1][0] > limit, cases[1][1])))
    print("| " + " | ".join(mean([line[k] for line in lines]) for k in range(3)) + " |", flush=True)


def mean(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def main(folder: Path, save: str | None) -> None:
    print("Validation part, 3,000 rows: the margin from which precision is 0.95, 10 seeds\n")
    print("| penalty | margin |\n|---|---|")
    texts, labels = load(folder, "val")
    copies = np.array([hash64(normalise(t)) for t in texts])
    vectors = embed.quantised(texts, embed.MINILM).values
    for penalty in (0.1, 1.0, 10.0):
        agreement.PENALTY = penalty
        read = []
        for seed in range(10):
            noisy, wrong = flipped(labels, 1000 + seed)
            read.append(threshold(agreement.label_margin(vectors, list(noisy), copies), wrong))
        print(f"| {penalty:g} | {mean(read)} |", flush=True)
    agreement.PENALTY = 1.0
    print(f"\nTraining part, 15,000 rows, margin {agreement.MARGIN}, 10 seeds\n")
    print("| embedder | recall | precision | at precision 0.95 recall could be | old rule: recall | precision | s |")
    print("|---|---|---|---|---|---|---|")
    texts, labels = load(folder, "train")
    unseen = []
    copies = np.array([hash64(normalise(t)) for t in texts])
    for embedder in EMBEDDERS:
        vectors = embed.quantised(texts, embedder).values
        unseen.append(crossed(embedder, vectors, labels, copies))
        if embedder == embed.MINILM:
            by_halves = vectors
        recall, precision, best, seconds = [], [], [], []
        old = []
        for seed in range(10):
            noisy, wrong = flipped(labels, seed)
            start = time.perf_counter()
            margin = agreement.label_margin(vectors, list(noisy), copies)
            seconds.append(time.perf_counter() - start)
            r, p = told(margin > agreement.MARGIN, wrong)
            recall.append(r)
            precision.append(p)
            best.append(told(margin >= threshold(margin, wrong), wrong)[0])
            if seed < 3:
                old.append(told(old_rule(vectors, noisy, copies), wrong))
            if save and embedder == embed.MINILM and seed == 0:
                codes = np.unique(noisy, return_inverse=True)[1]
                np.savez(save, vectors=vectors, labels=codes, wrong=wrong)
        print(
            f"| {embedder.split('/')[-1]} | {mean(recall)} | {mean(precision)} | {mean(best)} "
            f"| {mean([r for r, _ in old])} | {mean([p for _, p in old])} | {np.median(seconds):.1f} |",
            flush=True,
        )
    print(f"\nOther flips: margin {agreement.MARGIN}; and the margin of half of the intents used on the other half\n")
    print("| embedder | recall | precision | margin of the other half | recall | precision |")
    print("|---|---|---|---|---|---|\n" + "\n".join(unseen))
    halves(by_halves, labels, copies)
    tickets()


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--save"]
    main(
        Path(arguments[0] if arguments else "../shared/data"),
        arguments[1] if "--save" in sys.argv and len(arguments) > 1 else None,
    )
