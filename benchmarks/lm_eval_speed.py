"""Evaluation side by side with lm-eval's `hf` backend, which runs in an environment of its own.

    pip install lm-eval==0.4.13 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0      (elsewhere)
    python benchmarks/tasks/prepare.py
    python benchmarks/lm_eval_speed.py float32|bfloat16 PEERS_PYTHON [OUT.json [ITEMS]]

Same model folder (SmolLM2-135M-Instruct as packaged), same prompts as text, same items, same greedy decoding, each
side at the best of the same batch sizes (found on the first 16 items, the better of two tries). Timed from texts to
answers, tokenising included, loading not. Three tasks:

    prefix        CLINC150 questions behind 15 worked examples that all prompts share, 10 new tokens at most
    no prefix     T0's prompts as they are, no template, 24 new tokens at most
    likelihood    T0's reference summaries after their prompts
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tamis.evaluate import local, prompting
from tamis.evaluate.journal import batch_plan
from tamis.evaluate.local import Engine, Plain, Runner, common_prefix
from tamis.evaluate.systems import Setting
from tamis.evaluate.task import Item, Reader, read_label
from tamis.recipe import Recipe
from tamis.run import Run

HERE = Path(__file__).parent
PEER = HERE / "lm_eval_peer.py"
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
BATCHES = (8, 16)
TRIAL = 16  # items on which the batch sizes are tried
ITEMS = 60  # at most; of the task without a prefix two thirds


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / "tasks" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@dataclasses.dataclass
class Task:
    """What both sides are asked. `template` is None where prompts go out as they are."""

    kind: str
    items: list[Item]
    max_tokens: int
    template: str | None


def tasks(template: str, count: int) -> dict[str, Task]:
    shots: dict[str, str] = {}
    for row in rows("clinc150_train"):
        shots.setdefault(row["intent"], row["text"])
    examples = [([{"role": "user", "content": f"Message: {t}\nIntent:"}], i) for i, t in shots.items()]
    few = []
    for n, row in enumerate(rows("clinc150_test")[:count]):
        turn = {"role": "user", "content": f"Message: {row['text']}\nIntent:"}
        item = Item(f"{n:03d}", (turn,), "", row["intent"], n)
        turns = prompting.best(item, recipe("classify", 10).evaluate.task, sorted(shots), examples)
        few.append(dataclasses.replace(item, turns=tuple(turns)))
    texts = [
        Item(f"{n:03d}", ({"role": "user", "content": row["prompt"].rstrip()},), "", " " + row["completion"].strip(), n)
        for n, row in enumerate(rows("summaries_test")[:count])
    ]
    return {
        "prefix": Task("generate", few, 10, template),
        "no prefix": Task("generate", texts[: count * 2 // 3], 24, None),
        "likelihood": Task("likelihood", texts, 0, None),
    }


def recipe(kind: str, max_tokens: int) -> Recipe:
    task = {"kind": kind, "max_tokens": max(1, max_tokens), **({"labels": ["a"]} if kind == "classify" else {})}
    return Recipe.check({"name": "speed", "eval": {"path": "x"}, "model": MODEL, "evaluate": {"task": task}})


def generated(engine: Engine, task: Task, items: list[Item], batch: int) -> tuple[list[str], float]:
    """Answers through the product's system, in the order of the items."""
    asked = [dataclasses.replace(i, expected=None) for i in items]  # or their likelihood would be computed too
    setting = Setting(Run(Path("unused")), recipe("generate", task.max_tokens), "main", asked, Reader("generate"), None)
    started = time.perf_counter()
    system = Plain(engine, setting, tuned=False)
    system.prepare(asked)
    by_id = {i.id: i for i in asked}
    answers: dict[str, str] = {}
    for ids in batch_plan(asked, batch, system.length):
        for id, reply in zip(ids, system.answer([by_id[i] for i in ids]).replies, strict=True):
            answers[id] = reply.output or ""
    return [answers[i.id] for i in asked], time.perf_counter() - started


def bare(item: Item) -> str:
    """The prompt without the line end behind it: lm-eval counts that to the continuation."""
    return item.turns[-1]["content"]


