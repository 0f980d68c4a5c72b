"""A study's answer in plain words, and its table."""

from __future__ import annotations

from typing import Any

PROXIES = {"accuracy": "logistic regression on embeddings", "bits_per_byte": "a byte model of texts"}


def closing(result: dict[str, Any]) -> tuple[list[list[str]], list[str]]:
    """For the terminal: the table, and the lines below it; the last names the file."""
    lines = [*sentences(result), f"table   {result['folder']}/table.md"]
    return grid(result), lines


def sentences(result: dict[str, Any]) -> list[str]:
    """What the table says, one sentence a line, the recommendations first after what was measured how."""
    quick = PROXIES.get(result["metric"], PROXIES["accuracy"])
    by = f"{quick}, NOT by training" if result["proxy"] else "training"
    confidence = f"{result['confidence']:.0%}"
    lines = [
        f"{result['items']:,} items, judged by {by}; {named(result)}; intervals over seeds and items, {confidence}",
        *[recommendation(result, method) for method in result["recommended"]],
        *[choosing(gain, result) for gain in result["choosing"]],
        *[curve(result, method) for method in result["curves"]],
        *[stable(point) for point in _largest(result["stability"])],
    ]
    if result["agreement"]:
        lines.append(agreeing(result["agreement"]))
    if result["left_out"]:
        lines.append(f"study.max_cost left out {result['left_out']:,} cells; arms may have fewer seeds than was asked")
    if result["curation_s"]:
        lines.append(f"curation took {result['curation_s']:,.0f} s, once, beside what the table holds")
    return lines


def named(result: dict[str, Any]) -> str:
    """The metric, and which way it is better."""
    metric = result["metric"].replace("_", " ")
    return metric if result["up"] else f"{metric} (less is better; losses are turned round, so below zero is worse)"


def grid(result: dict[str, Any]) -> list[list[str]]:
    """The table as text, header first."""
    read = result["reference"]["tokens"] is not None
    trained = result["reference"]["train_s"] is not None
    priced = result["reference"]["cost"] is not None
    header = ["method", "rows", "seeds", result["metric"], "95 % interval", "less all", "95 % interval", "p", "verdict"]
    header = [h.replace("95 %", f"{result['confidence']:.0%}") for h in header]
    header += (["tokens read", "of all's"] if read else []) + (["training"] if trained else [])
    lines = [[*header, *(["cost"] if priced else [])]]
    for point in [*result["points"], result["reference"]]:
        loss = point.get("loss") or {}
        line = [
            point["method"],
            f"{point['size']:,}",
            str(point["seeds"]),
            f"{point['value']['value']:.3f}",
            _bounds(point["value"], ""),
            f"{loss['value']:+.3f}" if loss else "",
            _bounds(loss, "+") if loss else "",
            f"{point['p']:.3f}" if loss else "",
            point.get("verdict", "reference"),
        ]
        if read:
            line += [f"{point['tokens']:,.0f}", f"{point['tokens'] / result['reference']['tokens']:.0%}"]
        if trained:
            line.append(f"{point['train_s']:,.0f} s")
        if priced:
            line.append(f"{point['cost']:.4f} {result['currency']}")
        lines.append(line)
    return lines


def recommendation(result: dict[str, Any], method: str) -> str:
    """The sentence a team acts on, for one method."""
    points = {p["size"]: p for p in result["points"] if p["method"] == method}
    margin, total = amount(result, result["margin"]), result["reference"]["size"]
    size = result["recommended"][method]
    if size is not None:
        loss = points[size]["loss"]
        said = (
            f"{method}: {size:,} of {total:,} rows are enough: {_change(result, loss['value'])} against all rows, at "
            f"worst {_change(result, loss['lower'])} (margin {margin})"
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
            f"{amount(result, -loss['value'])}, at least {amount(result, -loss['upper'])} (margin {margin})"
        )
    return (
        f"{method}: INCONCLUSIVE: {largest['size']:,} of {total:,} rows differ from all by "
        f"{_change(result, loss['value'])} ({_change(result, loss['lower'])} to {_change(result, loss['upper'])}, "
        f"margin {margin}){_missing(largest, result['margin'])}"
        + ("; a larger size may settle it sooner" if largest["size"] < total else "")
    )


