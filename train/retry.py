"""Out of memory in spite of the plan: one smaller plan is tried, then it is an error.

The smaller plan trains the same: half the rows at a time, twice as often before a step, activations computed again.
It goes on from the last checkpoint.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tamis.recipe import Train
from tamis.schema import write_json
from tamis.train.labels import Row
from tamis.train.plan import Choice, Plan, Shape, memory

if TYPE_CHECKING:
    from tamis.train.sft import Trained

log = logging.getLogger(__name__)


def train_within_memory(
    work: Callable[..., Trained], plan: Plan, settings: Train, shape: Shape, rows: Sequence[Row], folder: Path
) -> tuple[Plan, Trained]:
    """Train by a plan, or by a smaller one if that runs out of memory.

    Args:
        work: `sft.train` with all its arguments but `plan`.
        plan: the first to try; one that was reduced already (a resumed run) is the last.
        settings: the recipe's part: what it asks for is not overruled.
        shape: of the model.
        rows: that are trained on.
        folder: of the stage; gets the smaller plan as `plan.json`.

    Returns:
        The plan that held, and what training says of itself.

    Raises:
        OutOfMemory: no smaller plan held, or there is none.
    """
    from tamis.train.sft import OutOfMemory

    try:
        return plan, work(plan=plan)
    except OutOfMemory as error:
        smaller = None if plan.reduced else smaller_plan(plan, settings, shape, rows)
        if smaller is None:
            raise _explained(error, plan) from None
    # Outside the handler: while there is an error, its traceback holds the model and so the memory
    _free()
    log.warning("%s; the last checkpoint is gone on from", smaller.choices[-1].why)
    write_json(folder / "plan.json", smaller.as_json())
    try:
        return smaller, work(plan=smaller)
    except OutOfMemory as error:
        raise _explained(error, smaller) from None


def smaller_plan(plan: Plan, settings: Train, shape: Shape, rows: Sequence[Row]) -> Plan | None:
    """The same training with less in memory at a time; None where there is nothing left to make smaller.

    Args:
        plan: what did not fit.
        settings: `gradient_checkpointing: false` in the recipe stays so.
        shape: of the model.
        rows: that are trained on.
    """
    sizes = [size for size in range(1, plan.micro_batch // 2 + 1) if plan.batch % size == 0]
    micro = sizes[-1] if sizes else plan.micro_batch
    checkpointing = plan.checkpointing or settings.gradient_checkpointing is not False
    if (micro, checkpointing) == (plan.micro_batch, plan.checkpointing):
        return None
    lengths = sorted(len(row.input_ids) for row in rows)
    tokens = sum(lengths[-micro:])
    share = sum(row.trained for row in rows) / sum(lengths)
    parts = memory(
        shape,
        quantisation=plan.quantisation,
        r=plan.r,
        tokens=tokens,
        labelled=math.ceil(share * tokens),
        checkpointing=checkpointing,
        compute=plan.compute,
        device=plan.device,
    )
    why = (
        f"the {plan.device} ran out of memory with {_said(plan.micro_batch, plan.checkpointing)}: "
        f"{_said(micro, checkpointing)}, so {plan.batch} rows a step as before"
    )
    changed = {"micro_batch": micro, "gradient_checkpointing": checkpointing}
    choices = [dataclasses.replace(c, value=changed.get(c.name, c.value)) for c in plan.choices]
    return dataclasses.replace(
        plan,
        micro_batch=micro,
        checkpointing=checkpointing,
        estimate_bytes=parts.total,
        parts=parts,
        choices=(*choices, Choice("reduced", True, why)),
        reduced=True,
    )


def _said(micro: int, checkpointing: bool) -> str:
    return f"{micro} rows at a time{' and checkpointing' if checkpointing else ''}"


def _explained(error: Exception, plan: Plan) -> Exception:
    """The error that ends it, with what was tried."""
    from tamis.train.sft import OutOfMemory

    assert isinstance(error, OutOfMemory)
    tried = f"tried last: {_said(plan.micro_batch, plan.checkpointing)}, {plan.estimate_bytes / 1e9:.1f} GB planned"
    return OutOfMemory(error.what, where=error.where, why=f"{error.why}; {tried}", hint=error.hint)


def _free() -> None:
    gc.collect()
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.empty_cache()
