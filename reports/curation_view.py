"""Where the rows went: `curate/funnel.json` in the order of the stages."""

from __future__ import annotations

import dataclasses
from typing import Any

from tamis.reports.measures import mapping, number, text, whole
from tamis.schema import STAGES

# What a reason is called in a chart; one that is not here is shown as it is written in the ledger.
REASONS = {
    "unreadable": "unreadable",
    "reviewed": "dropped by a reviewer",
    "held_out": "held out for evaluation",
    "empty_prompt": "empty prompts",
    "empty_answer": "empty answers",
    "truncated": "cut short",
    "refusal": "refusals",
    "echo": "answer repeats the prompt",
    "repetition": "repetitive",
    "placeholder": "placeholders",
    "markup": "leaked markup",
    "language": "wrong language",
    "leak_exact": "copies of evaluation items",
    "leak_ngram": "overlap with evaluation items",
    "leak_rephrased": "rephrased evaluation items",
    "exact": "exact duplicates",
    "near": "near duplicates",
    "semantic": "same meaning",
    "not_selected": "not needed",
}
STAGE_WORDS = {
    "clean": "clean",
    "split": "hold out",
    "score": "quality rules",
    "decontaminate": "decontaminate",
    "deduplicate": "deduplicate",
    "select": "select",
}


@dataclasses.dataclass(frozen=True)
class Loss:
    """Rows that fell for one reason."""

    stage: str
    reason: str
    rows: int

    @property
    def label(self) -> str:
        return REASONS.get(self.reason, self.reason.replace("_", " "))


@dataclasses.dataclass(frozen=True)
class FunnelStep:
    """One stage: what it dropped and what was left."""

    stage: str
    losses: tuple[Loss, ...]
    left: int
    seconds: float | None

    @property
    def dropped(self) -> int:
        return sum(loss.rows for loss in self.losses)

    @property
    def label(self) -> str:
        return STAGE_WORDS.get(self.stage, self.stage)


@dataclasses.dataclass(frozen=True)
class Funnel:
    """The way from all rows to those kept. `adds_up` is False where the file contradicts itself."""

    read: int
    kept: int
    steps: tuple[FunnelStep, ...]
    embedder: str | None
    clusters: int | None
    seconds: float | None
    peak_mb: float | None
    suspects: int = 0
    """Rows whose label the rows around them contradict."""

    @property
    def losses(self) -> list[Loss]:
        return [loss for step in self.steps for loss in step.losses]

    @property
    def adds_up(self) -> bool:
        return self.read == self.kept + sum(loss.rows for loss in self.losses)


def funnel_view(raw: dict[str, Any]) -> Funnel:
    """Read `funnel.json`.

    Raises:
        KeyError, TypeError, ValueError: it is not a funnel.
    """
    read, kept = int(raw["read"]), int(raw["kept"])
    dropped, seconds = mapping(raw["dropped"]), raw.get("seconds")
    each = mapping(seconds)
    order = [*(s for s in STAGES if s in dropped), *(s for s in dropped if s not in STAGES)]
    steps, left = [], read
    for stage in order:
        by_reason = mapping(dropped[stage]).items()
        losses = tuple(Loss(stage, str(r), int(n)) for r, n in sorted(by_reason, key=lambda x: -x[1]) if n)
        left -= sum(loss.rows for loss in losses)
        steps.append(FunnelStep(stage, losses, left, number(each.get(stage))))
    known = [s for s in map(number, each.values()) if s is not None]
    return Funnel(
        read=read,
        kept=kept,
        steps=tuple(steps),
        embedder=text(raw.get("embedder")),
        clusters=whole(raw.get("clusters")),
        seconds=sum(known) if known else number(seconds),
        peak_mb=number(raw.get("peak_mb")),
        suspects=whole(raw.get("suspect_labels")) or 0,
    )
