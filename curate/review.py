"""What people decided about rows: read from `curate.annotations`, honoured on the next run.

One JSON object a line, as the review page appends them:

    {"content": "3f9c0a71d2e4b856", "decision": "relabel", "label": "refund", "reviewer": "lan"}

`content` is the first part of a row's id, the hash of its messages (16 hex digits; a whole id is taken for its first
part). So a decision holds for every row that says the same, and survives splitting, shuffling and extending the data.
Of several decisions about one content the last line counts.

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
import json
import re
from pathlib import Path
from typing import Any

from tamis.edits import NewLabel
from tamis.errors import DataError, RecipeError, did_you_mean

DECISIONS = ("keep", "drop", "relabel")
_CONTENT = re.compile(r"([0-9a-f]{16})(?:-[0-9a-f]{4}-[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What one reviewer decided about one content."""

    content: str
    decision: str
    reviewer: str
    label: str | None = None


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
        lines = Path(file).read_bytes().splitlines()
    except OSError as error:
        raise RecipeError(
            "the review decisions cannot be read", where=f"curate.annotations: {file}", why=error.strerror
        ) from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            decision = _parse(line, f"{file}:{number}")
            out.overruled += decision.content in out.decisions
            out.decisions[decision.content] = decision
    return out


def _parse(line: bytes, where: str) -> Decision:
    try:
        row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise DataError("a review decision is not JSON", where=where, why=str(error)) from None
    if not isinstance(row, dict):
        raise DataError("a review decision is an object", where=where, why=f"this is {type(row).__name__}")
    content = _CONTENT.fullmatch(str(row.get("content", "")))
    if content is None:
        raise DataError(
            f"content {row.get('content')!r} names no row",
            where=where,
            hint="content is the id of a row, or its first 16 hex digits (tamis why RUN FILE:LINE shows it)",
        )
    decision = row.get("decision")
    if decision not in DECISIONS:
        raise DataError(
            f"decision {decision!r} is not one of the choices", where=where, hint=did_you_mean(str(decision), DECISIONS)
        )
    reviewer = row.get("reviewer")
    if not isinstance(reviewer, str) or not reviewer.strip():
        raise DataError("a review decision names its reviewer", where=where, hint='add "reviewer": "NAME"')
    label = row.get("label")
    if decision == "relabel" and (not isinstance(label, str) or not label.strip()):
        raise DataError("relabel needs a label", where=where, hint='add "label": "LABEL"')
    new = label.strip() if decision == "relabel" and isinstance(label, str) else None
    return Decision(content[1], decision, reviewer.strip(), new)
