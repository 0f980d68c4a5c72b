"""A study as readers see it: each size against all rows, the sentences, the curve; by training, by proxy, or both."""

from __future__ import annotations

import dataclasses
from typing import Any

from tamis import study_words
from tamis.reports import written_numbers as written
from tamis.reports.folder import Folder
from tamis.reports.measures import Measure, measure, number

HOMES = {"study": "training", "proxy": "a quick proxy, not by training"}


@dataclasses.dataclass(frozen=True)
class StudyPoint:
    """One method at one size; `loss` is against all rows, below zero is worse; the reference has none.

    `read` is the share of the reference's tokens that one training read, None where nothing was trained.
    """

    method: str
    size: int
    seeds: int
    value: Measure
    loss: Measure | None
    verdict: str
    read: float | None
    cost: float | None


@dataclasses.dataclass(frozen=True)
class StudyView:
    """One answer.

    Attributes:
        judged_by: training, or the proxy.
        metric: that decides.
        up: whether more of it is better.
        margin: in the metric's unit.
        confidence: of the intervals.
        reference: all rows.
        points: the sizes tried, by method.
        recommended: rows that are enough, by method; None where none was shown to be.
        sentences: what it all says.
        currency: of the costs.
    """

    judged_by: str
    metric: str
    up: bool
    margin: float
    confidence: float
    reference: StudyPoint
    points: tuple[StudyPoint, ...]
    recommended: dict[str, int | None]
    sentences: tuple[str, ...]
    currency: str

    @property
    def headline(self) -> str:
        """The size that is enough, or that none was shown to be."""
        found = {m: n for m, n in self.recommended.items() if n is not None}
        if not found:
            word = "not certain yet" if any(p.verdict == "open" for p in self.points) else "no size tried is enough"
            return f"{word}, against all {written.count(self.reference.size)} rows"
        method = min(found, key=lambda m: (found[m], m))
        return (
            f"{written.count(found[method])} of {written.count(self.reference.size)} rows are enough, drawn by {method}"
        )

    @property
    def limit(self) -> float | None:
        """The value that is just acceptable."""
        whole = self.reference.value.finite
        return None if whole is None else whole - self.margin if self.up else whole + self.margin


def homes(folder: Folder) -> list[str]:
    """The folders of a run that hold an answer, that of training first."""
    return [home for home in HOMES if (folder.run.path / home / "result.json").is_file()]


def study_view(home: str, raw: dict[str, Any]) -> StudyView:
    """One answer of `tamis study`.

    Raises:
        KeyError, TypeError, ValueError: it has another shape.
    """
    metric, whole = str(raw["metric"]), raw["reference"]

    def point(p: dict[str, Any]) -> StudyPoint:
        loss = p.get("loss")
        tokens, of = number(p.get("tokens")), number(whole.get("tokens"))
        return StudyPoint(
            method=str(p["method"]),
            size=int(p["size"]),
            seeds=int(p["seeds"]),
            value=measure(p["value"], metric),
            loss=measure(loss, metric, "delta") if loss else None,
            verdict=str(p.get("verdict", "reference")),
            read=tokens / of if tokens is not None and of else None,
            cost=number(p.get("cost")),
        )

    return StudyView(
        judged_by=HOMES[home],
        metric=metric,
        up=bool(raw["up"]),
        margin=float(raw["margin"]),
        confidence=float(raw["confidence"]),
        reference=point(whole),
        points=tuple(point(p) for p in raw["points"]),
        recommended={str(m): None if n is None else int(n) for m, n in raw["recommended"].items()},
        sentences=tuple(written.said(s) for s in study_words.sentences(raw)),
        currency=str(raw.get("currency") or "USD"),
    )
