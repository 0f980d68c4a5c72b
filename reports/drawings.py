"""Which figures a run gets, from its view: the same for the HTML report and the app."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tamis.reports import figures
from tamis.reports import written_numbers as written
from tamis.reports.curation_view import Funnel
from tamis.reports.figures import Curve, Dot, Limit, Point, Step
from tamis.reports.load_view import Level
from tamis.reports.metric_names import named
from tamis.reports.systems_view import LATENCY, SystemRow, SystemsView
from tamis.reports.verdict_view import GateRow
from tamis.reports.view import ReportView

# A latency axis that spans more than this factor is drawn in powers of ten.
WIDE = 20
# More dots than this cannot be told apart in one figure; the table holds them all.
MOST = 24


def role(row: SystemRow, arm: str) -> str:
    """The colour of a system: the candidate of the judged arm stands out."""
    return "candidate" if row.role == "candidate" and row.arm == arm else "baseline"


def quality_whisker(view: ReportView) -> str | None:
    """The primary metric of every system with its interval, and the gate's limit."""
    systems = view.systems
    if systems is None:
        return None
    metric = systems.primary
    dots = [
        Dot(
            label=systems.label(s.arm, s.system),
            value=m.finite,
            lower=m.lower,
            upper=m.upper,
            text=m.text,
            role=role(s, view.arm),
            note=f"{systems.label(s.arm, s.system)}: {m.text}, interval {m.interval}",
            key=f"{s.arm}/{s.system}",
        )
        for s in systems.systems[:MOST]
        if (m := s.get(metric)).known
    ]
    if not dots:
        return None
    gate = _limit_of(view, metric)
    limit = Limit(gate.limit, f"limit {gate.limit_text}") if gate and gate.limit is not None else None
    title = f"{named(metric).label} of {len(dots)} systems with {systems.confidence * 100:g}% intervals"
    return figures.whisker(dots, lambda x: written.measured(metric, x), title, limit=limit)


def trade_off(view: ReportView) -> str | None:
    """Quality against p95 latency, area the cost of 1,000 requests."""
    systems = view.systems
    if systems is None:
        return None
    metric = systems.primary
    points = []
    for s in systems.systems[:MOST]:
        y, x, cost = s.get(metric), s.get(LATENCY), s.cost
        price = cost.finite if cost else None
        said = cost.text if cost and cost.known else "cost unknown"
        label = systems.label(s.arm, s.system)
        text = f"{y.text}, {x.text}, {said} per 1,000"
        points.append(
            Point(f"{label} · {said}", x.finite, y.finite, price, text, role(s, view.arm), f"{s.arm}/{s.system}")
        )
    xs = [p.x for p in points if p.x]
    if not xs or not any(p.y is not None and p.x is not None for p in points):
        return None
    quality, speed = _limit_of(view, metric), _limit_of(view, LATENCY)
    return figures.pareto(
        points,
        written.milliseconds,
        lambda y: written.measured(metric, y),
        f"{named(metric).label} against p95 latency of {len(points)} systems, area is the cost of 1,000 requests",
        x_name="p95 latency",
        y_name=named(metric).label,
        x_limit=speed.limit if speed else None,
        y_limit=quality.limit if quality else None,
        log=max(xs) > WIDE * min(xs),
    )


def funnel_figure(funnel: Funnel) -> str:
    """What was left after each stage; the reasons are in the table beneath."""
    steps = [Step("read", funnel.read, 0)]
    for step in funnel.steps:
        if step.dropped:
            why = ", ".join(f"{loss.rows:,} {loss.label}" for loss in step.losses)
            steps.append(Step(step.label, step.left, step.dropped, f"{step.label}: dropped {why}", step.stage))
    return figures.funnel(steps, f"{funnel.kept:,} of {funnel.read:,} rows kept")


def differences(view: ReportView, metric: str | None = None) -> str | None:
    """The candidate less each system it was paired with, on a metric (default: the primary one)."""
    systems = view.systems
    if systems is None:
        return None
    metric = metric or systems.primary
    pairs = [p for p in systems.pairs if p.metric == metric and p.candidate == (view.arm, view.candidate)]
    dots = [
        Dot(
            label=f"against {systems.label(*p.baseline)}",
            value=p.delta.finite,
            lower=p.delta.lower,
            upper=p.delta.upper,
            text=p.delta.text,
            role="good" if p.sure > 0 else "bad" if p.sure < 0 else "unsure",
            note=f"against {systems.label(*p.baseline)}: {p.delta.text}, interval {p.delta.interval}",
            key="/".join(p.baseline),
        )
        for p in pairs[:MOST]
        if p.delta.known
    ]
    if not dots:
        return None
    title = f"difference in {named(metric).label} between the candidate and {len(dots)} others"
    return figures.forest(dots, lambda x: written.difference(metric, x), title)


def throughputs(loads: Sequence[tuple[str, Sequence[Level]]], by: str) -> str | None:
    """Answered requests a second at each measured load, one line a system.

    Args:
        loads: name and levels of each system, at most as many as there are colours.
        by: `concurrency` (requests in flight) or `rate` (requests sent a second).
    """
    curves = []
    for (label, levels), colour in zip(loads, figures.SERIES, strict=False):
        points = [(x.at, x.throughput.finite) for x in levels if x.by == by and x.throughput.finite is not None]
        if points:
            curves.append(Curve(label, [a for a, _ in points], [t for _, t in points], colour))
    if not curves:
        return None
    name = "requests in flight" if by == "concurrency" else "requests sent a second"
    at = [x for c in curves for x in c.xs]
    return figures.lines(
        curves, written.number, written.number, f"requests answered a second against {name}", x_name=name,
        y_name="answered a second", y_range=(0.0, max(y for c in curves for y in c.ys)), log=max(at) > WIDE * min(at),
        dots=True,
    )  # fmt: skip


def _limit_of(view: ReportView, metric: str) -> GateRow | None:
    """The gate that sets an absolute limit on a metric."""
    main = view.verdict.main if view.verdict else None
    gates: Iterable[GateRow] = main.gates if main else ()
    fitting = (g for g in gates if g.metric == metric and g.measure.of == "absolute" and g.counts and not g.by)
    return next((g for g in fitting if g.limit is not None), None)


def systems_metrics(systems: SystemsView) -> list[str]:
    """The columns of the systems table: quality, p50 and p95 latency, throughput, cost per 1,000."""
    wanted = [systems.primary, "parse_rate", "latency.e2e.p50", LATENCY, "load.throughput"]
    costs = [m for m in systems.metrics if m.startswith("cost.") and m.endswith("_per_1k")]
    return [m for m in dict.fromkeys([*wanted, *costs]) if m in systems.metrics]
