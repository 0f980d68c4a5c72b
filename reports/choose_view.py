"""Which base was chosen, between what, and why: `choose/result.json` of a run as values for tables and figures."""

from __future__ import annotations

import dataclasses
from typing import Any

from tamis.reports import written_numbers as written
from tamis.reports.measures import Measure, mapping, measure, number, rows, text, whole

PRICE = "cost.{}_per_1k"


@dataclasses.dataclass(frozen=True)
class CandidateRow:
    """One candidate.

    Attributes:
        kind: `base`, `endpoint` or `encoder`.
        status: `asked`, `rejected` or `not here`.
        rejected: sentences; empty for one that was asked.
        items: that it answered; None for one that was not asked.
        value, bits, p95, cost: measured; None where it was not.
        memory_gb: that serving needs, by formula.
        fate: `chosen`, `front`, `asked`, or why it fell and after how many items.
    """

    name: str
    kind: str
    origin: str
    status: str
    rejected: tuple[str, ...]
    items: int | None
    value: Measure | None
    bits: Measure | None
    p95: Measure | None
    cost: Measure | None
    memory_gb: float | None
    fate: str


@dataclasses.dataclass(frozen=True)
class Choosing:
    """The answer of `tamis choose`."""

    metric: str
    items: int | None
    rounds: tuple[int, ...]
    candidates: tuple[CandidateRow, ...]
    name: str
    model: str
    why: str
    front: tuple[str, ...]
    calls: int | None
    everything: int | None
    timed: int | None
    method: str
    recipe: str

    @property
    def asked(self) -> list[CandidateRow]:
        """Those that were asked: of as many items the better first."""
        found = [c for c in self.candidates if c.items is not None and c.value is not None]
        return sorted(found, key=lambda c: (-(c.items or 0), -(c.value.finite or 0.0) if c.value else 0.0))

    @property
    def ruled_out(self) -> list[CandidateRow]:
        """Those that the recipe names first."""
        return sorted((c for c in self.candidates if c.rejected), key=lambda c: c.origin != "recipe")

    @property
    def absent(self) -> list[str]:
        """Names of those that would fit and are not on the machine."""
        return [c.name for c in self.candidates if c.status == "not here" and not c.rejected]


def choosing_view(raw: dict[str, Any]) -> Choosing:
    """Read `choose/result.json`.

    Raises:
        KeyError, TypeError, ValueError: it has another shape.
    """
    metric, recommended, calls = str(raw["metric"]), mapping(raw["recommended"]), mapping(raw["calls"])
    price = PRICE.format((text(raw.get("currency")) or "usd").lower())
    return Choosing(
        metric=metric,
        items=whole(raw.get("items")),
        rounds=tuple(n for r in rows(raw["rounds"]) if (n := whole(r.get("items"))) is not None),
        candidates=tuple(_candidate(r, metric, price, str(recommended["name"])) for r in rows(raw["candidates"])),
        name=str(recommended["name"]),
        model=text(recommended.get("model")) or "",
        why=written.said(text(recommended.get("why")) or ""),
        front=tuple(str(name) for name in raw.get("front") or ()),
        calls=whole(calls.get("asked")),
        everything=whole(calls.get("everything")),
        timed=whole(calls.get("timed")),
        method=text(raw.get("method")) or "",
        recipe=text(raw.get("recipe")) or "",
    )


def _candidate(raw: dict[str, Any], metric: str, price: str, chosen: str) -> CandidateRow:
    def measured(key: str, name: str) -> Measure | None:
        return measure(raw[key], name) if isinstance(raw.get(key), dict) else None

    name = str(raw["name"])
    return CandidateRow(
        name=name,
        kind=text(raw.get("kind")) or "base",
        origin=text(raw.get("origin")) or "",
        status=text(raw.get("status")) or "",
        rejected=tuple(str(said) for said in raw.get("rejected") or ()),
        items=whole(raw.get("items")),
        value=measured("value", metric),
        bits=measured("bits_per_byte", "bits_per_byte"),
        p95=measured("p95_ms", "latency.e2e.p95"),
        cost=measured("cost_per_1k", price),
        memory_gb=number(raw.get("memory_gb")),
        fate=_fate(raw, name == chosen),
    )


def _fate(raw: dict[str, Any], chosen: bool) -> str:
    fell = mapping(raw.get("fell"))
    if fell:
        return f"fell after {fell.get('after')} items: {fell.get('why')}"
    return "chosen" if chosen else "on the front" if raw.get("on_front") else ""
