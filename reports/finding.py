"""The first sentence of a report: what was found, in numbers that a manager can repeat."""

from __future__ import annotations

from tamis.reports import written_numbers as written
from tamis.reports.curation_view import Funnel
from tamis.reports.measures import Measure
from tamis.reports.metric_names import named
from tamis.reports.systems_view import SHORT, PairRow, SystemRow, SystemsView


def finding(view: SystemsView | None, funnel: Funnel | None, arm: str, candidate: str, baseline: str) -> str:
    """One sentence: rows kept of rows read, what the candidate reaches, against base, against random rows, and cost.

    What the run does not hold is left out; what it does not tell for certain is said so.
    """
    system = view.anywhere(arm, candidate) if view else None
    if view is None or system is None:
        return _rows_only(funnel)
    parts = [_reach(view, system, funnel)]
    if pair := view.pair((system.arm, candidate), baseline):
        parts.append(_against(pair, SHORT.get(baseline, baseline)))
    parts += [_against(pair, _other_rows(view, pair)) for pair in view.across_arms((system.arm, candidate))[:1]]
    text = ", ".join(p for p in parts if p)
    if (cost := system.cost) and cost.known:
        text += f"; 1,000 requests cost {cost.text}{_cost_share(cost, view.anywhere(arm, baseline), baseline)}"
    return f"{text}."


def _cost_share(cost: Measure, other: SystemRow | None, baseline: str) -> str:
    theirs = other.cost if other else None
    if theirs is None or not theirs.finite or cost.finite is None or theirs.metric != cost.metric:
        return ""
    return f", {written.times(cost.finite / theirs.finite)} what {SHORT.get(baseline, baseline)} costs"


def _rows_only(funnel: Funnel | None) -> str:
    if funnel is None:
        return "Nothing has been measured yet."
    return (
        f"{written.count(funnel.kept)} of {written.count(funnel.read)} rows were kept; "
        f"what a model makes of them has not been measured yet."
    )


def _reach(view: SystemsView, system: SystemRow, funnel: Funnel | None) -> str:
    measure = system.get(view.primary)
    label = named(view.primary).label
    items = f" on {written.count(view.items)} items" if view.items else ""
    who = _who(system, funnel)
    # "93.3% accuracy", but "perplexity 12.3"
    what = f"{measure.text} {label}" if named(view.primary).kind == "share" else f"{label} {measure.text}"
    return f"{who} {what}{_span(measure)}{items}"


def _who(system: SystemRow, funnel: Funnel | None) -> str:
    name = SHORT.get(system.system, system.system)
    if not system.train_rows:
        return f"{name[0].upper()}{name[1:]} reaches"
    rows = written.count(system.train_rows)
    if not funnel or not funnel.read:
        return f"Trained on {rows} rows, {name} reaches"
    share = written.share(system.train_rows / funnel.read)
    return f"Trained on {rows} of {written.count(funnel.read)} rows ({share}), {name} reaches"


def _span(measure: Measure) -> str:
    return f" ({measure.per_cent} interval {measure.interval})" if measure.interval != written.DASH else ""


def _against(pair: PairRow, whom: str) -> str:
    delta = pair.delta
    if not delta.known:
        return ""
    if pair.sure == 0:
        return f"not distinguishable from {whom} ({delta.text}, interval {delta.interval})"
    up = delta.value is not None and delta.value > 0
    size = delta.text.lstrip(f"+{written.MINUS}")
    return f"{size} {'above' if up else 'below'} {whom} ({delta.interval})"


def _other_rows(view: SystemsView, pair: PairRow) -> str:
    arm = pair.baseline[0]
    ours, theirs = view.find(*pair.candidate), view.find(*pair.baseline)
    same = ours is not None and theirs is not None and ours.train_rows == theirs.train_rows
    if arm == "random":
        return "the same on as many rows drawn at random" if same else "the same on rows drawn at random"
    return f"the arm {arm}" if not same else f"the same on as many rows of the arm {arm}"
