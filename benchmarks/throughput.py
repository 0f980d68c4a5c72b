"""Tamis's trainer beside a plain TRL script on the built-in rows: real tokens a second, start-up, loss at equal tokens.

    python benchmarks/throughput.py [--rows 96] [--rounds 1] [--model NAME]

Three processes, one after the other, train on the same short rows (tickets and their intent) for one epoch, 8 rows a
step, at the same learning rate, schedule and LoRA rank, beside the same base in NF4:

* `trl`: `plain_sft.py` with TRL's and bitsandbytes' defaults otherwise;
* `trl, our settings`: the same script given our dtype, our micro-batch and no checkpointing;
* `tamis`: `train_arm`, its plan left alone.

Real tokens: those of the rows; no padding, a shared prefix counted in every row. Loss: of the three adapters on
the same held-out rows, counted by one piece of code. Prints Markdown. Results: throughput.md.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BATCH = 8  # TRL's default
HELD_OUT = 96
SYSTEMS = {"trl": "trl", "ours": "trl, our settings", "tamis": "tamis"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--our-labels", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--do", choices=["prepare", "tamis", "losses"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:  # each part in a process of its own, so that none counts another's memory and imports
        {"prepare": prepare, "tamis": train_with_tamis, "losses": losses}[options.do](options)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    own = [sys.executable, __file__, "--folder", str(folder), "--rows", str(options.rows), "--model", options.model]
    own += ["--seed", str(options.seed)]
    subprocess.run([*own, "--do", "prepare"], check=True)
    counted = json.loads((folder / "counted.json").read_text())
    print(f"{options.rows} rows, {counted['tokens']:,} real tokens, {counted['trained']:,} of them with a label\n")
    print("| system | real tokens/s | first step after, s | steps, s | process, s | peak MB | first / last loss |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SYSTEMS}
    for _ in range(options.rounds):
        for name, title in SYSTEMS.items():
            plain = [sys.executable, str(HERE / "plain_sft.py"), str(folder / f"{name}.json")]
            launched = time.time()
            subprocess.run([*own, "--do", "tamis"] if name == "tamis" else plain, check=True, stdout=sys.stderr)
            whole = time.time() - launched
            timing = json.loads((folder / name / "timing.json").read_text())
            steps, start = timing["ended"][-1] - timing["began"][0], timing["began"][0] - launched
            found[name].append((counted["tokens"] / steps, start))
            print(
                f"| {title} | {counted['tokens'] / steps:.0f} | {start:.1f} | {steps:.1f} | {whole:.1f} "
                f"| {timing['resident'] / 1e6:,.0f} | {timing['losses'][0]:.3f} / {timing['losses'][-1]:.3f} |",
                flush=True,
            )
    subprocess.run([*own, "--do", "losses"], check=True)
    (plain_rate, plain_start), (our_rate, _), (rate, start) = (
        [sum(column) / len(pairs) for column in zip(*pairs, strict=True)] for pairs in found.values()
    )
    print(
        f"\nTamis over trl: {rate / plain_rate:.2f} (bar 1.5); over trl with our settings: {rate / our_rate:.2f} (1.2)"
    )
    print(f"Start-up beside trl: {start - plain_start:+.1f} s (bar 5 s)")


def recipe(options: argparse.Namespace) -> Any:
    from tamis.recipe import Recipe

    return Recipe.check(
        {
            "name": "throughput",
            "seed": options.seed,
            "data": {"path": str(HERE.parent / "data" / "eval.jsonl")},
            "model": options.model,
            "evaluate": {"task": {"kind": "classify", "template": "Message: {prompt}\nIntent:"}},
            "train": {"epochs": 1, "batch": BATCH, "r": 8},
        }
    )


def prepare(options: argparse.Namespace) -> None:
    """Write the rows for both sides, and the plain script's settings: the plan's, where they must be equal."""
    import pyarrow.parquet as pq

    from tamis.models import resolve
    from tamis.prompt import conversation
    from tamis.tables import Source, read_records, read_shards
    from tamis.train.stage import forecast_arm, label_table

    asked, folder = recipe(options), options.folder
    read_records(Source(asked.data.paths), folder / "records")
    table = read_shards(folder / "records").sort_by("id")
    rows, held_out = table.slice(0, options.rows), table.slice(options.rows, HELD_OUT)
    pq.write_table(rows, folder / "rows.parquet")
    pq.write_table(held_out, folder / "held_out.parquet")
    forecast = forecast_arm(asked, rows)
    plan = forecast.plan
    (folder / "counted.json").write_text(json.dumps({"tokens": forecast.tokens, "trained": forecast.trained_tokens}))
    if options.our_labels:
        labelled = label_table(resolve(options.model), asked, rows, 4096)
        lines = [{"input_ids": row.input_ids, "labels": row.labels} for row in labelled]
    else:
        turns = [conversation(r["messages"], r["label"], asked.evaluate.task) for r in rows.to_pylist()]
        lines = [{"prompt": t[:-1], "completion": t[-1:]} for t in turns]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    equal = {
        "num_train_epochs": 1,
        "learning_rate": plan.lr,
        "warmup_steps": asked.train.warmup,
        "seed": options.seed,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": plan.device == "cpu",
    }
    ours = {
        "model_init_kwargs": {"dtype": plan.compute},
        "per_device_train_batch_size": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "gradient_checkpointing": plan.checkpointing,
    }
    base = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    for name, given, quantisation in (
        ("trl", {}, base),
        ("ours", ours, {**base, "bnb_4bit_compute_dtype": plan.compute}),
    ):
        settings = {
            "model": str(resolve(options.model).path),
            "rows": str(folder / "rows.jsonl"),
            "folder": str(folder / name),
            "lora": {"r": plan.r, "lora_alpha": plan.alpha, "target_modules": "all-linear", "task_type": "CAUSAL_LM"},
            "quantisation": quantisation,
            "config": {**equal, **given},
        }
        (folder / f"{name}.json").write_text(json.dumps(settings))


def train_with_tamis(options: argparse.Namespace) -> None:
    """The training stage as `tamis train` calls it, watched by the plain script's own clock."""
    import pyarrow.parquet as pq

    from tamis.run import Run
    from tamis.train import sft
    from tamis.train.stage import train_arm

    make, clocks = sft.make_trainer, []

    def watched(*arguments: Any) -> Any:
        from plain_sft import Clock

        trainer = make(*arguments)
        clocks.append(Clock())
        trainer.add_callback(clocks[-1])
        return trainer

    sft.make_trainer = watched
    folder = options.folder / "tamis"
    run = Run(folder / str(time.time_ns()))
    train_arm(run, recipe(options), "main", pq.read_table(options.folder / "rows.parquet"), quiet=True)
    from plain_sft import memory

    lines = (run.train("main") / "log.jsonl").read_text().splitlines()
    timing = {
        "began": clocks[0].began,
        "ended": clocks[0].ended,
        "losses": [json.loads(line)["loss"] for line in lines],
        **memory(),
    }
    (folder / "timing.json").write_text(json.dumps(timing))
    (folder / "adapter").unlink(missing_ok=True)
    (folder / "adapter").symlink_to(run.train("main") / "adapter")


