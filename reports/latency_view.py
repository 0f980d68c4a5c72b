"""How long single requests took, for the curves of the Compare page."""

from __future__ import annotations

import math

import pyarrow as pa

from tamis.reports.figures import Curve
from tamis.reports.folder import Folder


def durations_ms(folder: Folder, arm: str, system: str) -> list[float]:
    """Milliseconds from sending a request to its last content; a failed request took infinitely long.

    Warm-up requests are left out. Empty where nothing was timed.
    """
    part = folder.run.evaluate(arm, system)
    if not (part / "requests.parquet").is_file():
        return []
    columns = ["warmup", "sent_s", "last_s", "status"]
    table = folder.table(part / "requests.parquet", f"the timed requests of {arm} / {system}", columns, part=part)
    return [] if table is None else _durations(table)


def _durations(table: pa.Table) -> list[float]:
    found = []
    for warmup, sent, last, status in zip(*(table[c].to_pylist() for c in table.column_names), strict=True):
        if not warmup:
            found.append((last - sent) * 1000 if status == "ok" and last is not None else math.inf)
    return found


def curve(label: str, values: list[float], role: str) -> Curve:
    """Durations as the input of `figures.ecdf`."""
    return Curve(label, values, [], role)
