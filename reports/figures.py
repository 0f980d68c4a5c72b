"""The figures of a report as SVG, drawn here: whisker, Pareto, funnel, forest, ECDF, line, bars.

Every colour is written twice: as an attribute (the light palette, for printers and readers without style sheets) and
as a class, which a page may recolour for a dark screen (`STYLE`). Text widths are estimated on the wide side, so that
no label is cut off: margins grow with the labels, and labels of close points move apart.
"""

from __future__ import annotations

import dataclasses
import html
import itertools
import math
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tamis.reports.visible_text import in_html
from tamis.reports.visible_text import line as one_line
from tamis.reports.written_numbers import tick as trimmed

Role = str  # a key of LIGHT

LIGHT = {
    "ink": "#1e293b",
    "muted": "#56637a",
    "grid": "#e2e8f0",
    "candidate": "#1d4ed8",
    "baseline": "#64748b",
    "good": "#15803d",
    "bad": "#b91c1c",
    "unsure": "#a34a06",
    "box": "#e7f6ec",
    "bar": "#5b8def",
    "ground": "#ffffff",
    "second": "#c2570c",
    "third": "#0f766e",
    "fourth": "#a21caf",
    "fifth": "#5b5b12",
}
DARK = {
    "ink": "#e2e8f0",
    "muted": "#a3b1c6",
    "grid": "#334155",
    "candidate": "#7aa7ff",
    "baseline": "#94a3b8",
    "good": "#4ade80",
    "bad": "#f98a8a",
    "unsure": "#f5b04c",
    "box": "#12351f",
    "bar": "#3b6fd4",
    "ground": "#0f172a",
    "second": "#fb923c",
    "third": "#2dd4bf",
    "fourth": "#e879f9",
    "fifth": "#e7e08a",
}
# The curves of one figure, in this order: far apart also for readers who tell red from green badly, and each after the
# first has dashes of its own.
SERIES = ("candidate", "second", "third", "fourth", "fifth")

FONT = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
SIZE = 12  # px, of the figure's own coordinates
WIDTH = 560
DASHES = ("", "7 3", "2 3", "10 3 2 3", "4 4")
FAR = 9  # px between a point's rim and its label from which a line joins them
LONGEST_LABEL = 34  # characters; a longer one is cut and given whole as a tooltip


def style(palette: dict[str, str], scope: str = "svg.fig") -> str:
    """CSS that recolours figures; put the dark one behind a media query."""
    rules = [f"{scope} .f-{r}{{fill:{c}}}{scope} .s-{r}{{stroke:{c}}}" for r, c in palette.items()]
    return "".join(rules)


@dataclasses.dataclass(frozen=True)
class Dot:
    """A value with its interval. `lower`, `upper` None: the data cannot give that bound."""

    label: str
    value: float | None
    lower: float | None
    upper: float | None
    text: str
    role: Role = "baseline"
    note: str = ""
    key: str = ""


@dataclasses.dataclass(frozen=True)
class Point:
    """A system by latency (x) and quality (y), its price the area. `price` None: unknown."""

    label: str
    x: float | None
    y: float | None
    price: float | None
    text: str
    role: Role = "baseline"
    key: str = ""


@dataclasses.dataclass(frozen=True)
class Step:
    """A bar of the funnel: what is left, and what was lost on the way to it."""

    label: str
    left: int
    lost: int
    detail: str = ""
    key: str = ""


@dataclasses.dataclass(frozen=True)
class Bar:
    """A count with a name."""

    label: str
    value: int
    text: str
    key: str = ""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points of one line, x rising; `spans` are the intervals of the ys, where they have any."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    role: Role = "baseline"
    spans: Sequence[tuple[float | None, float | None]] = ()


class Limit(NamedTuple):
    """A limit that a gate sets."""

    value: float
    text: str


Write = Callable[[float], str]


# --------------------------------------------------------------------------------------------- dots and whiskers


