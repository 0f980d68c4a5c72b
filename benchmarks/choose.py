"""Choosing a base by halving against asking everyone everything, on 30 intents of CLINC150, see choose.md.

    python benchmarks/clinc150/prepare.py data_full.json --intents 30
    python benchmarks/choose.py models runs/bases          weaker bases, made of the packaged one
    tamis choose benchmarks/clinc150/choose.yaml      by halving
    python benchmarks/choose.py everyone runs/choose  everyone asked everything, and the race run again in 500 orders

The race in another order is run on the answers at hand: an answer in bf16 depends a little on its batch, which is
disregarded there. It tests pairs by McNemar's exact test, where `tamis choose` inverts Tango's interval.
"""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
ROUNDS = [16, 64, 256]
ORDERS, SEED = 500, 7


def models(folder: Path) -> None:
    """Bases that are worse by known means: noise on the weights, layers left out, weights drawn at random."""
    import torch
    from transformers import AutoModelForCausalLM

    from tamis.models import load_tokenizer, resolve

    base = resolve(BASE)

    def save(name: str, model: Any) -> None:
        model.to(torch.bfloat16).save_pretrained(folder / name)
        load_tokenizer(base).save_pretrained(folder / name)
        print(f"{folder / name}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters")

    for percent in (20, 40):
        model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
        draw = torch.Generator().manual_seed(SEED)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim == 2 and "embed" not in name:
                    weight += percent / 100 * weight.std() * torch.randn(weight.shape, generator=draw)
        save(f"noise-{percent}", model)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    kept = [layer for place, layer in enumerate(model.model.layers) if place not in (14, 15)]
    for place, layer in enumerate(kept):
        layer.self_attn.layer_idx = place
    model.model.layers, model.config.num_hidden_layers = torch.nn.ModuleList(kept), len(kept)
    save("layers-28", model)
    torch.manual_seed(SEED)
    config = model.config
    config.num_hidden_layers, config.hidden_size, config.intermediate_size = 4, 144, 384
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 9, 3, 16
    save("random", AutoModelForCausalLM.from_config(config))


def everyone(run: Path) -> None:
    """Ask every base everything, beside the race, and run the race in many orders on these answers."""
    from tamis import choose, schema
    from tamis.recipe import Recipe
    from tamis.run import Run

    raced = schema.read_json(run / "choose" / "result.json")
    whole = Run(run.with_name(f"{run.name}-everyone"))
    file = whole.path / "choose" / "result.json"
    if not file.is_file():
        whole.path.mkdir(parents=True, exist_ok=True)
        shutil.copytree(run / "curate", whole.path / "curate", dirs_exist_ok=True)
        changes = {"choose.rounds": [raced["planned_rounds"][-1]], "evaluate.latency.requests": 0}
        choose.choose(whole, Recipe.of_run(run).changed(changes))
    result = schema.read_json(file)
    print(_side_by_side(raced, result))
    print(_many_orders(whole.path, result, raced["planned_rounds"]))


def _side_by_side(raced: dict[str, Any], whole: dict[str, Any]) -> str:
    lines = ["| candidate | by halving | items | fate | everything asked | items |", "|---|---|---|---|---|---|"]
    all_of = {r["name"]: r for r in whole["candidates"]}
    for row in sorted(raced["candidates"], key=lambda r: (-r["items"], -r["value"]["value"])):
        other = all_of[row["name"]]
        fell = f"fell after {row['fell']['after']}, {row['fell']['why']}" if row["fell"] else ""
        fate = "**chosen**" if row["name"] == raced["recommended"]["name"] else fell
        chosen = " **chosen**" if row["name"] == whole["recommended"]["name"] else ""
        lines.append(
            f"| {row['name']} | {_written(row['value'])} | {row['items']} | {fate} "
            f"| {_written(other['value'])}{chosen} | {other['items']} |"
        )
    calls, all_calls = raced["calls"]["asked"], whole["calls"]["asked"]
    lines.append(f"| model calls | {calls:,} | | | {all_calls:,} | |")
    return "\n".join([*lines, "", f"{calls / all_calls:.1%} of the calls"])


def _written(interval: dict[str, Any]) -> str:
    return f"{interval['value']:.3f} ({interval['lower']:.3f} to {interval['upper']:.3f})"


def _many_orders(run: Path, result: dict[str, Any], rounds: list[int]) -> str:
    """The race on the stored answers, items in 500 other orders: how often the winner is that of all items."""
    from tamis import halving, intervals
    from tamis.evaluate.evidence import Evidence
    from tamis.evaluate.measure import aligned

    names = [r["name"] for r in result["candidates"] if r["kind"] == "base" and r["status"] == "asked"]
    told = {n: Evidence(n, "base", run / "choose" / "judged" / n).answers for n in names}
    told = {n: aligned(a, told[names[0]])[0] for n, a in told.items()}
    right = {n: np.array(a["correct"], dtype=float) for n, a in told.items()}
    bits = {n: np.array(a["nll"], dtype=float) / np.log(2) for n, a in told.items()}
    size = {n: np.array(a["nll_bytes"], dtype=float) for n, a in told.items()}
    best = max(names, key=lambda n: (right[n].mean(), -bits[n].sum() / size[n].sum()))
    draw = np.random.default_rng(SEED)
    won, calls, lost = Counter[str](), [], []
    for _ in range(ORDERS):
        order, alive, before, asked = draw.permutation(len(right[best])), list(names), 0, 0
        for end in rounds:
            asked += len(alive) * (end - before)
            first = order[:end]
            scores = {
                n: halving.Score(right[n][first].mean(), -bits[n][first].sum() / size[n][first].sum()) for n in alive
            }
            leader = max(scores, key=lambda n: scores[n].key())
            others = [n for n in alive if n != leader]
            p = [_p(right[n][first], right[leader][first]) for n in others]
            shown = {n for n, q in zip(others, intervals.holm(p), strict=True) if q <= 0.05 / len(rounds)}
            cut = halving.cut(scores, shown, last=end == rounds[-1])
            alive, before = cut.going_on, end
            if len(alive) == 1:
                break
        won[cut.order[0]] += 1
        calls.append(asked)
        lost.append(right[best].mean() - right[cut.order[0]].mean())
    share = won[best] / ORDERS
    lower, upper = intervals.wilson(won[best], ORDERS)
    everything = len(names) * rounds[-1]
    return (
        f"{ORDERS:,} orders: the winner of all items ({best}) wins {share:.1%} ({lower:.1%} to {upper:.1%}); winners "
        f"{dict(won.most_common())}; accuracy lost by another winner, over all items: mean {np.mean(lost):.4f}, worst "
        f"{max(lost):.4f}; calls {np.mean(calls):,.0f} on average, {min(calls):,} to {max(calls):,} "
        f"({np.mean(calls) / everything:.1%} of {everything:,}, at most {max(calls) / everything:.1%})"
    )


def _p(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided, of no difference between two that answered the same items."""
    from tamis.intervals import mcnemar_exact

    return mcnemar_exact(int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum()))


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("what", choices=["models", "everyone"])
    reader.add_argument("folder", type=Path)
    asked = reader.parse_args()
    {"models": models, "everyone": everyone}[asked.what](asked.folder)


if __name__ == "__main__":
    main()
