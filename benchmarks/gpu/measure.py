"""The memory formula held against a GPU, and Tamis's speed beside a plain TRL script: in parts that can be resumed.

    python benchmarks/gpu/measure.py                              # all parts; `make gpu` runs this
    python benchmarks/gpu/measure.py --shape 1b --method qlora    # some of them
    python benchmarks/gpu/measure.py --device cpu --shape tiny    # the same path where there is no GPU

Models are random weights of published shapes, built here; nothing is downloaded. Every part is a process of at most
nine minutes with a file of its own in the output folder: run again, done parts are skipped, failed ones repeated.

* `memory`: rows of a named length, one at once (packed: eight short ones), three steps; planned and measured peak.
* `speed`: eight rows a step, the plan left alone, beside `plain_sft.py` with TRL's defaults.

Writes `table.json` and `table.md` beside the parts, with the versions and the card that were found.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]  # plain_sft, and the tests' tokenizer

from tables import write_tables  # noqa: E402

LIMIT = 540.0  # seconds a part may take
BATCH = 8  # TRL's default
STEPS = {"memory": 3, "speed": 5}
PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")

# vocabulary, hidden, intermediate, layers, heads, key heads, tied: of a test model, SmolLM2-135M, Llama 3.2 1B, 3.1 8B
SHAPES = {
    "tiny": (512, 64, 128, 2, 4, 2, True),
    "135m": (49152, 576, 1536, 30, 9, 3, True),
    "1b": (128256, 2048, 8192, 16, 32, 8, True),
    "8b": (128256, 4096, 14336, 32, 32, 8, False),
}
LENGTHS = {"tiny": (64,), "135m": (2048, 8192), "1b": (2048, 8192), "8b": (2048, 4096)}
METHODS = {"tiny": ("qlora", "lora", "full"), "135m": ("qlora", "lora", "full"), "1b": ("qlora", "lora", "full")}
MODES = ("whole", "checkpointed", "packed")  # how activations are kept, or rows laid


@dataclasses.dataclass(frozen=True)
class Part:
    """One process: `weights` makes a model's folder, the others measure. Full tuning of 8B needs 128 GB: left out."""

    kind: str
    shape: str
    method: str = ""
    length: int = 0
    mode: str = ""

    @property
    def name(self) -> str:
        return "-".join(str(v) for v in dataclasses.astuple(self) if v)


