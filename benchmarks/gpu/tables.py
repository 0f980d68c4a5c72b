"""The parts' files as one table, in JSON and Markdown. Shared by a run that ends and one that was cut off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOLERANCE = 0.10  # of the memory plan


def write_tables(folder: Path) -> None:
    """Write `table.json` and `table.md` from the parts that are there."""
    files = sorted(file for file in folder.glob("*-*.json"))
    results = [json.loads(file.read_text()) for file in files]
    (folder / "table.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "table.md").write_text("\n".join(markdown(results)) + "\n")


def markdown(results: list[dict[str, Any]]) -> list[str]:
    machines = {json.dumps(result["found"]) for result in results if "found" in result}
    lines = ["# Measured", ""]
    for machine in sorted(machines):
        lines += [", ".join(f"{name} {value}" for name, value in json.loads(machine).items()), ""]
    memory = [result for result in results if result["kind"] == "memory"]
    if memory:
        lines += [
            "| shape | method | tokens | mode | at once | planned MB | measured MB | error | tensors alone | held |",
            "|---|---|---:|---|---:|---:|---:|---:|---:|---|",
            *map(_memory_line, memory),
            "",
        ]
    speed = [result for result in results if result["kind"] == "speed"]
    if speed:
        lines += [
            "| shape | method | tokens a row | tamis, tokens/s | TRL's defaults | ratio | MFU | of own rate |",
            "|---|---|---:|---:|---:|---:|---:|---:|",
            *map(_speed_line, speed),
        ]
    return lines


def _memory_line(found: dict[str, Any]) -> str:
    start = f"| {found['shape']} | {found['method']} | {found['length']} | {found['mode']} |"
    if "failed" in found:
        return f"{start} | | | | | {found['failed']} |"
    error = found["error"]
    held = "not measurable here" if error is None else "yes" if abs(error) <= TOLERANCE else "**no**"
    mode = "" if found["packing"] == (found["mode"] == "packed") else ", but not packed"
    return (
        f"{start} {found['micro_batch']}{mode} | {found['planned'] / 1e6:,.0f} | {found['measured'] / 1e6:,.0f} "
        f"| {_percent(error)} | {_percent(found.get('error_of_tensors'))} | {held} |"
    )


def _speed_line(found: dict[str, Any]) -> str:
    start = f"| {found['shape']} | {found['method']} | {found['length']} |"
    if "failed" in found:
        return f"{start} {found['failed']} | | | | |"
    plain, ours = found["trl"], found["tamis"]
    beside = f"{plain:,.0f} | {ours / plain:.2f}" if plain else f"{found['trl_failed']} |"
    return f"{start} {ours:,.0f} | {beside} | {_percent(found['mfu'])} | {_percent(found['of_own_rate'])} |"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
