"""What is changed in a user's row, and how the same change is made again when the row is written.

An edit names a place in the row as the user has it and the value that stands there now, so that everything else in the
row keeps its value and its type. All edits of a run are listed in `curate/records/edits.parquet` (schema.EDITS).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple


class Edit(NamedTuple):
    """One changed value of one row."""

    kind: str
    """masked | relabelled"""
    path: tuple[str | int, ...]
    """Keys and positions from the row down to the value; empty for the row itself."""
    value: Any
    was: str | None = None
    """The label before; never personal data."""
    reviewer: str | None = None


class NewLabel(NamedTuple):
    """A reviewer's label for a row's content."""

    label: str
    reviewer: str


@dataclasses.dataclass(frozen=True)
class Editing:
    """What is done to rows while they are read, before anything of them is written."""

    row: Callable[[bytes, Any], tuple[Any, list[Edit]]]
    """The bytes of a row and its value -> the value to go on with, and what was changed in it."""
    text: Callable[[str], str]
    """For what is said about a row that cannot be read."""
    labels: dict[str, NewLabel] = dataclasses.field(default_factory=dict)
    """By content: the first 16 hex digits of a row's id."""


def apply(row: Any, edits: list[Edit]) -> Any:
    """Make edits in a row (in place where it can be).

    Raises:
        KeyError, IndexError, TypeError: the row is not the one the edits were made for.
    """
    for edit in edits:
        if not edit.path:
            row = edit.value
            continue
        node = row
        for part in edit.path[:-1]:
            node = node[part]
        node[edit.path[-1]]  # a place that is not there must not be made
        node[edit.path[-1]] = edit.value
    return row
