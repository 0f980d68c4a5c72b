"""Early stopping: the loss of rows that are not trained on, and the weights with which it was lowest.

The state is in the log alone: every measurement is a line of `log.jsonl`, and a resumed training has lost the lines
that it will repeat. So it stops at the same step, with the same weights, as an undisturbed one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tamis.errors import RecipeError
from tamis.train.labels import Row

HELD_OUT = "held_out"  # the reason such a row has in `tokens.parquet`


def hold_out(rows: Sequence[Row], share: float, seed: int) -> list[Row]:
    """Mark a share of the rows that could be trained on as held out.

    Which ones depends on their ids and the seed, not on their order or on the other rows' fate.

    Args:
        rows: labelled; dropped ones stay as they are. Those that are only too long count as drawn from, so that the
            same rows are held out whatever the length at which rows are cut.
        share: between 0 and 1; at least one row is held out.
        seed: of the draw.

    Raises:
        RecipeError: no row is left on one of the two sides.
    """
    ids = [row.id for row in rows if row.dropped in (None, "too_long")]
    drawn = sorted(ids, key=lambda id_: hashlib.blake2b(f"{seed}:{id_}".encode()).digest())
    held = set(drawn[: max(1, round(share * len(ids)))])
    found = [
        dataclasses.replace(row, dropped=HELD_OUT) if row.dropped is None and row.id in held else row for row in rows
    ]
    fates = {row.dropped for row in found}
    if ids and not {None, HELD_OUT} <= fates:
        raise RecipeError(
            "early stopping needs rows to train on and rows to hold out",
            where="train.early_stopping",
            why=f"of {len(rows):,} rows none is left to {'train on' if HELD_OUT in fates else 'hold out'}",
            hint="early_stopping: false",
        )
    return found


@dataclasses.dataclass
class Watch:
    """Measures, remembers the best, and says when to stop.

    Attributes:
        folder: of the checkpoints; the best weights lie there as `best-STEP.safetensors`.
        every: steps between two measurements; the last step is measured in any case.
        patience: measurements without a better one after which training ends.
        measure: from the model in training to the held-out loss, in nats per trained token.
        note: takes each loss, for the log.
        history: (step, loss) so far, in order.
    """

    folder: Path
    every: int
    patience: int
    measure: Callable[[Any], float]
    note: Callable[[float], None]
    history: list[tuple[int, float]]

    @property
    def best(self) -> tuple[int, float]:
        """Step and loss of the lowest measurement, the earliest of equal ones; NaN is never the lowest."""
        return min(self.history, key=lambda m: (math.inf if math.isnan(m[1]) else m[1], m[0]))

    @property
    def exhausted(self) -> bool:
        """Whether there were `patience` measurements after the best."""
        return bool(self.history) and sum(step > self.best[0] for step, _ in self.history) >= self.patience

    def look(self, step: int, model: Any) -> None:
        """Measure after a step, and keep the weights if they are the best so far."""
        loss = self.measure(model)
        self.history.append((step, loss))
        self.note(loss)
        if self.best[0] == step:
            self._save(step, model)

    def restore(self, model: Any) -> None:
        """Put the best weights into the model."""
        from safetensors.torch import load_file

        best = load_file(self._file(self.best[0]))
        for name, parameter in model.named_parameters():
            if name in best:
                parameter.data.copy_(best[name])

    def prune(self) -> None:
        """Remove weights that were best once; when a checkpoint is whole, since no resume goes back behind it."""
        for file in self.folder.glob("best-*"):
            if file != self._file(self.best[0] if self.history else -1):
                file.unlink()

    def callback(self) -> Any:
        """What the trainer calls."""
        from transformers import TrainerCallback

        watch = self

        class Look(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
                if state.global_step % watch.every == 0 or state.global_step == state.max_steps:
                    watch.look(state.global_step, model)
                    control.should_training_stop |= watch.exhausted

        return Look()

    def _file(self, step: int) -> Path:
        return self.folder / f"best-{step}.safetensors"

    def _save(self, step: int, model: Any) -> None:
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self._file(step).with_suffix(".tmp")
        save_file({n: p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad}, temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.rename(self._file(step))