def scored(engine: Engine, items: list[Item], batch: int) -> tuple[list[float], float]:
    """Log-likelihoods as the product's systems compute them beside their answers."""
    started = time.perf_counter()
    ids = {i.id: engine.tokens(bare(i)) for i in items}
    runner = Runner(engine, False, common_prefix(list(ids.values())))
    size = len(runner.prefix)
    references = {i.id: engine.tokens(i.expected or "") for i in items}
    found: dict[str, float] = {}
    with engine.as_(False):
        for some in batch_plan(items, batch, lambda i: len(ids[i.id])):
            _, losses = runner.scored([ids[i][size:] for i in some], [references[i] for i in some])
            found |= {id: -loss for id, loss in zip(some, losses, strict=True)}
    return [found[i.id] for i in items], time.perf_counter() - started


def ours(engine: Engine, asked: dict[str, Task]) -> dict[str, Any]:
    told = {}
    for name, task in asked.items():
        engine.tokenizer.chat_template = task.template

        def ask(items: list[Item], batch: int, task: Task = task) -> tuple[list[Any], float]:
            return generated(engine, task, items, batch) if task.kind == "generate" else scored(engine, items, batch)

        ask(task.items[:2], 2)  # warm-up
        trials = {b: min(ask(task.items[:TRIAL], b)[1] for _ in range(2)) for b in BATCHES}
        best = min(trials, key=trials.__getitem__)
        answers, seconds = ask(task.items, best)
        told[name] = {"trials": trials, "batch": best, "seconds": seconds, "answers": answers}
    return told


def theirs(python: str, engine: Engine, folder: Path, dtype: str, asked: dict[str, Task]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, task in asked.items():
        engine.tokenizer.chat_template = task.template
        render = bare if task.kind == "likelihood" else lambda i: prompting.render(engine.tokenizer, i.messages)
        prompts = [render(i) for i in task.items]
        given[name] = {"kind": task.kind, "max_tokens": task.max_tokens, "prompts": prompts}
        given[name]["references"] = [i.expected for i in task.items]
    spec = {"model": str(folder), "dtype": dtype, "batches": BATCHES, "trial": TRIAL, "tasks": given}
    with tempfile.TemporaryDirectory() as scratch:
        spec_file, out = Path(scratch) / "spec.json", Path(scratch) / "out.json"
        spec_file.write_text(json.dumps(spec))
        subprocess.run([python, str(PEER), str(spec_file), str(out)], check=True, capture_output=True, text=True)
        return json.loads(out.read_text())


def prefix_tokens(engine: Engine, task: Task) -> int:
    engine.tokenizer.chat_template = task.template
    return len(common_prefix([engine.tokens(prompting.render(engine.tokenizer, i.messages)) for i in task.items]))


def main() -> None:
    import torch

    dtype, python = sys.argv[1:3]
    made = recipe("generate", 8)
    engine = Engine.load(MODEL, None, "none", made)
    engine.model.to(getattr(torch, dtype))
    folder = local.resolve(MODEL).path
    asked = tasks(engine.tokenizer.chat_template, int(sys.argv[4]) if len(sys.argv) > 4 else ITEMS)
    prefixes = {name: prefix_tokens(engine, task) for name, task in asked.items()}
    mine = ours(engine, asked)
    peer = theirs(python, engine, folder, dtype, asked)
    print(
        f"{dtype}, torch {torch.__version__}, lm-eval {peer['lm_eval']} with torch {peer['torch']}\n\n"
        "| task | items | shared tokens | Tamis items/s (batch) | lm-eval items/s (batch) | ratio | same answers |\n"
        "|---|---|---|---|---|---|---|"
    )
    for name, task in asked.items():
        a, b = mine[name], peer["tasks"][name]
        count = len(task.items)
        if task.kind == "generate":
            same = f"{sum(x == y for x, y in zip(a['answers'], b['answers'], strict=True))} of {count}"
        else:
            apart = max(abs(x - y) / max(1.0, abs(y)) for x, y in zip(a["answers"], b["answers"], strict=True))
            same = f"within {apart:.1e} of each other"
        print(
            f"| {name} | {count} | {prefixes[name]} | {count / a['seconds']:.2f} ({a['batch']}) "
            f"| {count / b['seconds']:.2f} ({b['batch']}) | {b['seconds'] / a['seconds']:.2f} | {same} |"
        )
    labels = sorted({str(i.expected) for i in asked["prefix"].items})
    for who, told in (("Tamis", mine["prefix"]), ("lm-eval", peer["tasks"]["prefix"])):
        pairs = zip(told["answers"], asked["prefix"].items, strict=True)
        right = sum(read_label(answer, labels) == item.expected for answer, item in pairs)
        print(f"\n{who}: accuracy {right / len(asked['prefix'].items):.3f}", end="")
    print()
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(json.dumps({"ours": mine, "theirs": peer}, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
