"""Load measurements made with GuideLLM (`benchmarks.json`, report version 2) as levels of a system."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from tamis.errors import EvidenceError
from tamis.schema import REQUESTS

DAY_S = 86_400.0
VERSION = 2  # of GuideLLM's report; 0.8 writes it
HUNG_AFTER = 0.99  # share of answered requests that took less than one that was still open counts as failed after


def is_report(content: Any) -> bool:
    """Whether this is a GuideLLM report."""
    return isinstance(content, dict) and "benchmarks" in content and "metadata" in content


def levels(content: dict[str, Any], where: str) -> list[tuple[dict[str, Any], pa.Table]]:
    """Every benchmark of a report: its load, and its requests (`schema.REQUESTS`).

    Warm-up and cool-down are marked as warm-up. A request that was still open when the benchmark ended was cut off, so
    it says nothing, unless it had been open for longer than 99 % of the answered ones took: then it hangs, and failed.
    Without streaming the first content arrives with the last.

    Where GuideLLM's workers draw arrivals before its clock starts (0.8.1, in its first second), requests go out in one
    burst and are due at a time like -0.87, which is none. They were not part of the load offered: warm-up as well.

    Raises:
        EvidenceError: another version, no benchmark, or a file that keeps a sample of the requests only.
    """
    version = content["metadata"].get("version")
    if version != VERSION:
        raise EvidenceError(f"a GuideLLM report of version {version!r} is not known", where=where, hint="GuideLLM 0.8")
    found = [
        (_load(b, where), _requests(b, where))
        for b in content["benchmarks"]
        if b["config"]["strategy"]["type_"] != "trace"
    ]
    if not found:
        raise EvidenceError("the report holds no benchmark", where=where)
    return found


def knee(content: dict[str, Any]) -> dict[str, Any] | None:
    """From how many users on more of them bring no more answers, by GuideLLM's segmented regression.

    Returns:
        {found, users (None where there is no knee), why}; None for a report that did not look for one.
    """
    for conclusion in content.get("conclusions") or ():
        if conclusion.get("kind") == "knee_detection":
            told = conclusion["final"]["throughput"]
            return {"found": told["status"] == "ok", "users": told["saturation_concurrency"], "why": told["reason"]}
    return None


def _load(benchmark: dict[str, Any], where: str) -> dict[str, Any]:
    strategy = benchmark["config"]["strategy"]
    kind = strategy["type_"]
    if kind in ("poisson", "constant"):
        return {"arrival": kind, "rate": float(strategy["rate"]), "concurrency": None}
    if kind == "synchronous":
        return {"arrival": "closed", "rate": None, "concurrency": 1}
    if kind == "concurrent":
        return {"arrival": "closed", "rate": None, "concurrency": int(strategy["streams"])}
    if kind == "throughput":
        return {"arrival": "closed", "rate": None, "concurrency": None}
    raise EvidenceError(f"GuideLLM's strategy {kind!r} is not known", where=where)


def _requests(benchmark: dict[str, Any], where: str) -> pa.Table:
    groups = benchmark["requests"]
    made = benchmark["scheduler_metrics"]["requests_made"]
    for status in ("successful", "errored", "incomplete"):
        kept = len(groups.get(status) or [])
        if kept < (made.get(status) or 0):
            raise EvidenceError(
                f"the report keeps {kept} of {made[status]} {status} requests",
                where=where,
                why="percentiles and failures need every one",
                hint="run guidellm without --sample-requests",
            )
    is_open = benchmark["config"]["strategy"]["type_"] in ("poisson", "constant")
    start = float(benchmark["scheduler_metrics"]["request_start_time"])
    measured = tuple(float(benchmark["scheduler_metrics"][k]) for k in ("measure_start_time", "measure_end_time"))
    rows = [_row(r, "ok", is_open, start, measured) for r in groups.get("successful") or []]
    rows += [_row(r, "error", is_open, start, measured) for r in groups.get("errored") or []]
    ages = sorted(r["last_s"] - r["sent_s"] for r in rows if r["status"] == "ok" and r["last_s"] is not None)
    patience = ages[math.ceil(HUNG_AFTER * len(ages)) - 1] if ages else 0.0
    for request in groups.get("incomplete") or []:
        row = _row(request, "error", is_open, start, measured)
        end = request["info"]["timings"].get("resolve_end")
        age = measured[1] - start - row["sent_s"] if end is None else float(end) - start - row["sent_s"]
        if age > patience:
            rows.append(row)
    rows.sort(key=lambda r: r["scheduled_s"])
    return pa.Table.from_pylist(rows, schema=REQUESTS)


def _row(
    request: dict[str, Any], status: str, is_open: bool, start: float, measured: tuple[float, ...]
) -> dict[str, Any]:
    times = request["info"]["timings"]
    sent = _first_of(times, "request_start", "resolve_start", "scheduled_at", "targeted_start")
    due = _first_of(times, "targeted_start") if is_open else None
    burst = due is not None and due < start - DAY_S
    due = None if burst else due
    end = _first_of(times, "last_token_iteration", "request_end")
    first = _first_of(times, "first_output_token_iteration", "first_token_iteration", "request_end")
    if sent is None:  # never left the client: due, and not answered
        sent, status = due if due is not None else start, "error"
    ok = status == "ok" and end is not None
    return {
        "id": str(request["request_id"]),
        "warmup": burst or not measured[0] <= sent <= measured[1],
        "scheduled_s": (due if due is not None else sent) - start,
        "sent_s": sent - start,
        "first_s": first - start if ok and first is not None else None,
        "last_s": end - start if ok and end is not None else None,
        "prompt_tokens": request.get("prompt_tokens"),
        "output_tokens": request.get("output_tokens"),
        "status": "ok" if ok else "error",
    }


def _first_of(times: dict[str, Any], *names: str) -> float | None:
    return next((float(times[n]) for n in names if times.get(n) is not None), None)
