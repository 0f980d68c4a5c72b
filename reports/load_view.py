"""A system under load: what it answered a second, and how long requests took, at each measured level.

Read from `comparison.json`, where each level was measured as the gate measures it. A level is a number of requests in
flight (`concurrency`, a closed loop) or of requests sent a second (`rate`, an open loop, in which time counts from when
a request was due). Failed requests took infinitely long.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from tamis.reports.measures import Measure, mapping, measure, number, rows, text, whole

By = Literal["concurrency", "rate"]


@dataclasses.dataclass(frozen=True)
class Level:
    """One measured load of one system.

    Attributes:
        arrival: `closed`, or how requests arrived in an open loop (`poisson`, `constant`).
        by: what `at` counts.
        at: requests in flight, or requests sent a second.
        requests: timed ones, warm-up left out.
        failed: of these.
        throughput: answered requests a second.
        p50, p95: milliseconds of a request.
        invalid: why the level is no evidence; None where it is.
    """

    arrival: str
    by: By
    at: float
    requests: int | None
    failed: int | None
    throughput: Measure
    p50: Measure
    p95: Measure
    invalid: str | None


def levels(raw: Any) -> tuple[Level, ...]:
    """The `loads` of a system in `comparison.json`, the lightest first; none where no load was measured."""
    found = [level for load in rows(raw) if (level := _level(load)) is not None]
    return tuple(sorted(found, key=lambda x: (x.by, x.arrival, x.at)))


def _level(raw: dict[str, Any]) -> Level | None:
    concurrency, rate = number(raw.get("concurrency")), number(raw.get("rate"))
    at = concurrency if concurrency is not None else rate
    if at is None:
        return None
    requests, metrics = mapping(raw.get("requests")), mapping(raw.get("metrics"))
    by: By = "concurrency" if concurrency is not None else "rate"

    def measured(id_: str) -> Measure:
        return measure(mapping(metrics.get(id_)), id_)

    return Level(
        text(raw.get("arrival")) or "closed",
        by,
        at,
        whole(requests.get("timed")),
        whole(requests.get("failed")),
        measured("load.throughput"),
        measured("latency.e2e.p50"),
        measured("latency.e2e.p95"),
        text(raw.get("invalid")),
    )