def parts(shapes: list[str], methods: list[str]) -> Iterator[Part]:
    """In the order they run: what makes weights first."""
    for shape in shapes:
        yield Part("weights", shape)
        for method in METHODS.get(shape, ("qlora", "lora")):
            if method not in methods:
                continue
            for length in LENGTHS[shape]:
                yield from (Part("memory", shape, method, length, mode) for mode in MODES)
            yield Part("speed", shape, method, LENGTHS[shape][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES), default=["135m", "1b", "8b"])
    parser.add_argument("--method", nargs="+", choices=["qlora", "lora", "full"], default=["qlora", "lora", "full"])
    parser.add_argument("--kind", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/tamis-gpu"), help="for weights: 18 GB with 8b")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    wanted = [p for p in parts(options.shape, options.method) if p.kind in ("weights", *options.kind)]
    if options.part:
        run_part(next(part for part in wanted if part.name == options.part), options)
        return
    print(json.dumps(found(options.device), indent=2), file=sys.stderr)
    for part in wanted:
        in_a_process(part, options)
        write_tables(options.output)
    print((options.output / "table.md").read_text())


def in_a_process(part: Part, options: argparse.Namespace) -> None:
    file = options.output / f"{part.name}.json"
    there = part.kind != "weights" or (options.scratch / part.shape / "config.json").is_file()
    if there and file.is_file() and "failed" not in json.loads(file.read_text()):
        print(f"{part.name}: done before", file=sys.stderr)
        return
    print(f"{part.name} ...", file=sys.stderr, flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run([sys.executable, *sys.argv, "--part", part.name], check=True, timeout=LIMIT, stdout=sys.stderr)
    except subprocess.TimeoutExpired:
        write(file, part, {"failed": f"more than {LIMIT:.0f} s"})
    except subprocess.CalledProcessError as error:
        if not file.is_file():
            write(file, part, {"failed": f"exit code {error.returncode}"})


def run_part(part: Part, options: argparse.Namespace) -> None:
    import torch

    file = options.output / f"{part.name}.json"
    file.unlink(missing_ok=True)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; to try the path: --device cpu --shape tiny")
    measure = {"weights": make_weights, "memory": measure_memory, "speed": measure_speed}[part.kind]
    try:
        result = measure(part, options)
    except Exception as error:
        write(file, part, {"failed": f"{type(error).__name__}: {str(error)[:300]}"})
        raise
    write(file, part, {**result, "found": found(options.device)})


def write(file: Path, part: Part, result: dict[str, Any]) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps({**dataclasses.asdict(part), **result}, indent=1) + "\n")
    temporary.rename(file)


def found(device: str) -> dict[str, str]:
    """The versions and the machine: a GPU machine may have others than our pins."""
    import torch

    from tamis.machine import processor

    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    card = torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else processor()
    return {**versions, "cuda": str(torch.version.cuda), "device": card, "python": sys.version.split()[0]}


# ---------------------------------------------------------------------------------------------- parts


def make_weights(part: Part, options: argparse.Namespace) -> dict[str, Any]:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from tests.conftest import build_tokenizer

    vocabulary, hidden, intermediate, layers, heads, key_heads, tied = SHAPES[part.shape]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        tie_word_embeddings=tied,
        max_position_embeddings=16384,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device(options.device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    folder = options.scratch / part.shape
    model.save_pretrained(folder)
    build_tokenizer(folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def measure_memory(part: Part, options: argparse.Namespace) -> dict[str, Any]:
    """Peak of the device against the plan's total: tensors, what torch holds beyond them, and the context."""
    import torch

    packed = part.mode == "packed"
    rows = make_rows(part, STEPS["memory"] * (BATCH if packed else 1), packed=packed)
    settings = {"batch": BATCH if packed else 1, "gradient_checkpointing": part.mode == "checkpointed"}
    plan, trained, _ = train_with_tamis(part, options, rows, settings)
    result = {
        "planned": plan.estimate_bytes,
        "parts": dataclasses.asdict(plan.parts),
        "micro_batch": plan.micro_batch,
        "packing": trained.packing,
    }
    if options.device == "cpu":
        # The process with all its libraries: no measure of the formula, which is for the device that trains
        return {**result, "measured": trained.peak_mb * 1e6, "measure": "resident memory", "error": None}
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    measured = torch.cuda.max_memory_reserved() + context
    allocated = torch.cuda.max_memory_allocated()
    tensors = sum(value for name, value in result["parts"].items() if name != "fixed")
    return {
        **result,
        "measured": measured,
        "measure": "reserved and context",
        "error": plan.estimate_bytes / measured - 1,
        "allocated": allocated,
        "context": context,
        "error_of_tensors": tensors / allocated - 1,
    }


def measure_speed(part: Part, options: argparse.Namespace) -> dict[str, Any]:
    from tamis.machine import product_rate
    from tamis.train.forecast import flops
    from tamis.train.plan import shape_of
    from tamis.train.utilisation import utilisation_of

    rows = make_rows(part, STEPS["speed"] * BATCH)
    plan, trained, lines = train_with_tamis(part, options, rows, {"batch": BATCH})
    tokens, seconds = (sum(line[name] for line in lines[1:]) for name in ("tokens", "seconds"))
    shape = shape_of(options.scratch / part.shape)
    done = flops(plan, shape, tokens, tokens // 2) / seconds  # attention's own products are not counted
    own = product_rate(plan.device, plan.compute, plan.micro_batch * part.length, shape.hidden, shape.intermediate)
    known = utilisation_of(plan, shape)
    return {
        "tamis": tokens / seconds,
        "micro_batch": plan.micro_batch,
        "checkpointing": plan.checkpointing,
        "packing": trained.packing,
        "mfu": known.mfu(tokens, tokens // 2, seconds) if known else None,
        "of_own_rate": done / own,
        **plain_speed(part, options, rows, plan),
    }


def plain_speed(part: Part, options: argparse.Namespace, rows: list[Any], plan: Any) -> dict[str, Any]:
    """Tokens a second of the plain script, its first step left out as ours is; None where it fails, with the reason."""
    folder = options.scratch / "plain"
    folder.mkdir(parents=True, exist_ok=True)
    # TRL takes `completion_mask` from finished rows only where `completion_only_loss` is set: without a word it would
    # train on the prompts too
    lines = [{"input_ids": row.input_ids, "labels": row.labels} for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    four_bits = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    lora = {"r": plan.r, "lora_alpha": plan.alpha, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    settings = {
        "model": str(options.scratch / part.shape),
        "rows": str(folder / "rows.jsonl"),
        "folder": str(folder),
        "lora": None if part.method == "full" else lora,
        "quantisation": four_bits if part.method == "qlora" else None,
        "config": {
            "max_length": part.length,
            "num_train_epochs": 1,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "use_cpu": options.device == "cpu",
        },
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, str(HERE.parent / "plain_sft.py"), str(folder / "settings.json")]
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, timeout=LIMIT / 2, check=False)
    if done.returncode:
        return {"trl": None, "trl_failed": done.stderr.strip().rpartition("\n")[2][:300]}
    timing = json.loads((folder / "timing.json").read_text())
    seconds = timing["ended"][-1] - timing["began"][1]
    return {"trl": (STEPS["speed"] - 1) * BATCH * part.length / seconds, "trl_allocated": timing["allocated"]}


def make_rows(part: Part, count: int, *, packed: bool = False) -> list[Any]:
    """Rows of random tokens, the second half labelled. Packed: an eighth as long, and half of that in common."""
    from tamis.train.labels import IGNORED, Row

    chance, length = random.Random(0), part.length // BATCH if packed else part.length
    common = [chance.randrange(3, 500) for _ in range(length // 2)] if packed else []
    rows = []
    for number in range(count):
        ids = common + [chance.randrange(3, 500) for _ in range(length - len(common))]
        first = length // 2 + 2
        labels = [IGNORED] * first + ids[first:]
        rows.append(Row(f"{number:016x}", ids, labels, length, length - first, 0))
    return rows


def train_with_tamis(part: Part, options: argparse.Namespace, rows: list[Any], given: dict[str, Any]) -> Any:
    """Plan and train as `tamis train` does: (plan, what training says of itself, lines of its log)."""
    import shutil

    from tamis.models import resolve
    from tamis.recipe import Train
    from tamis.train import sft
    from tamis.train.packing import shared_prefix
    from tamis.train.plan import make_plan, probe, shape_of

    model = resolve(str(options.scratch / part.shape))
    settings = Train(method=part.method, epochs=1, r=16, **given)
    shared = shared_prefix([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])
    lengths, labelled = [row.tokens for row in rows], sum(row.trained for row in rows)
    plan = make_plan(settings, shape_of(model.path), lengths, labelled, probe(), shared=shared)
    folder = options.scratch / "tamis"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    trained = sft.train(model, rows, plan, settings, folder, seed=7)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return plan, trained, lines


if __name__ == "__main__":
    main()
