"""The training stage of one arm: rows in, adapter out, nothing done twice.

rows -> labels -> plan -> sft -> adapter
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tamis.errors import DataError, RecipeError, require
from tamis.models import ResolvedModel, load_tokenizer, resolve
from tamis.prompt import conversation
from tamis.recipe import Recipe
from tamis.record import canonical_json
from tamis.run import Progress, Run, Stage, fingerprint
from tamis.schema import TOKENS, read_json, write_json, write_parquet
from tamis.spans import Turns, stop_token_ids
from tamis.train.fertility import tokens_per_word
from tamis.train.labels import Row, label_rows
from tamis.train.packing import shared_prefix
from tamis.train.plan import Choice, Hardware, Memory, Plan, Shape, make_plan, probe, shape_of
from tamis.train.retry import train_within_memory
from tamis.train.serve_lint import require_servable
from tamis.train.stopping import HELD_OUT, hold_out

log = logging.getLogger(__name__)

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
NO_LIMIT = 1 << 30


def train_arm(run: Run, recipe: Recipe, arm: str, rows: pa.Table, *, quiet: bool = False) -> dict[str, Any]:
    """Train one arm of a run; a complete arm is returned at once, an unfinished one resumed.

    Args:
        run: the run folder. Writes `plan.json`, `tokens.parquet`, `log.jsonl`, `adapter/`, `checkpoints/`,
            `stage.json` below `run.train(arm)`.
        recipe: its `model`, `train`, `seed` and `evaluate.task` (which words the prompts) count.
        arm: the arm's name.
        rows: `schema.RECORD` columns, in an order that does not depend on chance.
        quiet: no progress on stderr.

    Returns:
        The stage's summary: `rows`, `tokens`, `trained_tokens`, `steps`, `final_loss`, `seconds`, `peak_mb`,
        `base_sha256`, ... and `skipped`, true where nothing had to be done.

    Raises:
        DataError: no row can be trained on.
        MissingExtra: a package of the extra `train` is not installed.
        RecipeError: no such model, or no plan fits the memory.
        StageFailed: training stopped; the same command goes on from the last checkpoint.
    """
    conversations = _conversations(rows, recipe)
    model = resolve(recipe.model, trust_remote_code=recipe.train.trust_remote_code)
    stage = Stage(run.train(arm), _fingerprint(conversations, recipe, model))
    if stage.complete():
        return {**read_json(stage.file), "skipped": True}
    require(PACKAGES, "train", "training")
    resumed = stage.begin()
    labelled, plan = _prepare(model, recipe, conversations, stage.folder, resumed)
    for warning in plan.warnings:
        log.warning("%s", warning)
    usable = [row for row in labelled if row.dropped is None]
    held_out = [row for row in labelled if row.dropped == HELD_OUT]
    progress = Progress(stage.folder, f"train {arm}", plan.steps, "steps", quiet)
    from tamis.train.sft import train

    work = functools.partial(
        train,
        model,
        usable,
        settings=recipe.train,
        folder=stage.folder,
        seed=recipe.seed_for("train"),
        held_out=held_out,
        on_step=lambda step, steps, note: progress.update(step, note),
    )
    with _noting_peak(plan):
        plan, done = train_within_memory(work, plan, recipe.train, _shape(model, recipe), usable, stage.folder)
    summary = {
        "arm": arm,
        "rows": len(usable),
        "dropped": len(labelled) - len(usable) - len(held_out),
        "held_out": len(held_out),
        "truncated": sum(row.truncated > 0 for row in usable),
        "trained_tokens": sum(row.trained for row in usable),
        "base": model.name if model.source != "local" else Path(model.name).name,
        "base_source": model.source,
        "base_sha256": model.sha256,
        "method": plan.method,
        "quantisation": plan.quantisation,
        "estimate_mb": plan.estimate_bytes / 1e6,
        **dataclasses.asdict(done),
    }
    stage.finish(**summary)
    return {**summary, "skipped": False}


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What a training would be (`--dry-run`): its plan, how much there is to read, and about how long it takes."""

    plan: Plan
    rows: int
    tokens: int
    trained_tokens: int
    seconds: float


