"""How often does `tamis monitor --log` cry wolf, and how much of a log must change before it says so?

    python benchmarks/drift.py [FOLDER [DRAWS]]      writes the table to standard output

A run of 1,500 rows; logs of 200 prompts that it never saw, a share of them of one intent, drawn anew each time with its
intent. A row of the check is counted where it says FAIL.
"""

from __future__ import annotations

import collections
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from tamis import data, traffic
from tamis.curate.pipeline import curate
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.prompt_log import Log, Request
from tamis.formats import parse
from tamis.recipe import Recipe
from tamis.record import prompt_of
from tamis.run import Run

ROWS, LOGGED, MOST = 1500, 200, 80  # of one intent at most so many prompts are held back
SHARES = (0.0, 0.1, 0.2, 0.4)
Prompts = list[tuple[str, str]]


def prompts_of(name: str, folder: Path) -> Prompts:
    """Prompts and their intents, in a drawn order."""
    if name == "CLINC150":
        found = [(p, label) for p, label in json.loads((folder / "clinc150.json").read_text())["train"]]
    else:
        lines = (Path(next(iter(data.__path__))) / "tickets.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [parse(json.loads(line)) for line in lines]
        found = [(prompt_of(r.messages), r.label) for r in rows if r.label]
    return [found[i] for i in np.random.default_rng(7).permutation(len(found))]


def flagged(folder: Path, found: Prompts, embedder: str, draws: int) -> list[str]:
    """Lines of the table: one for each share."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": p, "completion": a, "label": a}) + "\n" for p, a in found[:ROWS]))
    raw = {"name": "drift", "data": {"path": str(file)}, "embedder": embedder}
    recipe = Recipe.check({**raw, "evaluate": {"task": {"kind": "classify"}}})
    curate(run := Run(folder / embedder), recipe, quiet=True)
    unseen = found[ROWS:]
    by_intent = collections.defaultdict(list)
    for prompt, intent in unseen:
        by_intent[intent].append(prompt)
    told = []
    for share in SHARES:
        alarms: collections.Counter[str] = collections.Counter()
        for seed in range(draws):
            rng = np.random.default_rng(seed)
            loud = round(share * LOGGED)
            large = sorted(i for i, have in by_intent.items() if len(have) >= min(MOST, max(1, loud)))
            one = by_intent[large[rng.integers(len(large))]]
            prompts = [one[i] for i in rng.permutation(len(one))[:loud]]
            prompts += [unseen[i][0] for i in rng.permutation(len(unseen))[: LOGGED - loud]]
            log = Log([Request(p) for p in prompts], 0)
            rows = traffic.judge(run, recipe, Evidence("main", "none", folder), log, None).rows
            failed = {r["id"] for r in rows if r["verdict"] == "FAIL"}
            alarms.update([*failed, *(["any"] if failed else [])])
        rates = " | ".join(f"{alarms[id_] / draws:.1%}" for id_ in ("prompts", "clusters", "languages", "any"))
        told.append(f"{embedder} | {share:.0%} | {rates} |")
        print(f"  {told[-1]}", file=sys.stderr, flush=True)
    return told


def main(source: Path, draws: int) -> None:
    print("| data | embedder | of one intent | prompts | clusters | languages | any |")
    print("|---|---|---|---|---|---|---|")
    for name in ("CLINC150", "built-in tickets"):
        for embedder in ("static", "lsa"):
            with tempfile.TemporaryDirectory() as text:
                for line in flagged(Path(text), prompts_of(name, source), embedder, draws):
                    print(f"| {name} | {line}", flush=True)


if __name__ == "__main__":
    folder, draws = [*sys.argv[1:], *["../shared/data", "40"][len(sys.argv[1:]) :]]
    main(Path(folder), int(draws))