def choosing(gain: dict[str, Any], result: dict[str, Any]) -> str:
    """The sentence on choosing against chance at one size."""
    found = gain["gain"]
    told = gain["p_holm"] <= 1 - result["confidence"]
    said = "is better than" if told and found["value"] > 0 else "is worse than" if told else "is not told apart from"
    between = f"{_change(result, found['lower'])} to {_change(result, found['upper'])}"
    return (
        f"at {gain['size']:,} rows cluster {said} random: {_change(result, found['value'])} "
        f"({between}; {_p(gain['p_holm'])}, Holm over the sizes)"
    )


def curve(result: dict[str, Any], method: str) -> str:
    """What a power law through the sizes says, and where it ends."""
    found = result["curves"][method]
    c, reach = found["c"], found["reaches"]
    law = "the shortfall" if result["up"] else result["metric"].replace("_", " ")
    said = (
        f"{method}: between {found['from']:,} and {found['to']:,} rows {law} falls about as rows^-{c['value']:.2f} "
        f"({c['lower']:.2f} to {c['upper']:.2f})"
    )
    if reach is None:
        return f"{said}; the curve meets the margin nowhere between them, and nothing is said beyond"
    low = f"{reach['lower']:,.0f}" if reach["lower"] else f"fewer than {found['from']:,}"
    high = f"{reach['upper']:,.0f}" if reach["upper"] else f"more than {found['to']:,}"
    return f"{said}; it meets the margin at about {reach['size']:,.0f} rows ({low} to {high})"


def stable(point: dict[str, Any]) -> str:
    """How far the choice of rows hangs on which rows were there."""
    shared = [f"{s['share']:.0%} shared with {m} (chance {s['chance']:.0%})" for m, s in point["shared"].items()]
    return (
        f"{point['method']}, {point['size']:,} rows: a chosen row is chosen again from other samples in "
        f"{point['again']:.0%} of them (chance {point['chance']:.0%})" + "".join(f"; {s}" for s in shared)
    )


def agreeing(found: dict[str, Any]) -> str:
    """Whether the proxy can be trusted with the order of sizes and methods."""
    rho = found["spearman"]
    if rho is None:
        return "the proxy and training cannot be compared: one of them gave the same value everywhere"
    said = "agree in rank" if rho >= 0.8 else "do NOT agree well in rank"
    return f"the proxy and training {said}: Spearman {rho:.2f} over {found['points']} points (0.8 or more is agreement)"


def amount(result: dict[str, Any], value: float) -> str:
    """A difference without its sign, with the unit: points of a share, else the metric's own."""
    if result["span"] == [0.0, 1.0]:
        return f"{100 * value:.1f} points"
    return f"{value:.3f} {result['metric'].replace('_', ' ')}"


def _change(result: dict[str, Any], value: float) -> str:
    return f"{100 * value:+.1f}" if result["span"] == [0.0, 1.0] else f"{value:+.3f}"


def _largest(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each method the point with the most rows, where the choice has had the most room."""
    return list({p["method"]: p for p in sorted(points, key=lambda p: p["size"])}.values())


def _missing(point: dict[str, Any], margin: float) -> str:
    """What would settle a point, as far as can be told from it."""
    loss, need = point["loss"], point["needed"]
    near = abs(loss["value"] + margin) < (loss["upper"] - loss["lower"]) / 8  # half a standard error
    if near and need["limited_by"] == "items":
        return "; the loss is about the margin itself, which hardly any number of seeds or items settles"
    ways = [f"{need[kind]:,} {kind}" for kind in ("seeds", "items") if need[kind] is not None]
    if not ways and need["together"]:
        seeds, items = need["together"]
        return (
            f"; about {seeds:,} seeds and {items:,} items together would settle it, if the truth is as estimated; "
            "neither alone"
        )
    if not ways:
        return "; no reasonable number of seeds and items would settle it"
    return f"; about {' or '.join(ways)} would settle it, if the truth is as estimated ({need['limited_by']} limit it)"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


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
        return [f"fit {left} quick models, seconds each; {told['done']} are done; {told['items']:,} items each"]
    lines = [f"train {left} cells, about {minutes(told['seconds'])}; {told['done']} are done"]
    lines += [
        f"  {p['method']}, {p['size']:,} rows: {p['left']} times about {minutes(p['seconds'])}" for p in told["points"]
    ]
    lines.append(f"evaluate: {told['items']:,} items for each; that time comes on top")
    if told["left_out"]:
        lines.append(f"study.max_cost leaves out {told['left_out']:,} further cells")
    if told["money"] is not None:
        lines.append(f"money: about {told['money']:.4f} {told['currency']} of machine time to train")
    return lines
