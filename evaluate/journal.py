"""The journal of answers: appended batch by batch, on disk before the next batch starts.

The batch is the unit of resume, because in bf16 an answer depends on what it was batched with: a killed evaluation
goes on with whole batches of a plan that was fixed before the first of them, so its answers are those of an
undisturbed run. `plan.json` holds the plan, `samples.jsonl` one line per item.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tamis.evaluate.task import Item
from tamis.schema import SAMPLES, read_json, write_json

Plan = list[list[str]]


def batch_plan(items: Sequence[Item], size: int, length: Callable[[Item], int]) -> Plan:
    """Item ids in batches of like length (little padding), from the full list, whatever its order."""
    order = sorted(items, key=lambda i: (length(i), i.id))
    return [[i.id for i in order[start : start + size]] for start in range(0, len(order), size)]


class Journal:
    """Answers on disk. Make it, `resume`, then `append` the batches that are missing."""

    def __init__(self, folder: Path, plan: Plan):
        self.file = folder / "samples.jsonl"
        self.plan = plan
        self.rows: list[dict[str, Any]] = []
        plan_file = folder / "plan.json"
        try:
            stored = read_json(plan_file)["batches"]
        except (OSError, ValueError, KeyError):
            stored = None
        if stored != plan:  # answers under another plan are another experiment's
            self.file.unlink(missing_ok=True)
            write_json(plan_file, {"batches": plan})

    def resume(self) -> set[int]:
        """Read what is whole, cut off what is not (a half-written line, an unfinished batch).

        Returns:
            Numbers of the batches that need not be answered again.
        """
        data = self.file.read_bytes() if self.file.is_file() else b""
        done: set[int] = set()
        pending: list[dict[str, Any]] = []
        place = whole = 0
        for line in data.splitlines(keepends=True):
            place += len(line)
            row = _parse(line)
            if row is None:
                break
            pending.append(row)
            batch = row.get("batch")
            ids = [r.get("id") for r in pending]
            if isinstance(batch, int) and 0 <= batch < len(self.plan) and ids == self.plan[batch] and batch not in done:
                done.add(batch)
                self.rows += pending
                pending, whole = [], place
        if whole < len(data):
            with self.file.open("r+b") as file:
                file.truncate(whole)
                file.flush()
                os.fsync(file.fileno())
        return done

    def append(self, batch: int, rows: Sequence[dict[str, Any]], seconds: float) -> None:
        """Write one batch's answers and wait for the disk."""
        if [r["id"] for r in rows] != self.plan[batch]:
            raise ValueError(f"the answers do not belong to batch {batch}")
        full = [{**_clean(row), "batch": batch, "batch_seconds": seconds} for row in rows]
        with self.file.open("ab") as file:
            file.write(b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in full))
            file.flush()
            os.fsync(file.fileno())
        self.rows += full

    def table(self, order: Sequence[str]) -> pa.Table:
        """All answers as `schema.SAMPLES`, in the given order of ids."""
        by_id = {row["id"]: row for row in self.rows}
        rows = [{name: by_id[i].get(name) for name in SAMPLES.names} for i in order]
        return pa.Table.from_pylist(rows, schema=SAMPLES)

    def batches(self) -> list[dict[str, Any]]:
        """Per batch: items, items answered without an error, seconds."""
        found: dict[int, dict[str, Any]] = {}
        for row in self.rows:
            entry = found.setdefault(row["batch"], {"items": 0, "answered": 0, "seconds": row["batch_seconds"]})
            entry["items"] += 1
            entry["answered"] += row["error"] is None
        return [found[b] for b in sorted(found)]


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    """A lone surrogate in a model's output is no Unicode text; Parquet and UTF-8 refuse it."""
    return {k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in row.items()}
