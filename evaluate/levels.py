"""Measured loads of a system: what `at: {arrival: poisson, rate: 4}` in a policy refers to.

`load.json` beside the answers lists the levels, a Parquet file of `schema.REQUESTS` holds each one's requests:

    {"levels": [{"arrival": "poisson", "rate": 4.0, "concurrency": null, "file": "load-0.parquet"}]}

In an open loop (poisson, constant) a request's time counts from when it was due, not from when a busy client came to
send it: leaving the waiting out is the mistake called coordinated omission. Levels that the client could not keep up
with are no evidence (`invalid_because`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tamis.errors import EvidenceError
from tamis.evaluate.evidence import Evidence, read_table
from tamis.evaluate.metrics import durations
from tamis.schema import read_json, write_json, write_parquet

FILE = "load.json"
OPEN = ("poisson", "constant")
KEYS = ("arrival", "rate", "concurrency")

# Validity of a run (research note, section 2.1): the offered load was offered, and the client was not the bottleneck.
FEWEST_OFFERED = 0.95
MOST_LAG_S = 0.005
MOST_LAG_OF_TTFT = 0.05
FEWEST_OPEN = 0.9  # of the users of a closed loop, on average: between answer and question a client takes some time
MOST_USERS_UNSEEN = 3  # requests per user, fewer of which show the beginning and the end of a level only
WINDOWS = 10  # of a level, from which the spread of its throughput is taken


@dataclasses.dataclass(frozen=True)
class AtLevel(Evidence):
    """A system at one load. `requests`, `load` and `batches` are that level's; the answers are the system's."""

    level: dict[str, Any]

    @functools.cached_property
    def measured(self) -> pa.Table:
        """The requests as they were sent (`schema.REQUESTS`)."""
        return read_table(self.folder / self.level["file"])

    @functools.cached_property
    def requests(self) -> pa.Table:
        if self.level["arrival"] not in OPEN:
            return self.measured
        due = self.measured.column("scheduled_s")
        return self.measured.set_column(self.measured.schema.get_field_index("sent_s"), "sent_s", due)

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        load = {k: self.level.get(k) for k in KEYS}
        return {**super().about, "load": load, "batches": _windows(self.measured)}


def write(
    folder: Path,
    levels: Sequence[tuple[dict[str, Any], pa.Table]],
    fingerprint: str | None = None,
    knee: dict[str, Any] | None = None,
) -> None:
    """Write the levels of a system.

    Args:
        folder: of the system in the run.
        levels: arrival, rate, concurrency (None where it does not apply) and the requests (`schema.REQUESTS`).
        fingerprint: of what was measured here; None for what another tool measured.
        knee: `from_guidellm.knee`, where it was looked for.
    """
    told = []
    for number, (level, requests) in enumerate(levels):
        file = f"load-{number}.parquet"
        write_parquet(folder / file, requests)
        told.append({**level, "file": file})
    mark = {} if fingerprint is None else {"fingerprint": fingerprint}
    write_json(folder / FILE, {**mark, "levels": told, "knee": knee})


def levels_of(evidence: Evidence) -> list[AtLevel]:
    """Every measured load of a system; none where there is no `load.json`."""
    file = evidence.folder / FILE
    if not evidence.folder.is_dir() or not file.is_file():
        return []
    try:
        levels = read_json(file)["levels"]
    except (OSError, ValueError, KeyError) as error:
        raise EvidenceError("the measured loads cannot be read", where=str(file), why=str(error)) from None
    return [AtLevel(evidence.arm, evidence.system, evidence.folder, level) for level in levels]


def at(evidence: Evidence, wanted: dict[str, Any]) -> Evidence | None:
    """The system at a load; None where that load was not measured.

    Args:
        evidence: the system.
        wanted: some of arrival, rate, concurrency.

    Raises:
        EvidenceError: several measured loads fit.
    """
    found = [e for e in levels_of(evidence) if all(e.level.get(k) == v for k, v in wanted.items())]
    if len(found) > 1:
        raise EvidenceError(
            f"{len(found)} measured loads of {evidence.name} fit {_words(wanted)}",
            hint="name arrival and rate, or concurrency, in `at`",
        )
    return found[0] if found else None


def _words(load: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in load.items() if v is not None)


def invalid_because(evidence: Evidence) -> str | None:
    """Why a level cannot be trusted, or None: the load was not offered, the client was late, or answers fell behind."""
    if not isinstance(evidence, AtLevel):
        return None
    rows = [r for r in evidence.measured.to_pylist() if not r["warmup"]]
    if not rows:
        return f"no request was timed at {_words(evidence.level)}"
    if evidence.level["arrival"] not in OPEN:
        return _too_few_users(rows, evidence.level.get("concurrency"))
    lags = sorted(r["sent_s"] - r["scheduled_s"] for r in rows)
    late = lags[math.ceil(0.99 * len(lags)) - 1]
    first = durations(evidence.measured, "ttft")
    allowed = max(MOST_LAG_S, MOST_LAG_OF_TTFT * float(np.median(first)) / 1e3)
    if late > allowed:
        return (
            f"the client was late: 99 % of the requests went out within {late:.3f} s of being due, not {allowed:.3f} s"
        )
    return _not_offered(rows, evidence.level) or _fell_behind(rows, evidence.level)


def _not_offered(rows: list[dict[str, Any]], level: dict[str, Any]) -> str | None:
    span = max(r["sent_s"] for r in rows) - min(r["sent_s"] for r in rows)
    if len(rows) < 2 or not level.get("rate"):
        return None
    offered = (len(rows) - 1) / span if span > 0 else math.inf
    if offered < (FEWEST_OFFERED - _slack(len(rows), level)) * level["rate"]:
        return f"{offered:.2f} requests a second were offered, not {level['rate']:g}"
    return None


def _fell_behind(rows: list[dict[str, Any]], level: dict[str, Any]) -> str | None:
    """Whether fewer were answered than asked while requests still came.

    Then a queue grew, and how long a request waits says how long the test was, not what users would wait. Counted from
    the first answer to the last arrival, so that a long answer alone is no shortfall. A failed request counts as
    neither: its time is infinite anyway.
    """
    answered = sorted(r["last_s"] for r in rows if r["status"] == "ok" and r["last_s"] is not None)
    if len(answered) < 2 or not level.get("rate"):
        return None
    until = max(r["scheduled_s"] for r in rows)
    during = [t for t in answered if t <= until]
    if len(during) < 2:
        return f"at {_words(level)} the requests ended before the first answers came: send more of them"
    achieved = (len(during) - 1) / (during[-1] - during[0]) if during[-1] > during[0] else math.inf
    due = level["rate"] * len(answered) / len(rows)
    if achieved < (FEWEST_OFFERED - _slack(len(during), level)) * due:
        return f"{achieved:.2f} requests a second were answered of {due:.2f} asked: the load was not carried"
    return None


def _slack(count: int, level: dict[str, Any]) -> float:
    """Arrivals of a Poisson process vary by themselves: three standard deviations are no shortfall."""
    return 3 / math.sqrt(count) if level["arrival"] == "poisson" else 0.0


def _too_few_users(rows: list[dict[str, Any]], users: int | None) -> str | None:
    """Whether fewer requests were open at once than there should be users (Little's law): a client too slow to ask."""
    if not users or any(r["status"] != "ok" or r["last_s"] is None for r in rows):
        return None  # how long a failed request was open is not known
    start, end = min(r["sent_s"] for r in rows), max(r["sent_s"] for r in rows)
    if len(rows) < MOST_USERS_UNSEEN * users or end <= start:
        return None
    opened = sum(max(0.0, min(r["last_s"], end) - r["sent_s"]) for r in rows) / (end - start)
    if opened < FEWEST_OPEN * users:
        return f"{opened:.1f} requests were open at once on average, not {users}: the client was too slow"
    return None


def _windows(requests: pa.Table) -> list[dict[str, Any]]:
    """Requests answered in each of a number of equal pieces of a level's time, as `cost.throughput` reads them."""
    timed = requests.filter(pc.invert(requests.column("warmup")))
    done = np.asarray([r["last_s"] for r in timed.to_pylist() if r["status"] == "ok" and r["last_s"] is not None])
    if len(done) < 2:
        return []
    start = float(min(timed.column("sent_s").to_pylist()))
    counts, edges = np.histogram(done, bins=WINDOWS, range=(start, float(done.max())))
    seconds = float(edges[1] - edges[0])
    return [{"items": int(c), "answered": int(c), "seconds": seconds} for c in counts]
