"""What a training run will do and need, decided before any weight is loaded, with a sentence for each choice.

The memory formula is exact where it says so (weights, adapters, saved activations: fitted on two shapes in 4 bits and
bf16 and confirmed by saved-tensor hooks) and an estimate elsewhere; the measured peak is written beside it afterwards.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from tamis.errors import RecipeError
from tamis.models import Quantisation, quantisation_of
from tamis.recipe import Train

RANKS = (8, 16, 32, 64, 128, 256)  # of those vLLM serves; below 8 nothing is saved worth having
BATCHES = (16, 8, 4)  # LoRA pays more for large batches than full tuning: stay under 32 (LoRA Without Regret)
# Shorter runs end before they have learnt: on 300 rows of CLINC150 at a rate of 5e-4, 57 steps reached an accuracy of
# 0.80 and 114 steps 0.93 (3 epochs each, 30 intents, 240 test items, SmolLM2-135M).
ENOUGH_STEPS = 100
CONTEXT_CAP = 4096  # tokens; `auto` never plans longer rows than this without being asked


class DoesNotFit(RecipeError):
    """Even the smallest plan needs more memory than there is."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the formulas need to know of a decoder: sizes as numbers of elements."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    context: int
    kind: str

    @property
    def query(self) -> int:
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def linear(self) -> int:
        """Parameters of the linear layers: what is quantised and what LoRA stands beside."""
        per_layer = 2 * self.hidden * self.query + 2 * self.hidden * self.key + 3 * self.hidden * self.intermediate
        return self.layers * per_layer

    @property
    def other(self) -> int:
        """Embeddings, output head and norms: never quantised."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2) + (2 * self.layers + 1) * self.hidden

    def lora(self, r: int) -> int:
        """Parameters of LoRA of rank `r` on all linear layers; 2,621,440 for an 8B Llama at r = 1, as published."""
        h, i, q, k = self.hidden, self.intermediate, self.query, self.key
        return r * self.layers * (2 * (h + q) + 2 * (h + k) + 3 * (h + i))


def shape_of(model: Path, *, trust_remote_code: bool = False) -> Shape:
    """Read a model's shape from its configuration.

    Raises:
        RecipeError: the configuration is not that of a decoder with attention.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code).get_text_config()
        heads = int(config.num_attention_heads)
        hidden = int(config.hidden_size)
        return Shape(
            hidden=hidden,
            # GPT-2 leaves its inner size open and means 4 times the hidden size
            intermediate=int(_first(config, "intermediate_size", "n_inner", "ffn_hidden_size") or 4 * hidden),
            layers=int(config.num_hidden_layers),
            heads=heads,
            kv_heads=int(_first(config, "num_key_value_heads") or heads),
            head_dim=int(_first(config, "head_dim") or hidden // heads),
            vocabulary=int(config.vocab_size),
            tied=bool(getattr(config, "tie_word_embeddings", False)),
            context=int(_first(config, "max_position_embeddings", "n_positions") or CONTEXT_CAP),
            kind=str(config.model_type),
        )
    except (AttributeError, ValueError, OSError, KeyError) as error:
        raise RecipeError(
            "the model's configuration is not that of a decoder we can plan for", where=str(model), why=str(error)[:200]
        ) from None


@dataclasses.dataclass(frozen=True)
class Hardware:
    """The machine. Memory in bytes: what is free for us on the device that trains."""

    device: str
    name: str
    memory: int
    threads: int
    compute: Literal["bfloat16", "float32"]


def probe() -> Hardware:
    """Look at the machine: the first GPU, else the CPU."""
    import torch

    from tamis.machine import free_memory, processor
    from tamis.models import best_device, compute_dtype

    device = best_device()
    compute = compute_dtype(device)
    threads = torch.get_num_threads()
    if device == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return Hardware(device, torch.cuda.get_device_name(), free, threads, compute)
    return Hardware(device, processor(), free_memory(), threads, compute)


@dataclasses.dataclass(frozen=True)
class Memory:
    """The parts of the peak, in bytes."""

    weights: float
    adapters: float
    activations: float
    transients: float
    logits: float
    fixed: float

    @property
    def total(self) -> float:
        parts = self.weights + self.adapters + self.activations + self.transients + self.logits + self.fixed
        return 1.05 * parts  # 5 %: fragmentation


def memory(
    shape: Shape,
    *,
    quantisation: Quantisation,
    r: int | None,
    tokens: int,
    labelled: int,
    checkpointing: bool,
    compute: str,
    device: str,
) -> Memory:
    """Peak memory of training, in bytes.

    Args:
        shape: of the model.
        quantisation: of the base.
        r: LoRA's rank; None where all weights are trained.
        tokens: in one micro-batch, T.
        labelled: of them with a label.
        checkpointing: whether activations are computed again in the backward pass.
        compute: `bfloat16` or `float32`.
        device: `cuda` or `cpu`.

    Source of the formula: fits on two Llama shapes in NF4 and bf16 with fp32 adapters, see docs/concepts/memory.md.
    """
    h, i, n = shape.hidden, shape.intermediate, shape.heads
    width = 2 if compute == "bfloat16" else 4
    # NF4 blocks of 64 with double quantisation: 4.127 bits; int8: one byte
    per_weight = {"nf4": 0.5159, "fp4": 0.5159, "int8": 1.0, "none": float(width)}[quantisation]
    weights = shape.linear * per_weight + shape.other * width
    # Weight, gradient and AdamW's two moments in fp32, of LoRA's weights or of all (then the weights are fp32 too)
    adapters = 16.0 * (shape.linear + shape.other) - weights if r is None else 16.0 * shape.lora(r)
    # Per token and layer, in bf16: 16h + 8i + 4k + 14r + 4n + 8, and 8h more for fp32 adapters under autocast
    per_token = 16 * h + 8 * i + 4 * shape.key + 14 * (r or 0) + 4 * n + 8
    per_token = per_token + 8 * h if width == 2 else 2 * per_token
    activations = tokens * (shape.layers * width * h + per_token if checkpointing else shape.layers * per_token)
    widest = 2 * max(h * i, h * shape.query) if quantisation != "none" else 0
    transients = tokens * (4 * i + 4 * h) + 4 * h * tokens + (width / 2) * widest
    # On a GPU TRL folds the logits tile by tile; on a CPU the labelled ones are built: value, softmax, gradient
    tiles = min(labelled, 4096) * 32768 * 2.0
    logits = tiles if device == "cuda" else 12.0 * labelled * shape.vocabulary
    # Context and libraries. CPU: 0.53 GB of libraries, the rest oneDNN's kernels (SmolLM2-135M, bf16, 2.13 GB in all)
    fixed = 1.2e9 if device == "cuda" else 0.9e9
    return Memory(weights, adapters, activations, transients, logits, fixed)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One decided value and why it was chosen."""

    name: str
    value: Any
    why: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything `sft.py` needs to know. Values as in the recipe, with nothing left to `auto`."""

    method: str
    quantisation: Quantisation
    r: int | None
    alpha: float
    lr: float
    batch: int
    micro_batch: int
    max_length: int
    packing: bool
    checkpointing: bool
    optim: str
    epochs: float
    compute: str
    device: str
    threads: int
    steps: int
    estimate_bytes: float
    choices: tuple[Choice, ...]
    parts: Memory
    hardware: Hardware
    warnings: tuple[str, ...] = ()
    held_out: int = 0
    evaluate_every: int | None = None
    """Steps between two measurements of the held-out rows; None without early stopping."""
    reduced: bool = False
    """Made smaller because the first plan ran out of memory; there is no third."""

    @property
    def accumulation(self) -> int:
        return self.batch // self.micro_batch

    def as_json(self) -> dict[str, Any]:
        """What `plan.json` holds; memory in MB (10^6 bytes)."""
        values = dataclasses.asdict(self)
        values["accumulation"] = self.accumulation
        values["estimate_mb"] = values.pop("estimate_bytes") / 1e6
        values["parts_mb"] = {name: value / 1e6 for name, value in values.pop("parts").items()}
        values["hardware"]["memory_mb"] = values["hardware"].pop("memory") / 1e6
        return values


def make_plan(
    train: Train,
    shape: Shape,
    lengths: Sequence[int],
    loss_tokens: int,
    hardware: Hardware,
    *,
    shared: int = 0,
    held_out: int = 0,
) -> Plan:
    """Decide everything the recipe leaves open.

    Args:
        train: the recipe's part.
        shape: of the model.
        lengths: tokens of each row, uncut; must not be empty.
        loss_tokens: tokens with a label, in one epoch.
        hardware: from `probe`.
        shared: leading tokens that all rows have in common.
        held_out: rows beside these that are kept for early stopping.

    Raises:
        DoesNotFit: even the smallest plan needs more memory than there is.
    """
    choices: list[Choice] = []

    def choose(name: str, given: Any, value: Any, why: str) -> Any:
        asked = given != "auto"
        choices.append(Choice(name, given if asked else value, "as the recipe says" if asked else why))
        return choices[-1].value

    quantisation = quantisation_of(train)
    choices.append(Choice("quantisation", quantisation, _why_quantisation(train, shape, hardware)))
    choices.append(Choice("compute", hardware.compute, _why_compute(hardware)))
    longest = max(lengths)
    limit = min(shape.context, CONTEXT_CAP)
    max_length = choose(
        "max_length",
        train.max_length,
        min(longest, limit),
        f"the longest row has {longest} tokens, so nothing is cut"
        if longest <= limit
        else f"{limit} is the limit: {sum(n > limit for n in lengths)} rows are longer, up to {longest}, and are cut",
    )
    r = None
    if train.method != "full":
        rank = next((r for r in RANKS if shape.lora(r) >= loss_tokens), RANKS[-1])
        r = choose(
            "r",
            train.r,
            rank,
            f"the smallest rank whose {shape.lora(rank):,} parameters can hold {loss_tokens:,} trained tokens",
        )
    lr = choose("lr", train.lr, *_learning_rate(train.method, shape))
    batch = choose("batch", train.batch, *_batch(len(lengths), train.epochs))
    optim = choose("optim", train.optim, *_optimizer(train.method, hardware))

    cut = sorted(min(n, max_length) for n in lengths)
    share = loss_tokens / max(sum(lengths), 1)
    micro, checkpointing, parts = _fit(
        shape, cut, share, batch, quantisation, r, hardware, train.gradient_checkpointing
    )
    choices.append(Choice("micro_batch", micro, "the most rows whose peak fits four fifths of the free memory"))
    choices.append(
        Choice(
            "gradient_checkpointing",
            checkpointing,
            "as the recipe says"
            if train.gradient_checkpointing != "auto"
            else "activations would not fit otherwise; costs a second forward pass"
            if checkpointing
            else "activations fit, so nothing is computed twice",
        )
    )
    gain = packing_gain(shape, cut, shared, micro)
    packing = gain > 1 and train.dropout == 0
    choices.append(Choice("packing", packing, _why_packing(gain, shared, train.dropout)))
    steps, every = steps_of(len(lengths), batch, train.epochs), None
    if train.early_stopping is not None:
        every = choose("early_stopping", train.early_stopping.every, *_measuring(train, steps, held_out))
    return Plan(
        method=train.method,
        quantisation=quantisation,
        r=r,
        alpha=train.alpha,
        lr=lr,
        batch=batch,
        micro_batch=micro,
        max_length=max_length,
        packing=packing,
        checkpointing=checkpointing,
        optim=optim,
        epochs=train.epochs,
        compute=hardware.compute,
        device=hardware.device,
        threads=hardware.threads,
        steps=steps,
        estimate_bytes=parts.total,
        choices=tuple(choices),
        parts=parts,
        hardware=hardware,
        warnings=tuple(_warnings(shape, r, loss_tokens)),
        held_out=held_out,
        evaluate_every=every,
    )


def steps_of(rows: int, batch: int, epochs: float) -> int:
    """Optimizer steps of a run; the last batch of an epoch may be smaller."""
    return math.ceil(math.ceil(rows / batch) * epochs)


def _fit(
    shape: Shape,
    lengths: list[int],
    share: float,
    batch: int,
    quantisation: Quantisation,
    r: int | None,
    hardware: Hardware,
    wanted: bool | Literal["auto"],
) -> tuple[int, bool, Memory]:
    """The largest micro-batch that divides the batch and fits, without checkpointing if that is left to us."""
    budget = 0.8 * hardware.memory
    sizes = [size for size in range(batch, 0, -1) if batch % size == 0]
    modes = [False, True] if wanted == "auto" else [wanted]
    for checkpointing in modes:
        for size in sizes:
            tokens = sum(lengths[-size:])  # the longest rows may fall into one micro-batch
            parts = memory(
                shape,
                quantisation=quantisation,
                r=r,
                tokens=tokens,
                labelled=math.ceil(share * tokens),
                checkpointing=checkpointing,
                compute=hardware.compute,
                device=hardware.device,
            )
            if parts.total <= budget:
                return size, checkpointing, parts
    raise DoesNotFit(
        f"training needs {parts.total / 1e9:.1f} GB, {hardware.device} has {hardware.memory / 1e9:.1f} GB free",
        why=f"weights {parts.weights / 1e9:.1f} GB, activations of one row {parts.activations / 1e9:.1f} GB",
        hint="a smaller model, method: qlora, a smaller max_length, or gradient_checkpointing: auto",
    )


def _batch(rows: int, epochs: float) -> tuple[int, str]:
    """Rows per step: the largest batch that leaves enough steps, else the smallest."""
    size = next((b for b in BATCHES if rows * epochs / b >= ENOUGH_STEPS), min(BATCHES[-1], rows))
    return size, f"{steps_of(rows, size, epochs)} steps; with fewer than about {ENOUGH_STEPS} a run ends too early"


def _learning_rate(method: str, shape: Shape) -> tuple[float, str]:
    """LoRA: 5e-4 at a hidden size of 2000, falling with its power; a tenth of that for full tuning.

    Source: the fit in thinking-machines-lab/tinker-cookbook (hyperparam_utils.py), exponents 0.781 for Llama and 0.0775
    for Qwen shapes. Below a hidden size of about 1300 it is extrapolated, and capped: with SmolLM2-135M on 300 rows of
    CLINC150 (as at ENOUGH_STEPS, 114 steps) 3e-4 reached 0.86, 5e-4 0.93, 7e-4 0.92, 1e-3 0.90; the cap is the middle.
    """
    power = 0.0775 if shape.kind.startswith("qwen") else 0.781
    lora = min(5e-4 * (2000 / shape.hidden) ** power, 7e-4)
    if method == "full":
        return round(lora / 10, 7), "a tenth of LoRA's rate, as sweeps of both find"
    return round(lora, 7), f"5e-4 x (2000 / {shape.hidden})^{power}, at most 7e-4; the same for every rank"


def _measuring(train: Train, steps: int, held_out: int) -> tuple[int, str]:
    """Steps between two measurements of the held-out loss: four an epoch."""
    assert train.early_stopping is not None
    every = max(1, round(steps / train.epochs / 4))
    return every, (
        f"the loss of {held_out:,} rows that are not trained on, every {every} steps (four times an epoch); after "
        f"{train.early_stopping.patience} without a better one training ends, and the best weights are kept"
    )


def _optimizer(method: str, hardware: Hardware) -> tuple[str, str]:
    if method == "full" and hardware.device == "cuda":
        return "paged_adamw_8bit", "moments of all weights in 8 bits, paged out when the GPU is full"
    return "adamw_torch", "plain AdamW: LoRA's moments are small, and on a CPU its bits repeat"


def packing_gain(shape: Shape, lengths: Sequence[int], shared: int, micro_batch: int) -> float:
    """Work of a padded micro-batch over that of a packed one; above 1, packing is faster.

    Packed, a token looks (and is masked) at the whole micro-batch; padded, every row costs as much as the longest.

    Args:
        shape: of the model.
        lengths: tokens of each row.
        shared: leading tokens that all rows have in common.
        micro_batch: rows.
    """
    mean = sum(lengths) / len(lengths)
    # Of so many rows the longest is about the quantile micro / (micro + 1)
    longest = sorted(lengths)[min(len(lengths) * micro_batch // (micro_batch + 1), len(lengths) - 1)]
    packed = micro_batch * mean - (micro_batch - 1) * shared
    padded = micro_batch * longest
    return padded * (1 + _attention(shape, longest)) / (packed * (1 + _attention(shape, packed)))


def _attention(shape: Shape, keys: float) -> float:
    """Work of attention per token that looks at so many keys, as a share of the linear layers' work per token."""
    return 4 * keys * shape.query * shape.layers / (2 * shape.linear)


def _why_quantisation(train: Train, shape: Shape, hardware: Hardware) -> str:
    width = 2 if hardware.compute == "bfloat16" else 4
    whole = width * (shape.linear + shape.other)
    if train.method != "qlora":
        return f"method {train.method} keeps the base as it is, {whole / 1e9:.1f} GB"
    if whole < hardware.memory / 8:
        return (
            f"as the recipe says; it saves memory, not time, and unquantised the base takes {whole / 1e9:.1f} GB "
            f"of {hardware.memory / 1e9:.0f} GB: method: lora would do without rounding it"
        )
    return f"as the recipe says; unquantised the base takes {whole / 1e9:.1f} GB of {hardware.memory / 1e9:.0f} GB"


def _why_compute(hardware: Hardware) -> str:
    if hardware.compute == "bfloat16":
        return f"{hardware.name} multiplies bf16 fastest"
    return "this CPU has no matrix tiles: fp32 is as fast as bf16 or faster, and exact"


def _why_packing(gain: float, shared: int, dropout: float) -> str:
    if dropout:
        return "off: with dropout a shared prefix would share its noise"
    if gain > 1:
        return f"rows end to end, their {shared} common first tokens computed once: about {gain:.1f} times less work"
    return f"off: rows are long, one mask over all of them would cost {1 / gain:.1f} times as much as padding"


def _warnings(shape: Shape, r: int | None, loss_tokens: int) -> list[str]:
    """What a user should hear before the run."""
    found = []
    if r is not None and shape.lora(r) < loss_tokens:
        found.append(
            f"{loss_tokens:,} trained tokens are more than LoRA's {shape.lora(r):,} parameters can hold; "
            "consider method: full"
        )
    return found


def _first(config: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)
