"""Supervised fine-tuning, from labelled rows to a saved adapter: read it from top to bottom.

    base (4 bits)  +  LoRA (fp32, all linear layers)  ->  SFTTrainer  ->  adapter/

What others leave to luck, each with a test: adapters are fp32 throughout (TRL casts them to bf16, where a quarter of
the updates at a rate of 1e-4 are lost, and PEFT back to fp32 on resume, which makes a resumed run another run); only
labelled positions go through the output head; a checkpoint counts once it is whole.

The same code runs on a CPU and on a GPU, in one process. Several GPUs are not supported: the run folder has one writer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tamis.errors import RecipeError, StageFailed
from tamis.models import IDENTITY, ResolvedModel, disable_cpu_repacking, load_model, load_tokenizer, quiet
from tamis.recipe import Train
from tamis.run import disk_full, file_sha256
from tamis.schema import write_atomic, write_json
from tamis.train.labels import IGNORED, Row
from tamis.train.packing import PackingCollator, PaddingCollator
from tamis.train.plan import Plan, shape_of
from tamis.train.stopping import Watch
from tamis.train.training_log import Log, device_peak_mb
from tamis.train.utilisation import utilisation_of

WHOLE = "whole.json"  # written last into a checkpoint: one without it was cut off by a kill
SAVE_SECONDS = 30.0  # work that a kill may cost
PACKING_CHECK_ROWS = 4
PACKING_TOLERANCE = 0.02  # what packing may change in the logits, or:
# so many times what padding changes. With SmolLM2-135M in bf16 on a CPU with matrix tiles, where another shape means
# another kernel: packing 0.044, padding 0.051, rows that see their neighbours 0.93, wrong positions 0.35. In fp32 both
# are below 1e-5.
PACKING_NOISE = 2.0


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a finished training says of itself. Memory in MB (10^6 bytes).

    `seconds` and `tokens` count the steps of an interrupted training that were not repeated. With early stopping
    `best_step` is the step whose weights were kept, and `held_out_loss` what the rows that were not trained on lose
    with them, in nats per trained token; else both are None.
    """

    steps: int
    final_loss: float
    seconds: float
    tokens: int
    peak_mb: float
    packing: bool
    best_step: int | None = None
    held_out_loss: float | None = None


class OutOfMemory(StageFailed):
    """Training did not fit the memory of the device; a smaller plan may."""


def train(
    model: ResolvedModel,
    rows: Sequence[Row],
    plan: Plan,
    settings: Train,
    folder: Path,
    *,
    seed: int,
    held_out: Sequence[Row] = (),
    on_step: Callable[[int, int, str], None] = lambda step, steps, note: None,
) -> Trained:
    """Fine-tune and save the result as `folder/adapter`.

    Args:
        model: the base.
        rows: labelled, none dropped.
        plan: from `plan.make_plan`.
        settings: the recipe's part, for what needs no planning (targets, dropout, warm-up).
        folder: gets `adapter/`, `checkpoints/`, `log.jsonl`; a checkpoint found there is resumed from.
        seed: of all chance: adapter weights, order of rows, dropout.
        held_out: rows whose loss decides when to stop, if the plan says so.
        on_step: called with (steps done, steps in all, how it goes in words) after every step.

    Raises:
        OutOfMemory: the plan does not fit the device. Checkpoints are kept.
        StageFailed: the loss is no longer a number, or the disk is full. Checkpoints are kept.
    """
    import torch

    torch.set_num_threads(plan.threads)  # a sum split over another number of threads rounds differently
    if plan.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)  # not every kernel of every model has such a form
    started = time.monotonic()
    tokenizer = load_tokenizer(model)
    with quiet(), _explained(folder):
        trainable = prepare_model(model, plan, settings, seed)
        packing = plan.packing and packs(trainable, rows)
        collator = PackingCollator() if packing else PaddingCollator(tokenizer.pad_token_id or 0)
        checkpoint = latest_checkpoint(folder / "checkpoints")
        log = Log(
            folder / "log.jsonl",
            upto=step_of(checkpoint) if checkpoint else 0,
            device=plan.device,
            utilisation=utilisation_of(plan, shape_of(model.path, trust_remote_code=settings.trust_remote_code)),
        )
        trainer = make_trainer(trainable, tokenizer, rows, plan, settings, collator, folder, seed, log)
        watch = _watch(plan, settings, held_out, tokenizer, folder, log)
        if watch:
            trainer.add_callback(watch.callback())
        trainer.add_callback(
            _saver(
                settings.save_steps,
                lambda step, steps: on_step(step, steps, log.told),
                watch.prune if watch else lambda: None,
            )
        )
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if watch:
            watch.restore(trainable)
        save(trainable, model, plan, rows, folder / "adapter")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return Trained(
        steps=trainer.state.global_step,
        final_loss=log.last_loss,
        seconds=log.seconds_before + time.monotonic() - started,
        tokens=log.tokens,
        peak_mb=device_peak_mb(plan.device),
        packing=packing,
        best_step=watch.best[0] if watch else None,
        held_out_loss=watch.best[1] if watch else None,
    )


