"""Do opposites survive and are paraphrases found, at default settings, with every embedder?

    python benchmarks/opposites.py
    python benchmarks/opposites.py slips [FOLDER]      # default ../shared/data

`tests/curate/opposites.jsonl` and `paraphrases.jsonl` in one file under one label, then the planted truth of the
built-in data. A pair of opposites survives if neither row falls in deduplication; a paraphrase is found if one of its
rows falls to the other. `slips` lists the words of T0, CLINC150 and GSM8K that an exchange of two letters makes of each
other, each in at least two places, the most unlike in frequency first: how much rarer must a slip be than its word?
"""

from __future__ import annotations

import collections
import gzip
import itertools
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tamis import data
from tamis.curate.guard import Guard, one_slip
from tamis.curate.pipeline import curate
from tamis.curate.vocabulary import occurrences
from tamis.embed import MINILM
from tamis.recipe import Recipe
from tamis.run import Run

TESTS = Path(__file__).parents[1] / "tests" / "curate"
DATA = Path(next(iter(data.__path__)))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def ledger(rows: list[dict[str, Any]] | Path, embedder: str) -> dict[str, dict[str, Any]]:
    """Fates by the rows' own ids."""
    with tempfile.TemporaryDirectory() as folder:
        file = rows if isinstance(rows, Path) else Path(folder) / "in.jsonl"
        if not isinstance(rows, Path):
            text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
            file.write_text(text, encoding="utf-8")
        run = Run(Path(folder) / "run")
        curate(run, Recipe.check({"name": "o", "data": {"path": str(file)}, "embedder": embedder}), quiet=True)
        return {r["key"]: r for r in pq.read_table(run.curate / "ledger.parquet").to_pylist()}


def hand_written(embedder: str) -> str:
    pairs = [("o", p) for p in lines(TESTS / "opposites.jsonl")] + [
        ("p", p) for p in lines(TESTS / "paraphrases.jsonl")
    ]
    rows = [
        {"id": f"{n}-{side}", "prompt": pair[side], "completion": "ok", "label": "x"}
        for n, (_, pair) in enumerate(pairs)
        for side in ("left", "right")
    ]
    fates = ledger(rows, embedder)
    of = {r["id"]: int(key.split("-")[0]) for key, r in fates.items()}
    fallen = [(int(k.split("-")[0]), of[r["witness"]]) for k, r in fates.items() if r["stage"] == "deduplicate"]
    lost = {n for pair in fallen for n in pair if pairs[n][0] == "o"}
    found = {n for n, witness in fallen if n == witness and pairs[n][0] == "p"}
    halves = [sum(n not in lost for n, (_, p) in enumerate(pairs) if p.get("half") == half) for half in (1, 2)]
    wrong = sum(n != witness or pairs[n][0] == "o" for n, witness in fallen)
    total = sum(kind == "p" for kind, _ in pairs)
    return f"{halves[0]} / {halves[1]} | {len(found)} of {total} | {1 - wrong / max(len(fallen), 1):.3f}"


def built_in(embedder: str) -> str:
    fates = ledger(DATA / "tickets.jsonl", embedder)
    truth = lines(DATA / "truth.jsonl")
    kinds: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for row in truth:
        kinds[row["kind"]].append(row)
    of = {r["key"]: r["of"] for kind in ("exact", "near", "paraphrase") for r in kinds[kind]}
    key = {r["id"]: k for k, r in fates.items()}
    fallen = [
        (k, key[r["witness"]]) for k, r in fates.items() if r["stage"] == "deduplicate" and r["reason"] != "exact"
    ]
    right = sum(of.get(a, a) == of.get(b, b) for a, b in fallen)
    shares = [
        sum(any(fates[k]["stage"] == "deduplicate" for k in (r["key"], r["of"])) for r in kinds[kind])
        / len(kinds[kind])
        for kind in ("near", "paraphrase")
    ]
    kept = sum(fates[r["key"]]["stage"] != "deduplicate" for r in kinds["opposite"])
    opposite = f"{kept} of {len(kinds['opposite'])}"
    return f"{opposite} | {shares[0]:.3f} | {shares[1]:.3f} | {right / max(len(fallen), 1):.3f} of {len(fallen)}"


def slips(folder: Path) -> None:
    """Print pairs of words (frequency) from 20 to 1 on."""
    with gzip.open(folder / "t0_20k.jsonl.gz") as stream:
        texts = [json.loads(line)["prompt"] for line in stream]
    texts += [text for text, _ in json.loads((folder / "clinc150.json").read_text())["train"]]
    texts += [row["question"] for row in lines(folder / "gsm8k_train.jsonl")]
    count = occurrences(texts)
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for word, n in count.items():
        if n >= 2 and len(word) >= 4 and word.isalpha():
            alike["".join(sorted(word))].append(word)
    pairs = [
        sorted(pair, key=lambda w: -count[w])
        for group in alike.values()
        for pair in itertools.combinations(group, 2)
        if one_slip(*pair)
    ]
    print(f"{len(pairs)} pairs")
    for often, rare in sorted(pairs, key=lambda p: -count[p[0]] / count[p[1]]):
        if (ratio := count[often] / count[rare]) >= 20:
            print(f"{ratio:5.0f}  {often} ({count[often]:,})  {rare} ({count[rare]})")


def main() -> None:
    if sys.argv[1:2] == ["slips"]:
        slips(Path(*sys.argv[2:] or ["../shared/data"]))
        return
    pairs = lines(TESTS / "opposites.jsonl")
    guard = Guard([p[side] for p in pairs for side in ("left", "right")])
    apart = [sum(not guard.same(p["left"], p["right"]) for p in pairs if p["half"] == half) for half in (1, 2)]
    print(f"guard asked directly: {apart[0]} / {apart[1]} of 50 / 50 opposites kept apart\n")
    print("| embedder | opposites kept, first / second half | paraphrases found | precision |\n|---|---|---|---|")
    for embedder in ("lsa", MINILM, "static"):
        print(f"| {embedder.split('/')[-1]} | {hand_written(embedder)} |", flush=True)
    print("\n| embedder | opposite rows kept | near copies | paraphrases | precision of near and semantic |")
    print("|---|---|---|---|---|")
    for embedder in ("lsa", MINILM, "static"):
        print(f"| {embedder.split('/')[-1]} | {built_in(embedder)} |", flush=True)


if __name__ == "__main__":
    main()
