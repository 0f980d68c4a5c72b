"""Rows and recipes for the training tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tamis.recipe import Recipe
from tamis.run import Run
from tamis.schema import RECORD

ROOT = Path(__file__).parents[2]
TEXTS = ["where is my parcel", "i want my money back", "block my card please", "unblock it again", "khóa thẻ của tôi"]
LABELS = ["track order", "refund", "block card", "unblock card", "block card"]


def table(count: int, *, texts: list[str] = TEXTS, labels: list[str] = LABELS) -> pa.Table:
    """So many rows that differ."""
    return pa.Table.from_pylist(
        [row(i, f"{texts[i % len(texts)]} {i}", labels[i % len(labels)]) for i in range(count)], RECORD
    )


def row(number: int, prompt: str, answer: str | None) -> dict[str, Any]:
    """A record's columns."""
    turns = [{"role": "user", "content": prompt, "rest": None}]
    if answer is not None:
        turns.append({"role": "assistant", "content": answer, "rest": None})
    return {
        "id": f"{number:016x}-0000-0",
        "key": None,
        "messages": turns,
        "label": answer,
        "source": None,
        "license": None,
        "file": "rows.jsonl",
        "line": number + 1,
        "offset": -1,
        "length": 0,
        "meta": None,
    }


def recipe(model: Path, **train: Any) -> Recipe:
    """A recipe for a tiny model: small batches, so that a few rows make several steps."""
    train = {"r": 8, "lr": 1e-3, "batch": 4, "epochs": 2, "save_steps": 2} | train
    return Recipe.check(
        {
            "name": "test",
            "data": {"path": "rows.jsonl"},
            "model": str(model),
            "train": train,
            "evaluate": {"task": {"kind": "classify", "template": "Message: {prompt}\nIntent:"}},
        }
    )


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def log_lines(run: Run) -> list[dict[str, Any]]:
    """The lines of the main arm's training log."""
    return [json.loads(line) for line in (run.train("main") / "log.jsonl").read_text().splitlines()]


def stopped_at(step: int, run: Run, asked: Recipe, rows: pa.Table) -> None:
    """Begin a training and leave it after so many steps."""
    from tamis.train import stage

    class Stop(Exception):
        pass

    def stop(self: Any, done: float, note: str = "") -> None:
        if done == step:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.Progress, "update", stop)
        with pytest.raises(Stop):
            stage.train_arm(run, asked, "main", rows, quiet=True)


def python(code: str, *arguments: Any, before: Sequence[str | Path] = ()) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, from the root; `before` is a command that runs it."""
    return subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
