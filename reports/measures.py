"""A number with its interval, as the run folder gives it, and how it is written.

Nothing is computed here but the distance of a bound to a limit: statistics are made by `evaluate` and lie in
`comparison.json` and `verdict.json`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from tamis.reports import written_numbers as written


@dataclasses.dataclass(frozen=True)
class Measure:
    """One measured number. `lower` or `upper` is None where the data cannot give that bound.

    Attributes:
        metric: id of the metric it is of.
        of: `absolute`, `delta` (candidate less baseline) or `ratio` (candidate over baseline).
    """

    metric: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    n: int | None = None
    unit: str | None = None
    method: str = ""
    over: str = "items"
    confidence: float = 0.95
    note: str | None = None
    of: str = "absolute"

    @property
    def known(self) -> bool:
        """Whether there is a value at all; infinity is one."""
        return written.known(self.value)

    @property
    def finite(self) -> float | None:
        """The value where it can be drawn."""
        return self.value if self.value is not None and math.isfinite(self.value) else None

    @property
    def text(self) -> str:
        """The value alone."""
        return written.quantity(self.metric, self.value, self.unit, self.of)

    @property
    def interval(self) -> str:
        """The interval alone; a dash where there is none."""
        return written.limits(self.metric, self.lower, self.upper, self.unit, self.of)

    @property
    def per_cent(self) -> str:
        """The confidence, as in "95% interval"."""
        return f"{self.confidence * 100:g}%"

    @property
    def how(self) -> str:
        """What the interval is over and how it was made, for a tooltip: `wilson over 416 items`."""
        what = f"{self.method} over {written.count(self.n)} {self.over}" if self.method and self.n is not None else ""
        return "; ".join(t for t in (what, self.note) if t)


def measure(raw: Any, metric: str, of: str = "absolute") -> Measure:
    """Read one from a run folder's JSON. What is not there or not a number is None.

    Raises:
        TypeError: `raw` is not a mapping.
    """
    if not isinstance(raw, dict):
        raise TypeError(f"{metric}: expected a mapping, got {type(raw).__name__}")
    n = number(raw.get("n"))
    return Measure(
        metric=metric,
        value=number(raw.get("value")),
        lower=number(raw.get("lower")),
        upper=number(raw.get("upper")),
        n=int(n) if n is not None and math.isfinite(n) else None,
        unit=text(raw.get("unit")),
        method=text(raw.get("method")) or "",
        over=text(raw.get("over")) or "items",
        confidence=number(raw.get("confidence")) or 0.95,
        note=text(raw.get("note")),
        of=of,
    )


def number(value: Any) -> float | None:
    """A number, or None; NaN (written as missing) is None too."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        return None
    return float(value)


def whole(value: Any) -> int | None:
    """A finite number as int, or None."""
    found = number(value)
    return int(found) if found is not None and math.isfinite(found) else None


def text(value: Any) -> str | None:
    """A text, or None. A number is written as text; lists and mappings are none."""
    if value is None or isinstance(value, (dict, list)):
        return None
    return str(value)


def mapping(value: Any) -> dict[str, Any]:
    """A mapping, empty where it is none."""
    return value if isinstance(value, dict) else {}


def rows(value: Any) -> Iterable[dict[str, Any]]:
    """The mappings of a list; nothing where it is none."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
