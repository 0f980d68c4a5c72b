"""What a model costs a month: machines for a stated demand, and where a machine of one's own is cheaper than an API.

machines     demand at its peak / (requests a second that one machine was measured to answer x utilisation), upwards
own, a month machines x price of an hour x 730.5 hours: a machine is paid for by night too
API, a month requests x price of a request
break-even   requests a month at which one machine costs what the API does, if one machine answers so many
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tamis.evaluate import cost, levels
from tamis.evaluate.cost import REQUESTS, Tariff
from tamis.evaluate.evidence import Evidence
from tamis.intervals import Interval
from tamis.recipe import Price

HOURS = 730.5  # of a month: 365.25 days / 12
SECONDS = HOURS * 3600


def capacity(evidence: Evidence, confidence: float = 0.95) -> Interval:
    """Requests a second that one machine answers: the most of any valid load, else that of the evaluation's batches."""
    loads = [cost.throughput(e, confidence) for e in levels.levels_of(evidence) if levels.invalid_because(e) is None]
    known = [found for found in loads if found.n and found.value > 0]
    return max(known, key=lambda i: i.value) if known else cost.throughput(evidence, confidence)


def month(evidence: Evidence, price: Price) -> dict[str, Any]:
    """What a system costs at the demand of `price`, which must state one.

    Returns:
        {system, money (a month; None where unknown), machines, headroom (share of the measured capacity of all
        machines beyond the peak), capacity, why (money is unknown)}; machines, headroom and capacity are None for a
        system that is paid by the token.
    """
    assert price.per_month is not None
    found: dict[str, Any] = dict.fromkeys(("money", "machines", "headroom", "capacity", "why"))
    found["system"] = evidence.name if evidence.about.get("uses_arm") else evidence.system
    tariff = Tariff.of(evidence, price)
    if tariff.input_per_million is not None:
        each = cost.per_1k(evidence, price)
        return found | ({"money": price.per_month * each.value / REQUESTS} if each.n else {"why": each.note})
    if tariff.machine_hour is None:
        return found | {"why": tariff.why}
    able = capacity(evidence)
    sure = able.lower if able.lower is not None else able.value  # a slower machine than measured must do as well
    if not able.n or not sure > 0:
        return found | {"why": "what it answers in a second was not measured"}
    peak = price.peak_rate or price.per_month / SECONDS
    machines = math.ceil(peak / (sure * tariff.utilisation))
    return found | {
        "money": machines * tariff.machine_hour * HOURS,
        "machines": machines,
        "headroom": machines * sure / peak - 1,
        "capacity": able.as_dict("requests/s"),
    }


def break_even(own: Evidence, api: Evidence, price: Price) -> dict[str, Any]:
    """Requests a month from which a machine of one's own costs less than an API.

    Returns:
        {own, api, per_month, why}; `per_month` is infinite where the API is always cheaper, None where it is not known.
    """
    names = [e.name if e.about.get("uses_arm") else e.system for e in (own, api)]
    found: dict[str, Any] = {"own": names[0], "api": names[1], "per_month": None, "why": None}
    each, able, hour = cost.per_1k(api, price), capacity(own), Tariff.of(own, price).machine_hour
    sure = able.lower if able.lower is not None else able.value
    if not each.n or hour is None or not able.n or not sure > 0:
        return found | {"why": each.note if not each.n else "what one machine answers, or its price, is not known"}
    if each.value == 0:
        return found | {"per_month": math.inf, "why": "the API costs nothing"}
    needed = hour * HOURS / (each.value / REQUESTS)
    most = sure * price.utilisation * SECONDS
    if needed > most:
        why = f"before that a machine is full: it answers {most:,.0f} requests a month"
        return found | {"per_month": math.inf, "why": why}
    return found | {"per_month": needed}


def spending(everything: Sequence[Evidence], price: Price) -> dict[str, Any]:
    """All systems of a run: cost a month where a demand is stated, break-even where both kinds are there.

    Returns:
        {months, break_even, lines}: the lines say it in words.
    """
    months = [month(e, price) for e in everything] if price.per_month is not None else []
    tariffs = [(e, Tariff.of(e, price)) for e in everything if e.about.get("arm") != "imported"]
    own = [e for e, t in tariffs if t.machine_hour is not None and not _plain(e)]
    paid = [e for e, t in tariffs if t.input_per_million is not None]
    pairs = [break_even(a, b, price) for a in own for b in paid]
    lines = [_month_in_words(m, price) for m in months] + [_pair_in_words(p) for p in pairs]
    return {"months": months, "break_even": pairs, "lines": lines}


def _plain(evidence: Evidence) -> bool:
    return evidence.system in ("linear", "nearest", "majority")


def _month_in_words(found: dict[str, Any], price: Price) -> str:
    start = f"{found['system']}: {price.per_month:,.0f} requests a month"
    if found["money"] is None:
        return f"{start} cost an unknown sum: {found['why']}."
    money = f"{start} cost about {found['money']:,.2f} {price.currency}"
    if found["machines"] is None:
        return f"{money}, paid by the token."
    machines = "1 machine" if found["machines"] == 1 else f"{found['machines']:,} machines"
    peak = price.peak_rate or price.per_month / SECONDS if price.per_month else 0.0
    even = "" if price.peak_rate else " if they came evenly, which they never do: give evaluate.price.peak_rate"
    return (
        f"{money}: {machines} for {peak:.3g} requests a second at the peak{even}; "
        f"measured to answer {found['headroom']:.0%} more than that."
    )


def _pair_in_words(found: dict[str, Any]) -> str:
    start = f"{found['own']} on a machine of your own against {found['api']} by the token"
    if found["per_month"] is None:
        return f"{start}: where they cost the same is not known, for {found['why']}."
    if not math.isfinite(found["per_month"]):
        return f"{start}: the API is always cheaper; {found['why']}."
    return f"{start}: the machine is cheaper from {found['per_month']:,.0f} requests a month on."
