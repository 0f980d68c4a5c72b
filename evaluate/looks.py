"""Looks at an evaluation set: how often it has already said which model is better.

Whoever picks the best of many by the same items picks their luck too. Each system that is evaluated to the end is one
look, written into its run; the runs beside it are counted with it, as far as they used the same items.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

from tamis.run import Run

FILE = "looks.jsonl"


def note(run: Run, eval_set_sha256: str, arm: str, system: str) -> None:
    """Write down a look, on disk before it returns."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    row = {"eval_set_sha256": eval_set_sha256, "arm": arm, "system": system, "at": now}
    with (run.path / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())


def told(run: Run, eval_set_sha256: str) -> dict[str, Any]:
    """Looks at these items by this run and those in the same folder.

    Returns:
        {looks, runs, since (date of the first; None where there is none)}.
    """
    folders = sorted(f.parent for f in run.path.absolute().parent.glob(f"*/{FILE}"))
    found = {folder: [r for r in _rows(folder / FILE) if r["eval_set_sha256"] == eval_set_sha256] for folder in folders}
    times = sorted(row["at"] for rows in found.values() for row in rows)
    return {
        "looks": len(times),
        "runs": sum(bool(rows) for rows in found.values()),
        "since": times[0][:10] if times else None,
    }


def _rows(file: Path) -> list[dict[str, Any]]:
    """Whole lines; one that a kill cut short is none."""
    found = []
    try:
        lines = file.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and {"eval_set_sha256", "at"} <= row.keys():
            found.append(row)
    return found
