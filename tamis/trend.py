"""Does a number that is measured again and again go one way? Kendall's rank correlation with time (Mann 1945)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

# Fewer values than this cannot be told from chance at ALPHA: of 5! orders one rises all the way, 2/120 > 0.01.
FEWEST = 6
ALPHA = 0.01
# Values that are looked at, the latest.
MOST = 20


def trend(values: Sequence[float | None]) -> dict[str, Any]:
    """Where a series is going.

    Args:
        values: the oldest first; None or not finite where nothing was measured.

    Returns:
        {values: the latest of those measured, direction: "rising" | "falling" | "steady", or None of too few, p:
        two-sided, or None}.
    """
    known = [float(v) for v in values if v is not None and math.isfinite(v)][-MOST:]
    if len(known) < FEWEST:
        return {"values": known, "direction": None, "p": None}
    from scipy.stats import kendalltau

    tau, p = kendalltau(range(len(known)), known)
    if math.isnan(tau):  # all the same
        return {"values": known, "direction": "steady", "p": 1.0}
    direction = "steady" if p > ALPHA else "rising" if tau > 0 else "falling"
    return {"values": known, "direction": direction, "p": float(p)}