def whisker(dots: Sequence[Dot], write: Write, title: str, *, limit: Limit | None = None, zero: bool = False) -> str:
    """Values with intervals, one row each; a dashed line for the limit.

    Args:
        dots: in the order drawn. One without a value gets its text only.
        write: how an axis value is written.
        title: said to screen readers.
        limit: drawn as a dashed line with its text below.
        zero: draw a line at zero, for differences.
    """
    known = [x for d in dots for x in (d.value, d.lower, d.upper) if x is not None and math.isfinite(x)]
    extra = [limit.value] if limit else []
    axis = Axis.over([*known, *extra, *([0.0] if zero else [])])
    left = 12 + _widest([_short(d.label) for d in dots])
    right = WIDTH - 14 - _widest([d.text for d in dots])
    row, top = 26, 10
    bottom = top + row * max(1, len(dots))
    place = Scale(axis, left, right)
    parts = _vertical_grid(axis, place, top, bottom, write, (left - 8, right + 8))
    if zero:
        parts.append(_line(place(0), top, place(0), bottom, "muted"))
    height = bottom + 24
    if limit:
        x = place(limit.value)
        parts.append(_line(x, top - 6, x, bottom, "bad", dash="5 3", width=1.5))
        half = _width(limit.text) / 2
        parts.append(_text(min(max(x, half + 4), WIDTH - half - 4), height + 10, limit.text, "bad", "middle"))
        height += 16
    for i, dot in enumerate(dots):
        parts.append(
            _group(dot.key, dot.note or f"{dot.label}: {dot.text}", _dot(dot, top + row * (i + 0.5), place, left))
        )
    return _svg(height, title, parts)


def forest(dots: Sequence[Dot], write: Write, title: str, *, margin: Limit | None = None) -> str:
    """Paired differences around zero; a dashed line for the non-inferiority margin."""
    return whisker(dots, write, title, limit=margin, zero=True)


def _dot(dot: Dot, y: float, place: Scale, left: float) -> list[str]:
    parts = [_label(left - 12, y + 4, dot.label, "end", bold=dot.role == "candidate")]
    if dot.value is not None and math.isfinite(dot.value):
        low = place(dot.lower) if dot.lower is not None and math.isfinite(dot.lower) else None
        high = place(dot.upper) if dot.upper is not None and math.isfinite(dot.upper) else None
        x = place(dot.value)
        parts.append(_line(x if low is None else low, y, x if high is None else high, y, dot.role, width=3))
        parts += [_line(end, y - 4, end, y + 4, dot.role, width=1.5) for end in (low, high) if end is not None]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" {_fill(dot.role)}/>')
    parts.append(_text(WIDTH - 2, y + 4, dot.text, "ink" if dot.role == "candidate" else "muted", "end"))
    return parts


# ------------------------------------------------------------------------------------------------------- Pareto


def pareto(
    points: Sequence[Point],
    write_x: Write,
    write_y: Write,
    title: str,
    *,
    x_name: str,
    y_name: str,
    x_limit: float | None = None,
    y_limit: float | None = None,
    log: bool = False,
) -> str:
    """Quality against latency, area = price, the frontier as a line, and the box in which the gates are met.

    Args:
        points: those without both coordinates are named below the figure instead of being drawn somewhere.
        write_x: how an x value is written.
        write_y: how a y value is written.
        title: said to screen readers.
        x_name: name of the x axis.
        y_name: name of the y axis.
        x_limit: highest x that passes.
        y_limit: lowest y that passes.
        log: x in powers of ten, for systems that are thousands of times faster than others.
    """
    shown = [p for p in points if _finite(p.x) and _finite(p.y) and (not log or (p.x or 0) > 0)]
    ys = [p.y for p in shown if p.y is not None] + ([y_limit] if y_limit is not None else [])
    xs = [p.x for p in shown if p.x is not None] + ([x_limit] if x_limit is not None else [])
    x_axis = Axis.over(xs, log=log, pad=0.12)
    y_axis = Axis.over(ys, pad=0.12)
    left, right, top, bottom = 14 + _widest([write_y(t) for t in y_axis.ticks]), WIDTH - 12, 22, 292
    across, up = Scale(x_axis, left, right), Scale(y_axis, bottom, top)
    parts = [_text(2, 11, y_name, "muted"), _text(right, bottom + 36, x_name, "muted", "end")]
    parts += _vertical_grid(x_axis, across, top, bottom, write_x, (left, right))
    for tick in y_axis.ticks:
        parts.append(_line(left, up(tick), right, up(tick), "grid"))
        parts.append(_text(left - 6, up(tick) + 4, trimmed(write_y(tick)), "muted", "end"))
    parts += _box(across, up, left, right, top, bottom, x_limit, y_limit)
    parts += _frontier(shown, across, up)
    placed = [(p, across(p.x or 0.0), up(p.y or 0.0), _radius(p, shown)) for p in shown]
    parts += _points(placed, (left, top - 8, right, bottom))
    height = bottom + 42
    if hidden := [p.label for p in points if p not in shown]:
        parts.append(_text(2, height + 8, f"not drawn, no latency or no value: {', '.join(hidden)}"[:86], "muted"))
        height += 16
    return _svg(height, title, parts)


