"""A study's answer in plain words, and its table."""

from __future__ import annotations

from typing import Any


def closing(result: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    """For the terminal: the table, and the lines below it; the last names the file."""
    by = "logistic regression on embeddings, NOT by training" if result["proxy"] else "training"
    lines = [
        f"{result['items']:,} items, judged by {by}; intervals over seeds and items, {result['confidence']:.0%}",
        *[recommendation(result, method) for method in result["recommended"]],
        *[choosing(gain, result["confidence"]) for gain in result["choosing"]],
    ]
    if result["curation_s"]:
        lines.append(f"curation took {result['curation_s']:,.0f} s, once, beside what the table holds")
    return grid(result), [*lines, f"table   {result['folder']}/table.md"]


def grid(result: dict[str, Any]) -> list[list[str]]:
    """The table as text, header first."""
    trained = result["reference"]["train_s"] is not None
    priced = result["reference"]["cost"] is not None
    header = ["method", "rows", "seeds", "accuracy", "95 % interval", "less all", "95 % interval", "p", "verdict"]
    header = [h.replace("95 %", f"{result['confidence']:.0%}") for h in header]
    header += (["training", "of all's"] if trained else []) + (["cost"] if priced else [])
    lines = [header]
    for point in [*result["points"], result["reference"]]:
        loss = point.get("loss") or {}
        line = [
            point["method"],
            f"{point['size']:,}",
            str(point["seeds"]),
            f"{point['accuracy']['value']:.3f}",
            _bounds(point["accuracy"], ""),
            f"{loss['value']:+.3f}" if loss else "",
            _bounds(loss, "+") if loss else "",
            f"{point['p']:.3f}" if loss else "",
            point.get("verdict", "reference"),
        ]
        if trained:
            line += [f"{point['train_s']:,.0f} s", f"{point['train_s'] / result['reference']['train_s']:.0%}"]
        if priced:
            line.append(f"{point['cost']:.4f} {result['currency']}")
        lines.append(line)
    return lines


def recommendation(result: dict[str, Any], method: str) -> str:
    """The sentence on one method: the smallest sufficient size, or why there is none."""
    points = {p["size"]: p for p in result["points"] if p["method"] == method}
    size, margin, total = result["recommended"][method], _points(result["margin"]), result["reference"]["size"]
    if size is not None:
        loss = points[size]["loss"]
        said = (
            f"{method}: {size:,} of {total:,} rows are enough: {_change(loss['value'])} against all rows, at worst "
            f"{_change(loss['lower'])} (margin {margin})"
        )
        smaller = [p for s, p in points.items() if s < size and p["verdict"] == "open"]
        return (
            f"{said}; {smaller[-1]['size']:,} rows are not settled{_missing(smaller[-1], result['margin'])}"
            if smaller
            else said
        )
    largest = points[max(points)]
    loss = largest["loss"]
    if largest["verdict"] == "too few":
        return (
            f"{method}: no size tried is enough: {largest['size']:,} of {total:,} rows lose "
            f"{_points(-loss['value'])}, at least {_points(-loss['upper'])} (margin {margin})"
        )
    return (
        f"{method}: INCONCLUSIVE: {largest['size']:,} of {total:,} rows differ from all by {_change(loss['value'])} "
        f"({_change(loss['lower'])} to {_change(loss['upper'])}, margin {margin}){_missing(largest, result['margin'])}"
        + ("; a larger size may settle it sooner" if largest["size"] < total else "")
    )


def choosing(gain: dict[str, Any], confidence: float) -> str:
    """The sentence on choosing against chance at one size."""
    found = gain["gain"]
    told = gain["p_holm"] <= 1 - confidence
    said = "is better than" if told and found["value"] > 0 else "is worse than" if told else "is not told apart from"
    return (
        f"at {gain['size']:,} rows cluster {said} random: {_change(found['value'])} "
        f"({_change(found['lower'])} to {_change(found['upper'])}; {_p(gain['p_holm'])}, Holm over the sizes)"
    )


def _missing(point: dict[str, Any], margin: float) -> str:
    """What would settle a point, as far as can be told from it."""
    loss, need = point["loss"], point["needed"]
    near = abs(loss["value"] + margin) < (loss["upper"] - loss["lower"]) / 8  # half a standard error
    if near and need["limited_by"] == "items":
        return "; the loss is about the margin itself, which hardly any number of seeds or items settles"
    ways = [f"{need[kind]:,} {kind}" for kind in ("seeds", "items") if need[kind] is not None]
    if not ways:
        return "; more seeds or more items alone would not settle it: both are needed"
    return f"; about {' or '.join(ways)} would settle it, if the truth is as estimated ({need['limited_by']} limit it)"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


def _change(share: float) -> str:
    return f"{100 * share:+.1f}"


def _bounds(interval: dict[str, Any], sign: str) -> str:
    return f"{interval['lower']:{sign}.3f} to {interval['upper']:{sign}.3f}"


def foretold(told: dict[str, Any], minutes: Any) -> list[str]:
    """A forecast, for the terminal.

    Args:
        told: `study.forecast`.
        minutes: seconds to words.
    """
    left = told["cells"] - told["done"]
    if told["seconds"] is None:
        return [f"fit {left} logistic regressions, seconds each; {told['done']} are done; {told['items']:,} items each"]
    lines = [f"train {left} cells, about {minutes(told['seconds'])}; {told['done']} are done"]
    lines += [
        f"  {p['method']}, {p['size']:,} rows: {p['left']} times about {minutes(p['seconds'])}" for p in told["points"]
    ]
    lines.append(f"evaluate: {told['items']:,} items for each; that time comes on top")
    if told["money"] is not None:
        lines.append(f"money: about {told['money']:.4f} {told['currency']} of machine time to train")
    return lines