def _watch(
    plan: Plan, settings: Train, held_out: Sequence[Row], tokenizer: Any, folder: Path, log: Log
) -> Watch | None:
    """What looks at the held-out rows, as far as an interrupted training had come; None without early stopping."""
    if settings.early_stopping is None or plan.evaluate_every is None:
        return None
    rows = sorted(held_out, key=lambda row: (len(row.input_ids), row.id))
    batches = [rows[start : start + plan.micro_batch] for start in range(0, len(rows), plan.micro_batch)]
    collator = PaddingCollator(tokenizer.pad_token_id or 0)
    return Watch(
        folder / "checkpoints",
        plan.evaluate_every,
        settings.early_stopping.patience,
        measure=lambda model: held_out_loss(model, batches, collator),
        note=log.measured,
        history=log.measurements(),
    )


def prepare_model(model: ResolvedModel, plan: Plan, settings: Train, seed: int) -> Any:
    """Load the base and add what is trained, in fp32 with gradients; all else is frozen.

    Raises:
        RecipeError: the target modules do not exist in this model.
    """
    import torch

    base = load_model(model, plan.quantisation, device=plan.device)
    torch.manual_seed(seed)
    if plan.method == "full":
        return base.float().requires_grad_(True)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=plan.r,
        lora_alpha=plan.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        use_rslora=settings.rslora,
        task_type="CAUSAL_LM",
    )
    try:
        tuned = get_peft_model(base, config)
    except ValueError as error:
        raise RecipeError(
            "LoRA cannot be put on these modules",
            where="recipe:train.target_modules",
            why=str(error)[:200],
            hint="target_modules: all-linear",
        ) from None
    disable_cpu_repacking(tuned)
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return tuned


def packs(model: Any, rows: Sequence[Row]) -> bool:
    """Whether the model says the same of packed rows as of single ones, as far as rounding lets it say the same."""
    longest = sorted(rows, key=lambda row: -len(row.input_ids))[:PACKING_CHECK_ROWS]
    examples = [{"input_ids": r.input_ids, "labels": r.labels, "row": i} for i, r in enumerate(longest)]
    noise = batching_error(model, examples, PaddingCollator(0))
    return batching_error(model, examples, PackingCollator()) <= max(PACKING_TOLERANCE, PACKING_NOISE * noise)


def batching_error(model: Any, examples: Sequence[dict[str, Any]], collator: Any) -> float:
    """How much it changes what the model says of rows that they come together.

    Returns:
        Root mean square of the change in the logits of labelled positions over their standard deviation; infinite
        where the model cannot take such a batch at all.
    """
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            together = _labelled_logits(model, collator(examples))
            apart = [_labelled_logits(model, PaddingCollator(0)([example])) for example in examples]
    except (ValueError, TypeError, RuntimeError):
        return float("inf")
    finally:
        model.train(training)
    expected = torch.cat(apart)
    return float(((together - expected) ** 2).mean().sqrt() / expected.std())


def _labelled_logits(model: Any, batch: dict[str, Any]) -> Any:
    """Logits [labelled tokens, vocabulary] that predict the labels of a batch, row by row."""
    inputs = {key: value.to(model.device) for key, value in batch.items() if key not in ("rows", "labels")}
    return model(**inputs, use_cache=False).logits[:, :-1][batch["labels"][:, 1:] != IGNORED].float()


