"""Arms side by side: value, paired difference from one of them, Holm's p-value, time, memory, money, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tamis.recipe import Price
from tamis.reports.written_numbers import p_value
from tamis.run import Run
from tamis.schema import write_atomic

CONFIDENCE = 0.95


def rows_of(
    home: Path, cells: Sequence[dict[str, Any]], reference: str, metric: str, price: Price
) -> list[dict[str, Any]]:
    """What is said of each arm.

    Args:
        home: of the cells.
        cells: rows of `schema.CELLS`.
        reference: the arm (a cell's name) that the others are held against.
        metric: that decides, a quality metric.
        price: what an hour of the machine costs, if that is known.

    Returns:
        {arm, system, metric, value (interval), delta (interval; None of the reference), p, p_holm, told_apart, better,
        train_s, evaluate_s, tokens_per_s, peak_mb, steps, cost, currency} of each, in their order.
    """
    from tamis.evaluate.evidence import Evidence
    from tamis.evaluate.measure import absolute
    from tamis.evaluate.metrics import lookup
    from tamis.evaluate.versus import versus

    unit = lookup(metric).unit
    evidence = {c["cell"]: Evidence(c["cell"], c["system"], Run(home).evaluate(c["cell"], c["system"])) for c in cells}
    against = [e for name, e in evidence.items() if name != reference]
    held = {v.arm: v for v in versus(against, evidence[reference], metric, CONFIDENCE)}
    rows = []
    for cell in cells:
        name, other = cell["cell"], held.get(cell["cell"])
        seconds = (cell["train_s"] or 0.0) + cell["evaluate_s"]
        rows.append(
            {
                "arm": name,
                "system": cell["system"],
                "metric": metric,
                "value": absolute(evidence[name], metric, CONFIDENCE).as_dict(unit),
                "delta": other and other.delta.as_dict(unit),
                "p": other and other.p,
                "p_holm": other and other.p_holm,
                "told_apart": other and other.told_apart(CONFIDENCE),
                "better": other and other.better,
                "train_s": cell["train_s"],
                "evaluate_s": cell["evaluate_s"],
                "tokens_per_s": cell["tokens"] / cell["train_s"] if cell["train_s"] else None,
                "peak_mb": cell["peak_mb"],
                "steps": cell["steps"],
                "cost": None if price.machine_hour is None else price.machine_hour * seconds / 3600,
                "currency": price.currency,
            }
        )
    return rows


def grid(rows: Sequence[dict[str, Any]], reference: str) -> list[list[str]]:
    """The table as text, header first."""
    priced = any(row.get("cost") is not None for row in rows)
    forgets = any("forgetting" in row for row in rows)
    header = ["arm", rows[0]["metric"], "95 % interval", f"less {reference}", "95 % interval", "p (Holm)"]
    header += (
        ["train", "tokens/s", "memory"] + (["cost"] if priced else []) + (["forgets, bits/byte"] if forgets else [])
    )
    lines = [header]
    for row in rows:
        delta = row["delta"] or {}
        line = [
            row["arm"],
            _number(row["value"]["value"]),
            _bounds(row["value"]),
            _number(delta.get("value"), sign=True),
            _bounds(delta, sign=True),
            "" if row["p_holm"] is None else p_value(row["p_holm"]).removeprefix("p ").removeprefix("= "),
            "" if row["train_s"] is None else f"{row['train_s']:,.0f} s",
            "" if row["tokens_per_s"] is None else f"{row['tokens_per_s']:,.0f}",
            f"{row['peak_mb'] / 1000:.2f} GB",
        ]
        if priced:
            line.append("" if row["cost"] is None else f"{row['cost']:.4f} {row['currency']}")
        if forgets:
            lost = row.get("forgetting")
            line.append("" if lost is None else f"{_number(lost['value'], sign=True)} {_bounds(lost, sign=True)}")
        lines.append(line)
    return lines


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The table as Markdown."""
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"|{'---|' * len(lines[0])}", *body]) + "\n"


def write(folder: Path, title: str, notes: Sequence[str], lines: Sequence[Sequence[str]]) -> Path:
    """Write `table.md` into a folder: notes first, then the table."""
    file = folder / "table.md"
    text = "\n".join([f"# {title}", "", *notes, "", markdown(lines)])
    write_atomic(file, text.encode())
    return file


def _number(value: float | None, *, sign: bool = False) -> str:
    return "" if value is None else f"{value:{'+' if sign else ''}.3f}"


def _bounds(interval: dict[str, Any], *, sign: bool = False) -> str:
    if interval.get("lower") is None or interval.get("upper") is None:
        return ""
    return f"{_number(interval['lower'], sign=sign)} to {_number(interval['upper'], sign=sign)}"
