"""What a training run will do and need, decided before any weight is loaded, with a sentence for each choice.

The memory formula is exact where it says so (weights, adapters, saved activations: fitted on two shapes in 4 bits and
bf16 and confirmed by saved-tensor hooks) and an estimate elsewhere; the measured peak is written beside it afterwards.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tamis.errors import RecipeError
from tamis.models import Quantisation, quantisation_of
from tamis.recipe import Train
from tamis.train.census import Census, Matrix, llama
from tamis.train.census import census as census_of
from tamis.train.fertility import FOREIGN

RANKS = (8, 16, 32, 64, 128, 256)  # of those vLLM serves; below 8 nothing is saved worth having
BATCHES = (16, 8, 4)  # LoRA pays more for large batches than full tuning: stay under 32 (LoRA Without Regret)
# Shorter runs end before they have learnt: on 300 rows of CLINC150 at a rate of 5e-4, 57 steps reached an accuracy of
# 0.80 and 114 steps 0.93 (3 epochs each, 30 intents, 240 test items, SmolLM2-135M).
ENOUGH_STEPS = 100
USABLE = 0.8  # of the free memory
LARGE_ADAPTER = 0.25  # of the linear layers' parameters: a rank that saves little
FRAGMENTATION = 1.05
# Context and libraries. CPU: 0.53 GB of libraries, the rest oneDNN's kernels (SmolLM2-135M, bf16, 2.13 GB in all)
FIXED = {"cuda": 1.2e9, "cpu": 0.9e9}
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
    counted: Census | None = None  # None: the census of a Llama of these sizes

    @property
    def query(self) -> int:
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        return self.kv_heads * self.head_dim

    @property
    def census(self) -> Census:
        return self.counted or llama(
            self.layers, self.hidden, self.query, self.key, self.intermediate, self.vocabulary, tied=self.tied
        )

    @property
    def linear(self) -> int:
        """Parameters of the linear layers: what LoRA stands beside."""
        return self.census.linear

    @property
    def other(self) -> int:
        """Embeddings, output head, norms and biases: never quantised."""
        return self.census.rest

    def lora(self, r: int) -> int:
        """Parameters of LoRA of rank `r` on all linear layers; 2,621,440 for an 8B Llama at r = 1, as published."""
        return r * self.census.lora_width


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
        head_dim = int(_first(config, "head_dim") or hidden // heads)
        # GPT-2 leaves its inner size open and means 4 times the hidden size
        intermediate = int(_first(config, "intermediate_size", "n_inner", "ffn_hidden_size") or 4 * hidden)
        return Shape(
            hidden=hidden,
            intermediate=intermediate,
            layers=int(config.num_hidden_layers),
            heads=heads,
            kv_heads=_key_heads(config, heads),
            head_dim=head_dim,
            vocabulary=int(config.vocab_size),
            tied=bool(getattr(config, "tie_word_embeddings", False)),
            context=int(_first(config, "max_position_embeddings", "n_positions") or CONTEXT_CAP),
            kind=str(config.model_type),
            counted=census_of(config, intermediate, head_dim, trust_remote_code=trust_remote_code),
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
        return FRAGMENTATION * parts


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
    optim: str = "adamw_torch",
    packed: bool = False,
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
        optim: transformers' name of the optimizer.
        packed: whether the rows lie end to end under one mask.

    Source of the formula: docs/concepts/memory.md.
    """
    h, i = shape.hidden, shape.intermediate
    width = 2 if compute == "bfloat16" else 4
    every = shape.linear + shape.other
    weights = weight_bytes(shape, quantisation, width)
    # In fp32: weight, gradient and the optimizer's state, of LoRA's weights or of all
    trained = 8.0 + (2.03 if optim.endswith("8bit") else 8.0)  # 8 bits: two moments, a constant for each 256 of them
    adapters = trained * every - weights if r is None else trained * shape.lora(r)
    saved = saved_bytes(shape, r, width, packed=packed)
    activations = saved.of(tokens)
    if checkpointing:  # the input of every block, and all of the one that is computed again
        stream = 4 if r is None else width
        activations = tokens * shape.layers * stream * h + activations / shape.layers
    widest = max((m.elements for m in shape.census.matrices if m.quantised), default=0) if quantisation != "none" else 0
    transients = tokens * (4 * i + 4 * h) + 4 * h * tokens + width * widest
    # On a GPU TRL folds the logits tile by tile; on a CPU the labelled ones are built: value, softmax, gradient
    tiles = min(labelled, 4096) * 32768 * 2.0
    logits = tiles if device == "cuda" else 12.0 * labelled * shape.vocabulary
    return Memory(weights, adapters, activations, transients, logits, FIXED[device])


