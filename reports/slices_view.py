"""Where in the evaluation set the candidate is better and worse: by label and by language.

Intervals of slices are those that the gate judged (`verdict.json`). The counts beside them are only counted, so a page
may show them for every slice, but calls none of them a difference.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict

from tamis.reports.examples_view import Example

# Fewer items than this say too little about a slice for any reader to act on.
FEW = 30


@dataclasses.dataclass(frozen=True)
class SliceCount:
    """One slice: how many items, how many each side had right, how many changed."""

    name: str
    items: int
    right: int
    baseline_right: int | None
    fixed: int
    broken: int

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
        )
        for name, rows in groups.items()
    ]
    return sorted(found, key=lambda s: (s.fixed - s.broken, s.right / s.items, s.name))
