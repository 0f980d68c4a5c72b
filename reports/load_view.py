"""A system under load: what it answered a second, and how long requests took, at each measured level.

Reads `load.json` and the requests of each level (`schema.REQUESTS`). A level is a number of requests in flight
(`concurrency`, a closed loop) or of requests sent a second (`rate`, an open loop). In an open loop time counts from
when a request was due, not from when a busy client came to send it; failed requests took infinitely long.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

from tamis.intervals import quantile
from tamis.reports.folder import Folder
from tamis.reports.measures import Measure, measure, number, rows, text

OPEN = ("poisson", "constant")
COLUMNS = ["warmup", "scheduled_s", "sent_s", "last_s", "status"]


@dataclasses.dataclass(frozen=True)
class Level:
    """One measured load of one system.

    Attributes:
        arrival: `closed`, or how requests arrived in an open loop (`poisson`, `constant`).
        by: what `at` counts.
        at: requests in flight, or requests sent a second.
        requests: timed ones, warm-up left out.
        failed: of these.
        throughput: answered requests a second, from the first sending to the last answer; None where none was answered.
        p50, p95: milliseconds of a request, with distribution-free bounds.
    """

    arrival: str
    by: Literal["concurrency", "rate"]
    at: float
    requests: int
    failed: int
    throughput: float | None
    p50: Measure
    p95: Measure


def levels(folder: Folder, arm: str, system: str) -> list[Level]:
    """Every measured load of a system, the lightest first; none where no load was measured."""
    part = folder.run.evaluate(arm, system)
    found = []
    for level in rows(folder.json_if_there(part / "load.json", f"the loads of {arm} / {system}").get("levels")):
        concurrency, rate = number(level.get("concurrency")), number(level.get("rate"))
        file, at = text(level.get("file")), concurrency if concurrency is not None else rate
        if file is None or at is None or "/" in file:  # beside `load.json`, nowhere else
            continue
        table = folder.table(part / file, f"a load of {arm} / {system}", COLUMNS, part=part)
        if table is not None and (timed := [r for r in table.to_pylist() if not r["warmup"]]):
            by: Literal["concurrency", "rate"] = "concurrency" if concurrency is not None else "rate"
            found.append(_level(timed, text(level.get("arrival")) or "closed", by, at))
    return sorted(found, key=lambda x: (x.by, x.arrival, x.at))


def _level(timed: list[dict[str, Any]], arrival: str, by: Literal["concurrency", "rate"], at: float) -> Level:
    begun = "scheduled_s" if arrival in OPEN else "sent_s"
    answered = [r for r in timed if r["status"] == "ok" and r["last_s"] is not None]
    took = [(r["last_s"] - r[begun]) * 1000 for r in answered] + [math.inf] * (len(timed) - len(answered))
    span = max((r["last_s"] for r in answered), default=0.0) - min(r["sent_s"] for r in timed)
    return Level(
        arrival,
        by,
        at,
        len(timed),
        len(timed) - len(answered),
        len(answered) / span if answered and span > 0 else None,
        measure(quantile(took, 0.5).as_dict("ms"), "latency.e2e.p50"),
        measure(quantile(took, 0.95).as_dict("ms"), "latency.e2e.p95"),
    )