def losses(options: argparse.Namespace) -> None:
    """Nats per answer token on rows that none has seen; beside the base that all were trained beside."""
    import pyarrow.parquet as pq
    import torch

    from tamis.models import load_adapter, load_model, resolve
    from tamis.train.labels import IGNORED
    from tamis.train.parity import answer_logprobs
    from tamis.train.stage import label_table

    model = resolve(options.model)
    rows = label_table(model, recipe(options), pq.read_table(options.folder / "held_out.parquet"), 4096)
    answers = [torch.tensor([label for label in row.labels if label != IGNORED]) for row in rows]
    print(f"\nHeld-out loss, nats per answer token, {sum(map(len, answers))} tokens of {len(rows)} rows:")
    found = {}
    for name, title in {"base": "base", **SYSTEMS}.items():
        if name != "base" and not (options.folder / name / "adapter").exists():
            continue
        loaded = load_model(model, "nf4", device="cpu", unpacked=True)
        if name != "base":
            loaded = load_adapter(loaded, options.folder / name / "adapter")
        nats = [
            -logs.gather(1, answer[:, None]).flatten()
            for logs, answer in zip(answer_logprobs(loaded, rows), answers, strict=True)
        ]
        every = torch.cat(nats)
        error = math.sqrt(torch.stack([n.sum() for n in nats]).var() * len(nats)) / len(every)
        print(f"* {title}: {every.mean():.4f}, standard error {error:.4f}", flush=True)
        found[name] = [float(n.sum()) for n in nats]
    told = {"nats": found, "tokens": [len(answer) for answer in answers]}
    (options.folder / "losses.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
