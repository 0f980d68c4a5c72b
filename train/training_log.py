"""How a training goes, step by step: `log.jsonl`, and a few words for the terminal."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tamis.run import peak_memory_mb
from tamis.schema import write_atomic
from tamis.train.utilisation import Utilisation


class Log:
    """`log.jsonl`: one line a step. Lines of steps that a resumed run will repeat are taken out first.

    Attributes:
        told: the last step in a few words, for a terminal; empty before the first.
        seconds_before: what the steps took that are not repeated.
    """

    def __init__(self, path: Path, upto: int = 0, *, device: str = "cpu", utilisation: Utilisation | None = None):
        self.path, self.last_loss, self.tokens, self.told = path, float("nan"), 0, ""
        self._device, self._utilisation = device, utilisation
        self._fresh = self._computed = self._labelled = 0
        self._clock = time.monotonic()
        self._seconds, self._done = 0.0, 0  # of this process: a resumed one must not count its predecessor's
        self._held_out: float | None = None
        lines = [line for line in _read_lines(path) if line["step"] <= upto]
        self.tokens = sum(line["tokens"] for line in lines)
        self.seconds_before = float(sum(line["seconds"] for line in lines))
        if lines:
            self.last_loss = lines[-1]["loss"]
        self._measurements = [(line["step"], line["held_out_loss"]) for line in lines if "held_out_loss" in line]
        write_atomic(path, b"".join(_line(line) for line in lines))

    def count(self, tokens: int, computed: int, labelled: int) -> None:
        """Add a micro-batch to the step in progress: tokens of its rows, of them computed, of them with a label."""
        self._fresh, self._computed, self._labelled = (
            self._fresh + tokens,
            self._computed + computed,
            self._labelled + labelled,
        )

    def measured(self, loss: float) -> None:
        """Note the held-out loss after the step in progress."""
        self._held_out = loss

    def measurements(self) -> list[tuple[int, float]]:
        """Step and held-out loss of an interrupted training, as far as they will not be repeated."""
        return self._measurements

    def write(self, step: int, steps: int, epoch: float, logs: dict[str, float]) -> None:
        """Write the line of a finished step, of so many in all."""
        now = time.monotonic()
        seconds, self._clock = max(now - self._clock, 1e-9), now
        self._seconds, self._done = self._seconds + seconds, self._done + 1
        line = {
            "step": step,
            "epoch": round(epoch, 4),
            "loss": logs["loss"],
            "lr": logs.get("learning_rate"),
            "grad_norm": logs.get("grad_norm"),
            "tokens": self._fresh,
            "seconds": round(seconds, 3),
            "tokens_per_second": round(self._fresh / seconds, 1),
            "eta_s": round((steps - step) * self._seconds / self._done, 1),
            "peak_mb": round(device_peak_mb(self._device)),
        }
        if self._utilisation is not None:
            line["mfu"] = round(self._utilisation.mfu(self._computed, self._labelled, seconds), 4)
        if self._held_out is not None:
            line["held_out_loss"], self._held_out = self._held_out, None
        self.tokens, self.last_loss, self.told = self.tokens + self._fresh, logs["loss"], _in_words(line)
        self._fresh = self._computed = self._labelled = 0
        with self.path.open("ab") as file:
            file.write(_line(line))

    def callback(self) -> Any:
        """What the trainer calls."""
        from transformers import TrainerCallback

        log = self

        class Write(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                log._clock = time.monotonic()

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if logs and "loss" in logs:
                    log.write(state.global_step, state.max_steps, state.epoch or 0.0, logs)

        return Write()


def _in_words(line: dict[str, Any]) -> str:
    """A step for the terminal, where steps, time left and the process's memory stand already."""
    parts = [f"loss {line['loss']:.3f}"]
    if line["lr"] is not None:
        parts.append(f"rate {line['lr']:.1e}")
    if line["grad_norm"] is not None:
        parts.append(f"gradient {line['grad_norm']:.2g}")
    parts.append(f"{line['tokens_per_second']:,.0f} tokens/s")
    if "mfu" in line:
        parts.append(f"MFU {line['mfu']:.0%}, {line['peak_mb']:,} MB on the GPU")
    return ", ".join(parts)


def device_peak_mb(device: str) -> float:
    """Peak memory so far on the device that trains: tensors on a GPU, else the process's. In MB (10^6 bytes)."""
    if device != "cuda":
        return peak_memory_mb()
    import torch

    return torch.cuda.max_memory_allocated() / 1e6


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log; a kill may have cut the last one."""
    if path.is_file():
        for raw in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(raw)
