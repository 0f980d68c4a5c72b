"""Rephrased benchmarks against rows that leak nothing: thresholds chosen without labels, the oracle's beside them.

    python benchmarks/decontamination.py algebra sociology history gsm8k [--embedder NAME] [--data FOLDER]

Training rows are the rephrasings of MMLU test questions (llm-decontaminator's; empty ones left out) and

* easy: all of T0 or all of GSM8K's training questions;
* hard: the evaluation set is one half of the test, the rows are the rephrasings of both halves (ten seeded halves).

GSM8K: its training questions against its test questions; what is flagged there is held to be flagged wrongly.
Prints one Markdown row per case. Results: decontamination.md.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tamis import embed
from tamis.curate import decontaminate, leak_candidates, near
from tamis.curate.normal import hash64, normalise, words

SUBJECTS = {"algebra": "abstract_algebra", "sociology": "sociology", "history": "high_school_us_history"}
HALVES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=[*SUBJECTS, "gsm8k"])
    parser.add_argument("--embedder", default=embed.MINILM)
    parser.add_argument("--fdr", type=float, default=0.2)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    print("| benchmark | rows | F1 | precision | recall | oracle F1 | stated FDR | by items | 13-gram | Tulu 3 | s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    grade, grade_test = (questions(options.data / f"gsm8k_{part}.jsonl") for part in ("train", "test"))
    for case in options.cases:
        if case == "gsm8k":
            found = Case(grade_test, dict.fromkeys(grade, False), options)
            share, seconds = found.flags.mean(), found.seconds
            print(f"| GSM8K test | GSM8K train, {len(grade)} rows | flagged {share:.2%} | {seconds:.0f} s", flush=True)
            continue
        items, rephrased = subject(options.data, case)
        with gzip.open(options.data / "t0_20k.jsonl.gz", "rt", encoding="utf-8") as file:
            prompts = [json.loads(line)["prompt"] for line in file]
        for name, others in (("T0", prompts), ("GSM8K train", grade)):
            rows = dict.fromkeys(others, False) | {t: True for t in rephrased if t}
            show(case, f"{name}, {len(rows)}", [Case(items, rows, options)])
        cases = []
        for seed in range(HALVES):
            half = np.zeros(len(items), bool)
            half[np.random.default_rng(seed).permutation(len(items))[: len(items) // 2]] = True
            rows = {t: bool(h) for t, h in zip(rephrased, half.tolist(), strict=True) if t}
            cases.append(Case([t for t, h in zip(items, half.tolist(), strict=True) if h], rows, options))
        show(case, "other half", cases)


def questions(file: Path) -> list[str]:
    """The questions of GSM8K."""
    return [json.loads(line)["question"] for line in file.read_text(encoding="utf-8").splitlines()]


def subject(data: Path, name: str) -> tuple[list[str], list[str]]:
    """Test questions and, in the same order, what became of them ("" where the rephrasing failed)."""
    folder = data / "mmlu_rephrased"
    with (folder / f"{SUBJECTS[name]}_test.csv").open(encoding="utf-8", newline="") as file:
        items = [row[0] for row in csv.reader(file)]
    with (folder / f"{SUBJECTS[name]}_rephrased.jsonl").open(encoding="utf-8") as file:
        return items, [json.loads(line)["text"].strip() for line in file]


class Case:
    """One evaluation set against rows of which it is known whether they leak it; steps as in curate/pipeline.py."""

    def __init__(self, items: list[str], rows: dict[str, bool], options: argparse.Namespace):
        started = time.monotonic()
        ids = [str(i) for i in range(len(items))]
        index = decontaminate.index(ids, items)
        by_hash = {hash64(normalise(t)): t for t in sorted(rows)}
        hashes = np.array(sorted(by_hash))
        texts = [by_hash[int(h)] for h in hashes]
        self.truth = np.array([rows[t] for t in texts])
        self.flags = np.array([index.leak(t) is not None for t in texts])
        free = np.flatnonzero(~self.flags)
        likeness, nearest = index.proposer.likeness([texts[i] for i in free])
        chosen, weights = leak_candidates.choose(likeness, nearest, hashes[free], len(items))
        plain = [normalise(t) for t in items]
        pairs, _ = near.near_pairs(plain, near.signatures(plain), 0.85)
        self.found = decontaminate.rephrased(
            [texts[i] for i in free[chosen]],
            weights,
            items,
            ids,
            near.components(len(items), pairs),
            index,
            embedder=options.embedder,
            fdr=options.fdr,
        )
        self.scores = np.where(self.flags, 2.0, 0.0)
        self.scores[free[chosen]] = self.found.score
        self.flags[free[chosen[self.found.leaks]]] = True
        self.seconds = time.monotonic() - started
        self.gpt3 = f1(grams(texts, items, 13, 0.0), self.truth)
        self.tulu = f1(grams(texts, items, 8, 0.5), self.truth)

    def oracle(self) -> float:
        """The best F1 that any threshold on the score reaches."""
        order = np.argsort(-self.scores, kind="stable")
        hits = np.cumsum(self.truth[order])
        return float((2 * hits / (np.arange(1, len(hits) + 1) + self.truth.sum())).max())


def f1(flags: np.ndarray, truth: np.ndarray) -> float:
    """Harmonic mean of precision and recall."""
    return float(2 * (flags & truth).sum() / max(flags.sum() + truth.sum(), 1))


def grams(texts: list[str], items: list[str], n: int, coverage: float) -> np.ndarray:
    """Rows whose n-grams cover more than a share of an item's words; n is fixed, so short items are out of reach."""
    table: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    lengths = []
    for k, item in enumerate(items):
        tokens = words(item)
        lengths.append(len(tokens))
        for i in range(len(tokens) - n + 1):
            table.setdefault(tuple(tokens[i : i + n]), []).append((k, i))
    out = np.zeros(len(texts), bool)
    for row, text in enumerate(texts):
        tokens, covered = words(text), dict[int, set[int]]()
        for i in range(len(tokens) - n + 1):
            for k, at in table.get(tuple(tokens[i : i + n]), ()):
                covered.setdefault(k, set()).update(range(at, at + n))
        out[row] = any(len(places) > coverage * lengths[k] for k, places in covered.items())
    return out


def show(name: str, rows: str, cases: list[Case]) -> None:
    """One row of the table: means, and the lowest F1 where there are several."""

    def mean(values: Iterable[float | None]) -> str:
        known = [v for v in values if v is not None]
        return f"{np.mean(known):.3f}" if known else "-"

    scores = [f1(c.flags, c.truth) for c in cases]
    precision = [float(c.truth[c.flags].mean()) if c.flags.any() else None for c in cases]
    cells = [
        mean(scores) + (f" (lowest {min(scores):.3f})" if len(cases) > 1 else ""),
        mean(precision),
        mean([float(c.flags[c.truth].mean()) for c in cases]),
        mean([c.oracle() for c in cases]),
        mean([c.found.report.get("fdr") for c in cases]),
        mean([c.found.report.get("fdr_by_items") for c in cases]),
        mean([c.gpt3 for c in cases]),
        mean([c.tulu for c in cases]),
        f"{np.mean([c.seconds for c in cases]):.0f}",
    ]
    print(f"| {name} | {rows} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
