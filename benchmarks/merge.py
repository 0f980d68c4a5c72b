"""What four ways of merging leave of a fine-tune: KL and greedy agreement with the evaluated model, on rows of its run.

    python benchmarks/merge.py runs/clinc150      # a run of benchmarks/clinc150/recipe.yaml, trained in nf4
    python benchmarks/merge.py runs/methods runs/methods/compare/arms/qlora/train     # another training of a run

All compute in fp32 on the CPU with the weights they hold: arithmetic in bf16 alone makes 0.0004 nats.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from tamis.models import load_adapter, load_model, quantisation_of, resolve
from tamis.recipe import Recipe
from tamis.run import Run
from tamis.train.merge import merge
from tamis.train.parity import answer_logprobs, compare, drawn
from tamis.train.stage import label_table


def main(folder: Path, training: Path | None = None) -> None:
    run, recipe = Run(folder), Recipe.of_run(folder)
    model, adapter = resolve(recipe.model), (training or run.train("main")) / "adapter"
    quantisation = quantisation_of(recipe.train)
    rows = drawn(label_table(model, recipe, pq.read_table(run.curate / "eval.parquet"), 4096))

    def base(**how: Any) -> Any:
        return load_model(model, quantisation, device="cpu", **how)

    def dequantised() -> Any:
        target = load_model(model, device="cpu")
        merge(load_adapter(base(), adapter), target)
        return target.to(torch.bfloat16)

    def four_bits() -> Any:
        return load_adapter(base(), adapter).merge_and_unload().dequantize()

    def original() -> Any:
        return load_adapter(load_model(model, device="cpu"), adapter).merge_and_unload().to(torch.bfloat16)

    ways: dict[str, Callable[[], Any]] = {
        "the dequantised base, in bf16 (what `tamis export` does)": dequantised,
        "the original bf16 base": original,
        f"the {quantisation} base itself (PEFT's `merge_and_unload`)": four_bits,
        "no adapter at all": lambda: base(unpacked=True),
    }
    expected = answer_logprobs(load_adapter(base(unpacked=True), adapter).float(), rows)
    print("| merged into | KL, nats per answer token | greedy agreement | tokens |")
    print("|---|---:|---:|---:|")
    for name, make in ways.items():
        found = compare(expected, answer_logprobs(make().float(), rows))
        print(f"| {name} | {found.kl:.2g} | {found.agreement:.1%} | {found.tokens:,} |", flush=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
