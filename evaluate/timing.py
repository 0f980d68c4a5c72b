"""Timed requests, one at a time, after a warm-up: how long one user waits.

Never taken from the batched quality run, whose times say nothing about a request. The items are drawn by seed, the
same for every system. Load from many users at once is GuideLLM's business (extra `load`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tamis.evaluate.systems import System, Timing
from tamis.evaluate.task import Item
from tamis.recipe import Latency
from tamis.schema import REQUESTS

Report = Callable[[int], None]


def drawn(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """`count` items in random order, each once before any comes twice."""
    rng = np.random.default_rng(seed)
    order: list[int] = []
    while len(order) < count:
        order += rng.permutation(len(items)).tolist()
    return [items[i] for i in order[:count]]


def measure(system: System, items: Sequence[Item], latency: Latency, seed: int, report: Report) -> pa.Table:
    """Send warm-up and timed requests back to back.

    Returns:
        `schema.REQUESTS`; warm-up is marked, not left out. In a closed loop a request is scheduled when it is sent.
    """
    rows: list[dict[str, Any]] = []
    clock = time.perf_counter()
    for place, item in enumerate(drawn(items, latency.warmup + latency.requests, seed)):
        sent = time.perf_counter() - clock
        timing = system.timed(item)
        rows.append(_row(item, place < latency.warmup, sent, timing))
        report(place + 1)
    return pa.Table.from_pylist(rows, schema=REQUESTS)


def _row(item: Item, warmup: bool, sent: float, timing: Timing) -> dict[str, Any]:
    return {
        "id": item.id,
        "warmup": warmup,
        "scheduled_s": sent,
        "sent_s": sent,
        "first_s": None if timing.first_s is None else sent + timing.first_s,
        "last_s": None if timing.last_s is None else sent + timing.last_s,
        "prompt_tokens": timing.prompt_tokens,
        "output_tokens": timing.output_tokens,
        "status": "ok" if timing.ok else "error",
    }