def _box(
    across: Scale,
    up: Scale,
    left: float,
    right: float,
    top: float,
    bottom: float,
    x_limit: float | None,
    y_limit: float | None,
) -> list[str]:
    if x_limit is None and y_limit is None:
        return []
    x2 = min(right, across(x_limit)) if x_limit is not None else right
    y2 = min(bottom, up(y_limit)) if y_limit is not None else bottom
    if x2 <= left or y2 <= top:
        return []
    shape = f'<rect x="{left:.1f}" y="{top:.1f}" width="{x2 - left:.1f}" height="{y2 - top:.1f}"'
    parts = [f'{shape} {_both("box", "good")} stroke-dasharray="4 3"/>']
    if x2 - left > _width("gates met") + 8:
        parts.append(_text(left + 5, top + 14, "gates met", "good"))
    return parts


def _frontier(points: Sequence[Point], across: Scale, up: Scale) -> list[str]:
    """Systems that no other beats on both: no faster one is as good."""
    best, front = -math.inf, []
    for p in sorted(points, key=lambda p: (p.x or 0.0, -(p.y or 0.0))):
        if p.y is not None and p.y > best:
            best = p.y
            front.append(f"{across(p.x or 0.0):.1f},{up(p.y):.1f}")
    if len(front) < 2:
        return []
    return [f'<polyline points="{" ".join(front)}" fill="none" {_stroke("candidate")} stroke-dasharray="4 4"/>']


def _radius(point: Point, points: Sequence[Point]) -> float:
    """Area in proportion to price. Unknown is drawn small and hollow, never as free."""
    most = max((p.price for p in points if p.price), default=0.0)
    if point.price is None or not most or not math.isfinite(point.price):
        return 4.0
    return max(4.0, 15.0 * math.sqrt(point.price / most))


def _points(placed: Sequence[tuple[Point, float, float, float]], frame: tuple[float, float, float, float]) -> list[str]:
    parts: list[str] = []
    for p, x, y, r in sorted(placed, key=lambda item: -item[3]):
        colour = _fill(p.role) if p.price is not None else f'{_both("ground", p.role)} stroke-width="2"'
        circle = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill-opacity="0.85" {colour}/>'
        parts.append(_group(p.key, f"{p.label}: {p.text}", [circle]))
    taken = [Box(x - r, y - r, x + r, y + r) for _, x, y, r in placed]
    # the candidate's label first: it gets the best place
    for p, x, y, r in sorted(placed, key=lambda item: (item[0].role != "candidate", item[1])):
        label = _short(p.label)
        box, at = _free_place(label, x, y, r, taken, frame)
        taken.append(box)
        parts += _leader(box, x, y, r)
        parts.append(_label(at.x, at.y, p.label, at.anchor, bold=p.role == "candidate", halo=True))
    return parts


def _leader(box: Box, x: float, y: float, r: float) -> list[str]:
    """A thin line from a point to its label, where the label had to go so far that it may be taken for another's."""
    to_x, to_y = min(max(x, box.x1), box.x2), min(max(y, box.y1), box.y2)
    away = math.hypot(to_x - x, to_y - y)
    if away < r + FAR:
        return []
    share = r / away
    return [_line(x + (to_x - x) * share, y + (to_y - y) * share, to_x, to_y, "muted", width=0.8)]


class Box(NamedTuple):
    """A rectangle that is taken."""

    x1: float
    y1: float
    x2: float
    y2: float

    def overlap(self, other: Box) -> float:
        """Area that both cover."""
        wide = min(self.x2, other.x2) - max(self.x1, other.x1)
        high = min(self.y2, other.y2) - max(self.y1, other.y1)
        return wide * high if wide > 0 and high > 0 else 0.0


class Spot(NamedTuple):
    """Where a label may stand, and by which of its ends: the side that faces the point, as widths are estimates."""

    x: float
    y: float
    anchor: str


