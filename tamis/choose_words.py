"""The answer of `tamis choose` in plain words, and its table, 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.reports import written_numbers as written

WIDTH = 80
SHORTEST = 10  # columns of a name
MOST_REJECTED = 6


def closing(result: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    """For the terminal: the table, and the lines below it."""
    asked = [r for r in result["candidates"] if "value" in r]
    calls, items = result["calls"], result["items"]
    lines = [
        f"{items:,} items in rounds that end at {_listed(r['items'] for r in result['rounds'])}, seed {result['seed']}",
        f"{calls['asked']:,} model calls, {calls['everything']:,} if all had been asked everything"
        + (f"; {calls['calibration']:,} training rows to calibrate on" if calls["calibration"] else "")
        + (f"; {calls['timed']:,} timed" if calls["timed"] else ""),
        *rejected(result["candidates"]),
        f"front     {', '.join(result['front'])}: nobody is better in one number and no worse in the others",
        f"base      {result['recommended']['name']}: {result['recommended']['why']}",
        f"recipe    {result['recipe']}",
        f"next: tamis run {result['recipe']} --run {Path(result['folder']).parent}",
    ]
    return grid(asked, result), [part for line in lines for part in _wrapped(line)]


def _wrapped(line: str) -> list[str]:
    if line.startswith(("recipe", "next:", "table")):  # to be copied whole
        return [line]
    return textwrap.wrap(line, WIDTH, subsequent_indent="          ", break_long_words=False)


def grid(rows: list[dict[str, Any]], result: dict[str, Any]) -> list[list[str]]:
    """The table as text, header first: finalists by value, then those that fell, the later the higher."""
    priced = any((row.get("cost_per_1k") or {}).get("value") is not None for row in rows)
    head = ["candidate", result["metric"][:8], f"{result['confidence']:.0%}", "n", "b/byte", "p95", "GB"]
    lines = [[*head, *(["1k"] if priced else []), "fate"]]
    for row in sorted(rows, key=_place):
        line = [
            row["name"],
            _number(row["value"]),
            _bounds(row["value"]),
            f"{row['items']:,}",
            _number(row.get("bits_per_byte"), 2),
            _milliseconds(row.get("p95_ms")),
            "" if row.get("memory_gb") is None else f"{row['memory_gb']:.1f}",
        ]
        if priced:
            price = (row.get("cost_per_1k") or {}).get("value")
            line.append("" if price is None else f"{price:.2g}")
        lines.append([*line, fate(row, result)])
    rest = sum(2 + max(len(line[i]) for line in lines) for i in range(1, len(lines[0])))
    room = max(SHORTEST, WIDTH - rest)
    return [[name if len(name) <= room else f"{name[: room - 1]}…", *line] for name, *line in lines]


def fate(row: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """What became of a candidate, in a word."""
    if row.get("fell"):
        return "worse" if row["fell"]["why"] == "shown to be worse" else "half"
    if row["name"] == result["recommended"]["name"]:
        return "BASE"
    return "front" if row["on_front"] else ""


def _place(row: dict[str, Any]) -> tuple[int, float]:
    value = row["value"]["value"]
    return -row["items"] if row.get("fell") else -(1 << 30), -(value if value is not None else 0.0)


def rejected(candidates: list[dict[str, Any]]) -> list[str]:
    """One line for each of the first that were ruled out, and one for what is not on this machine."""
    out = [r for r in candidates if r["rejected"]]
    # what the recipe names comes first: somebody wanted it
    out.sort(key=lambda r: r["origin"] != "recipe")
    lines = [f"not {r['name']}: {'; '.join(r['rejected'])}" for r in out[:MOST_REJECTED]]
    if len(out) > MOST_REJECTED:
        lines.append(f"and {len(out) - MOST_REJECTED} more were ruled out (result.json says why)")
    absent = [r["model"] for r in candidates if r["status"] == "not here"]
    if absent:
        named = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        lines.append(
            f"would fit, not on this machine: {named}; fetch one (hf download NAME) and name it to have it asked"
        )
    return lines


def why(found: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], metric: str) -> str:
    """The reason for a recommendation, in a sentence or three."""
    row = rows[found["name"]]
    said = f"{metric} {_number(row['value'])} on {row['items']:,} items"
    runner, against = found["runner_up"], found["against"]
    if runner is None:
        said += ", the only base that was asked"
    elif against["told_apart"]:
        said += f", {_change(against)} against {runner}, more than chance"
    else:
        said += f"; not told apart from the runner-up {runner} ({_change(against)} on {against['items']:,} items)"
        other = rows[runner]
        if (row.get("memory_gb") or 0) > 1.1 * (other.get("memory_gb") or float("inf")):
            said += f", which needs {other['memory_gb']:.1f} GB instead of {row['memory_gb']:.1f}"
    if found["ahead"] is not None:
        best = rows[found["best"]]
        kind = {"endpoint": "endpoint", "encoder": "encoder"}.get(best["kind"], "base")
        sure = "more than chance" if found["ahead"]["told_apart"] else "not told apart"
        said += f". The best of all is the {kind} {found['best']} ({_change(found['ahead'])}, {sure}): "
        said += "tune this base only if that can bring it above"
    return said


def _change(pair: Mapping[str, Any]) -> str:
    delta = pair["delta"]
    bounds = _bounds(delta, sign=True)
    return f"{_number(delta, sign=True)}{f', {bounds}' if bounds else ''}"


def foretold(told: dict[str, Any]) -> list[str]:
    """What choosing would do, for a dry run."""
    asked = [c for c in told["candidates"] if c["status"] == "asked"]
    lines = [f"{len(asked)} candidates would be asked: {', '.join(c['name'] for c in asked)}"]
    lines += rejected(told["candidates"])
    lines.append(
        f"rounds end at {_listed(told['rounds'])} items: at most {told['calls']:,} model calls, "
        f"{told['everything']:,} if all were asked everything; {told['timed']:,} timed for those that are left"
    )
    lines += [f"{rows:,} rows would go to {host}" for host, rows in told["leaving"].items()]
    return [part for line in lines for part in _wrapped(line)]


def _listed(sizes: Any) -> str:
    return ", ".join(f"{size:,}" for size in sizes)


def _number(interval: Any, digits: int = 3, *, sign: bool = False) -> str:
    value = (interval or {}).get("value")
    return "" if value is None or value != value else f"{value:{'+' if sign else ''}.{digits}f}"


def _bounds(interval: Any, *, sign: bool = False) -> str:
    lower, upper = (interval or {}).get("lower"), (interval or {}).get("upper")
    if lower is None or upper is None:
        return ""
    return f"{lower:{'+' if sign else ''}.2f}{' to ' if sign else '-'}{upper:{'+' if sign else ''}.2f}"


def _milliseconds(interval: Any) -> str:
    value = (interval or {}).get("value")
    return "" if value is None or value != value else written.milliseconds(value)