def weight_bytes(shape: Shape, quantisation: Quantisation, width: int) -> float:
    """What the loaded weights take, exactly: the matrices that can be quantised, and the rest at `width` bytes each.

    4 bits: blocks of 64 with a constant in 8 bits, and for 256 of these a constant in fp32 (QLoRA, section 3), beside
    two tables of fp32 for each matrix (16 and 256 values) and a mean. 8 bits: a constant in fp32 for each output.
    """

    def held(matrix: Matrix) -> float:
        if quantisation == "none" or not matrix.quantised:
            return width * matrix.elements
        if quantisation == "int8":
            return matrix.elements + 4 * matrix.outputs
        blocks = math.ceil(matrix.elements / 64)
        return math.ceil(matrix.elements / 2) + blocks + 4 * math.ceil(blocks / 256) + 4 * (16 + 256 + 1)

    return sum(held(matrix) for matrix in shape.census.matrices) + width * float(shape.other)


class Saved(NamedTuple):
    """What is kept for the backward pass, in bytes."""

    per_token: float
    per_pair: float
    constant: float

    def of(self, tokens: int) -> float:
        return self.constant + self.per_token * tokens + self.per_pair * tokens**2


def saved_bytes(shape: Shape, r: int | None, width: int, *, packed: bool = False) -> Saved:
    """What the backward pass of all blocks needs of the forward pass.

    Exact on a CPU for the Llama and Qwen families, GPT-2 and their like (tests/train/test_memory.py), without dropout.
    Attention in the form that keeps no scores: query, key, value, result and a sum for each query.

    Args:
        shape: of the model.
        r: LoRA's rank; None where all weights are trained.
        width: of a number while computing: 2 in bf16 under autocast with what is trained in fp32, 4 in fp32.
        packed: under one mask for all rows: keys and values repeated for every query head, the mask as bools, and as
            numbers in every block.
    """
    counted, q, k, layers = shape.census, shape.query, shape.key, shape.layers
    # The input of every matrix. LoRA under autocast casts it there and back: a copy for each
    copied = width == 2
    inputs = width * sum(m.inputs for m in counted.matrices if copied or not m.shares_input)
    if r is None or not copied:
        inputs -= layers * width * q  # attention's result, which is the output projection's input
    products = width * (r or 0) * len(counted.matrices)
    stream = 4 if r is None else width  # what flows between the blocks: fp32 where the embeddings are
    # RMSNorm is written in fp32 and keeps its input there with one number; LayerNorm keeps it as it is with two
    norms = sum(n.groups * (4 * n.width + 4 if n.rms else stream * (n.width + 2)) for n in counted.norms)
    if r is None:  # gradients of the norms' own weights, and what lies outside the blocks: last norm, token ids
        norms += sum((width if n.groups > 1 else 4) * n.groups * n.width for n in counted.norms if n.rms)
        norms += (8 * shape.hidden + 4 if counted.norms[0].rms else 4 * shape.hidden + 16) + 8
    mlp = layers * width * counted.activations * shape.intermediate
    repeated = packed and not counted.scores
    attention = layers * (2 * width * (q + (q if repeated else k)) + 4 * shape.heads)
    positions = 2 * stream * shape.head_dim if counted.rotary else 0
    pairs = (4.0 * layers * shape.heads if counted.scores else 0) + (1 + layers * width if packed else 0)
    casts = 2.0 * (shape.lora(r) if r else shape.linear) if copied else 0.0  # of what is trained, for autocast
    return Saved(inputs + products + norms + mlp + attention + positions, pairs, casts)


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
    tokens_per_word: float | None = None,
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
        tokens_per_word: of the rows, from `fertility.tokens_per_word`; None if it is not known.

    Raises:
        DoesNotFit: even the smallest plan needs more memory than there is.
    """
    choices: list[Choice] = []

    def choose(name: str, given: Any, value: Any, why: str) -> Any:
        asked = given != "auto"
        choices.append(Choice(name, given if asked else value, "as the recipe says" if asked else why))
        return choices[-1].value

    whole = _full_tuning(shape, max(lengths), hardware)
    choices.append(Choice("method", train.method, _why_method(train.method, whole, hardware)))
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

    def packs(size: int) -> bool:
        return train.dropout == 0 and packing_gain(shape, cut, shared, size) > 1

    def needs(size: int, checkpointing: bool) -> Memory:
        # The longest rows may fall into one micro-batch
        tokens = sum(cut[-size:]) - (size - 1) * shared if packs(size) else size * cut[-1]
        return memory(
            shape,
            quantisation=quantisation,
            r=r,
            tokens=tokens,
            labelled=math.ceil(share * sum(cut[-size:])),
            checkpointing=checkpointing,
            compute=hardware.compute,
            device=hardware.device,
            optim=optim,
            packed=packs(size),
        )

    micro, checkpointing, parts = _fit(needs, batch, hardware, train.gradient_checkpointing)
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
    packing = packs(micro)
    why = _why_packing(packing_gain(shape, cut, shared, micro), shared, train.dropout)
    choices.append(Choice("packing", packing, why))
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
        warnings=tuple(_warnings(shape, r, loss_tokens, whole, hardware, tokens_per_word)),
        held_out=held_out,
        evaluate_every=every,
    )


def steps_of(rows: int, batch: int, epochs: float) -> int:
    """Optimizer steps of a run; the last batch of an epoch may be smaller."""
    return math.ceil(math.ceil(rows / batch) * epochs)


def _fit(
    needs: Callable[[int, bool], Memory], batch: int, hardware: Hardware, wanted: bool | Literal["auto"]
) -> tuple[int, bool, Memory]:
    """The largest micro-batch that divides the batch and fits, without checkpointing if that is left to us."""
    budget = USABLE * hardware.memory
    sizes = [size for size in range(batch, 0, -1) if batch % size == 0]
    modes = [False, True] if wanted == "auto" else [wanted]
    for checkpointing in modes:
        for size in sizes:
            parts = needs(size, checkpointing)
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
    if not any(matrix.quantised for matrix in shape.census.matrices):
        return (
            f"as the recipe says, but no layer of a {shape.kind} model can be held in {train.quantisation}: "
            f"the base stays as it is, {whole / 1e9:.1f} GB; method: lora is the same and says so"
        )
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


def _full_tuning(shape: Shape, longest: int, hardware: Hardware) -> float:
    """Bytes that training all weights would need, a row at a time and with checkpointing."""
    tokens = min(longest, shape.context, CONTEXT_CAP)
    return memory(
        shape,
        quantisation="none",
        r=None,
        tokens=tokens,
        labelled=tokens,
        checkpointing=True,
        compute=hardware.compute,
        device=hardware.device,
        optim=_optimizer("full", hardware)[0],
    ).total


def _why_method(method: str, whole: float, hardware: Hardware) -> str:
    if method == "full":
        return "as the recipe says: all weights are trained"
    need = f"all weights would need {whole / 1e9:.1f} GB of {hardware.memory / 1e9:.0f} GB"
    if whole > USABLE * hardware.memory:
        return f"as the recipe says; training {need}"
    return f"as the recipe says; this model is small enough for method: full too, training {need}"


def _warnings(
    shape: Shape, r: int | None, loss_tokens: int, whole: float, hardware: Hardware, tokens_per_word: float | None
) -> list[str]:
    """Where LoRA is the wrong tool: what a user should hear before the run."""
    if r is None:
        return []
    found, adapter = [], shape.lora(r)
    if adapter < loss_tokens:
        found.append(
            f"{loss_tokens:,} trained tokens are more than LoRA's {adapter:,} parameters can hold; "
            "consider method: full"
        )
    if adapter > LARGE_ADAPTER * shape.linear and whole <= USABLE * hardware.memory:
        found.append(
            f"LoRA of rank {r} trains {adapter:,} parameters beside {shape.linear:,}, and this model is small enough "
            f"to train them all, in {whole / 1e9:.1f} GB; consider method: full"
        )
    if tokens_per_word is not None and tokens_per_word > FOREIGN:
        found.append(
            f"the rows take {tokens_per_word:.1f} tokens a word, a language that this base has in pieces (its own "
            "takes 1 to 2); LoRA teaches a task, not a language: consider a base made for it"
        )
    return found


def _key_heads(config: Any, heads: int) -> int:
    """Falcon says in words of its own that all its queries look at one key."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    return int(_first(config, "num_key_value_heads", "num_kv_heads") or heads)


def _first(config: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)
