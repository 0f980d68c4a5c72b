"""The tables of README.md from finished runs, and from what timing.py kept beside them.

python benchmarks/tasks/table.py RUNS_FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TASKS = {
    "clinc150": "classify, English, 15 intents",
    "tickets_vi": "classify, Vietnamese, 28 intents",
    "gsm8k": "regress, English",
    "summaries": "summarise, English",
    "chat": "chat of four turns, English and Vietnamese",
}
TIMED = ("alone, p50 in ms", "items/s, 1 at once", "items/s, 4 at once", "items/s, 16 at once", "USD per 1k")
ELSEWHERE = ("load.", "cost.", "latency.")  # of the run itself, on a machine that was busy


def shown(value: float | None) -> str:
    """Three digits behind the point of small numbers, one behind that of large ones."""
    if value is None:
        return "?"
    if abs(value) >= 1e7:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def cell(value: float | None, lower: float | None, upper: float | None) -> str:
    return f"{shown(value)} ({shown(lower)} to {shown(upper)})"


def timed(found: dict[str, Any] | None) -> list[str]:
    """The cells of `TIMED`; empty ones for a system that was not timed."""
    if found is None:
        return [""] * len(TIMED)
    return [cell(*found["alone_ms"]), *(f"{r:,.2f}" for r in found["items_per_s"]), f"{found['usd_per_1k']:.2g}"]


def table(task: str, compared: dict[str, Any], clock: dict[str, Any]) -> list[str]:
    systems = {s["system"]: s["metrics"] for s in compared["systems"]}
    columns = sorted(systems)
    rows = [["metric", *columns], ["---"] * (len(columns) + 1)]
    for id in dict.fromkeys(id for metrics in systems.values() for id in metrics):
        found = [systems[name].get(id) for name in columns]
        if id.startswith(ELSEWHERE) or not any(m and m["value"] is not None for m in found):
            continue
        told = [cell(m["value"], m["lower"], m["upper"]) if m and m["value"] is not None else "" for m in found]
        name = f"`{id.rpartition('/')[2]}`" if ":" in id else id
        rows.append([name, *told])
    times = [timed(clock.get(f"{task}/{name}")) for name in columns]
    rows += [[name, *(t[place] for t in times)] for place, name in enumerate(TIMED) if any(t[place] for t in times)]
    return [f"| {' | '.join(row)} |" for row in rows]


def main() -> None:
    folder = Path(sys.argv[1])
    kept = folder / "timing.json"
    clock = json.loads(kept.read_text()) if kept.is_file() else {}
    for task, what in TASKS.items():
        compared = json.loads((folder / task / "comparison.json").read_text())
        verdict = json.loads((folder / task / "verdict.json").read_text())
        print(f"**{task}**: {what}, {compared['items']} items. Verdict {verdict['verdict']}.\n")
        print("\n".join(table(task, compared, clock)))
        gates = verdict["arms"][verdict["arm"]]["gates"]
        told = [f"{g['id']} {g['verdict']}: {cell(g['value'], g['lower'], g['upper'])}, {g['require']}" for g in gates]
        print(f"\nGates: {'; '.join(told)}.\n")


if __name__ == "__main__":
    main()