def _free_place(
    label: str, x: float, y: float, r: float, taken: Sequence[Box], frame: tuple[float, float, float, float]
) -> tuple[Box, Spot]:
    """Where around a point its label covers least, inside the frame."""
    wide = _width(label)
    sides = ((r + 5, "start", 0.0), (-r - 5, "end", wide), (0.0, "middle", wide / 2))
    spots, boxes = [], []
    for dy in (4, -r - 6, r + 15, -r - 20, r + 29, -r - 34, r + 43):
        for dx, anchor, before in sides:
            left = x + dx - before
            spots.append(Spot(x + dx, y + dy, anchor))
            boxes.append(Box(left - 2, y + dy - SIZE, left + wide + 2, y + dy + 4))

    def cost(i: int) -> tuple[float, int]:
        box = boxes[i]
        outside = max(0.0, frame[0] - box.x1) + max(0.0, box.x2 - frame[2])
        outside += max(0.0, frame[1] - box.y1) + max(0.0, box.y2 - frame[3])
        return sum(box.overlap(t) for t in taken) + 1000 * outside, i

    best = min(range(len(spots)), key=cost)
    return boxes[best], spots[best]


# ------------------------------------------------------------------------------------------------------- funnel


def funnel(steps: Sequence[Step], title: str) -> str:
    """Bars of what is left after each step, what was lost beside them."""
    most = max((s.left for s in steps), default=1) or 1
    left = 12 + _widest([_short(s.label) for s in steps])
    ends = [f"{s.left:,}" + (f" −{s.lost:,}" if s.lost else "") for s in steps]
    right = WIDTH - 14 - _widest(ends)
    row, top = 28, 4
    parts = []
    for i, step in enumerate(steps):
        y = top + row * i
        wide = max(1.5, (right - left) * step.left / most)
        bar = f'<rect x="{left:.1f}" y="{y + 3:.1f}" width="{wide:.1f}" height="{row - 7}" rx="2" {_fill("bar")}/>'
        shapes = [_label(left - 10, y + 18, step.label, "end"), bar]
        if step.lost:
            lost = (right - left) * step.lost / most
            ghost = f'<rect x="{left + wide:.1f}" y="{y + 3:.1f}" width="{lost:.1f}" height="{row - 7}"'
            shapes.append(f'{ghost} fill-opacity="0.25" {_fill("bad")}/>')
        at = left + wide + ((right - left) * step.lost / most if step.lost else 0) + 6
        shapes.append(_text(at, y + 18, f"{step.left:,}", "ink"))
        if step.lost:
            shapes.append(_text(at + _width(f"{step.left:,} "), y + 18, f"−{step.lost:,}", "bad"))
        parts.append(_group(step.key, step.detail or f"{step.label}: {step.left:,} left", shapes))
    return _svg(top + row * max(1, len(steps)) + 4, title, parts)


def bars(shown: Sequence[Bar], title: str, role: Role) -> str:
    """Counts side by side, longest name on the left, number on the right."""
    most = max((b.value for b in shown), default=1) or 1
    left = 12 + _widest([_short(b.label) for b in shown])
    right = WIDTH - 14 - _widest([b.text for b in shown])
    row, top = 26, 4
    parts = []
    for i, bar in enumerate(shown):
        y, wide = top + row * i, max(1.5, (right - left) * bar.value / most)
        shape = f'<rect x="{left:.1f}" y="{y + 3:.1f}" width="{wide:.1f}" height="{row - 8}" rx="2" {_fill(role)}/>'
        words = [_label(left - 10, y + 17, bar.label, "end"), _text(left + wide + 6, y + 17, bar.text, "ink")]
        parts.append(_group(bar.key, f"{bar.label}: {bar.text}", [shape, *words]))
    return _svg(top + row * max(1, len(shown)) + 4, title, parts)


# -------------------------------------------------------------------------------------------------------- lines