def make_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    plan: Plan,
    settings: Train,
    collator: Any,
    folder: Path,
    seed: int,
    log: Log,
) -> Any:
    """An SFTTrainer that is given finished rows, so that it has nothing left to guess."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTConfig

    arguments = SFTConfig(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=plan.micro_batch,
        gradient_accumulation_steps=plan.accumulation,
        num_train_epochs=plan.epochs,
        learning_rate=plan.lr,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,  # below 1 a share of all steps
        weight_decay=0.0,  # LoRA starts at zero change; pulling it back there is no help (QLoRA, appendix B)
        max_grad_norm=1.0,
        optim=plan.optim,
        bf16=plan.compute == "bfloat16",
        use_cpu=plan.device == "cpu",
        dataloader_pin_memory=plan.device == "cuda",
        gradient_checkpointing=plan.checkpointing,
        seed=seed,
        data_seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # its default shows the last good loss instead of NaN
        save_strategy="no",  # `_saver` decides, by the clock
        save_total_limit=2,  # the one before stays until the new one is whole
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,  # rows are cut and counted already
        report_to="none",
        disable_tqdm=True,
    )
    # TRL casts the adapters of a quantised model to bf16. Their fp32 values are put back below.
    exact = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    trainer = _trainer_class()(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(
            [{"input_ids": row.input_ids, "labels": row.labels, "row": i} for i, row in enumerate(rows)]
        ),
        processing_class=tokenizer,
        data_collator=collator,
    )
    for name, parameter in model.named_parameters():
        if name in exact:
            parameter.data = exact[name]
    trainer.ids, trainer.lengths, trainer.log_file = [r.id for r in rows], [len(r.input_ids) for r in rows], log
    trainer.remove_callback(PrinterCallback)  # it writes to stdout, which is for data
    trainer.add_callback(log.callback())
    return trainer


def _trainer_class() -> Any:
    """Made in a function, so that importing this module does not import torch."""
    import torch
    from trl import SFTTrainer

    class LabelledTrainer(SFTTrainer):  # type: ignore[misc]
        """SFTTrainer with a loss that looks at labelled positions only, and that stops when it is no number.

        TRL's fused output head scores only labelled positions on GPUs but every position on a CPU: with short answers
        that is most of the work of a step.
        """

        ids: list[str]
        lengths: list[int]
        log_file: Log

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            places = inputs.pop("rows").tolist()
            labelled, computed = int((inputs["labels"] != IGNORED).sum()), computed_tokens(inputs)
            if inputs["labels"].is_cuda:
                loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            else:
                loss = labelled_loss(model, inputs, num_items_in_batch)
            if not torch.isfinite(loss):
                raise StageFailed(
                    "the loss is no longer a number",
                    where=f"step {self.state.global_step + 1}, rows {', '.join(self.ids[i] for i in places)}",
                    hint="a lower train.lr; the last good checkpoint is kept",
                )
            self.log_file.count(sum(self.lengths[i] for i in places), computed, labelled)
            return loss

    return LabelledTrainer


def computed_tokens(inputs: dict[str, Any]) -> int:
    """Tokens of a micro-batch without padding; a prefix that packed rows share counts once.

    Args:
        inputs: from a collator. Packed, the filling (less than `PACKED_LENGTHS` tokens) counts.
    """
    mask = inputs["attention_mask"]
    return int(mask.sum()) if mask.dim() == 2 else int(inputs["input_ids"].numel())


def labelled_loss(model: Any, inputs: dict[str, Any], labels_in_step: Any = None) -> Any:
    """Cross-entropy of the labelled tokens, summed and divided by their number in the whole optimizer step.

    Args:
        model: causal, with gradients.
        inputs: from a collator, without `rows`; `labels` [B, T] are taken out.
        labels_in_step: labelled tokens over all micro-batches of the step; default: those in `inputs`.

    Returns:
        A scalar tensor in nats per labelled token.
    """
    import torch

    labels = inputs.pop("labels")[:, 1:]
    kept = (labels != IGNORED).any(0).nonzero().flatten()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        logits = model(**inputs, logits_to_keep=kept, use_cache=False).logits
    else:
        logits = model(**inputs, use_cache=False).logits[:, kept]
    labels = labels[:, kept]
    total = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (labels_in_step if labels_in_step is not None else (labels != IGNORED).sum().clamp(min=1))


def held_out_loss(model: Any, batches: Sequence[Sequence[Row]], collator: Any) -> float:
    """Cross-entropy of the labelled tokens of rows that are not trained on, in nats per labelled token.

    Draws no random number and leaves the model as it was, so measuring changes nothing in the training.
    """
    import torch

    total, labelled, training = 0.0, 0, model.training
    model.eval()
    with torch.no_grad():
        for rows in batches:
            batch = collator([{"input_ids": r.input_ids, "labels": r.labels, "row": i} for i, r in enumerate(rows)])
            inputs = {key: value.to(model.device) for key, value in batch.items() if key != "rows"}
            labelled += sum(row.trained for row in rows)
            total += float(labelled_loss(model, inputs, 1.0))
    model.train(training)
    return total / labelled


# ---------------------------------------------------------------------------------------------- checkpoints


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those that a kill cut off are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)
    whole = [path for path in found if (path / WHOLE).is_file()]
    for path in found:
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)
    return whole[0] if whole else None


def step_of(checkpoint: Path) -> int:
    """The number of steps done when a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def _saver(every: int | str, on_step: Callable[[int, int], None], on_saved: Callable[[], None]) -> Any:
    """Asks for a checkpoint every so many steps, or, for `auto`, every `SAVE_SECONDS`. Neither changes the result.

    None is written where training stops: a resumed one would go on behind that step.
    """
    from transformers import TrainerCallback

    class Save(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.last = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            on_step(state.global_step, state.max_steps)
            due = state.global_step % every == 0 if isinstance(every, int) else self._due()
            if due and state.global_step < state.max_steps and not control.should_training_stop:
                control.should_save = True

        def _due(self) -> bool:
            return time.monotonic() - self.last >= SAVE_SECONDS

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            for file in folder.iterdir():
                _to_disk(file)
            write_json(folder / WHOLE, {"step": state.global_step})
            on_saved()
            self.last = time.monotonic()

    return Save()


def _to_disk(file: Path) -> None:
    """Have the system write a file out, so that a power cut after `WHOLE` finds it whole."""
    with file.open("rb") as handle:
        os.fsync(handle.fileno())


# ---------------------------------------------------------------------------------------------- saving


def save(tuned: Any, model: ResolvedModel, plan: Plan, rows: Sequence[Row], folder: Path) -> None:
    """Write the adapter (or, for `method: full`, all weights in bf16) with the identity of its base, atomically.

    The base is named by the SHA-256 of its weights: a name could mean other weights elsewhere. Equal training gives
    equal bytes, in every file.
    """
    import torch

    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    full = plan.method == "full"
    if full:
        tuned.to(torch.bfloat16)
    tuned.save_pretrained(temporary)
    if not full:
        _settle_config(temporary / "adapter_config.json", model)
    (temporary / "README.md").unlink(missing_ok=True)  # a card of blanks; the run has a real one
    weights = temporary / ("model.safetensors" if full else "adapter_model.safetensors")
    write_json(
        temporary / IDENTITY,
        {
            "kind": "full" if full else "adapter",
            "base_name": Path(model.name).name if model.source == "local" else model.name,
            "base_source": model.source,
            "base_sha256": model.sha256,
            "quantisation": plan.quantisation,
            "compute": plan.compute,
            "sha256": file_sha256(weights) if weights.is_file() else None,
            "stop_token_ids": sorted({row.input_ids[-1] for row in rows if not row.truncated}),
        },
    )
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _settle_config(file: Path, model: ResolvedModel) -> None:
    """PEFT writes sets in the order of their hashes, and the path of the base on this machine."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = f"sha256:{model.sha256}"
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            config[key] = sorted(value)
    write_atomic(file, json.dumps(config, indent=2, sort_keys=True).encode())


# ---------------------------------------------------------------------------------------------- what goes wrong


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what the machine ran out of into a sentence."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            "the GPU is out of memory",
            where=str(folder),
            why=str(error).split(".")[0],
            hint="a smaller train.max_length or model, or method: qlora; then the same command",
        ) from None
    except (OSError, SafetensorError, RuntimeError) as error:
        if not disk_full(error):
            raise
        raise StageFailed(
            "the disk is full",
            where=str(folder),
            why="the checkpoint in progress could not be written; the one before it is whole",
            hint="free some space, then the same command",
        ) from None
