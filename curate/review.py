"""What people decided about rows: `curate.annotations` (its format: `tamis.annotations`), honoured on the next run.

    keep      one row of that content is kept: neither scores nor deduplication drop it, and it is selected first.
              A leak of the evaluation set is dropped all the same.
    drop      its rows are dropped in stage `clean` with the reason `reviewed`
    relabel   its rows carry `label` from reading on; what is written out carries it too

Masking personal data changes the content of the rows that hold some: decisions made without it find them no more. They
are counted as unmatched in the card.
"""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Any

from tamis.annotations import Decision
from tamis.annotations import read as read_decisions
from tamis.edits import NewLabel
from tamis.errors import RecipeError


@dataclasses.dataclass
class Review:
    """All decisions that count, by content."""

    decisions: dict[str, Decision] = dataclasses.field(default_factory=dict)
    overruled: int = 0
    """Decisions that a later line about the same content replaced."""

    @property
    def labels(self) -> dict[str, NewLabel]:
        """The new labels, for reading."""
        return {
            d.content: NewLabel(d.label, d.reviewer)
            for d in self.decisions.values()
            if d.decision == "relabel" and d.label is not None
        }

    def of(self, id_: str) -> str | None:
        """The decision about a row, or None."""
        found = self.decisions.get(id_[:16])
        return found.decision if found else None

    def kept(self, ids: list[str]) -> set[str]:
        """The rows to keep: of each content with `keep` the one with the smallest id."""
        first: dict[str, str] = {}
        for id_ in ids:
            if self.of(id_) == "keep":
                first[id_[:16]] = min(id_, first.get(id_[:16], id_))
        return set(first.values())

    def summary(self, ids: list[str]) -> dict[str, Any]:
        """For the card: decisions per reviewer, and how many were overruled or match no row."""
        reviewers: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        for d in self.decisions.values():
            reviewers[d.reviewer][d.decision] += 1
        seen = {id_[:16] for id_ in ids} if self.decisions else set()
        return {
            "reviewers": {name: dict(sorted(reviewers[name].items())) for name in sorted(reviewers)},
            "overruled": self.overruled,
            "unmatched": sum(content not in seen for content in self.decisions),
        }


def load(file: str | None) -> Review:
    """Read the decisions; without a file there are none.

    Raises:
        RecipeError: the file cannot be read.
        DataError: a line is no decision; names file and line.
    """
    out = Review()
    if file is None:
        return out
    try:
        decisions = read_decisions(Path(file))
    except OSError as error:
        raise RecipeError(
            "the review decisions cannot be read", where=f"curate.annotations: {file}", why=error.strerror
        ) from None
    for decision in decisions:
        out.overruled += decision.content in out.decisions
        out.decisions[decision.content] = decision
    return out