def ecdf(curves: Sequence[Curve], write: Write, title: str, *, x_name: str, log: bool = False) -> str:
    """Share of requests answered within x, for each system, with marks at 50, 95 and 99 %.

    Args:
        curves: `xs` are the durations in any order (infinite ones never arrive), `ys` is ignored.
        write: how a duration is written.
        title: said to screen readers.
        x_name: name of the x axis.
        log: x in powers of ten.
    """
    drawn = []
    for c in curves:
        finite = sorted(x for x in c.xs if math.isfinite(x) and (x > 0 or not log))
        n = max(1, len(c.xs))
        drawn.append(Curve(c.label, finite, [(i + 1) / n for i in range(len(finite))], c.role))
    return lines(
        drawn, write, lambda y: f"{y * 100:.0f}%", title, x_name=x_name, y_name="requests answered", log=log,
        y_range=(0.0, 1.0), marks=(0.5, 0.95, 0.99), steps=True,
    )  # fmt: skip


def lines(
    curves: Sequence[Curve],
    write_x: Write,
    write_y: Write,
    title: str,
    *,
    x_name: str,
    y_name: str,
    log: bool = False,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[float] = (),
    steps: bool = False,
    dots: bool = False,
    limit: Limit | None = None,
) -> str:
    """Lines over one axis, named in a legend above.

    Args:
        curves: at most as many as can be told apart; each keeps at most 400 points.
        write_x: how an x value is written.
        write_y: how a y value is written.
        title: said to screen readers.
        x_name: name of the x axis.
        y_name: name of the y axis.
        log: x in powers of ten.
        y_range: fixed y axis.
        marks: heights at which each curve gets a dot.
        steps: draw as a staircase.
        dots: mark every point, where each is a measurement of its own.
        limit: drawn as a dashed line across, with its text.
    """
    ends = [y for c in curves for span in c.spans for y in span if y is not None and math.isfinite(y)]
    heights = [*(y for c in curves for y in c.ys if math.isfinite(y)), *ends, *([limit.value] if limit else [])]
    y_axis = Axis.over(list(y_range) if y_range else heights)
    x_axis = Axis.over([x for c in curves for x in c.xs], log=log, pad=0.02)
    left, right, top, bottom = 14 + _widest([write_y(t) for t in y_axis.ticks]), WIDTH - 12, 40, 270
    across, up = Scale(x_axis, left, right), Scale(y_axis, bottom, top)
    parts = [_text(2, 32, y_name, "muted"), _text(right, bottom + 36, x_name, "muted", "end")]
    parts += _vertical_grid(x_axis, across, top, bottom, write_x, (left, right))
    for tick in y_axis.ticks:
        parts.append(_line(left, up(tick), right, up(tick), "grid"))
        parts.append(_text(left - 6, up(tick) + 4, trimmed(write_y(tick)), "muted", "end"))
    if limit:
        parts.append(_line(left, up(limit.value), right, up(limit.value), "bad", dash="5 3", width=1.5))
        parts.append(_text((left + right) / 2, up(limit.value) - 5, limit.text, "bad", "middle"))
    x = 2.0
    for i, curve in enumerate(curves):
        dash = f' stroke-dasharray="{DASHES[i % len(DASHES)]}"' if i % len(DASHES) else ""
        pairs = _thinned([(a, b) for a, b in zip(curve.xs, curve.ys, strict=True) if math.isfinite(b)])
        path = _stairs(pairs, across, up) if steps else [f"{across(a):.1f},{up(b):.1f}" for a, b in pairs]
        shape = f'<polyline points="{" ".join(path)}" fill="none" stroke-width="2" {_stroke(curve.role)}{dash}/>'
        parts.append(_group("", curve.label, [shape]))
        for a, (low, high) in zip(curve.xs, curve.spans, strict=False):
            if low is not None and high is not None:
                parts.append(_line(across(a), up(low), across(a), up(high), curve.role, width=1.5))
                parts += [_line(across(a) - 4, up(y), across(a) + 4, up(y), curve.role) for y in (low, high)]
        for a, b in pairs if dots else ():
            dot = f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="4" {_fill(curve.role)}/>'
            parts.append(_group("", f"{curve.label}: {write_y(b)} at {write_x(a)}", [dot]))
        for mark in marks:
            if (at := next((a for a, b in zip(curve.xs, curve.ys, strict=True) if b >= mark), None)) is not None:
                dot = f'<circle cx="{across(at):.1f}" cy="{up(mark):.1f}" r="3.5" {_fill(curve.role)}/>'
                parts.append(_group("", f"{curve.label}: {mark * 100:g}% within {write_x(at)}", [dot]))
        parts.append(f'<line x1="{x}" y1="10" x2="{x + 18}" y2="10" stroke-width="3" {_stroke(curve.role)}{dash}/>')
        parts.append(_label(x + 23, 14, curve.label, "start"))
        x += 40 + _width(_short(curve.label))
    return _svg(bottom + 42, title, parts)


