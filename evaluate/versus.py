"""Several systems against one, on the same items: paired differences, and p-values that count how many there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tamis import intervals
from tamis.evaluate import measure
from tamis.evaluate.evidence import Evidence
from tamis.evaluate.metrics import lookup
from tamis.intervals import Interval


@dataclasses.dataclass(frozen=True)
class Versus:
    """One system less the reference.

    Attributes:
        arm: whose.
        delta: of the metric, paired by item; its interval is not adjusted.
        p: two-sided, of no difference; belongs to the interval.
        p_holm: adjusted for all systems that were compared with the reference in this call.
        better: whether the difference is in the metric's good direction; None where it is none.
    """

    arm: str
    delta: Interval
    p: float
    p_holm: float
    better: bool | None

    def told_apart(self, confidence: float = 0.95) -> bool:
        """Whether the difference is more than chance, all comparisons counted."""
        return self.p_holm <= 1 - confidence


def versus(candidates: Sequence[Evidence], reference: Evidence, metric: str, confidence: float = 0.95) -> list[Versus]:
    """Compare each candidate with the reference.

    Holm (1979) keeps the chance of one false difference among all of them below 1 - confidence.

    Args:
        candidates: evaluated on the reference's items.
        reference: what they are held against.
        metric: a quality metric of the registry.
        confidence: of the intervals, two-sided.

    Raises:
        EvidenceError: two did not answer the same items.
    """
    known = lookup(metric)
    found = []
    for candidate in candidates:
        ours, theirs = measure.aligned(candidate.answers, reference.answers)
        told = measure.delta_of_answers(ours, theirs, known, confidence)
        p = intervals.two_sided_p(
            lambda level, a=ours, b=theirs: measure.delta_of_answers(a, b, known, level)  # type: ignore[misc]
        )
        found.append((candidate.arm, told, p))
    adjusted = intervals.holm([p for _, _, p in found])
    up = known.direction == "up"
    return [
        Versus(arm, delta, p, p_holm, None if delta.value == 0 else (delta.value > 0) == up)
        for (arm, delta, p), p_holm in zip(found, adjusted, strict=True)
    ]
