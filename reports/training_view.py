"""What training wrote: its log, line by line, and the plan with the reason for every choice."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from tamis.reports.folder import Folder
from tamis.reports.measures import number, rows

# Names under which a log line may carry each curve.
CURVES = {
    "loss": ("loss", "train_loss"),
    "evaluation loss": ("held_out_loss", "eval_loss"),
    "learning rate": ("learning_rate", "lr"),
    "gradient norm": ("grad_norm",),
    "tokens per second": ("tokens_per_s", "tokens_per_second"),
    "MFU": ("mfu",),
    "memory": ("peak_mb", "memory_mb"),
}


@dataclasses.dataclass(frozen=True)
class TrainingView:
    """One arm's training.

    Attributes:
        curves: (step, value) pairs by name.
        bad_step: the first step whose loss is not a number; None where there is none.
        choices: name, value and reason of what the plan decided.
        summary: `stage.json`.
        unread_lines: lines of the log that are not JSON.
    """

    arm: str
    curves: dict[str, list[tuple[float, float]]]
    bad_step: float | None
    choices: list[tuple[str, str, str]]
    summary: dict[str, Any]
    unread_lines: int


def training_view(folder: Folder, arm: str) -> TrainingView:
    """Read an arm's `log.jsonl`, `plan.json` and `stage.json`; a half-written last line is left out."""
    part = folder.run.train(arm)
    lines, unread = _log(part / "log.jsonl")
    curves: dict[str, list[tuple[float, float]]] = {}
    bad = None
    for i, line in enumerate(lines):
        step = number(line.get("step"))
        at = float(i + 1) if step is None else step
        for name, keys in CURVES.items():
            raw = next((line[k] for k in keys if k in line), None)
            value = number(raw)
            if value is not None and math.isfinite(value):
                curves.setdefault(name, []).append((at, value))
            elif name == "loss" and any(k in line for k in keys) and bad is None:
                bad = at
    plan = folder.json_if_there(part / "plan.json", f"the plan of {arm}", part=part)
    summary = folder.json_if_there(part / "stage.json", f"the training summary of {arm}", part=part)
    return TrainingView(arm, curves, bad, _choices(plan), summary, unread)


def _log(path: Any) -> tuple[list[dict[str, Any]], int]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [], 0
    found, unread = [], 0
    for line in text.splitlines():
        try:
            row = json.loads(line)  # NaN is accepted here: the page has to show that there was one
        except (ValueError, RecursionError):
            unread += 1
            continue
        if isinstance(row, dict):
            found.append(row)
    return found, unread


def _choices(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and sentence of every choice of the plan."""
    return [(str(c.get("name")), str(c.get("value")), str(c.get("why") or "")) for c in rows(plan.get("choices"))]
