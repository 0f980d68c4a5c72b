"""Rows of a micro-batch laid end to end, with the prefix they share computed once.

    rows      <system + "Message:"> where is my parcel? <answer>      packed   <system + "Message:">
              <system + "Message:"> I want a refund <answer>                   where is my parcel? <answer>
                                                                               I want a refund <answer>

Short rows of one task begin alike: the chat template's system turn and the task's instruction are often half of their
tokens. In a causal model these tokens have the same states in every row, so one copy serves all of them, forward and
backward: an exact saving, not an approximation. No token is padding, so batches need no grouping by length.

A mask keeps each row to the prefix and itself; positions count on from the prefix in every row. Whether a model really
honours mask and positions is measured before training (`sft.packs`), not assumed.

Lengths are rounded up, because oneDNN makes a kernel for every shape that it meets, and keeps it. SmolLM2-135M in bf16
with 8 rows a step, two cores: 2.4 GB after 30 steps and growing, and 2.0 GB after 45 with lengths in steps of 32, at
the same speed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tamis.train.labels import IGNORED

PACKED_LENGTHS = 32
PADDED_LENGTHS = 8


def shared_prefix(rows: Sequence[dict[str, Any]]) -> int:
    """How many leading tokens all rows have in common and may share.

    The last shared token stays at least one short of any row's first label: a label is predicted by the token before
    it, and that token must belong to its own row.

    Args:
        rows: `input_ids` and `labels` of each.

    Returns:
        Tokens; 0 for a single row.
    """
    if len(rows) < 2:
        return 0
    limit = min(_first_label(row["labels"]) for row in rows) - 1
    first, *others = (row["input_ids"] for row in rows)
    for length in range(max(limit, 0)):
        if any(other[length] != first[length] for other in others):
            return length
    return max(limit, 0)


@dataclasses.dataclass
class PackingCollator:
    """Rows into one sequence, filled up to a multiple of `PACKED_LENGTHS` with tokens that no row sees.

    Returns tensors of batch size 1: `input_ids`, `labels`, `position_ids` [1, T], `attention_mask` [1, 1, T, T] (bool,
    true where a query, third axis, may look at a key) and `rows` [B], the places of the rows in the data set.
    """

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        shared = shared_prefix(rows)
        ids, labels = list(rows[0]["input_ids"][:shared]), [IGNORED] * shared
        positions, owners = list(range(shared)), [0] * shared  # owner 0 is the prefix, owner n the n-th row
        for owner, row in enumerate(rows, start=1):
            ids += row["input_ids"][shared:]
            labels += row["labels"][shared:]
            positions += range(shared, len(row["input_ids"]))
            owners += [owner] * (len(row["input_ids"]) - shared)
        if filling := -len(ids) % PACKED_LENGTHS:  # a row of its own, without labels
            ids += [ids[0]] * filling
            labels += [IGNORED] * filling
            positions += range(shared, shared + filling)
            owners += [len(rows) + 1] * filling
        of = torch.tensor(owners)
        visible = (of[None, :] == of[:, None]) | (of[None, :] == 0)
        return {
            "input_ids": torch.tensor([ids]),
            "labels": torch.tensor([labels]),
            "position_ids": torch.tensor([positions]),
            "attention_mask": visible.tril()[None, None],
            "rows": torch.tensor([row["row"] for row in rows]),
        }


@dataclasses.dataclass
class PaddingCollator:
    """Rows side by side, padded at the right to a multiple of `PADDED_LENGTHS`: where packing does not suit.

    Returns tensors `input_ids`, `labels`, `attention_mask` [B, longest] and `rows` [B].
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        longest += -longest % PADDED_LENGTHS
        gaps = [longest - len(row["input_ids"]) for row in rows]
        pairs = list(zip(rows, gaps, strict=True))
        return {
            "input_ids": torch.tensor([[*row["input_ids"], *[self.pad_token_id] * gap] for row, gap in pairs]),
            "labels": torch.tensor([[*row["labels"], *[IGNORED] * gap] for row, gap in pairs]),
            "attention_mask": torch.tensor([[1] * (longest - gap) + [0] * gap for gap in gaps]),
            "rows": torch.tensor([row["row"] for row in rows]),
        }


def _first_label(labels: Sequence[int]) -> int:
    return next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))