def _stairs(pairs: Sequence[tuple[float, float]], across: Scale, up: Scale) -> list[str]:
    path, height = [], up(0.0)
    for a, b in pairs:
        path += [f"{across(a):.1f},{height:.1f}", f"{across(a):.1f},{up(b):.1f}"]
        height = up(b)
    return path


def _thinned(pairs: Sequence[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    if len(pairs) <= most:
        return list(pairs)
    keep = {round(i * (len(pairs) - 1) / (most - 1)) for i in range(most)}
    return [p for i, p in enumerate(pairs) if i in keep]


def histogram(
    edges: Sequence[float],
    stacks: Sequence[tuple[str, Role, Sequence[int]]],
    write: Write,
    title: str,
    *,
    limit: Limit | None = None,
) -> str:
    """Stacked counts per bin.

    Args:
        edges: bins + 1 borders.
        stacks: name, colour and counts per bin, drawn from the bottom up.
        write: how a border is written.
        title: said to screen readers.
        limit: drawn as a dashed line.
    """
    totals = [sum(s[2][i] for s in stacks) for i in range(len(edges) - 1)]
    y_axis = Axis.over([0.0, float(max(totals, default=1) or 1)])
    x_axis = Axis(edges[0], edges[-1], Axis.over([edges[0], edges[-1]]).ticks)
    left, right, top, bottom = 14 + _widest([f"{t:,.0f}" for t in y_axis.ticks]), WIDTH - 12, 30, 220
    across, up = Scale(x_axis, left, right), Scale(y_axis, bottom, top)
    parts = [_line(left, up(t), right, up(t), "grid") for t in y_axis.ticks]
    parts += [_text(left - 6, up(t) + 4, f"{t:,.0f}", "muted", "end") for t in y_axis.ticks]
    for i, (a, b) in enumerate(itertools.pairwise(edges)):
        base = 0
        shapes = []
        for _, role, counts in stacks:
            y1, y2 = up(base), up(base + counts[i])
            wide = max(0.5, across(b) - across(a) - 1)
            if counts[i]:
                shapes.append(
                    f'<rect x="{across(a):.1f}" y="{y2:.1f}" width="{wide:.1f}" height="{y1 - y2:.1f}" {_fill(role)}/>'
                )
            base += counts[i]
        said = ", ".join(f"{counts[i]:,} {name}" for name, _, counts in stacks)
        parts.append(_group("", f"{write(a)} – {write(b)}: {said}", shapes))
    for t in x_axis.ticks:
        if edges[0] <= t <= edges[-1]:
            label = trimmed(write(t))
            half = _width(label) / 2
            at = min(max(across(t), half), WIDTH - half - 2)
            parts.append(_text(at, bottom + 16, label, "muted", "middle"))
    if limit and edges[0] <= limit.value <= edges[-1]:
        x = across(limit.value)
        parts.append(_line(x, top - 4, x, bottom, "bad", dash="5 3", width=1.5))
        half = _width(limit.text) / 2
        parts.append(_text(min(max(x, left + half), right - half), top - 8, limit.text, "bad", "middle"))
    x_at = 2.0
    for name, role, _ in stacks:
        parts.append(f'<rect x="{x_at}" y="4" width="10" height="10" {_fill(role)}/>')
        parts.append(_text(x_at + 14, 13, name, "ink"))
        x_at += 30 + _width(name)
    return _svg(bottom + 24, title, parts)


# ------------------------------------------------------------------------------------------------------ the axes


@dataclasses.dataclass(frozen=True)
class Axis:
    """A range with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    @classmethod
    def over(cls, values: Sequence[float], *, log: bool = False, pad: float = 0.06) -> Axis:
        """An axis that holds all values with a little air on both sides."""
        finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        low, high = (min(finite), max(finite)) if finite else (1.0, 10.0) if log else (0.0, 1.0)
        if log:
            a, b = math.log10(low), math.log10(high)
            air = max((b - a) * pad, 0.15)
            exponents = range(math.floor(a - air), math.ceil(b + air) + 1)
            every = max(1, len(exponents) // 6)
            ticks = tuple(10.0**e for e in exponents if a - air <= e <= b + air and e % every == 0)
            return cls(10 ** (a - air), 10 ** (b + air), ticks, True)
        span = high - low or max(abs(high), 1e-9) * 0.2
        low, high = low - span * pad, high + span * pad
        step = _round_step((high - low) / 5)
        first = math.ceil(low / step)
        ticks = tuple(round(i * step, 12) for i in range(first, math.floor(high / step) + 1))
        return cls(low, high, ticks)


@dataclasses.dataclass(frozen=True)
class Scale:
    """From values of an axis to places in the figure."""

    axis: Axis
    start: float
    end: float

    def __call__(self, value: float) -> float:
        a, b = self.axis.low, self.axis.high
        if self.axis.log:
            a, b, value = math.log10(a), math.log10(b), math.log10(max(value, 1e-300))
        share = (value - a) / (b - a)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)


def _round_step(rough: float) -> float:
    size = 10.0 ** math.floor(math.log10(rough))
    return next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= rough * 0.999)


def _vertical_grid(
    axis: Axis, place: Scale, top: float, bottom: float, write: Write, frame: tuple[float, float]
) -> list[str]:
    """Grid lines with as many tick labels as fit beside one another."""
    parts, end = [], -math.inf
    for tick in axis.ticks:
        x, label = place(tick), trimmed(write(tick))
        half = _width(label) / 2
        parts.append(_line(x, top, x, bottom, "grid"))
        at = min(max(x, min(frame[0], half)), WIDTH - half - 2)
        if at - half > end + 8:
            parts.append(_text(at, bottom + 17, label, "muted", "middle"))
            end = at + half
    return parts


# ---------------------------------------------------------------------------------------------------- the pieces


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    name = html.escape(one_line(title, 200))
    return (
        f'<svg class="fig" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" aria-label="{name}" font-family="{FONT}" font-size="{SIZE}">'
        f"{''.join(parts)}</svg>"
    )


def _group(key: str, tip: str, shapes: Sequence[str]) -> str:
    data = f' data-key="{in_html(key, None)}"' if key else ""
    return f"<g{data}><title>{html.escape(one_line(tip, 200))}</title>{''.join(shapes)}</g>"


def _label(x: float, y: float, text: str, anchor: str, *, bold: bool = False, halo: bool = False) -> str:
    return _text(x, y, _short(text), "ink", anchor, bold=bold, halo=halo)


def _text(
    x: float, y: float, text: str, role: Role, anchor: str = "start", *, bold: bool = False, halo: bool = False
) -> str:
    weight = ' font-weight="600"' if bold else ""
    shown = html.escape(one_line(text, 120))
    place = f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    # beneath, the same in a rim of the ground's colour, so that a label can be read across a line
    rim = f'{place} {_stroke("ground")} fill="none" stroke-width="3" stroke-linejoin="round"{weight}>{shown}</text>'
    return f"{rim if halo else ''}{place} {_fill(role)}{weight}>{shown}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, role: Role, *, dash: str = "", width: float = 1) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke-width="{width:g}" {_stroke(role)}{dashed}/>'


def _fill(role: Role) -> str:
    return f'class="f-{role}" fill="{LIGHT[role]}"'


def _stroke(role: Role) -> str:
    return f'class="s-{role}" stroke="{LIGHT[role]}"'


def _both(fill: Role, stroke: Role) -> str:
    return f'class="f-{fill} s-{stroke}" fill="{LIGHT[fill]}" stroke="{LIGHT[stroke]}"'


def _short(label: str) -> str:
    return one_line(label, LONGEST_LABEL)


def _widest(texts: Sequence[str]) -> float:
    return max(map(_width, texts), default=0.0)


def _width(text: str) -> float:
    """Estimated width in px at `SIZE`, on the wide side (DejaVu Sans is the widest common fallback)."""
    narrow, wide = set("iIl.,:;|'!()[] jftr"), set("mwMW@%—")
    width = 0.0
    for char in text:
        if unicodedata.combining(char):
            continue
        if unicodedata.east_asian_width(char) in "WF":
            width += 1.05
        else:
            width += 0.42 if char in narrow else 0.98 if char in wide else 0.67
    return width * SIZE


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