def forecast_arm(recipe: Recipe, rows: pa.Table) -> Forecast:
    """What `train_arm` would do, without doing it. Loads the tokenizer, never the weights."""
    from tamis.train.forecast import training_seconds

    require(PACKAGES, "train", "training")
    model = resolve(recipe.model, trust_remote_code=recipe.train.trust_remote_code)
    labelled, plan = _label_and_plan(model, recipe, _conversations(rows, recipe), probe())
    usable = [row for row in labelled if row.dropped is None]
    lengths, trained = [row.tokens for row in usable], sum(row.trained for row in usable)
    shape = _shape(model, recipe)
    return Forecast(
        plan,
        rows=len(usable),
        tokens=sum(lengths),
        trained_tokens=trained,
        seconds=training_seconds(plan, shape, lengths, trained, _shared(usable)),
    )


def _shared(rows: Sequence[Row]) -> int:
    return shared_prefix([{"input_ids": row.input_ids, "labels": row.labels} for row in rows])


def labels_of_arm(recipe: Recipe, rows: pa.Table) -> tuple[Any, list[Row]]:
    """The tokenizer, and the rows as `train_arm` would train on them, dropped ones included. Loads no weights."""
    require(PACKAGES, "train", "training")
    model = resolve(recipe.model, trust_remote_code=recipe.train.trust_remote_code)
    labelled, _ = _label_and_plan(model, recipe, _conversations(rows, recipe), probe())
    return load_tokenizer(model), labelled


def label_table(model: ResolvedModel, recipe: Recipe, rows: pa.Table, max_length: int) -> list[Row]:
    """Rows of a table as training sees them.

    Args:
        model: its tokenizer and stop tokens count.
        recipe: its `evaluate.task` words the prompts.
        rows: with columns `id`, `messages`, `label`.
        max_length: tokens; what is longer is cut.
    """
    return _label(model, _conversations(rows, recipe), max_length)


def _conversations(rows: pa.Table, recipe: Recipe) -> list[tuple[str, Turns]]:
    task = recipe.evaluate.task
    columns = (rows.column(name).to_pylist() for name in ("id", "messages", "label"))
    return [(id_, conversation(messages, label, task)) for id_, messages, label in zip(*columns, strict=True)]


def _fingerprint(conversations: Sequence[tuple[str, Turns]], recipe: Recipe, model: ResolvedModel) -> str:
    """Of all that can change the adapter. How often checkpoints are written and who serves it cannot."""
    text = canonical_json([[id_, turns] for id_, turns in conversations])
    return fingerprint(
        {
            "rows": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
            # without what is off, so that a new key does not make old arms look changed
            "train": recipe.train.model_dump(
                mode="json", exclude={"save_steps", "serve", "trust_remote_code"}, exclude_none=True
            ),
            "model": model.sha256,
            "seed": recipe.seed_for("train"),
        },
        PACKAGES,
    )


def _prepare(
    model: ResolvedModel, recipe: Recipe, conversations: Sequence[tuple[str, Turns]], folder: Path, resumed: bool
) -> tuple[list[Row], Plan]:
    """Labels and plan, written down. A resumed run keeps the plan it began with: another one would train otherwise."""
    kept = read_plan(folder / "plan.json") if resumed else None
    if kept is not None:
        return _held_out(recipe, _label(model, conversations, kept.max_length)), kept
    labelled, plan = _label_and_plan(model, recipe, conversations, probe())
    write_parquet(folder / "tokens.parquet", _token_table(labelled))
    write_json(folder / "plan.json", plan.as_json())
    return labelled, plan


def _label_and_plan(
    model: ResolvedModel, recipe: Recipe, conversations: Sequence[tuple[str, Turns]], hardware: Hardware
) -> tuple[list[Row], Plan]:
    whole = _held_out(recipe, _label(model, conversations, NO_LIMIT))
    usable = [row for row in whole if row.dropped is None]
    if not usable:
        raise DataError(
            "no row can be trained on",
            why=", ".join(sorted({str(row.dropped) for row in whole})) or "there are no rows",
            hint="each row needs an answer, and the model's chat template must render it",
        )
    plan = make_plan(
        recipe.train,
        _shape(model, recipe),
        [row.tokens for row in usable],
        sum(row.trained for row in usable),
        hardware,
        shared=_shared(usable),
        held_out=sum(row.dropped == HELD_OUT for row in whole),
        tokens_per_word=tokens_per_word(load_tokenizer(model), conversations),
    )
    plan = dataclasses.replace(plan, warnings=(*plan.warnings, *_answers_cut_off(recipe, conversations, whole)))
    require_servable(recipe.train.serve, _adapter_config(recipe, plan), model.path)
    cut = _held_out(recipe, _label(model, conversations, plan.max_length))
    lost = [row for row in cut if row.truncated]
    if lost:
        log.warning(
            "%d rows lose %d tokens at max_length %d; %d would keep them whole",
            len(lost),
            sum(row.truncated for row in lost),
            plan.max_length,
            max(row.tokens for row in lost),
        )
    if all(row.dropped for row in cut):
        raise DataError(
            "no row can be trained on", why=f"all answers lie behind max_length {plan.max_length}", where="train"
        )
    return cut, plan


