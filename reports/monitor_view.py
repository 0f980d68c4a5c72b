"""The checks of a live model, as `tamis monitor` wrote them: the last one, and how the measured numbers went.

Reads `monitor/checks.jsonl`; the numbers and whether they rise or fall were found by the check.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tamis.reports.folder import Folder
from tamis.reports.measures import mapping, number, rows, text

FILE = "monitor/checks.jsonl"


@dataclasses.dataclass(frozen=True)
class Row:
    """One thing that a check judged."""

    id: str
    verdict: str
    said: str


@dataclasses.dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        at: when it began, UTC.
        measured: by metric.
        released: the same when the model was released.
        drift: energy distance of the log's prompts from the run's rows; None without a log.
    """

    at: str
    name: str
    verdict: str
    endpoint: str
    model: str
    agreement: float | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    next: tuple[str, ...]
    measured: dict[str, float]
    released: dict[str, float]
    drift: float | None

    @property
    def failed(self) -> list[Row]:
        """What did not pass."""
        return [r for r in self.rows if r.verdict != "PASS"]


@dataclasses.dataclass(frozen=True)
class Series:
    """A number over the checks of one endpoint.

    Attributes:
        points: (number of the check from 1, value), the oldest first.
        released: its value at release; None where that was not measured.
        direction: rising, falling or steady; None of too few checks.
    """

    metric: str
    points: tuple[tuple[float, float], ...]
    released: float | None
    direction: str | None


@dataclasses.dataclass(frozen=True)
class Watched:
    """An endpoint and its checks, the oldest first."""

    endpoint: str
    checks: tuple[Check, ...]
    series: tuple[Series, ...]

    @property
    def last(self) -> Check:
        return self.checks[-1]


def monitor_view(folder: Folder) -> list[Watched]:
    """Every endpoint that was checked against the run, the one checked last first.

    A line that cannot be read (a check that was cut off) is left out and becomes a problem.
    """
    found, unread = _lines(folder)
    if unread:
        what = f"{unread} of {unread + len(found)} checks of the live model cannot be read and are left out"
        folder.say(what, FILE, f"tamis monitor {folder.run.path} --endpoint URL adds one", "damaged")
    by_endpoint: dict[str, list[dict[str, Any]]] = {}
    for raw in found:
        endpoint = text(raw.get("endpoint")) or "?"
        by_endpoint[endpoint] = [*by_endpoint.pop(endpoint, []), raw]
    return [_watched(endpoint, raws) for endpoint, raws in reversed(by_endpoint.items())]


def _lines(folder: Folder) -> tuple[list[dict[str, Any]], int]:
    try:
        lines = (folder.run.path / FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [], 0
    found = []
    for line in lines:
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(raw, dict):
            found.append(raw)
    return found, len(lines) - len(found)


def _watched(endpoint: str, raws: list[dict[str, Any]]) -> Watched:
    checks = tuple(map(_check, raws))
    said = mapping(raws[-1].get("trend"))
    names = dict.fromkeys([name for c in checks for name in c.measured] + (["drift"] if _any_drift(checks) else []))
    return Watched(endpoint, checks, tuple(_series(name, checks, mapping(said.get(name))) for name in names))


def _any_drift(checks: tuple[Check, ...]) -> bool:
    """Whether a log was ever looked at."""
    return any(c.drift is not None for c in checks)


def _series(name: str, checks: tuple[Check, ...], said: dict[str, Any]) -> Series:
    values = [(float(n), c.drift if name == "drift" else c.measured.get(name)) for n, c in enumerate(checks, 1)]
    points = tuple((n, v) for n, v in values if v is not None)
    return Series(name, points, checks[-1].released.get(name), text(said.get("direction")))


def _check(raw: dict[str, Any]) -> Check:
    drift = number(mapping(raw.get("drift")).get("distance"))
    return Check(
        at=(text(raw.get("at")) or "").replace("T", " ").removesuffix("Z"),
        name=text(raw.get("check")) or "",
        verdict=text(raw.get("verdict")) or "INVALID",
        endpoint=text(raw.get("endpoint")) or "?",
        model=text(raw.get("model")) or "",
        agreement=number(raw.get("agreement")),
        rows=tuple(_row(r) for r in rows(raw.get("rows"))),
        notes=_texts(raw.get("notes")),
        next=_texts(raw.get("next")),
        measured=_numbers(raw.get("measured")),
        released=_numbers(mapping(raw.get("release")).get("measured")),
        drift=drift,
    )


def _row(raw: dict[str, Any]) -> Row:
    # a check of an older version gave its gates no sentence
    said = text(raw.get("said")) or f"{text(raw.get('metric')) or ''}; wanted {text(raw.get('require')) or ''}"
    return Row(text(raw.get("id")) or "?", text(raw.get("verdict")) or "INVALID", said)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(v) for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def _numbers(value: Any) -> dict[str, float]:
    return {k: found for k, v in mapping(value).items() if (found := number(v)) is not None}
