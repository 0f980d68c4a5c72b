"""Where in the evaluation set the candidate is better and worse: by label and by language.

Intervals of slices are those that the gate judged (`verdict.json`). The counts beside them are only counted, so a page
may show them for every slice, but calls none of them a difference.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict

from tamis.reports.examples_view import Example

# Fewer items than this say too little about a slice for any reader to act on.
FEW = 30
SHORT = 40  # characters of an answer that is a label rather than a text


@dataclasses.dataclass(frozen=True)
class SliceCount:
    """One slice: how many items, how many each side had right, how many changed.

    Attributes:
        instead: the wrong answer that the candidate gave most often, and how often; None where no short one was given.
    """

    name: str
    items: int
    right: int
    baseline_right: int | None
    fixed: int
    broken: int
    instead: tuple[str, int] | None

    @property
    def too_few(self) -> bool:
        return self.items < FEW


def slice_counts(examples: tuple[Example, ...], by: str) -> list[SliceCount]:
    """Counts per value of `label` or `language`, those with the most broken items first."""
    groups: dict[str, list[Example]] = defaultdict(list)
    for e in examples:
        groups[getattr(e, by) or "(none)"].append(e)
    found = [
        SliceCount(
            name=name,
            items=len(rows),
            right=sum(e.candidate_right is True for e in rows),
            baseline_right=sum(e.baseline_right is True for e in rows)
            if any(e.baseline_right is not None for e in rows)
            else None,
            fixed=sum(e.change == "fixed" for e in rows),
            broken=sum(e.change == "broken" for e in rows),
            instead=_instead(rows),
        )
        for name, rows in groups.items()
    ]
    return sorted(found, key=lambda s: (s.fixed - s.broken, s.right / s.items, s.name))


def _instead(rows: list[Example]) -> tuple[str, int] | None:
    wrong = Counter(
        e.candidate_answer
        for e in rows
        if e.candidate_right is False and e.candidate_answer and len(e.candidate_answer) <= SHORT
    )
    # of equals the one that comes first in the alphabet, so that the same run shows the same page
    return min(wrong.items(), key=lambda pair: (-pair[1], pair[0]), default=None)