def _shape(model: ResolvedModel, recipe: Recipe) -> Shape:
    return shape_of(model.path, trust_remote_code=recipe.train.trust_remote_code)


def _answers_cut_off(recipe: Recipe, conversations: Sequence[tuple[str, Turns]], rows: Sequence[Row]) -> list[str]:
    """A label that the answers have no room for can be learnt and never be said; better known before than after.

    Returns:
        A warning; none where all labels fit.

    Raises:
        RecipeError: the tuned model is to be evaluated, which would be refused when all training is done.
    """
    task = recipe.evaluate.task
    single = {id_ for id_, turns in conversations if sum(turn["role"] == "assistant" for turn in turns) == 1}
    longest = max((row for row in rows if row.id in single), key=lambda row: row.trained, default=None)
    if task.kind != "classify" or longest is None or longest.trained <= task.answer_tokens:
        return []
    label = next(turns[-1]["content"] for id_, turns in conversations if id_ == longest.id)
    what = f"the label {label!r} needs {longest.trained} tokens, answers have {task.answer_tokens}"
    hint = f"set evaluate.task.max_tokens: {longest.trained}"
    if recipe.eval is not None and {"tuned", "merged"} & {s for s in recipe.evaluate.systems if isinstance(s, str)}:
        raise RecipeError(what, where="recipe:evaluate.task.max_tokens", why="it could never be right", hint=hint)
    return [f"{what}: {hint}"]


def _held_out(recipe: Recipe, rows: list[Row]) -> list[Row]:
    """The rows with those marked that early stopping looks at, if it is on."""
    if recipe.train.early_stopping is None:
        return rows
    return hold_out(rows, recipe.train.early_stopping.holdout, recipe.seed_for("early stopping"))


def _adapter_config(recipe: Recipe, plan: Plan) -> dict[str, Any] | None:
    """What a server will be told of the adapter, as far as the recipe can say it; None where there will be none."""
    if plan.r is None:
        return None
    return {"r": plan.r, "target_modules": recipe.train.target_modules, "use_rslora": recipe.train.rslora}


def _label(model: ResolvedModel, conversations: Sequence[tuple[str, Turns]], max_length: int) -> list[Row]:
    tokenizer = load_tokenizer(model)
    stops: list[int] = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        configured = json.loads((model.path / "generation_config.json").read_bytes())["eos_token_id"]
        stops = configured if isinstance(configured, list) else [configured]
    return label_rows(tokenizer, conversations, max_length, stop_token_ids(tokenizer, stops))


def _token_table(rows: Sequence[Row]) -> pa.Table:
    names = ("id", "tokens", "trained", "truncated", "dropped")
    return pa.table({name: [getattr(row, name) for row in rows] for name in names}, schema=TOKENS)


def read_plan(file: Path) -> Plan | None:
    """The plan that a training was made with, or None where it was killed before it had one."""
    try:
        values = read_json(file)
        parts = Memory(**{name: value * 1e6 for name, value in values.pop("parts_mb").items()})
        hardware = values.pop("hardware")
        hardware["memory"] = int(hardware.pop("memory_mb") * 1e6)
        for derived in ("schema_version", "accumulation"):
            values.pop(derived, None)
        values["estimate_bytes"] = values.pop("estimate_mb") * 1e6
        values["choices"] = tuple(Choice(**choice) for choice in values["choices"])
        values["warnings"] = tuple(values["warnings"])
        return Plan(**values, parts=parts, hardware=Hardware(**hardware))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _noting_peak(plan: Plan) -> Iterator[None]:
    """Start counting the GPU's peak here, so that it can stand beside the estimate."""
    if plan.device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    yield
