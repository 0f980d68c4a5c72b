"""What `tamis sweep` and `tamis compare` found: trainings side by side, each held against one of them.

Read from `sweep/result.json` and `compare/result.json`. The settings of a sweep were chosen on items of their own; the
ways of training that are compared answer the evaluation set.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal

from tamis.reports import written_numbers as written
from tamis.reports.folder import Folder
from tamis.reports.measures import Measure, mapping, measure, number, rows, text, whole

Kind = Literal["sweep", "compare"]
TITLES: dict[Kind, str] = {"sweep": "Settings tried", "compare": "Ways of training compared"}
FORGETTING = "bits_per_byte"


@dataclasses.dataclass(frozen=True)
class Try:
    """One training.

    Attributes:
        arm: its name.
        settings: what it was trained with, in a sweep.
        value: the metric that decides.
        delta: less the reference; None of the reference.
        p_holm: of the difference, adjusted for all of them together.
        told_apart: whether the difference is more than chance.
        better: whether it is to the good.
        train_s: seconds of training; None where nothing was trained.
        tokens_per_s: of training.
        peak_mb: memory, in MB of 10^6 bytes.
        cost: of training and evaluating it.
        currency: of the cost.
        forgetting: rise in bits per byte over the base, on rows of another kind.
    """

    arm: str
    settings: dict[str, str]
    value: Measure
    delta: Measure | None
    p_holm: float | None
    told_apart: bool | None
    better: bool | None
    train_s: float | None
    tokens_per_s: float | None
    peak_mb: float | None
    cost: float | None
    currency: str
    forgetting: Measure | None


@dataclasses.dataclass(frozen=True)
class Tries:
    """All trainings of one kind, in the order they were done.

    Attributes:
        kind: `sweep` or `compare`.
        metric: that decides.
        reference: the arm that the others are held against.
        items: how many each of them answered.
        says: what to make of them, a sentence each.
        rows: one a training.
    """

    kind: Kind
    metric: str
    reference: str
    items: int | None
    says: tuple[str, ...]
    rows: tuple[Try, ...]

    @property
    def title(self) -> str:
        return TITLES[self.kind]


def tries(folder: Folder) -> tuple[Tries, ...]:
    """What a run holds of both; nothing where neither command was used. A damaged file is a problem."""
    found = []
    for kind in TITLES:
        path = folder.run.path / kind / "result.json"
        if path.is_file():
            build = functools.partial(tries_view, kind)
            command, where = f"tamis {kind} {folder.typed}", f"{kind}/result.json"
            found.append(folder.built(path, f"the result of tamis {kind}", command, build, where))
    return tuple(one for one in found if one)


def tries_view(kind: Kind, raw: dict[str, Any]) -> Tries:
    """Read a `result.json`.

    Raises:
        KeyError, TypeError, ValueError: it is none of this kind.
    """
    metric = str(raw["metric"])
    return Tries(
        kind=kind,
        metric=metric,
        reference=str(raw["reference"]) if kind == "compare" else "planned",
        items=whole(raw.get("items")),
        says=_says(raw, kind),
        rows=tuple(_try(row, metric) for row in rows(raw["rows"])),
    )


def _says(raw: dict[str, Any], kind: Kind) -> tuple[str, ...]:
    if kind == "sweep":
        origin, advice = text(raw.get("origin")), written.said(text(raw.get("advice")) or "")
        return tuple(s for s in (advice, origin and f"Asked: {origin}.") if s)
    failed = [f"{arm} was not trained: {text(why)}." for arm, why in mapping(raw.get("failed")).items()]
    general = whole(raw.get("general"))
    forgets = (
        f"Forgetting: rise in bits per byte over the base, on {general:,} rows of another kind." if general else None
    )
    return (*failed, *([forgets] if forgets else []))


def _try(raw: dict[str, Any], metric: str) -> Try:
    delta, lost = raw.get("delta"), raw.get("forgetting")
    settings = {str(k): _setting(v) for k, v in mapping(raw.get("settings")).items()}
    return Try(
        arm=str(raw["arm"]),
        settings=settings,
        value=measure(raw["value"], metric),
        delta=measure(delta, metric, "delta") if delta else None,
        p_holm=number(raw.get("p_holm")),
        told_apart=_yes(raw.get("told_apart")),
        better=_yes(raw.get("better")),
        train_s=number(raw.get("train_s")),
        tokens_per_s=number(raw.get("tokens_per_s")),
        peak_mb=number(raw.get("peak_mb")),
        cost=number(raw.get("cost")),
        currency=text(raw.get("currency")) or "USD",
        forgetting=measure(lost, FORGETTING, "delta") if lost else None,
    )


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _yes(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
